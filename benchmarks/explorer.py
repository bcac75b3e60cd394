"""How long a switch takes: from the click to the new number on the screen, in a real browser."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.browser import started

# Clicks a switch and gives the milliseconds until the number after it has been painted.
CLICK = """async (place) => {
  const bench = document.querySelector(".bench");
  const switches = [...bench.querySelectorAll(".toggle")];
  const before = bench.dataset.painted;
  const begin = performance.now();
  switches[place % switches.length].click();
  while (bench.dataset.painted === before) await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
  return performance.now() - begin;
}"""
PAINTED = "!!document.querySelector('.bench[data-painted]')"


def main() -> None:
    """Print p50 and p95 of clicks on switches, and the time to the first number."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("detector", nargs="?", default="resnet50")
    words.add_argument("--size", type=int, default=224, help="pixels a side of the image")
    words.add_argument("--clicks", type=int, default=100)
    given = words.parse_args()
    import tempfile

    from PIL import Image

    from forensift.data import photographs

    with tempfile.TemporaryDirectory() as folder:
        for path in photographs("test")[:4]:
            with Image.open(path) as photo:
                whole = photo.convert("RGB")
                left, top = ((side - given.size) // 2 for side in whole.size)
                crop = whole.crop((left, top, left + given.size, top + given.size))
                crop.save(Path(folder) / f"{path.stem}.png")
        command = [sys.executable, "-m", "forensift", "explore", given.detector]
        command += ["--data", folder, "--no-open", "--port", "0"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            address = re.search(r"http\S+", server.stdout.readline())
            assert address is not None, "the explorer did not start"
            measure(address[0], given.clicks, given.detector, given.size)
        finally:
            server.terminate()
            server.wait()


def measure(address: str, clicks: int, detector: str, size: int) -> None:
    """Click on switches of the page's lists, one after another, and print what it took."""
    with started() as browser:
        page = browser.page()
        begin = time.perf_counter()
        page.goto(address)
        while not page.evaluate(PAINTED):
            page.wait_for_timeout(5)
        first = time.perf_counter() - begin
        page.locator(".lists .toggle").first.wait_for()
        page.wait_for_timeout(8_000)  # what is made ready behind is ready then
        load = os.getloadavg()[0]
        taken = []
        for place in range(clicks):
            taken.append(page.evaluate(CLICK, place))
            page.wait_for_timeout(150)
        assert page.requests_outside == []
    median, most = np.percentile(taken, [50, 95])
    print(
        f"{detector}, {size} × {size} pixels, {os.cpu_count()} cores, load {load:.1f}: first "
        f"number after {first:.2f} s; a switch takes {median:.0f} ms (p50), {most:.0f} ms (p95) of "
        f"{clicks} clicks"
    )


if __name__ == "__main__":
    main()
