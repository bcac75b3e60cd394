"""One style: colours told apart in grey and by the colour-blind, and files that are right."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from PIL import Image

from forensift import figures
from forensift.evaluation import measured
from forensift.figures import plot_calibration, plot_omega, save, style

PALETTE = {name: getattr(style, name) for name in ("INK", "PURPLE", "BLUE", "GREEN", "ORANGE")}
# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
BLIND = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}
XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def linear(colour: str) -> np.ndarray:
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of linear RGB."""
    x = XYZ @ np.clip(rgb, 0, 1) / (XYZ @ np.ones(3))
    f = np.where(x > (6 / 29) ** 3, np.cbrt(x), x / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_colours_are_steps_in_grey_and_all_stand_out_from_white() -> None:
    light = {name: lab(linear(colour))[0] for name, colour in PALETTE.items()}
    for one, other in combinations(light, 2):
        assert abs(light[one] - light[other]) >= 9, (one, other)
    for name, colour in PALETTE.items():
        luminance = XYZ[1] @ linear(colour)
        assert 1.05 / (luminance + 0.05) >= 3, name  # WCAG 2.2, 1.4.11
    assert lab(linear(style.REAL))[0] + 20 < lab(linear(style.FAKE))[0]


@pytest.mark.parametrize("kind", BLIND)
def test_colours_are_told_apart_by_the_colour_blind(kind: str) -> None:
    seen = {name: lab(np.array(BLIND[kind]) @ linear(one)) for name, one in PALETTE.items()}
    for one, other in combinations(seen, 2):
        assert np.linalg.norm(seen[one] - seen[other]) >= 10, (one, other)


def test_masks_and_maps_of_colours_keep_their_order_in_grey() -> None:
    assert set(style.MASK_COLOURS) <= set(style.MASK_NAMES)
    rising = [lab(linear(one))[0] for one in colormaps[style.RISING](np.linspace(0, 1, 20))]
    assert np.all(np.diff(rising) > 0)
    both = [lab(linear(one))[0] for one in colormaps[style.DIVERGING](np.linspace(0, 1, 21))]
    assert int(np.argmax(both)) == 10  # no change is the lightest
    assert np.all(np.diff(both[:11]) > 0)
    assert np.all(np.diff(both[10:]) < 0)


def test_numbers_have_their_sign_and_no_more_digits_than_are_read() -> None:
    shown = [style.signed(one) for one in (-0.04, 0.04, 0.26, -3.14, 12.3, -9.96)]
    assert shown == ["0", "0", "+0.3", "−3.1", "+12", "−10"]


def reliability() -> pd.DataFrame:
    return pd.DataFrame({"p": [0.1, 0.9], "fakes": [0.2, 1.0], "low": [0.1, 0.8],
                         "high": [0.4, 1.0], "n": [10, 20]})  # fmt: skip


def test_files_are_whole_and_equal_and_the_layout_is_as_drawn(tmp_path: Path) -> None:
    for name in "ab":
        written = save(plot_calibration(reliability(), title="t " * 40, note="n"), tmp_path, name)
        assert [path.suffix for path in written] == [".pdf", ".png", ".svg"]
    for suffix in (".pdf", ".png", ".svg"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    pdf = (tmp_path / "a.pdf").read_bytes()
    assert b"/FontFile2" in pdf  # TrueType, embedded
    assert b"/Type3" not in pdf
    picture = Image.open(tmp_path / "a.png")
    assert picture.size[0] == pytest.approx(300 * 3.4, abs=1)
    # Nothing runs over the edge: the title is broken, and its lines fit.
    edge = np.asarray(picture.convert("L"))
    assert (edge[:, :4] == 255).all()
    assert (edge[:, -4:] == 255).all()


def test_a_figure_of_one_panel_takes_axes_and_gives_them_back() -> None:
    axes = style.new_figure(3, 3).subplots()
    assert plot_calibration(reliability(), title="t", note="n", ax=axes) is axes
    assert axes.get_title() == "t"


def test_a_long_ranking_is_drawn_with_no_more_points_than_can_be_seen(tmp_path: Path) -> None:
    n = 26_560
    ranking = pd.DataFrame(
        {
            "layer": np.repeat([f"layer{one}" for one in range(40)], n // 40),
            "width": n // 40,
            "omega": np.append(np.geomspace(0.1, 1e-9, n - 100), np.zeros(100)),
            "standard_error": 1e-9,
        }
    )
    figure = plot_omega(ranking, 114)
    save(figure, tmp_path, "omega")
    assert (tmp_path / "omega.svg").stat().st_size < 100_000
    x, y = figure.axes[0].lines[0].get_data()
    assert (x[0], x[-1]) == (1, n - 100)
    np.testing.assert_array_equal(y, ranking["omega"].to_numpy()[np.asarray(x) - 1])
    assert re.search("100 of them with ω = 0", figure.axes[0].get_title())


LONG = "a detector of a long name: what was found of it, in so many words that they take two lines"
NOTE = "a detector of a long name; so many reals and fakes; a threshold; over photographs; " * 2


@pytest.mark.parametrize("generators", [1, 2, 9])
@pytest.mark.filterwarnings("error")
def test_every_number_of_generators_has_room(generators: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = [f"a generator {place}" for place in range(generators)]
    said = {"title": LONG, "note": NOTE}
    scores = pd.DataFrame(
        [
            {"path": f"{name}/{label}/{n}.png", "label": label, "generator": name, "class": "",
             "logit": value, "score": 1 / (1 + np.exp(-value))}
            for name in names
            for label in (0, 1)
            for n, value in enumerate(rng.normal(label, 1, 6))
        ]
    )  # fmt: skip
    table, curves = measured(scores, resamples=20)
    masks = ("baseline", "top-k", "random-k-layer-matched")
    numbers = ("ap", "real_accuracy", "fake_accuracy", "mean_logit_real", "mean_logit_fake")
    summary = pd.DataFrame(
        [
            {"generator": name, "mask": mask, "k": 3, "draws": 1, "change_ap": -0.1,
             "ap_low": 0.4, "ap_high": 0.6, "gap_removed": 0.2, "gap_removed_low": 0.1,
             "gap_removed_high": 0.3, "change_mean_logit_real": float(place),
             **dict.fromkeys(numbers, 0.5)}
            for place, name in enumerate(names)
            for mask in masks
        ]
    )  # fmt: skip
    moved = pd.DataFrame(
        [
            {"ranked_on": one, "dropped_on": other, "fall_ap_points": 1.0, "images_ranked_on": 9,
             "fall_ap_points_matched": 2.0}
            for one in names
            for other in names
        ]
    )  # fmt: skip
    alike = pd.DataFrame(
        [
            {"first": one, "second": other, "kendall_tau": 0.3, "jaccard": 0.1}
            for one in names
            for other in names
        ]
    )
    power = rng.normal(size=(2, 32, 17))
    mean = {(name, label): power for name in names for label in (0, 1)}
    peaks = pd.DataFrame(
        {"generator": names, "found": True, "down": 0.25, "across": 0.0, "period": 4.0}
    )
    radial = pd.DataFrame(
        [
            {"generator": name, "label": label, "kind": kind, "frequency": frequency, "power": -1.0,
             "low": -2.0, "high": 0.0}
            for name in names
            for label in ("real", "fake")
            for kind in ("image", "residual")
            for frequency in (0.1, 0.3, 0.5)
        ]
    )  # fmt: skip
    drawn = {
        "scores": figures.plot_scores(scores, table, **said),
        "curves": figures.plot_curves(curves, table, **said),
        "dropout": figures.plot_dropout(summary, seen=names[0], **said),
        "ap": figures.plot_ap_curve(summary, 3, **said),
        "gap": figures.plot_gap_curve(summary, 3, **said),
        "transfer": figures.plot_transfer(moved, alike, 3, **said),
        "spectra": figures.plot_spectra(mean, peaks, **said),
        "radial": figures.plot_radial(radial, peaks, **said),
    }
    for name, figure in drawn.items():
        with style.laid_out(figure):
            smallest = min(
                min(axes.get_window_extent().width, axes.get_window_extent().height)
                for axes in figure.axes
                if axes.get_visible() and axes.get_title()
            )
        assert smallest > 0.15 * 300, name  # of an inch
    assert save(drawn["dropout"], tmp_path, "dropout")
