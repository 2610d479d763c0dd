# The image of `backup`: its binary, PostgreSQL's client programs (the real ones: /usr/bin/pg_dump of Debian is a Perl
# wrapper), the libraries of all of them, and the public certificate authorities. No shell, no package manager.
# The build context holds the binary alone.
FROM docker.io/library/debian:bookworm-slim AS certificates
RUN test -s /etc/ssl/certs/ca-certificates.crt || { apt-get update && apt-get install --yes --no-install-recommends ca-certificates; }

FROM docker.io/library/postgres:15-bookworm AS gather
COPY --from=certificates /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt
COPY backup /image/bin/backup
# A library that this distribution lacks stops the build here, not the pod later.
RUN ! ldd /image/bin/backup 2>&1 | grep 'not found'
RUN cd /usr/lib/postgresql/15/bin \
    && cp --parents --dereference "$PWD/psql" "$PWD/pg_dump" "$PWD/pg_restore" /image \
    && ldd /image/bin/backup psql pg_dump pg_restore | grep --only-matching '/[^ :]*\.so[^ ]*' | sort --unique \
     | xargs cp --parents --dereference --target-directory=/image \
    && echo 'valerix:x:65532:65532::/:/sbin/nologin' > /image/etc/passwd

FROM scratch
COPY --from=gather /image /
USER 65532:65532
ENTRYPOINT ["/bin/backup"]
