"""The pages of a demo: an index for a browser, and the results as Markdown."""

from __future__ import annotations

import html
from pathlib import Path

import pandas as pd

from ..evaluation import MACRO
from ..files import write_bytes
from ..sensitivity.tables import UNSEEN
from .demo import Demo, Study
from .weights import weights_rows

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; font-size: 13px; margin: 1rem 0 }
td, th { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #ddd }
td:first-child, th:first-child, td:nth-child(2) { text-align: left }
img { max-width: 100% } p.said { background: #f4f4f0; padding: .8rem 1rem }
"""


def evaluation_rows(study: Study) -> pd.DataFrame:
    """Return the evaluation for people: percent with one decimal, intervals in brackets."""
    rows = []
    for row in study.evaluation.to_dict("records"):
        shown: dict[str, str] = {"generator": str(row["generator"])}
        shown["images"] = f"{row['n_real']} + {row['n_fake']}"
        for key, head in (
            ("ap", "AP"),
            ("accuracy", "accuracy"),
            ("real_accuracy", "on reals"),
            ("fake_accuracy", "on fakes"),
        ):
            low, high = row[f"{key}_low"], row[f"{key}_high"]
            interval = f" [{100 * low:.1f}, {100 * high:.1f}]" if low == low else ""
            shown[head] = f"{100 * row[key]:.1f}{interval}"
        shown["AUC"], shown["EER"] = f"{100 * row['auc']:.1f}", f"{100 * row['eer']:.1f}"
        rows.append(shown)
    return pd.DataFrame(rows)


def dropout_rows(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the dropout summary for people: percent, and the signed change of the mean logits."""
    rows = []
    for row in summary.to_dict("records"):
        spread = f" ± {100 * row['ap_sd']:.1f}" if row["draws"] > 1 else ""
        plain = row["mask"] == "baseline"
        signs = ("", "") if plain else ("change_", "+")
        draws = f" ({row['draws']} draws)" if row["draws"] > 1 else ""
        rows.append(
            {
                "generator": str(row["generator"]),
                "mask": f"{row['mask']}{draws}",
                "AP": f"{100 * row['ap']:.1f}{spread}",
                "reals right": f"{100 * row['real_accuracy']:.1f}",
                "fakes right": f"{100 * row['fake_accuracy']:.1f}",
                "reals' logit": f"{row[signs[0] + 'mean_logit_real']:{signs[1]}.2f}",
                "fakes' logit": f"{row[signs[0] + 'mean_logit_fake']:{signs[1]}.2f}",
                "effect": "" if plain else str(row["effect"]),
            }
        )
    return pd.DataFrame(rows)


def asked_rows(study: Study) -> pd.DataFrame:
    """Return what a study of transferable features must show, asked against measured."""
    rows: list[tuple[str, str, str, str]] = []
    training = study.evaluation.set_index("generator")
    family = "progan-like"
    unseen = [name for name in training.index if name not in (family, MACRO)]
    rows.append(_asked("AP on the training family", "≥ 98", 100 * training.loc[family, "ap"], 98))
    for name in unseen:
        rows.append(_asked(f"AP on {name}, unseen", "≥ 85", 100 * training.loc[name, "ap"], 85))
    for k, result in study.dropouts.items():
        own = result.summary[result.summary["generator"] == UNSEEN].set_index("mask")
        base, top, random = own.loc["baseline"], own.loc["top-k"], own.loc["random-k"]
        fall = float(top["fall_ap_points"])
        fakes = 100 * float(base["fake_accuracy"] - top["fake_accuracy"])
        reals = 100 * float(base["real_accuracy"] - top["real_accuracy"])
        met = "yes" if fall >= 25 or fakes >= 50 else "no"
        rows.append(
            (
                f"top-{k}: fall of AP, or of the accuracy on fakes, on unseen families",
                "≥ 25, or ≥ 50 points",
                f"{fall:.1f}, {fakes:.1f}",
                met,
            )
        )
        rows.append(_asked(f"top-{k}: fall of the accuracy on reals", "≤ 10", reals, 10, most=True))
        fall = float(random["fall_ap_points"])
        rows.append(_asked(f"random-{k}: mean fall of AP", "≤ 5", fall, 5, most=True))
        if "random-k-layer-matched" in own.index:
            matched = own.loc["random-k-layer-matched"]
            text = (
                f"AP falls by {matched['fall_ap_points']:.1f}; logit of reals "
                f"{matched['change_mean_logit_real']:+.2f}, of fakes "
                f"{matched['change_mean_logit_fake']:+.2f}: {matched['effect']}"
            )
            rows.append((f"layer-matched random-{k}", "whatever it says", text, ""))
    return pd.DataFrame(rows, columns=["", "asked", "measured", "met"])


def _asked(
    what: str, asked: str, value: float, limit: float, *, most: bool = False
) -> tuple[str, str, str, str]:
    met = value <= limit if most else value >= limit
    return what, asked, f"{value:.1f}", "yes" if met else "no"


def write_results(demo: Demo, path: Path) -> None:
    """Write the results as Markdown: evaluation, dropout, asked against measured, times."""
    parts = [
        "# Results on the embedded default",
        "Made by `forensift demo`; every number below comes from its tables. Fakes are held-out "
        "photographs re-synthesised by small trained networks. Detectors are trained on "
        "`progan-like` fakes of training photographs only; ω is ranked on validation photographs; "
        "the rest is measured on test photographs. Percent; [ ] are 95 % intervals drawn by "
        "photograph; ± is the standard deviation over draws. Accuracies under dropout use the "
        "threshold that suits the whole network best on the same images (0.5 on the training "
        "family), as published.",
        f"{demo.facts['pairs']} pairs a family, {demo.facts['side']} pixels, seed "
        f"{demo.facts['seed']}, {demo.facts['draws']} draws of each random control; "
        f"{demo.seconds['whole']:.0f} s in all.",
    ]
    for study in demo.studies:
        parts += [f"## {study.name}", _markdown(evaluation_rows(study))]
        for k, result in study.dropouts.items():
            parts += [f"### {k} feature maps dropped", study.sentences[k]]
            parts.append(_markdown(dropout_rows(result.summary)))
        parts += ["### Asked and measured", _markdown(asked_rows(study))]
    parts += [
        "## Where the weights come from",
        "Minutes are of two CPU cores that had other work too. The images that the detectors were "
        "trained on are made by the commands in [training.md](training.md).",
        _markdown(weights_rows()),
    ]
    write_bytes(path, ("\n\n".join(parts) + "\n").encode())


def write_index(demo: Demo, path: Path) -> None:
    """Write the page that shows every table and figure of a demo; no script, no network."""
    body = [
        "<h1>What do these detectors look at?</h1>",
        "<p>Photographs that no training saw, re-synthesised by small trained generators. "
        f"{demo.facts['pairs']} pairs a family; made in {demo.seconds['whole']:.0f} s.</p>",
    ]
    for study in demo.studies:
        name = html.escape(study.name)
        body += [f"<h2>{name}</h2>", _html(evaluation_rows(study))]
        body.append(_image(f"{study.name}/omega.png", "distribution of ω"))
        for k, result in study.dropouts.items():
            body.append(f"<p class='said'>{html.escape(study.sentences[k])}</p>")
            body.append(_image(f"{study.name}/dropout-k{k}.png", "dropout table"))
            if len(result.curve):
                body.append(_image(f"{study.name}/ap_curve.png", "AP(k) curves"))
            body.append(_html(dropout_rows(result.summary)))
        files = sorted(one.name for one in (demo.folder / study.name).iterdir() if one.is_file())
        links = ", ".join(
            f"<a href='{name}/{html.escape(one)}'>{html.escape(one)}</a>" for one in files
        )
        body.append(f"<p>Files: {links}</p>")
    page = (
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>forensift demo</title>"
        f"<style>{STYLE}</style><body>{''.join(body)}</body></html>\n"
    )
    write_bytes(path, page.encode())


def _html(table: pd.DataFrame) -> str:
    return table.to_html(index=False, border=0, escape=True)


def _image(source: str, text: str) -> str:
    return f"<p><img src='{html.escape(source)}' alt='{html.escape(text)}'></p>"


def _markdown(table: pd.DataFrame) -> str:
    rows = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)
