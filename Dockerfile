# One image for both roles: `headrace ingest` and `headrace serve`.
FROM python:3.13-slim-bookworm AS build
WORKDIR /src
COPY requirements.lock pyproject.toml README.md LICENSE litestream.yml ./
RUN python -m venv /opt/headrace \
    && /opt/headrace/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY headrace headrace
COPY ingest ingest
COPY serve serve
RUN /opt/headrace/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.13-slim-bookworm
RUN useradd --system --uid 10001 --create-home headrace \
    && install -d -o headrace -g headrace -m 0700 /data
COPY --from=build /opt/headrace /opt/headrace
ENV PATH=/opt/headrace/bin:$PATH PYTHONUNBUFFERED=1 HEADRACE_DATA=/data
USER headrace
VOLUME /data
EXPOSE 8000 8100 8200 8201
ENTRYPOINT ["headrace"]
CMD ["up", "--host", "0.0.0.0"]
