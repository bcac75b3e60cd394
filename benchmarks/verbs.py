"""What the verbs cost: processor time and memory of each, run as a command of its own.

    python benchmarks/verbs.py [--out runs/verbs] [--page docs/performance.md]

Every verb runs on the same forged images (two families, 16 pairs each, 128 pixels) with ResNet-50
on one core. Processor time hardly depends on what else the machine does; wall time does. Memory is
the most that the process held. ``--out`` keeps the numbers as JSON; a verb that is there already is
not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

import pandas as pd
import torch

from forensift.files import write_bytes
from forensift.views.text import markdown

FORGE = "forge --photos {split} --families progan-like,dcgan-like --per-family {pairs} --size 128"
ON = "--data {images} --out {out}"
VERBS = {
    "scan --audit": "scan {images} --audit --out {out}",
    "score": "score resnet50 {images} --out {out}",
    "evaluate": f"evaluate resnet50 {ON}",
    "robustness": f"robustness resnet50 {ON}",
    "rank": f"rank resnet50 {ON}",
    "dropout, 20 draws": f"dropout resnet50 {ON} --ranking {{ranking}} --k 114",
    "transfer": f"transfer resnet50 {ON} --k 114",
    "colour": f"colour resnet50 {ON}",
    "median-test": f"median-test resnet50 {ON} --ranking {{ranking}} --k 114",
    "patches, 8 maps": f"patches resnet50 {ON} --ranking {{ranking}} --k 8",
    "embed": f"embed resnet50 {ON}",
    "explain, LRP": "explain resnet50 {images} --out {out}",
    "faithfulness": f"faithfulness resnet50 {ON}",
}
PAGE = """# What it costs

Made by `make performance` on {machine}: every verb as a command of its own with ResNet-50 on one
core, on the same {images} forged images of 128 × 128 pixels, start-up included. Processor time,
since it hardly depends on what else the machine does.

{table}

`make demo`, all of it on four detectors and eight families, took 7 min 20 s on two cores and 3 GB;
`planted` says in [ground truth](ground-truth.md) what it took.

Time goes with the number of images and of their pixels; `dropout` scores every image once for each
mask (k, its controls and draws), `robustness` once for each condition, `transfer` once for each
pair of generators and draw. Memory does not grow with the number of images; with their size it
does, and batches are made smaller before it runs out. Nothing was measured on a [GPU](gpu.md) for
this page.

## Relevance, dropout, rankings

`make bench` compares LRP (pixels and all feature maps) with a plain input gradient of the same
network, a pair at a time in one process, so that both are slowed alike by whatever else runs, and
dropout of many masks with as many passes. `python benchmarks/rankings.py` does so for other
rankings than ω ([their table](commands.md#other-rankings-than-ω)), and `python
benchmarks/transformers.py` for [transformers](transformers.md).
"""


def measured(words: list[str]) -> dict[str, float]:
    """Run ``forensift words`` on one core; return seconds of processor time, and GB."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "forensift", *words]
    with Path(os.devnull).open("w") as nowhere:
        told = [(os.POSIX_SPAWN_DUP2, nowhere.fileno(), number) for number in (1, 2)]
        child = os.posix_spawn(sys.executable, command, environment, file_actions=told)
    _, status, used = os.wait4(child, 0)
    if status:
        raise SystemExit(f"forensift {' '.join(words)} failed")
    return {"seconds": used.ru_utime + used.ru_stime, "gigabytes": used.ru_maxrss / 2**20}


def processor() -> str:
    """Return the name of the processor."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/verbs"))
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--page", type=Path)
    asked = parser.parse_args()
    kept = asked.out / "verbs.json"
    found = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    images, ranking = asked.out / "images", asked.out / "rank" / "images-fake.csv"
    forged = FORGE.format(split="test", pairs=asked.pairs)
    steps = {"forge": f"{forged} --out {{images}}", **VERBS}
    for name, line in steps.items():
        out = asked.out / name.partition(",")[0].partition(" ")[0]
        if name not in found:
            found[name] = measured(line.format(images=images, ranking=ranking, out=out).split())
            write_bytes(kept, json.dumps(found, indent=1).encode())
        print(
            f"{name}: {found[name]['seconds']:.0f} s, {found[name]['gigabytes']:.1f} GB", flush=True
        )
    if asked.page:
        rows = [
            (f"`{name}`", f"{one['seconds']:.0f}", f"{one['gigabytes']:.1f}")
            for name, one in found.items()
        ]
        table = pd.DataFrame(rows, columns=["verb", "processor time (s)", "memory (GB)"])
        machine = f"{processor()}, PyTorch {torch.__version__}"
        text = PAGE.format(machine=machine, images=4 * asked.pairs, table=markdown(table).strip())
        write_bytes(asked.page, text.encode())


if __name__ == "__main__":
    main()
