from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from forensift.data import photographs, split_photographs
from forensift.data.photos import ONE_SHOOT
from forensift.errors import UserError
from forensift.files import home


def test_the_committed_split_is_the_computed_one() -> None:
    table = split_photographs(pd.read_csv(home() / "photos" / "ATTRIBUTION.csv"))
    committed = pd.read_csv(home() / "photos" / "SPLIT.csv")
    pd.testing.assert_frame_equal(table, committed)


def test_every_photograph_is_on_one_side() -> None:
    sides = {split: photographs(split) for split in ("train", "validation", "test")}
    assert [len(paths) for paths in sides.values()] == [36, 6, 15]
    together = sorted(path for paths in sides.values() for path in paths)
    assert together == photographs("all") == sorted((home() / "photos").glob("*.jpg"))


def test_one_shoot_stays_together_and_each_side_has_both_kinds() -> None:
    assert set(ONE_SHOOT) <= {path.name for path in photographs("train")}
    content = pd.read_csv(home() / "photos" / "ATTRIBUTION.csv").set_index("file")["content"]
    for split in ("train", "validation", "test"):
        assert {"interior", "outdoor"} <= {content[path.name] for path in photographs(split)}


def test_a_wrong_split_or_home_is_the_users_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="no split 'dev'"):
        photographs("dev")  # type: ignore[arg-type]
    monkeypatch.setenv("FORENSIFT_HOME", str(tmp_path))
    with pytest.raises(UserError, match="no photos/ folder"):
        photographs("all")
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match=r"SPLIT\.csv is missing"):
        photographs("all")
    (tmp_path / "photos" / "SPLIT.csv").write_text("file,split\na.jpg,train\n")
    with pytest.raises(UserError, match=r"lacks 1 photographs, first a\.jpg"):
        photographs("all")
