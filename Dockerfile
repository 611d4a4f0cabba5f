# dmsynth on the CPU:  docker build -t dmsynth . && docker run --rm -v "$PWD/runs:/work/runs" dmsynth
# With an NVIDIA GPU:  docker build -t dmsynth --build-arg TORCH=https://download.pytorch.org/whl/cu128 . && docker run --rm --gpus all …
FROM python:3.12-slim

# MediaPipe's wheel is linked to both (src/dmsynth/support/system_libraries.py).
RUN apt-get update && apt-get install -y --no-install-recommends libegl1 libgles2 && rm -rf /var/lib/apt/lists/*

WORKDIR /dmsynth
ARG TORCH=https://download.pytorch.org/whl/cpu
COPY requirements.lock requirements-torch.txt ./
RUN pip install --no-cache-dir --no-deps --require-hashes -r requirements.lock \
    && pip install --no-cache-dir --extra-index-url "$TORCH" -r requirements-torch.txt

COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir --no-deps --no-build-isolation . && useradd --create-home driver && mkdir -p /work/runs && chown -R driver /work
USER driver
RUN dmsynth fetch

WORKDIR /work
ENTRYPOINT ["dmsynth"]
CMD ["demo", "--out", "runs/demo"]
