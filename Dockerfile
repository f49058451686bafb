# Two images from one file:
#   docker build -t session-recsys:serve .                    the API: no pandas, nothing else to train
#   docker build --target train -t session-recsys:train .     the training command line
#
# On Linux, torch from PyPI includes several GB of CUDA libraries. For images without them add
#   --build-arg EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
#
# Layers that change rarely come first, and both images share the large one: the dependencies of
# torch, then those of serving (or training) only, then our code, below 1 MB: all of it, because the
# command line imports options of all packages.

# /venv holds the dependencies without pip, so that nothing can be installed later
FROM python:3.11-slim AS builder
ARG EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
    PIP_CONSTRAINT=/build/constraints.txt PIP_PYTHON=/venv/bin/python
RUN python -m venv --without-pip /venv
WORKDIR /build
COPY pyproject.toml constraints.txt docker/requirements.py ./
RUN python requirements.py pyproject.toml > base.txt \
    && pip install ${EXTRA_INDEX_URL:+--extra-index-url "$EXTRA_INDEX_URL"} -r base.txt
# a third of these packages is used by neither image
COPY docker/prune.py ./
RUN command -v strip \
    || { apt-get update && apt-get install --yes --no-install-recommends binutils; }
RUN python prune.py names | xargs pip uninstall --yes \
    && python prune.py files /venv/lib/python3*/site-packages

# --prefix installs only packages that /venv lacks, in a layer of its own
FROM builder AS serve-builder
RUN python requirements.py pyproject.toml serve tracing > serve.txt \
    && pip install --prefix /dependencies -r serve.txt
COPY README.md ./
COPY recsys recsys
COPY clients/python/recsys_client clients/python/recsys_client
COPY data data
COPY training training
COPY service service
RUN pip install --prefix /code --no-deps .
COPY docker/healthcheck.py ./
RUN install -m 644 -D healthcheck.py /code/share/healthcheck.py

FROM python:3.11-slim AS runtime
RUN useradd --system --uid 10001 --no-create-home --home-dir /tmp recsys \
    && mkdir /bundles /events && chown recsys /bundles /events
COPY --from=builder /venv /venv
# two spinning torch threads make small operations a hundred times slower
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OMP_WAIT_POLICY=PASSIVE
USER recsys
WORKDIR /tmp
ENTRYPOINT ["recsys"]

FROM runtime AS serve
COPY --from=serve-builder /dependencies /venv
COPY --from=serve-builder /code /venv
# A published port is open to its network: the service starts only with RECSYS_API_KEY_HASHES (recsys
# key creates a key), or with a setting which states that something else controls the access.
ENV RECSYS_HOST=0.0.0.0
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-S", "/venv/share/healthcheck.py"]
CMD ["serve"]
ARG VERSION="0.1.0"
ARG REVISION=""
LABEL org.opencontainers.image.title="session-recsys" \
      org.opencontainers.image.description="Session-based recommendations: top-k over HTTP" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

FROM builder AS train-builder
RUN python requirements.py pyproject.toml train prepare s3 > train.txt \
    && pip install --prefix /dependencies -r train.txt
COPY README.md ./
COPY recsys recsys
COPY clients/python/recsys_client clients/python/recsys_client
COPY data data
COPY training training
COPY service service
RUN pip install --prefix /code --no-deps .

FROM runtime AS train
COPY --from=train-builder /dependencies /venv
COPY --from=train-builder /code /venv
USER root
RUN mkdir /prepared && chown recsys /prepared
USER recsys
CMD ["train", "--help"]
ARG VERSION="0.1.0"
ARG REVISION=""
LABEL org.opencontainers.image.title="session-recsys, training" \
      org.opencontainers.image.description="Session-based recommendations: from a click log to a bundle" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

# default target of `docker build .`
FROM serve
