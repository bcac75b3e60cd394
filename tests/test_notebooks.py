"""The notebooks run, show their figures, and hold the outputs of a run and nothing else of it."""

from __future__ import annotations

import ast
import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from forensift.figures.style import new_figure
from forensift.files import home

BOOKS = {path.stem: path for path in sorted((home() / "notebooks").glob("*.ipynb"))}
PARAMETERS = "parameters"  # the tag of the first code cell
TWO = ["progan-like", "dcgan-like"]

# Of a notebook: parameters of a run that takes seconds, figures shown, and what is looked at.
TINY: dict[str, dict[str, Any]] = {
    "explain-one-image": {"DETECTOR": "npr", "SIDE": 64},
    "find-transferable-features": {
        "DETECTOR": "npr", "K": 16, "FAMILIES": TWO, "PAIRS": 5, "RANK_PAIRS": 6, "SIDE": 64,
        "DRAWS": 2,
    },
    "is-it-colour": {
        "DETECTOR": "npr", "K": 8, "FAMILIES": TWO, "PAIRS": 6, "RANK_PAIRS": 6, "SIDE": 64,
        "MODES": ["rgb", "grey", "chroma-only"],
    },
    "bring-your-own": {
        "SIDE": 32, "TRAIN_PAIRS": 40, "HELD_OUT_PAIRS": 12, "STEPS": 80, "CONFIDENCE": 0.5, "K": 4,
        "DRAWS": 2,
    },
    "find-a-planted-trace": {
        "TRAIN_PAIRS": 200, "HELD_OUT_PAIRS": 30, "STEPS": 120, "SIDE": 48, "DRAWS": 4,
    },
}  # fmt: skip
PICTURES = {
    "explain-one-image": 3,
    "find-transferable-features": 3,
    "is-it-colour": 4,
    "bring-your-own": 2,
    "find-a-planted-trace": 2,
}
ASKED = {
    "explain-one-image": {
        "logits": "scores['logit'].tolist()",
        "arrived": "arrived",
        "agreement": "agreement.tolist()",
        "targets": "[[one.target_name for one in found] for found in (lrp, cam)]",
    },
    "find-transferable-features": {
        "omega": "ranking.table['omega'].tolist()",
        "layer": "ranking.table['layer'].tolist()",
        "dropped": "[len(mask.feature_maps) for mask in result.masks]",
        "ap": "float(evaluation.table.set_index('generator').loc[TRAINED_ON, 'ap'])",
        "matrix": "moved.matrix().to_numpy().tolist()",
    },
    "is-it-colour": {
        "modes": "table.index.tolist()",
        "change": "table['change_ap'].tolist()",
        "maps": "responds.percentages['maps'].tolist()",
        "shares": "shares.to_numpy().tolist()",
        "generators": "list(responds.maxima.images.generators)",
    },
    "bring-your-own": {
        "images": "[len(train), len(to_rank), len(test)]",
        "layers": "detector.layers",
        "first_loss": "float(np.log(2))",
        "loss": "loss.item()",
        "used": "ranking.counts['used']",
        "patches": "len(found.patches)",
    },
    "find-a-planted-trace": {
        "shares": "shares",
        "ap": "float(evaluation.table['ap'].iloc[0])",
        "fakes": "gap['fake_accuracy_05'].to_dict()",
        "reals": "gap['real_accuracy_05'].to_dict()",
        "gap": "gap['gap_removed'].to_dict()",
    },
}


