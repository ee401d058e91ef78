# Triton and what our program in it imports: the Python of the public image has no ONNX Runtime. Context: the repository's root.
#   TRITON_IMAGE  another base; one whose Python has both packages already is taken as it is
#   PIP_*         where packages come from; nothing of it stays in the image, which takes only files from this stage
ARG TRITON_IMAGE=nvcr.io/nvidia/tritonserver:24.10-py3

FROM ${TRITON_IMAGE} AS packages
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ARG PIP_DEFAULT_TIMEOUT=60
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements/triton.txt /tmp/triton.txt
RUN mkdir /opt/aimass && { python3 -c "import numpy, onnxruntime" 2>/dev/null || \
    python3 -m pip install --quiet --require-hashes --only-binary :all: --target /opt/aimass -r /tmp/triton.txt; }

FROM ${TRITON_IMAGE}
# Of a Triton whose Python back end was built elsewhere: the library of the Python that it runs.
RUN library=$(ldd /opt/tritonserver/backends/python/triton_python_backend_stub | sed -n 's/\s*\(libpython[0-9.]*\)\.so.*not found/\1/p'); \
    [ -z "${library}" ] || { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${library}" >/dev/null && \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*; }
COPY --from=packages /opt/aimass /opt/aimass
ENV PYTHONPATH=/opt/aimass ORT_DISABLE_TELEMETRY=1
