# A Beam worker (Dataflow, Flink, ...): the tested lock on Python 3.11. As a workstation image it takes the program as
# entry point: docker run --rm --entrypoint duologue -v "$PWD:/data" -w /data IMAGE curate videos/ --out set
FROM python:3.11-slim-bookworm

RUN apt-get update \
 && apt-get install -y --no-install-recommends ffmpeg espeak-ng \
 && rm -rf /var/lib/apt/lists/*

# Beam's container boot program; a worker container starts with it.
COPY --from=apache/beam_python3.11_sdk:2.77.0 /opt/apache/beam /opt/apache/beam

# One thread a process, as `curate` sets it where it starts workers itself: bytes do not depend on a machine's cores.
ENV PYANNOTE_METRICS_ENABLED=0 PIP_NO_CACHE_DIR=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
WORKDIR /opt/duologue
COPY requirements/lock.txt requirements/lock.txt
# TORCH_INDEX=https://download.pytorch.org/whl/cpu makes a CPU image; the default resolves torch from the usual index.
ARG TORCH_INDEX=
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch==2.13.0 \
 && pip install --no-deps -r requirements/lock.txt
COPY . .
RUN pip install --no-deps .

ENTRYPOINT ["/opt/apache/beam/boot"]
