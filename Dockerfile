# One image for all roles: `ingest`, `serve`, and by itself `up`, everything on one machine.
#
# The base is fixed by its digest, Python's packages by their hashes, times by SOURCE_DATE_EPOCH; Debian's packages are
# the newest of its release, for their security updates. Python is Debian's, so that tests/e2e/test_image.py can run
# each step below without a container engine.
ARG SOURCE_DATE_EPOCH=1767225600

FROM debian:bookworm-20261005-slim@sha256:7c7b2c966bc9ee8cedfeef67e0e279108992c77681fa595db4a9d65c06ccc587 AS base
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3.11 tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/* /var/log/*

FROM base AS tools
# hadolint ignore=DL3008,DL3009
RUN apt-get update && apt-get install --yes --no-install-recommends binutils python3.11-venv
ENV PATH=/opt/tools/bin:$PATH
WORKDIR /src
COPY requirements-image.lock ./
RUN python3.11 -m venv /opt/tools \
    && pip install --no-cache-dir --no-compile --require-hashes --requirement requirements-image.lock

FROM tools AS build
ARG SOURCE_DATE_EPOCH
# Without a fixed seed compiled sets differ from build to build; so does what is compiled on the way, by its time.
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0 UV_LINK_MODE=copy UV_NO_CACHE=1 VIRTUAL_ENV=/opt/headrace
COPY requirements.lock ./
RUN python3.11 -m venv --without-pip /opt/headrace \
    && uv pip install --require-hashes --requirements requirements.lock
COPY pyproject.toml README.md LICENSE litestream.yml ./
COPY headrace headrace
COPY ingest ingest
COPY serve serve
# By pip: uv would note the time of the build.
# hadolint ignore=DL3013
RUN hatchling build --target wheel --directory dist \
    && pip --python /opt/headrace install --no-cache-dir --no-compile --no-deps --no-index --find-links dist headrace
# More of Datasette's plugins: --build-arg PLUGINS="datasette-vega==0.6.2 …"
ARG PLUGINS=
# hadolint ignore=SC2086
RUN if [ -n "$PLUGINS" ]; then uv pip install $PLUGINS; fi
COPY deploy/slim-venv.sh deploy/
RUN deploy/slim-venv.sh /opt/headrace \
    && cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --no-validate \
        --output-file /opt/headrace/sbom.cdx.json /opt/headrace/bin/python \
    && find /opt/headrace -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +

FROM base
RUN useradd --system --user-group --uid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin headrace \
    && install --directory --owner headrace --group headrace --mode 0700 /data \
    && rm -rf /var/log/*
COPY --from=build /opt/headrace /opt/headrace
ENV PATH=/opt/headrace/bin:$PATH HEADRACE_DATA=/data HEADRACE_HOST=0.0.0.0 PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000 8100 8200 8201
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-m", "headrace.healthcheck"]
ENTRYPOINT ["tini", "--", "headrace"]
CMD ["up"]
