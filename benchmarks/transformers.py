"""Time and memory of LRP on full-size networks of tokens, against forward + backward of the same.

python benchmarks/transformers.py [NAME …]      # of torchvision, or timm:NAME; random weights
"""

from __future__ import annotations

import gc
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from forensift.lrp import LRP

NAMES = ("vit_b_16", "swin_t", "convnext_tiny", "timm:vit_small_patch14_reg4_dinov2")
IMAGES, RUNS = 4, 5


def network(name: str) -> tuple[torch.nn.Module, int]:
    """Return a network with random weights, and the side of its images."""
    torch.manual_seed(0)
    if name.startswith("timm:"):
        import timm

        made = timm.create_model(name[5:], pretrained=False, num_classes=1)
        side = made.default_cfg["input_size"][-1]
    else:
        from torchvision.models import get_model

        made, side = get_model(name, weights=None, num_classes=2), 224
    for parameter in made.parameters():
        if parameter.abs().max() < 1e-4:  # heads, tokens, layer scales
            torch.nn.init.normal_(parameter, std=0.02)
    return made.eval(), side


def resident() -> float:
    """Return what this process holds in memory now, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


@contextmanager
def watched() -> Iterator[list[float]]:
    """While the block runs, note how much more is held than at its beginning, MiB."""
    before, seen, done = resident(), [0.0], threading.Event()

    def look() -> None:
        while not done.wait(0.002):
            seen.append(resident() - before)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def forward_backward(made: torch.nn.Module, batch: torch.Tensor) -> None:
    """Run what a training step runs: gradients of the weights too."""
    made(batch.clone().requires_grad_())[:, 0].sum().backward()
    made.zero_grad()


def memory(name: str, what: str) -> float:
    """Return how much more memory one pass holds at its height, MiB; in a process of its own."""
    made, side = network(name)
    batch = torch.randn(IMAGES, 3, side, side)
    run = LRP(made) if what == "lrp" else partial(forward_backward, made)
    run(batch[:1])
    gc.collect()
    with watched() as seen:
        run(batch)
    return max(seen)


def main() -> None:
    if len(sys.argv) > 3 and sys.argv[1] == "--memory":
        print(memory(sys.argv[2], sys.argv[3]))
        return
    print(f"{IMAGES} images, {torch.get_num_threads()} threads, median of {RUNS}")
    print("network                              f+b s   LRP s   ratio   f+b MiB  LRP MiB  ratio")
    for name in sys.argv[1:] or NAMES:
        made, side = network(name)
        batch = torch.randn(IMAGES, 3, side, side)
        lrp = LRP(made)
        passes = {"lrp": partial(lrp, batch), "both": partial(forward_backward, made, batch)}
        times: dict[str, list[float]] = {what: [] for what in passes}
        for run in range(RUNS + 1):
            for what, once in passes.items():
                start = time.perf_counter()
                once()
                if run:
                    times[what].append(time.perf_counter() - start)
        both, own = (statistics.median(times[what]) for what in ("both", "lrp"))
        held = [
            float(subprocess.check_output([sys.executable, __file__, "--memory", name, what]))
            for what in ("both", "lrp")
        ]
        print(
            f"{name:36} {both:5.2f}   {own:5.2f}   {own / both:5.2f}   {held[0]:7.0f}  "
            f"{held[1]:7.0f}  {held[1] / held[0]:5.2f}"
        )


if __name__ == "__main__":
    main()
