# One file, one image per role: --build-arg ROLE=generation|training|producer. The role's extra is all that is installed,
# so only the training image has TensorFlow.
FROM python:3.12-slim AS build
ARG ROLE
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY aigc_core aigc_core
COPY serving serving
COPY workers workers
RUN python -m venv /opt/aigc && /opt/aigc/bin/pip install --no-cache-dir --constraint constraints.txt ".[${ROLE}]"

FROM python:3.12-slim
ARG REVISION=unknown
ENV PATH=/opt/aigc/bin:$PATH PYTHONUNBUFFERED=1 AIGC_CODE_REVISION=$REVISION AIGC_METRICS_HOST=0.0.0.0 AIGC_METRICS_PORT=9100 \
    AIGC_HOME=/tmp/aigc HOME=/tmp
RUN useradd --uid 10001 --no-create-home aigc && mkdir /models /scratch /var/lib/aigc \
    && chown 10001:10001 /models /scratch /var/lib/aigc
COPY --from=build /opt/aigc /opt/aigc
USER 10001:10001
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 CMD ["aigc", "healthcheck"]
ENTRYPOINT ["aigc"]
