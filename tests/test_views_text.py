"""Numbers as people read them."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from forensift.views.text import markdown, number, percent, with_interval


@pytest.mark.parametrize(
    ("value", "options", "expected"),
    [
        (-0.001, {}, "0.0"),
        (-0.001, {"decimals": 2, "sign": True}, "+0.00"),
        (0.96, {}, "1.0"),
        (-3.14159, {"decimals": 2}, "-3.14"),
        (math.nan, {}, "-"),
        (math.nan, {"missing": ""}, ""),
    ],
)
def test_a_number_has_no_negative_zero(value: float, options: dict, expected: str) -> None:
    assert number(value, **options) == expected


def test_a_value_with_its_interval() -> None:
    row = {
        "ap": 0.875,
        "ap_low": 0.8,
        "ap_high": 1.0,
        "low": -0.1,
        "high": math.nan,
        "none": math.nan,
    }
    assert percent(row, "ap") == "87.5 [80.0, 100.0]"
    assert with_interval(row, "ap", 2, sign=True) == "+0.88 [+0.80, +1.00]"
    assert percent(row, "ap", ends=("low", "high")) == "87.5"
    assert percent({"ap": 0.5}, "ap", 0) == "50"
    assert (percent(row, "none"), with_interval(row, "none")) == ("", "-")


def test_markdown_is_a_table() -> None:
    text = markdown(pd.DataFrame({"a": ["x", "y"], "b": ["1", "2"]}))
    assert text.splitlines() == ["| a | b |", "| --- | --- |", "| x | 1 |", "| y | 2 |"]
