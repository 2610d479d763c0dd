# Compiles the binaries where the host's own would not run in the images (macOS, Windows, a newer C library).
# The context is the checkout; the result is the folder of binaries that `docker build --output` writes.
FROM docker.io/library/rust:1.95-bookworm AS compile
WORKDIR /checkout
COPY . .
# The commit, for `valerix_build_info`; a new one compiles the operator anew.
ARG PROFILE=dev FOLDER=debug VALERIX_REVISION=unknown
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/target \
    CARGO_TARGET_DIR=/target cargo build --profile ${PROFILE} --locked --workspace --bins \
    && mkdir /binaries \
    && find /target/${FOLDER} -maxdepth 1 -type f -executable -exec cp {} /binaries/ \;

FROM scratch
COPY --from=compile /binaries /
