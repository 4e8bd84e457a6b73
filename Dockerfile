# syntax=docker/dockerfile:1
# check: docker build --target check -t ftcheck . && docker run --rm -v "$PWD":/io ftcheck run ftcheck.yaml
# train: docker build --target train -t ftcheck-train . && docker run --rm --gpus all -v "$PWD":/io ftcheck-train train ftcheck.yaml
# A release pins the base by its digest: --build-arg PYTHON=python:3.11-slim@sha256:…
ARG PYTHON=python:3.11-slim

FROM ${PYTHON} AS check
LABEL org.opencontainers.image.title="ftcheck" \
      org.opencontainers.image.description="Checks fine-tuning jobs against a policy, without GPU and without torch" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/ftcheck/bin:$PATH
RUN --mount=type=bind,target=/src,rw \
    python -m venv /opt/ftcheck && /opt/ftcheck/bin/pip install --quiet -c /src/constraints.txt '/src[fast]'
RUN groupadd --gid 1000 ftcheck && useradd --uid 1000 --gid 1000 --create-home ftcheck && mkdir /io && chown ftcheck:ftcheck /io
USER 1000
WORKDIR /io
HEALTHCHECK NONE
ENTRYPOINT ["ftcheck"]
CMD ["--help"]

FROM ${PYTHON} AS train
LABEL org.opencontainers.image.title="ftcheck-train" \
      org.opencontainers.image.description="Checks and trains fine-tuning jobs, with CUDA torch, TRL, PEFT and bitsandbytes" \
      org.opencontainers.image.licenses="Apache-2.0"
# what the container runtime of NVIDIA reads; torch's wheels for Linux bring CUDA's libraries themselves
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/ftcheck/bin:$PATH
RUN --mount=type=bind,target=/src,rw \
    python -m venv /opt/ftcheck && /opt/ftcheck/bin/pip install --quiet -c /src/constraints.txt '/src[train,fast]'
RUN groupadd --gid 1000 ftcheck && useradd --uid 1000 --gid 1000 --create-home ftcheck && mkdir /io && chown ftcheck:ftcheck /io
USER 1000
WORKDIR /io
HEALTHCHECK NONE
ENTRYPOINT ["ftcheck"]
CMD ["--help"]
