"""The page of the ground-truth study, written from its tables."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from ...figures.planted import plot_along_k, plot_ground_truth, plot_planted_examples
from ...files import write_bytes, write_with
from ...views import Shown, View
from ...views.text import markdown, other_rules, with_interval
from ...views.view import Draw, Write
from .localisation import METHODS
from .parts import AIMS
from .study import Example, Planted

FIGURES = ("examples", "found", "along_k")


def view(study: Planted) -> View:
    """Return what was asked and measured; the page itself is ``ground-truth.md``."""
    tables = {
        "ground_truth": study.verdicts,
        "localisation": study.localisation,
        "colour": study.colour,
        "dropout": study.dropout,
        "along_k": study.along_k,
        "history": study.history,
    }
    names = list(dict.fromkeys(one.trace for one in study.examples))
    kept = {name: [one for one in study.examples if one.trace == name] for name in names}
    # The photograph with the most in it, so that what is found is not found on an empty wall.
    shown = [max(own, key=lambda one: float(one.real.std())) for own in kept.values()]
    measured = study.along_k[study.along_k["images"] == "test"]
    drawn: dict[str, Draw] = {
        "examples": lambda: plot_planted_examples(shown),
        "along_k": lambda: plot_along_k(measured, study.facts["k"]),
    }
    if len(study.localisation):
        drawn["found"] = lambda: plot_ground_truth(study.localisation, study.colour)
    facts = study.facts
    said = f"{facts['found']} of {facts['asked']} rules are met, in {facts['seconds']:.0f} s."
    said += other_rules(facts)
    caption = "fractions of 1; [ ] 95 % intervals drawn by photograph; blind: what no insight gets"
    rows = Shown(caption, _verdict_rows(study.verdicts), keys=2)
    files: dict[str, Write] = {"examples.npz": lambda path: _save_examples(path, study.examples)}
    return View("Ground truth", said, tables, (rows,), drawn, files, facts)


def write_page(study: Planted, page: Path) -> None:
    """Write the study as Markdown, and its figures beside it as ``<page>-<figure>.png``."""
    page = Path(page)
    facts, drawn = study.facts, view(study).figures
    links = {}
    for name in FIGURES:
        if name in drawn:
            copy = page.with_name(f"{page.stem}-{name.replace('_', '-')}.png")
            _shrink(drawn[name](), copy)
            links[name] = f"![{name}]({copy.name})"
    parts = [
        "# Ground truth: is what was planted found?",
        "Made by `forensift planted --page`; every number below comes from its tables. "
        f"{facts['found']} of {facts['asked']} rules are met. The rules stand in the program and "
        "in the table, met or not. They were settled on smaller trial runs over the same "
        "photographs, so they are not blind to them: in one, k chosen by an AP of 0.6 on "
        "validation photographs left 0.84 on test photographs; since then k must bring AP to 0.5.",
        _method(study),
        links.get("examples", ""),
        "## Asked and measured",
        "Fractions of 1; [ ] are 95 % intervals drawn by photograph. *Blind* is what an "
        "explanation without insight would get: the box's area, no map, or the mean over draws of "
        "as many random maps of the same layers.",
        markdown(_verdict_rows(study.verdicts)),
        "## (a) Relevance and the box",
        "The share of positive relevance in the box, and how often the largest value lies there "
        "(pointing game). *Another box*: the same maps against the box of another image, which is "
        "how much a map gets by looking at the middle. The gradient is the absolute gradient of "
        "the logit; random is noise. Both are controls, not claims.",
        links.get("found", ""),
        markdown(_localisation_rows(study.localisation)) if len(study.localisation) else "",
        "## (b) Colour",
        f"The top {facts['colour_k']} maps of each detector: spatial maxima on the same fakes in "
        "colour and in grey, Mood's median test and Wilcoxon's paired test, both after Benjamini "
        "and Hochberg. *Twins* are the same crops without the trace. The paired test is sharp "
        "enough to see what a photograph's own colours do to a map; the last column asks for an "
        "effect of a tenth of an interquartile range as well. A map that responds to colour on "
        "twins too responds to the photograph, not to the trace.",
        markdown(_colour_rows(study.colour)),
        "## (c) Dropout",
        "k is chosen on validation photographs, measured on test photographs: *decision* is the "
        "smallest k that leaves at most 5 % of the fakes found, *order* the smallest that brings "
        "AP to chance as well; both spare the reals. Random masks: mean over draws, in [ ] the "
        "lowest and highest draw. Accuracies at the threshold 0.5. The accuracy on fakes can go "
        "before AP does: their logits pass the threshold while they still lie above the reals'. "
        "Where AP falls below 0.5, what is left of the trace speaks for real.",
        links.get("along_k", ""),
        markdown(_dropout_rows(study.dropout)),
    ]
    write_bytes(page, ("\n\n".join(part for part in parts if part) + "\n").encode())


def _method(study: Planted) -> str:
    facts = study.facts
    traces = facts["traces"]
    one = next(iter(traces.values()))
    carried = facts["carried"]
    return (
        f"A checkerboard of period {one['period']} pixels and ±{one['strength']} grey levels is "
        f"added to crops ({facts['side']} × {facts['side']}) of photographs; each fake's real twin "
        "is the same crop without it. *luma* adds the same to all channels; *chroma* adds to red "
        "and takes from green so that Pillow's greyscale version stays the same to the bit. "
        "*whole* covers the image, *box* a square of a quarter of its area at a place of its own "
        "in every image. Pixels without room (0 … 255) carry no trace: "
        f"{100 * (1 - min(carried.values())):.1f} % of the test images' or less. For each trace a "
        f"plain network of four convolutions ({facts['feature_maps']} feature maps) is trained on "
        f"{facts['pairs']} pairs for {facts['steps']} steps; {facts['held_out']} pairs each of "
        "other photographs serve to rank and choose k (validation) and to measure (test). Seed "
        f"{facts['seed']}, {facts['draws']} draws of each random control, "
        f"{facts['processor_seconds']:.0f} s of processor time.{other_rules(facts)}"
    )


def _verdict_rows(table: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for row in table.to_dict("records"):
        rows.append(
            {
                "trace": row["trace"],
                "asked": row["question"],
                "measured": with_interval(row, "measured", ends=("low", "high"), decimals=2),
                "blind": f"{row['chance']:.2f}",
                "rule": row["rule"],
                "met": "yes" if row["found"] else "**no**",
            }
        )
    return pd.DataFrame(rows)


def _localisation_rows(table: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for row in table.to_dict("records"):
        shown = {"trace": row["trace"], "method": row["method"]}
        shown["area"] = f"{row['area']:.2f}"
        for key, head in (
            ("share", "share in the box"),
            ("other_share", "in another box"),
            ("hit", "pointing game"),
            ("other_hit", "pointing, another box"),
        ):
            shown[head] = with_interval(row, key, decimals=2)
        rows.append(shown)
    order = {name: at for at, name in enumerate(METHODS)}
    return pd.DataFrame(rows).sort_values(
        "method", key=lambda names: names.map(order), kind="stable"
    )


def _colour_rows(table: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (trace, images), own in table.groupby(["trace", "images"], sort=False):
        rows.append(
            {
                "trace": trace,
                "images": images,
                "maps": len(own),
                "Mood, q ≤ 0.05": int(own["colour_conditional_mood_q"].sum()),
                "paired, q ≤ 0.05": int(own["colour_conditional_paired_q"].sum()),
                "paired and effect": int(own["colour_conditional_paired_q_effect"].sum()),
                "median effect": f"{own['effect'].abs().median():.2f}",
                "largest effect": f"{own['effect'].abs().max():.2f}",
            }
        )
    return pd.DataFrame(rows)


def _dropout_rows(table: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for aim in AIMS:
        for row in table[table["aim"] == aim].to_dict("records"):
            if row["mask"] == "baseline" and aim != AIMS[0]:
                continue
            draws = f" ({row['draws']} draws)" if row["draws"] > 1 else ""
            shown = {"trace": row["trace"], "mask": f"{row['mask']}{draws}", "k": str(row["k"])}
            for key, head in (
                ("ap", "AP"),
                ("fake_accuracy", "fakes right"),
                ("real_accuracy", "reals right"),
            ):
                shown[head] = with_interval(row, key, decimals=2)
            shown["fakes' logit"] = f"{row['mean_logit_fake']:.2f}"
            shown["reals' logit"] = f"{row['mean_logit_real']:.2f}"
            rows.append(shown)
    order = {name: at for at, name in enumerate(dict.fromkeys(table["trace"]))}
    return pd.DataFrame(rows).sort_values(
        "trace", key=lambda names: names.map(order), kind="stable"
    )


def _shrink(figure: Any, copy: Path) -> None:
    """Write a figure in 64 colours: enough for a page, and light in a clone."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=300)
    with Image.open(drawn) as opened:
        small = opened.convert("RGB").quantize(64, dither=Image.Dither.NONE)
    write_with(copy, lambda path: small.save(path, "PNG", optimize=True))


def _save_examples(path: Path, examples: Sequence[Example]) -> None:
    arrays: dict[str, Any] = {}
    for number, one in enumerate(examples):
        key = f"{number}-{one.trace}"
        arrays |= {f"{key}/real": one.real, f"{key}/fake": one.fake, f"{key}/box": one.box}
        arrays |= {f"{key}/{name}": values for name, values in one.maps.items()}
    with path.open("wb") as opened:
        np.savez_compressed(opened, **arrays)
