# The tool chain in an image: `docker build -t suzuri .`, then `docker run -v /big/disk:/suzuri/data suzuri all`.
# It runs as user 1000, who must be able to write to /big/disk; `--user $(id -u):$(id -g)` runs it as you.
# The NVIDIA container runtime makes GPUs visible (`--gpus all`); torch's wheel contains the CUDA libraries.
# `--build-arg PIP_ARGS=…` has more options for pip install, as PIP_ARGS of make.
FROM debian:bookworm-slim

ENV PIP_NO_CACHE_DIR=1 LC_ALL=C.UTF-8

# gcc and the headers are for torch.compile: triton builds a small C program when it is first used.
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      python3 python3-venv make ca-certificates xz-utils bzip2 zstd procps tini \
      gcc libc6-dev python3-dev \
 && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 suzuri \
 && install -d -o suzuri -g suzuri /suzuri /suzuri/data

USER suzuri
WORKDIR /suzuri

# The packages are installed before the rest is copied, so that they are not installed again when the rest changes.
COPY --chown=suzuri configs/requirements.txt configs/requirements-eval.txt configs/
COPY --chown=suzuri configs/make/functions.mk configs/make/environment.mk configs/make/
ARG PIP_ARGS=
RUN make -f configs/make/functions.mk -f configs/make/environment.mk ROOT=/suzuri /suzuri/.venv/installed-eval.txt

COPY --chown=suzuri Makefile ./
COPY --chown=suzuri configs configs
COPY --chown=suzuri bin bin
COPY --chown=suzuri lib lib
COPY --chown=suzuri tests tests
# /suzuri/data is a volume, which hides what the image has there, so the sample is in a folder of its own.
COPY --chown=suzuri data/sample /suzuri/.sample
# HOME is for users of --user, who have none; only caches are there.
ENV SAMPLE=/suzuri/.sample HOME=/tmp

VOLUME /suzuri/data
# make cannot end itself by a signal when it is process 1. `docker stop --time 90` leaves training the time to save.
ENTRYPOINT ["tini", "--", "make"]
CMD ["help"]
