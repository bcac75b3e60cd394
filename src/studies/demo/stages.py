"""The stages of a study beside dropout: each saves its tables and figures, and says what it found.

Every stage takes a detector, images and the folder for its files, and returns a ``Section``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from ... import figures
from ...detectors import Detector
from ...embedding import embed
from ...evaluation import robustness
from ...explain import explain
from ...explain.faithfulness import faithfulness
from ...explain.heat import BLUR, heat, scaling_words
from ...files import write_csv
from ...histograms import median_test
from ...patches import patches
from ...records import FAKE, ImageSet, Ranking
from ...sensitivity import ColourResult, colour, transfer
from ...views.sections import Section, Table
from . import rows, said
from .robustness import robustness_about, robustness_said, robustness_tables
from .world import TRAINING_FAMILY

BATCH = 32
SHOWN_MAPS = 12  # density plots of a page
METHODS = ("lrp", "guided-gradcam")
SCALING = "percentile-99"
COLOUR_MODES = ("rgb", "grey", "chroma-only", "swap-gbr")


def colour_stage(
    detector: Detector, images: ImageSet, folder: Path, seed: int, modes: Sequence[str]
) -> tuple[Section, ColourResult]:
    """Score in every colour mode: how much of the detection hangs on colour (T-FF §4.2)."""
    found = colour(detector, images, modes, batch_size=BATCH, seed=seed)
    write_csv(folder / "colour.csv", found.table)
    write_csv(folder / "colour_boxes.csv", found.box)
    box = figures.plot_colour_boxes(found.box, found.scores, "grey", title=detector.name)
    figures.save(box, folder, "colour_boxes")
    figures.save(figures.plot_colour_modes(found.table, title=detector.name), folder, "colour")
    drawn = (
        ("colour_boxes.png", "fake probabilities of fakes in RGB and in grey"),
        ("colour.png", "AP by colour mode"),
    )
    caption = "AP in percent, [ ] 95 % intervals drawn by photograph; logit: change of the mean"
    table = Table(caption, rows.colour_rows(found.table))
    return Section("Colour", said.colour_said(found), (table,), drawn), found


def median_stage(
    detector: Detector, images: ImageSet, ranking: Ranking, k: int, folder: Path, seed: int
) -> Section:
    """Test which of the top k maps respond to colour: two passes over the fakes (T-FF §4.3)."""
    found = median_test(detector, images, ranking, k, batch_size=BATCH, seed=seed)
    write_csv(folder / "median_test.csv", found.table)
    write_csv(folder / "colour_conditional.csv", found.percentages)
    curves, tests = found.densities(), found.table
    of = {"curves": curves[curves["generator"] == TRAINING_FAMILY]}
    of["tests"] = tests[tests["generator"] == TRAINING_FAMILY]
    title = f"{detector.name}, fakes of {TRAINING_FAMILY}"
    page = next(figures.plot_densities(of["curves"], of["tests"].head(SHOWN_MAPS), title=title))
    figures.save(page, folder, "histograms")
    drawn = (("histograms.png", "maxima of the top feature maps in RGB and in grey"),)
    table = Table(
        f"colour-conditional maps among the top {k}, percent [95 % intervals]",
        rows.conditional_rows(found.percentages),
    )
    return Section("Which maps respond to colour", said.conditional_said(found, k), (table,), drawn)


def patches_stage(
    detector: Detector,
    images: ImageSet,
    ranking: Ranking,
    maps: int,
    generators: Sequence[str],
    folder: Path,
    seed: int,
) -> Section:
    """Cut out what the top maps respond to most (T-FF §4.1), a collage a generator."""
    drawn, parts = [], []
    for generator in generators:
        found = patches(detector, images, ranking, maps, generator=generator, seed=seed)
        parts.append(found.table)
        title = f"{detector.name}: LRP-max patches of {generator} fakes"
        name = f"collage-{generator}"
        figures.save_pages(figures.plot_collage(found, title=title), folder, name)
        drawn.append((f"{name}.png", f"LRP-max patches, {generator}"))
    table = pd.concat(parts, ignore_index=True)
    write_csv(folder / "patches.csv", table)
    return Section("What the maps look at", said.patches_said(table, maps), (), tuple(drawn))


def embedding_stage(
    detector: Detector, images: ImageSet, ranking: Ranking | None, k: int, folder: Path, seed: int
) -> Section:
    """Place images by penultimate and by ω-weighted features (t-SNE), with numbers beside it."""
    found = embed(
        detector,
        images,
        ranking=ranking,
        k=k if ranking is not None else None,
        batch_size=BATCH,
        seed=seed,
    )
    write_csv(folder / "embedding.csv", found.table)
    write_csv(folder / "embedding_quality.csv", found.quality)
    write_csv(folder / "neighbours.csv", found.neighbours)
    drawn = []
    for kind, own in found.table.groupby("kind", sort=False):
        quality = found.quality.set_index("kind").loc[kind].to_dict()
        title = f"{detector.name}: {kind} features"
        figures.save(figures.plot_embedding(own, quality, title=title), folder, f"tsne-{kind}")
        drawn.append((f"tsne-{kind}.png", f"t-SNE of {kind} features"))
    table = Table(
        "percent of images whose nearest neighbours are of their kind, in feature space [95 %]",
        rows.neighbour_rows(found.neighbours),
    )
    return Section("How images lie", "", (table,), tuple(drawn))


def transfer_stage(
    detector: Detector,
    images: ImageSet,
    rank_images: ImageSet,
    k: int,
    folder: Path,
    seed: int,
    draws: int,
) -> Section:
    """Rank ω on each generator, drop its top maps on every other: the transfer matrix."""
    found = transfer(
        detector, images, k, rank_images=rank_images, draws=draws, batch_size=BATCH, seed=seed
    )
    write_csv(folder / "transfer.csv", found.table)
    write_csv(folder / "agreement.csv", found.agreement)
    write_csv(folder / "transferability.csv", found.transferability)
    drawn = figures.plot_transfer(found.table, found.agreement, k, title=detector.name)
    figures.save(drawn, folder, "transfer")
    table = Table(
        "fall of AP in points: ranked on (down), dropped on (across)",
        rows.matrix_rows(found.matrix()),
    )
    pictures = (("transfer.png", "falls of AP and agreement of rankings"),)
    return Section("Transfer matrix", said.transfer_said(found, k), (table,), pictures)


def explain_stage(detector: Detector, images: ImageSet, n: int, folder: Path, seed: int) -> Section:
    """Show where the decision comes from, and test the methods that say so."""
    found = faithfulness(detector, images, n=n, seed=seed)
    for name in ("curves", "summary", "randomisation", "agreement"):
        write_csv(folder / f"faithfulness_{name}.csv", getattr(found, name))
    drawn = figures.plot_faithfulness(
        found.curves, found.randomisation, found.agreement, title=detector.name
    )
    figures.save(drawn, folder, "faithfulness")
    few = ImageSet(images.root, _one_a_generator(images)[:4], images.layout)
    kinds = {method: explain(detector, few, method) for method in METHODS}
    heats = {
        method: [heat(one.map, SCALING, BLUR if method == "lrp" else 0)[0] for one in explained]
        for method, explained in kinds.items()
    }
    panel = figures.plot_attributions(
        [one.pixels for one in kinds[METHODS[0]]],
        heats,
        rows=[entry.generator for entry in few],
        scaling=scaling_words(SCALING, 0, "lrp") + f"; LRP: median filter {BLUR} px",
        title=detector.name,
    )
    figures.save(panel, folder, "attributions")
    pictures = (
        ("attributions.png", "LRP and Guided Grad-CAM of one fake a family"),
        ("faithfulness.png", "deletion, insertion, randomisation, agreement"),
    )
    table = Table(
        f"area under the curve over {found.counts['used']} images, and what it gains on a random "
        "order [95 %]",
        rows.faithfulness_rows(found.summary),
    )
    words = said.faithfulness_said(found)
    return Section("Attribution, and whether to trust it", words, (table,), pictures)


def robust_stage(
    baselines: dict[str, ColourResult],
    robust: dict[str, ColourResult],
    folder: Path,
) -> Section:
    """Put the colour-robust detectors beside the baseline: AP on RGB and on grey (T-FF)."""
    parts = []
    for kind, results in (("baseline", baselines), ("colour-robust", robust)):
        for name, found in results.items():
            if name in robust:
                kept = found.table[found.table["mode"].isin(["rgb", "grey"])]
                parts.append(kept.assign(detector=name, training=kind))
    table = pd.concat(parts, ignore_index=True)
    write_csv(folder / "colour_robust.csv", table)
    named = table["training"] + ", " + table["mode"].replace({"rgb": "RGB"})
    drawn = table.assign(kind=named, panel=table["detector"], group=table["generator"])
    drawn = drawn.assign(value=table["ap"], low=table["ap_low"], high=table["ap_high"])
    figures.save(figures.plot_intervals(drawn, xlabel="AP (%)"), folder, "colour_robust")
    shown = Table("AP in percent", rows.robust_rows(table))
    pictures = (("colour_robust.png", "AP on RGB and grey, baseline and colour-robust"),)
    return Section("Colour-robust detectors", said.robust_said(table), (shown,), pictures)


def conditions_stage(
    detectors: Mapping[str, Detector],
    images: ImageSet,
    conditions: Sequence[str],
    folder: Path,
    seed: int,
) -> Section:
    """Score all detectors under JPEG, blur, resizing and grey, and say what each costs."""
    found = robustness(detectors, images, conditions, seed=seed)
    write_csv(folder / "robustness.csv", found.table)
    figures.save(figures.plot_robustness(found.table), folder, "robustness")
    return Section(
        "Every detector, every family, every condition",
        f"{robustness_about(found.table)} {robustness_said(found.table)}",
        robustness_tables(found.table),
        (("robustness.png", "AP of every detector on every family under every condition"),),
    )


def _one_a_generator(images: ImageSet) -> tuple:
    fakes = images.only(label=FAKE)
    return tuple(
        next(entry for entry in fakes if entry.generator == generator)
        for generator in fakes.generators
    )
