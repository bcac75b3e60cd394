# forensift in a container, for the CPU and for a GPU; docs/docker.md says how to build and run it.
FROM python:3.11-slim

# Where pip finds PyTorch's CPU build: the index that pytorch.org names for "CPU". Without it pip
# takes the CUDA build, which is several gigabytes larger and needs a GPU only where one is used.
ARG TORCH_INDEX=""

RUN useradd --create-home --uid 1000 forensift
WORKDIR /opt/forensift
COPY requirements.txt ./
RUN if [ -n "$TORCH_INDEX" ]; then \
        grep -E '^torch(vision)?==' requirements.txt > torch.txt \
        && python -m pip install --no-cache-dir --index-url "$TORCH_INDEX" -r torch.txt; \
    fi \
    && python -m pip install --no-cache-dir -r requirements.txt
COPY . .
RUN python -m pip install --no-cache-dir --no-deps --editable .

# Any user may run it (docker run --user), and has a home for what libraries cache.
ENV HOME=/tmp PYTHONDONTWRITEBYTECODE=1
USER forensift
# One's own folder is mounted here: images are found in it, results are written to it.
WORKDIR /work
ENTRYPOINT ["forensift"]
CMD ["--help"]
