# mrigmm on a CPU. Build: docker build -t mrigmm .
# Run: docker run --rm --network none -v "$PWD/images:/in:ro" -v "$PWD/out:/out" mrigmm segment /in -o /out
FROM python:3.12-slim

WORKDIR /src
COPY constraints.txt requirements.lock pyproject.toml README.md LICENSE ./
COPY mrigmm ./mrigmm
# Versions and hashes of the lock; PyTorch, in its build for the CPU, by its version (scripts/lock.py).
RUN pip install --no-cache-dir uv==0.13.9 \
    && uv pip install --system --no-cache --torch-backend cpu -c constraints.txt -c requirements.lock ".[dicom]" \
    && rm -rf /src/* \
    && useradd --create-home --uid 10001 mrigmm

USER 10001
WORKDIR /home/mrigmm
ENTRYPOINT ["mrigmm"]
CMD ["--help"]
