# The image of `backup`: its binary, PostgreSQL's programs (the real ones: /usr/bin/pg_dump of Debian is a Perl wrapper)
# with what a server needs for a trial restore, the libraries of all of them, and the public certificate authorities. No
# package manager, and a shell only because initdb starts its programs with one.
# The build context holds the binary alone.
FROM docker.io/library/debian:bookworm-slim AS certificates
RUN test -s /etc/ssl/certs/ca-certificates.crt || { apt-get update && apt-get install --yes --no-install-recommends ca-certificates; }

FROM docker.io/library/postgres:15-bookworm AS gather
# Major versions to hold. Those beside the base's come from its makers' own packages, which the image on Docker Hub knows of.
ARG POSTGRES_MAJORS=15
RUN for major in $POSTGRES_MAJORS; do \
        test -x "/usr/lib/postgresql/$major/bin/initdb" \
            || { apt-get update && apt-get install --yes --no-install-recommends "postgresql-$major"; } || exit 1; \
    done
COPY --from=certificates /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt
COPY backup /image/bin/backup
# A library that this distribution lacks stops the build here, not the pod later.
RUN ! ldd /image/bin/backup 2>&1 | grep 'not found'
# Just-in-time compilation and its bitcode are large and not used.
RUN for major in $POSTGRES_MAJORS; do \
        cd "/usr/lib/postgresql/$major" \
            && cp --parents --dereference "$PWD"/bin/psql "$PWD"/bin/pg_dump "$PWD"/bin/pg_dumpall "$PWD"/bin/pg_restore \
                "$PWD"/bin/initdb "$PWD"/bin/postgres /image \
            && find "$PWD/lib" -maxdepth 1 -name '*.so' ! -name 'llvmjit*' -exec cp --parents --dereference {} /image \; \
            && cp --parents --recursive --dereference "/usr/share/postgresql/$major" /image || exit 1; \
    done \
    && cp --parents --dereference /bin/sh /image \
    && if test -d /usr/share/zoneinfo; then cp --parents --recursive --dereference /usr/share/zoneinfo /image; fi \
    && ldd /image/bin/backup /bin/sh $(find /image/usr/lib/postgresql -path '*/bin/*' -o -name '*.so') \
     | grep --only-matching '/[^ :]*\.so[^ ]*' | grep --invert-match '^/image/' | sort --unique \
     | xargs cp --parents --dereference --target-directory=/image \
    && echo 'valerix:x:65532:65532::/:/sbin/nologin' > /image/etc/passwd

FROM scratch
COPY --from=gather /image /
USER 65532:65532
ENTRYPOINT ["/bin/backup"]
