"""Which feature maps respond to colour."""

from __future__ import annotations

import pandas as pd

from .. import figures
from ..histograms import MedianTestResult
from .text import percent
from .view import Draw, Shown, View

PANELS = 24  # density plots of a generator: one page

CAPTION = (
    "Of each feature map (layer and #channel) the largest activation over space, of the same fakes "
    "in colour and in grey: ticks are the images, curves their density, drawn no farther than they "
    "reach. q is the corrected p of Mood's median test, as published, and of a test on pairs; the "
    "effect is the share by which pairs differ. A map whose curves part responds to colour."
)


def view(result: MedianTestResult) -> View:
    """Return the tests of the top feature maps on the same fakes in RGB and in another mode."""
    curves = result.densities()
    drawn: dict[str, Draw] = {}
    every = result.maxima.images.generators
    for generator in every if result.drawn is None else result.drawn:
        safe = generator.replace("/", "-")
        drawn[f"histograms_{safe}"] = _page(result, curves, generator)
    drawn["legend"] = lambda: figures.plot_density_legend(result.maxima.modes)
    files = {
        "maxima.parquet": lambda path: result.maxima.table().to_parquet(path, index=False),
        "densities.parquet": lambda path: curves.to_parquet(path, index=False),
    }
    k = result.facts["k"]
    shown = Shown(
        f"colour-conditional maps among the top {k}, percent; [ ] 95 % intervals over maps",
        rows(result.percentages),
    )
    tables = {"median_test": result.table, "percentages": result.percentages}
    title = "Which maps respond to colour"
    captions = {name: CAPTION for name in drawn if name != "legend"}
    told = said(result)
    return View(title, told, tables, (shown,), drawn, files, result.facts, captions)


def rows(percentages: pd.DataFrame) -> pd.DataFrame:
    """Return the share of colour-conditional maps: generators down, criteria across."""
    found = []
    for generator, own in percentages.groupby("generator", sort=False):
        shown = {"generator": str(generator)}
        for row in own.to_dict("records"):
            shown[str(row["criterion"])] = percent(row, "share", ends=("low", "high"))
        found.append(shown | {"dead maps": str(own["dead"].iloc[0])})
    return pd.DataFrame(found)


def said(result: MedianTestResult) -> str:
    """Say how many of the top maps are colour-conditional, published and strictest criterion."""
    shares = result.percentages.groupby("criterion", sort=False)["share"]
    first, last = (list(shares.groups)[place] for place in (0, -1))
    low, high = 100 * shares.min(), 100 * shares.max()
    fakes = len(result.maxima.images)
    several = len(result.maxima.images.generators) > 1
    return (
        f"Of the top {result.facts['k']} maps {_range(low[first], high[first])} % are "
        f"colour-conditional by Mood's median test at p ≤ {result.facts['level']:g} (published: "
        f"0.05), {_range(low[last], high[last])} % by a paired test after correction that also "
        f"asks for an effect{', each generator by itself' * several}. {fakes} fakes were looked at."
    )


def _range(low: float, high: float) -> str:
    return f"{low:.0f}" if round(low) == round(high) else f"{low:.0f} to {high:.0f}"


def _page(result: MedianTestResult, curves: pd.DataFrame, generator: str) -> Draw:
    def draw() -> object:
        samples = result.maxima.table()
        tables = (curves, result.table, samples)
        own, tests, values = (one[one["generator"] == generator] for one in tables)
        n, whole, shown = tests["pairs"].iloc[0], result.facts["k"], tests.head(PANELS)
        title = f"{result.facts['detector']}, {n} fakes of {generator}: "
        title += f"{len(shown)} of the top {whole} feature maps"
        return figures.plot_densities(own, shown, values, title=title)[0]

    return draw
