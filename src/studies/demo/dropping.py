"""The stages that rank feature maps and drop them: files, figures, sections."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...detectors import Detector
from ...errors import UserError
from ...figures import plot_ap_curve, plot_dropout, plot_omega, save
from ...files import write_csv, write_with
from ...fmap_ranking import rank, save_ranking
from ...records import FAKE, REAL, ImageSet, Ranking
from ...sensitivity import PUBLISHED_K, DropoutResult
from ...views.sections import Section, Table
from . import rows
from .world import TRAINING_FAMILY

BATCH = 32
DROPPED = "feature maps dropped; percent; logits: mean, below it the change"


def rank_both(
    detector: Detector, images: ImageSet, folder: Path, seed: int, say: Callable[[str], None]
) -> dict[str, Ranking]:
    """Rank on fakes and on reals where there are confident ones, and save both."""
    rankings = {}
    for kind, label in (("fake", FAKE), ("real", REAL)):
        try:
            ranking = rank(detector, images, label=label, batch_size=BATCH, seed=seed)
        except UserError as error:  # nothing confident enough of that kind: the rest still holds
            say(f"{detector.name}: no ranking on {kind}s: {error}")
            continue
        save_ranking(ranking, folder / f"{TRAINING_FAMILY}-{kind}.csv")
        table = ranking.table
        path = folder / f"ranking-{kind}.parquet"
        write_with(path, lambda out, table=table: table.to_parquet(out, index=False))  # type: ignore[misc]
        rankings[kind] = ranking
    return rankings


def save_dropout(result: DropoutResult, folder: Path, k: int) -> None:
    """Write the tables of dropping k maps."""
    tables = {
        "dropout": result.table,
        "dropout_summary": result.summary,
        "dropped": result.dropped(),
    }
    for name, table in tables.items():
        write_csv(folder / f"{name}-k{k}.csv", table)
    if len(result.curve):
        write_csv(folder / "ap_curve.csv", result.curve)


def draw_dropout(
    name: str,
    rankings: dict[str, Ranking],
    dropouts: dict[int, DropoutResult],
    said: dict[int, str],
    folder: Path,
) -> list[Section]:
    """Draw ω and every dropout, and return their sections."""
    sections = []
    if "fake" in rankings:
        k = PUBLISHED_K.get(name, 100)
        save(plot_omega(rankings["fake"].table, k, title=name), folder, "omega")
        sections.append(Section("Relevance", "", (), (("omega.png", "distribution of ω"),)))
    for k, result in dropouts.items():
        title = f"{name}: {k} of {result.facts['feature_maps']} feature maps dropped"
        save(plot_dropout(result.summary, title=title), folder, f"dropout-k{k}")
        drawn = [(f"dropout-k{k}.png", "dropout table")]
        if len(result.curve):
            save(plot_ap_curve(result.curve, k, title=name), folder, "ap_curve")
            drawn.append(("ap_curve.png", "AP(k) curves"))
        table = Table(f"{k} {DROPPED}", rows.dropout_rows(result.summary))
        title = f"{k} feature maps dropped"
        sections.append(Section(title, said[k], (table,), tuple(drawn), True))
    return sections
