"""How long, and in how much memory, a parquet of many images is listed.

python benchmarks/parquet.py --rows 1000000
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

PART = 50_000  # rows that are written at a time


def write(path: Path, rows: int) -> None:
    """Write a parquet as published sets are: bytes, ClassLabel, the generator's name."""
    schema = pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("label", pa.int64()),
            ("model", pa.string()),
        ]
    )
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, PART):
            here = range(start, min(start + PART, rows))
            image = [{"bytes": b"\xff\xd8 %d" % n, "path": f"photo{n:07d}.jpg"} for n in here]
            models = [f"model{n % 20}" for n in here]
            labels = [n // 20 % 2 for n in here]
            part = {"image": image, "label": labels, "model": models}
            writer.write_table(pa.table(part, schema=schema))


def main() -> None:
    """Print seconds and the largest resident size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--file", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = given.file or Path(folder) / "set.parquet"
        if not path.is_file():
            write(path, given.rows)
            if given.file:
                return
        from forensift.data import scan

        before = time.perf_counter()
        images = scan(path)
        seconds = time.perf_counter() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{len(images):,} images listed in {seconds:.1f} s, {peak:.2f} GiB at most")


if __name__ == "__main__":
    main()
