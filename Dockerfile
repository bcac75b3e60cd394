# forensift on the CPU: docker build -t forensift . && docker run --rm -v "$PWD/demo-out:/out" forensift
FROM python:3.11-slim

WORKDIR /opt/forensift
COPY requirements.txt ./
RUN python -m pip install --no-cache-dir -r requirements.txt
COPY . .
RUN python -m pip install --no-cache-dir --no-deps --editable .

ENTRYPOINT ["forensift"]
CMD ["demo", "--out", "/out"]