def parameters_cell(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    return next(cell for cell in book.cells if cell.cell_type == "code")


def run(name: str, folder: Path) -> tuple[dict[str, Any], list[nbformat.NotebookNode]]:
    """Run a notebook with tiny parameters in another folder; return what ASKED asks, and outputs.

    The parameters are put in behind the cell that holds the defaults, as papermill does it.
    """
    book = nbformat.read(BOOKS[name], as_version=4)
    tiny = "\n".join(f"{key} = {value!r}" for key, value in TINY[name].items())
    asked = ", ".join(f"{key!r}: {value}" for key, value in ASKED[name].items())
    at = book.cells.index(parameters_cell(book)) + 1
    book.cells.insert(at, nbformat.v4.new_code_cell(tiny))
    book.cells.append(nbformat.v4.new_code_cell(f"import json\nprint(json.dumps({{{asked}}}))"))
    client = NotebookClient(book, timeout=240, resources={"metadata": {"path": str(folder)}})
    client.execute()
    outputs = [one for cell in book.cells if cell.cell_type == "code" for one in cell.outputs]
    return json.loads(outputs[-1].text), outputs


@pytest.fixture
def ran(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """Run the notebook that the test names, away from the user's own Jupyter settings."""
    for variable in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "TMPDIR"):
        place = tmp_path / variable.lower()
        place.mkdir()
        monkeypatch.setenv(variable, str(place))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    found, outputs = run(request.param, elsewhere)
    said = [one.text for one in outputs if one.output_type == "stream" and one.name == "stderr"]
    assert said == [], "a reader would see these warnings"
    pictures = [one for one in outputs if "image/png" in one.get("data", {})]
    assert len(pictures) == PICTURES[request.param]
    assert not any("Figure size" in one.get("data", {}).get("text/plain", "") for one in outputs)
    assert list(elsewhere.iterdir()) == []  # nothing is left where the reader stands
    return found


@pytest.mark.parametrize("ran", ["explain-one-image"], indirect=True)
def test_explain_one_image(ran: dict[str, Any]) -> None:
    real, fake = ran["logits"]
    assert real < 0 < fake
    assert ran["arrived"] == pytest.approx(1, abs=0.05)
    assert np.isfinite(ran["agreement"]).all()
    assert np.abs(ran["agreement"]).max() <= 1
    assert len(ran["targets"]) == 2


@pytest.mark.parametrize("ran", ["find-transferable-features"], indirect=True)
def test_find_transferable_features(ran: dict[str, Any]) -> None:
    omega, layers = np.array(ran["omega"]), np.array(ran["layer"])
    assert (np.diff(omega) <= 0).all()
    assert max(omega[layers == layer].sum() for layer in set(layers)) <= 1 + 1e-9
    assert set(ran["dropped"]) == {0, TINY["find-transferable-features"]["K"]}
    assert ran["ap"] > 0.8
    assert np.shape(ran["matrix"]) == (2, 2)


@pytest.mark.parametrize("ran", ["is-it-colour"], indirect=True)
def test_is_it_colour(ran: dict[str, Any]) -> None:
    tiny = TINY["is-it-colour"]
    assert ran["modes"] == tiny["MODES"]
    assert ran["change"][0] == 0
    assert set(ran["maps"]) == {tiny["K"]}
    share, low, high = np.transpose(ran["shares"])
    assert ((low >= 0) & (low <= share) & (share <= high) & (high <= 1)).all()
    assert ran["generators"] == ["progan-like"]


@pytest.mark.parametrize("ran", ["bring-your-own"], indirect=True)
def test_bring_your_own(ran: dict[str, Any]) -> None:
    tiny = TINY["bring-your-own"]
    assert ran["images"] == [2 * tiny["TRAIN_PAIRS"], *[2 * tiny["HELD_OUT_PAIRS"]] * 2]
    assert list(ran["layers"]) == ["conv1", "conv2", "conv3", "conv4"]
    assert ran["loss"] < ran["first_loss"]
    assert ran["used"] > 0
    assert ran["patches"] == 6 * 5


@pytest.mark.parametrize("ran", ["find-a-planted-trace"], indirect=True)
def test_find_a_planted_trace(ran: dict[str, Any]) -> None:
    matched = "random-k-layer-matched"
    assert ran["ap"] > 0.98
    assert ran["shares"]["lrp"] > 0.75 > 0.45 > ran["shares"]["gradient"]
    assert ran["fakes"]["baseline"] > 0.9
    assert ran["fakes"]["top-k"] < 0.3 < ran["fakes"][matched]
    assert ran["reals"]["top-k"] > 0.9
    assert ran["gap"]["top-k"] > 2 * ran["gap"][matched]


def test_every_notebook_is_tested() -> None:
    assert set(BOOKS) == set(TINY) == set(ASKED) == set(PICTURES)


@pytest.mark.parametrize("name", sorted(BOOKS))
def test_notebooks_hold_outputs_and_nothing_else_of_a_run(name: str) -> None:
    text = BOOKS[name].read_text(encoding="utf-8")
    book = nbformat.reads(text, as_version=4)
    nbformat.validate(book)
    assert 8 <= len(book.cells) <= 18
    assert book.metadata.language_info == {"name": "python"}  # no version of the last reader's
    assert set(book.metadata) == {"kernelspec", "language_info"}
    for cell in book.cells:
        tags = {"tags": [PARAMETERS]} if cell.id == PARAMETERS else {}
        assert cell.metadata == tags, f"cell {cell.id} holds a reader's settings"
        if cell.cell_type == "code":
            assert cell.execution_count is None
            for one in cell.outputs:
                assert one.output_type in ("execute_result", "display_data", "stream")
                assert one.get("execution_count") is None
                assert one.get("name", "stdout") == "stdout", "a warning was stored"
    stored = [
        one["data"] for cell in book.cells for one in cell.get("outputs", []) if "data" in one
    ]
    kinds = ("image/png", "image/jpeg")
    shown = [base64.b64decode(one[kind]) for one in stored for kind in kinds if kind in one]
    assert len(shown) == PICTURES[name], "run `make notebooks`"
    for picture in shown:
        with Image.open(io.BytesIO(picture)) as image:
            assert image.width <= 700
    # Places of one machine; a URL's slashes are none.
    without = re.sub(r'"image/(png|jpeg)": "[^"]*"', "", text)
    machine = re.search(r"(?<![\w.:/])/(home|root|tmp|Users|work|mnt|opt)\b|[A-Z]:\\\\", without)
    assert machine is None, f"{machine and machine[0]} is a path of one machine"


@pytest.mark.parametrize("name", sorted(BOOKS))
def test_the_first_code_cell_holds_the_parameters_and_nothing_else(name: str) -> None:
    cell = parameters_cell(nbformat.read(BOOKS[name], as_version=4))
    assert cell.id == PARAMETERS
    statements = ast.parse(cell.source).body
    assert all(isinstance(one, ast.Assign) for one in statements)
    named = {one.targets[0].id for one in statements}  # type: ignore[attr-defined]
    assert set(TINY[name]) <= named, "a tiny parameter is none of the notebook's"


def test_a_figure_displays_by_itself(tmp_path: Path) -> None:
    figure = new_figure(3.0, 2.0)
    figure.subplots().plot([0, 1])
    data, size = figure._repr_png_()
    path = tmp_path / "shown.png"
    path.write_bytes(data)
    with Image.open(path) as image:
        assert image.size == (2 * size["width"], 2 * size["height"]) == (720, 480)
    assert figure._repr_png_() == (data, size)


@pytest.mark.parametrize("name", sorted(BOOKS))
def test_notebooks_import_nothing_else_of_the_project(name: str) -> None:
    cells = nbformat.read(BOOKS[name], as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    lines = [line for line in code.splitlines() if re.search(r"\b(from|import) forensift", line)]
    assert lines == ["import forensift as ff"]
