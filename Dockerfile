# The tool chain in an image: `docker build -t suzuri .`, then `docker run -v /big/disk:/suzuri/data suzuri all`.
# The NVIDIA container runtime makes GPUs visible (`--gpus all`); torch's wheel contains the CUDA libraries.
FROM debian:bookworm-slim

ENV DEBIAN_FRONTEND=noninteractive PIP_NO_CACHE_DIR=1 LC_ALL=C.UTF-8

# gcc and the headers are for torch.compile: triton builds a small C program when it is first used.
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      python3 python3-venv make ca-certificates xz-utils bzip2 zstd procps \
      gcc libc6-dev python3-dev \
 && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 suzuri \
 && install -d -o suzuri -g suzuri /suzuri /suzuri/data

USER suzuri
WORKDIR /suzuri

# The packages are installed before the code is copied, so that they are not installed again when the code changes.
COPY --chown=suzuri Makefile ./
COPY --chown=suzuri configs configs
RUN make /suzuri/.venv/installed.txt

COPY --chown=suzuri bin bin
COPY --chown=suzuri lib lib
COPY --chown=suzuri tests tests
# /suzuri/data is a volume, which hides what the image has there, so the sample is in a folder of its own.
COPY --chown=suzuri data/sample /suzuri/.sample
ENV SAMPLE=/suzuri/.sample

VOLUME /suzuri/data
ENTRYPOINT ["make"]
CMD ["help"]
