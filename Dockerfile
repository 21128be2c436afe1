# The browser tool on a server: built in one stage with Node for the page, run in another without.
FROM node:22-bookworm-slim AS page
WORKDIR /build/web
COPY web/package.json web/package-lock.json ./
RUN npm ci
COPY web ./
RUN mkdir -p ../src/anymask/server && npm run build

FROM python:3.12-slim-bookworm
# The CPU's build of torch goes before that of PyPI, which brings CUDA.
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1 \
    ANYMASK_HOME=/data/cache XDG_DATA_HOME=/data HOME=/tmp
WORKDIR /build
COPY constraints.txt pyproject.toml README.md LICENSE NOTICE ./
COPY src src
COPY --from=page /build/src/anymask/server/page src/anymask/server/page
RUN pip install --constraint constraints.txt --extra-index-url https://download.pytorch.org/whl/cpu \
    ".[server,postgres,export]" && rm -rf /build/*
RUN mkdir /data && chown 10001:10001 /data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8017
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import socket; socket.create_connection(('127.0.0.1', 8017), 3).close()"]
ENTRYPOINT ["anymask"]
CMD ["serve", "/data/project", "--host", "0.0.0.0", "--port", "8017"]
