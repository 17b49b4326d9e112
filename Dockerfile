# For a GPU build pass --build-arg CMAKE_ARGS=-DGGML_CUDA=on and start from a CUDA image.
FROM python:3.11-slim-bookworm
ARG CMAKE_ARGS=""
RUN apt-get update && apt-get install -y --no-install-recommends g++ make patch && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 1000 brigade
WORKDIR /app
COPY requirements.txt .
COPY third_party third_party
RUN CMAKE_ARGS="$CMAKE_ARGS" third_party/llama-cpp-python/build.sh python /tmp/wheels && \
    pip install --no-cache-dir --no-deps /tmp/wheels/*.whl && rm -r /tmp/wheels && \
    pip install --no-cache-dir -r requirements.txt
COPY . .
RUN mkdir /data && chown brigade /data
USER brigade
ENV BRIGADE_HOME=/data INFERENCE_HOST=0.0.0.0 INFERENCE_PORT=8085
EXPOSE 8085
CMD ["python", "manage.py", "up"]
