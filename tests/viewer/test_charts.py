"""Charts: steps stand in their order, whichever series has them."""

from __future__ import annotations

import re

from duologue.viewer.charts import curves, round_step


def test_steps_keep_their_order_where_the_first_series_has_a_hole() -> None:
    one = [None, ("32-48", 2.0, 1.0, 3.0), None]
    other = [("0-32", 4.0, 3.0, 5.0), ("32-48", 3.0, 2.0, 4.0), None]
    drawn = curves({"clean": one, "hard": other}, unit="degrees")
    assert re.findall(r">(\d+-\d+)<", drawn) == ["0-32", "32-48"]


def test_nothing_measured_is_said() -> None:
    assert "Not measured" in curves({"clean": [None]}, unit="degrees")


def test_an_axis_ends_on_a_round_number_above_everything() -> None:
    drawn = curves({"clean": [("0-30", 4.0, 3.0, 7.86)]}, unit="degrees", limits={"clean": 8.1})
    assert re.findall(r'text-anchor="end">([\d.]+)<', drawn) == ["0", "2.5", "5", "7.5", "10"]
    assert [round_step(value) for value in (0.2, 2.1, 2.6, 7.0, 10.0)] == [0.2, 2.5, 5, 10, 10]
