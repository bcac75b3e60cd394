"""Feature maps that answer to JPEG and resizing, and what they carry."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from .. import figures
from ..errors import counted
from ..fmap_ranking import save_ranking
from ..pruning import BiasUnits
from ..pruning.bias import MATCHED
from ..pruning.certificate import WHOLE
from ..pruning.doses import BIASES
from .pruning import whole
from .text import number, percent
from .view import Shown, View, Write

SHOWN = 5
CAPTION = (
    "{bias}: {sure} of {maps} feature maps answer (q ≤ {level}); answer: from none to the largest "
    "dose, in standard deviations over clean reals, [ ] 95 % interval; monotone: rank correlation "
    "with the dose"
)


def view(result: BiasUnits) -> View:
    """Return the maps that answer to each bias, their curves, and what AP they carry."""
    facts = result.facts
    shown = [
        Shown(
            CAPTION.format(bias=BIASES[bias], sure=facts["sure"][bias],
                           maps=facts["feature_maps"], level=facts["level"]),
            rows(result.table[result.table["bias"] == bias].head(SHOWN)),
        )
        for bias in result.rankings
    ]  # fmt: skip
    tables = {"bias_units": result.table, "curves": result.curves}
    if len(result.carried):
        tables |= {"carried": result.carried, "levels": result.levels}
        caption = "without the bias units less another detector, in points, paired; [ ] 95 %"
        shown.append(Shown(caption, carried_rows(result), keys=2))
    title = f"{facts['detector']}: how feature maps answer to the dose"
    files: dict[str, Write] = {
        f"{bias}-bias.csv": _written(result, bias) for bias in result.rankings
    }
    files["bias_units.parquet"] = lambda path: result.table.to_parquet(path, index=False)
    drawn = {"doses": lambda: figures.plot_doses(result.curves, title=title)}
    return View("Bias units", said(result), tables, tuple(shown), drawn, files, facts)


def rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the first maps of a bias for people."""
    return pd.DataFrame(
        [
            {
                "feature map": str(row["feature_map"]),
                "answer": f"{number(row['response'], 2, sign=True)} "
                f"[{number(row['low'], 2, sign=True)}, {number(row['high'], 2, sign=True)}]",
                "q": f"{row['q']:.2g}",
                "monotone": number(row["monotone"], 2, sign=True),
            }
            for row in table.to_dict("records")
        ]
    )


def carried_rows(result: BiasUnits) -> pd.DataFrame:
    """Return what taking the bias units away changed, for people."""
    found = []
    for row in whole(result.carried).to_dict("records"):
        several = f" ({row['draws']} draws)" * (row["draws"] > 1)
        found.append(
            {
                "bias, maps": f"{BIASES[row['bias']]}, {row['k']}",
                "condition": str(row["condition"]),
                "less": f"{row['less']}{several}",
                "AP": percent(row, "ap", sign=True),
                "reals right": percent(row, "real_accuracy", sign=True),
                "fakes found": percent(row, "fake_accuracy", sign=True),
            }
        )
    return pd.DataFrame(found)


def said(result: BiasUnits) -> str:
    """Say how many maps answer to what, and whether AP needs them."""
    facts = result.facts
    parts = [
        f"On {counted(facts['reals'], 'real')} in {facts['groups']} groups of photographs, of "
        f"{facts['feature_maps']} feature maps of {facts['detector']}:"
    ]
    for bias in result.rankings:
        parts.append(f"{facts['sure'][bias]} answer to {BIASES[bias]} by dose;")
    text = " ".join(parts)[:-1] + f" (false discoveries at most {100 * facts['level']:.0f} %)."
    if not len(result.carried):
        return text + " None is taken away."
    macro = whole(result.carried)
    macro = macro[macro["condition"] == "clean"].set_index(["bias", "less"])
    for bias in dict.fromkeys(result.carried["bias"]):
        row = macro.loc[(bias, WHOLE)]
        text += (
            f" Without the first {row['k']} for {BIASES[bias]} AP on clean images changes by "
            f"{percent(row.to_dict(), 'ap', sign=True)} points"
        )
        if (bias, MATCHED) in macro.index:
            other = macro.loc[(bias, MATCHED)]
            text += f", {percent(other.to_dict(), 'ap', sign=True)} beyond as many others of their "
            text += f"layers: {_verdict(other)}"
        text += "."
    return text


def _verdict(row: pd.Series) -> str:
    if row["ap_high"] < 0:
        return "AP rests on them more than on others"
    if row["ap_low"] > 0:
        return "AP rests on them less than on others"
    return "no more than on others, as far as these images show"


def _written(result: BiasUnits, bias: str) -> Write:
    def write(path: Path) -> None:
        save_ranking(result.rankings[bias], path)

    return write
