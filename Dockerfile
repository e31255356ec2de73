# mrigmm on a CPU. Build: docker build -t mrigmm .
# Run: docker run --rm --network none -v "$PWD/images:/in:ro" -v "$PWD/out:/out" mrigmm segment /in -o /out
FROM python:3.12-slim

WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY mrigmm ./mrigmm
RUN pip install --no-cache-dir -c constraints.txt ".[dicom]" \
    && rm -rf /src/* \
    && useradd --create-home --uid 10001 mrigmm

USER 10001
WORKDIR /home/mrigmm
ENTRYPOINT ["mrigmm"]
CMD ["--help"]
