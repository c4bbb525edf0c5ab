# syntax=docker/dockerfile:1
# The gateway as an image: built from the lock file by hash, run as nobody in particular, with nothing to write to.
#
#     docker build -t vidgate .
#     docker run --rm vidgate --help
#
# A tag may move: give PYTHON_IMAGE by digest in your own pipeline (docs/supply-chain.md).
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
RUN python -m venv /opt/vidgate
COPY requirements.runtime.lock requirements.build.lock ./
# Every package by its hash; a build tool stays in this stage.
RUN /opt/vidgate/bin/pip install --require-hashes --only-binary :all: -r requirements.runtime.lock \
 && python -m venv /opt/build && /opt/build/bin/pip install --require-hashes -r requirements.build.lock
COPY pyproject.toml README.md ./
COPY gateway gateway
COPY providers providers
COPY policies policies
RUN /opt/build/bin/python -m hatchling build -t wheel -d /wheels \
 && /opt/vidgate/bin/pip install --no-deps --no-index /wheels/*.whl \
 && /opt/vidgate/bin/python -m compileall -q /opt/vidgate/lib \
 && /opt/vidgate/bin/pip uninstall -y pip setuptools \
 && /opt/build/bin/cyclonedx-py environment /opt/vidgate/bin/python --pyproject pyproject.toml --output-reproducible \
    --validate -o /opt/vidgate/vidgate.cdx.json

FROM ${PYTHON_IMAGE}
# What it was built on stands on the image; outside of a stage the argument is not known in it.
ARG PYTHON_IMAGE
LABEL org.opencontainers.image.base.name="${PYTHON_IMAGE}" \
      org.opencontainers.image.title="vidgate" \
      org.opencontainers.image.description="A provider-agnostic gateway for generative video" \
      org.opencontainers.image.source="https://vidgate.dev" \
      org.opencontainers.image.version="0.1.0"
RUN groupadd --gid 10001 vidgate && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin vidgate \
 && install -d -o 10001 -g 10001 /var/lib/vidgate
COPY --from=build /opt/vidgate /opt/vidgate
ENV PATH=/opt/vidgate/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
USER 10001:10001
WORKDIR /var/lib/vidgate
EXPOSE 8080
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
# SIGTERM drains: no new work, what is quick is finished, the rest is handed over through the database.
STOPSIGNAL SIGTERM
ENTRYPOINT ["vidgate"]
CMD ["serve"]
