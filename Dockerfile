# Two images from one file:
#   docker build --target serve -t session-recsys:serve .     the API: no pandas, no compilers
#   docker build --target train -t session-recsys:train .     the training command line
#
# On Linux, PyPI's torch brings several GB of CUDA libraries. For a CPU-only image give
#   --build-arg EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu

FROM python:3.11-slim AS builder
ARG EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH
WORKDIR /build
COPY pyproject.toml constraints.txt docker/requirements.py ./
# dependencies change seldom, code often: they are layers of their own
RUN python requirements.py pyproject.toml > base.txt \
    && pip install -c constraints.txt ${EXTRA_INDEX_URL:+--extra-index-url "$EXTRA_INDEX_URL"} -r base.txt

FROM builder AS serve-venv
RUN python requirements.py pyproject.toml serve > serve.txt && pip install -c constraints.txt -r serve.txt
COPY . .
RUN pip install --no-deps .

FROM builder AS train-venv
RUN python requirements.py pyproject.toml train > train.txt && pip install -c constraints.txt -r train.txt
COPY . .
RUN pip install --no-deps .

FROM python:3.11-slim AS runtime
LABEL org.opencontainers.image.title="session-recsys" \
      org.opencontainers.image.description="Session-based recommendations: click log in, live top-k API out"
RUN useradd --system --uid 10001 --no-create-home --home-dir /tmp recsys \
    && mkdir /bundles && chown recsys /bundles
# two spinning torch threads make small operations a hundred times slower
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OMP_WAIT_POLICY=PASSIVE
USER recsys
WORKDIR /tmp
ENTRYPOINT ["recsys"]

FROM runtime AS train
COPY --from=train-venv /venv /venv
CMD ["train", "--help"]

FROM runtime AS serve
COPY --from=serve-venv /venv /venv
COPY docker/healthcheck.py /healthcheck.py
# Reached by whoever its port is published to: it starts only with RECSYS_API_KEY_HASHES (recsys key
# makes one) or, where the port is published on loopback alone, with a setting that says so.
ENV RECSYS_HOST=0.0.0.0
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 CMD ["python", "/healthcheck.py"]
CMD ["serve"]
