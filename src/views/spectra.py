"""Average spectra and noise residuals of reals and fakes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from .. import figures
from ..errors import counted
from ..evaluation.spectra import Spectra
from .text import number
from .view import Draw, Shown, View

SHOWN = 3  # periods of a generator that are shown to people; peaks.csv has all
CAPTIONS = {
    "spectra": "Power at every frequency, 0 in the middle, half a cycle a pixel at the edges: of "
    "the images, and of what a 3 × 3 median leaves of them, their noise. First the reals' means "
    "(dark is little), then for each generator how the mean of its fakes differs from its reals: "
    "red is less, blue more. Single blue spots are periodic traces, as up-sampling leaves; circles "
    "mark those that are there beyond doubt.",
    "radial": "The same, averaged over all directions, from coarse (left) to fine. Solid: images, "
    "dashed: their noise; bands are 95 % intervals over photographs. Fakes whose line leaves the "
    "reals' at the right have too little, or too much, fine detail.",
}


def view(result: Spectra) -> View:
    """Return mean spectra, radial power, and the periods that fakes have and reals have not."""
    facts = result.facts
    note = (
        f"{facts['used']:,} images, their central {facts['size']} x {facts['size']} pixels; log10 "
        "of power; tests over "
        f"{facts['intervals_over']}, corrected by Holm over the periods of a generator"
    ).replace(" x ", " × ")
    told = said(result)
    found = result.peaks.groupby("generator")["found"].any()
    short = (
        f"{int(found.sum()) or 'None'} of {counted(len(found), 'generator')} leave periodic traces "
        "in the noise that reals do not have"
    )
    drawn: dict[str, Draw] = {
        "spectra": lambda: figures.plot_spectra(result.mean, result.peaks, title=short, note=note),
        "radial": lambda: figures.plot_radial(
            result.radial, result.peaks, title=_radial(result.radial), note=note
        ),
    }
    caption = (
        "periods in the residual that stand out most: log10 of power above the surroundings, "
        f"[ ] 95 % intervals over {facts['intervals_over']}; all in peaks.csv"
    )
    shown = Shown(caption, rows(result.peaks), keys=2)
    tables = {"radial": result.radial, "peaks": result.peaks}
    files = {"spectra.npz": lambda path: _save(result, path)}
    return View("Spectra", told, tables, (shown,), drawn, files, facts, CAPTIONS)


def rows(peaks: pd.DataFrame) -> pd.DataFrame:
    """Return the periods that stand out most in each generator's fakes."""
    found = []
    for generator, own in peaks.groupby("generator", sort=False):
        few = own.sort_values(["p_holm", "difference"], ascending=[True, False], kind="stable")
        for row in few.head(SHOWN).to_dict("records"):
            ends = f"[{number(row['low'], 2, sign=True)}, {number(row['high'], 2, sign=True)}]"
            found.append(
                {
                    "generator": str(generator),
                    "period": named(row["down"], row["across"]),
                    "fakes": number(row["height_fake"], 2),
                    "reals": number(row["height_real"], 2),
                    "difference": f"{number(row['difference'], 2, sign=True)} {ends}",
                    "p (Holm)": "< 0.001" if row["p_holm"] < 0.001 else f"{row['p_holm']:.2g}",
                    "found": "yes" if row["found"] else "",
                }
            )
    return pd.DataFrame(found)


def _radial(radial: pd.DataFrame) -> str:
    """Say which generators' finest detail differs most from their reals'."""
    fine = radial[(radial["kind"] == "image") & (radial["frequency"] >= 0.4)]
    means = fine.pivot_table("power", "generator", "label")
    apart = means["fake"] - means["real"]
    low, high = apart.idxmin(), apart.idxmax()
    parts = [f"{name} {number(apart[name], 1, sign=True)}" for name in dict.fromkeys((low, high))]
    return (
        "Fine detail (0.4 cycles a pixel and more) of fakes against reals, powers of ten: "
        f"{' to '.join(parts)}"
    )


def named(down: float, across: float) -> str:
    """Return a frequency for people: by its period in pixels, and the way it goes."""
    parts = []
    for value, way in ((across, "across"), (down, "down" if down > 0 else "up")):
        if value:
            parts.append(f"{1 / abs(value):.3g} px {way}")
    return " and ".join(parts)


def said(result: Spectra) -> str:
    """Say which generators leave which periods, and which leave none that is seen."""
    with_peaks, without = [], []
    for generator, own in result.peaks.groupby("generator", sort=False):
        own = own[own["found"]].sort_values("difference", ascending=False, kind="stable")
        if not len(own):
            without.append(str(generator))
            continue
        first = own.iloc[0]
        more = f", {len(own) - 1} more" if len(own) > 1 else ""
        with_peaks.append(f"{generator} ({named(first['down'], first['across'])}{more})")
    total = len(with_peaks) + len(without)
    text = (
        f"{len(with_peaks) or 'None'} of {counted(total, 'generator')} "
        f"leave{'s' * (len(with_peaks) == 1)} a period in the noise residual that its reals do not "
        f"have{': ' if with_peaks else ''}{', '.join(with_peaks)}."
    )
    return text + (f" None is seen in {', '.join(without)}." if without and with_peaks else "")


def _save(result: Spectra, path: Path) -> None:
    """Write the mean spectra as NumPy arrays, GENERATOR/real and GENERATOR/fake."""
    arrays = {
        f"{generator}/{'fake' if label else 'real'}": values
        for (generator, label), values in result.mean.items()
    }
    with path.open("wb") as opened:
        np.savez_compressed(opened, **arrays)  # type: ignore[arg-type]
