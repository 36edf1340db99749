# The tool chain in an image: `docker build -t suzuri .`, then `docker run -v /big/disk:/suzuri/data suzuri all`.
# GPUs come in by the NVIDIA container runtime (`--gpus all`); torch's wheel brings the CUDA libraries along.
FROM debian:bookworm-slim

ENV DEBIAN_FRONTEND=noninteractive PIP_NO_CACHE_DIR=1 LC_ALL=C.UTF-8

RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      python3 python3-venv make curl ca-certificates xz-utils bzip2 zstd procps \
 && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 suzuri \
 && install -d -o suzuri -g suzuri /suzuri /suzuri/data

USER suzuri
WORKDIR /suzuri

# The packages come before the code, so that a change of the code does not install them again.
COPY --chown=suzuri Makefile ./
COPY --chown=suzuri configs configs
RUN make /suzuri/.venv/installed.txt

COPY --chown=suzuri bin bin
COPY --chown=suzuri lib lib
COPY --chown=suzuri tests tests
# /suzuri/data is a volume that may hide what lies there, so the sample has a place of its own.
COPY --chown=suzuri data/sample /suzuri/.sample
ENV SAMPLE=/suzuri/.sample

VOLUME /suzuri/data
ENTRYPOINT ["make"]
CMD ["help"]
