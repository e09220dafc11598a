# The image of the worker, the producer and all commands. For a real Kafka see docker-compose.yml.
ARG PYTHON=3.11

# This image has the C compiler that compiles the fold.
FROM python:${PYTHON} AS build
WORKDIR /build
COPY pyproject.toml setup.py constraints.txt README.md ./
COPY agents/ agents/
COPY portfolio_stream/ portfolio_stream/
COPY tables/ tables/
RUN python -m venv /opt/venv
RUN /opt/venv/bin/python -m pip install --no-cache-dir --constraint constraints.txt .

FROM python:${PYTHON}-slim
# A worker's identity is bound to its machine, so that a copied data folder is noticed. A container has no machine id, and
# a new network address at each start; here the folder's own device and inode tell a copy.
RUN echo portfolio-stream-container > /etc/machine-id \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin stream \
    && install --directory --owner stream --group stream /data
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PORTFOLIO_DATA_DIR=/data \
    PORTFOLIO_SAVEPOINT_DIR=/data/savepoints \
    PORTFOLIO_WEB_HOST=0.0.0.0 \
    PORTFOLIO_WEB_PORT=6066
USER stream
WORKDIR /data
VOLUME /data
EXPOSE 6066
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:6066/health/ready', timeout=4)"]
CMD ["faust", "-A", "portfolio_stream", "worker", "-l", "info"]
