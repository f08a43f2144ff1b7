"""Charts: steps stand in their order, whichever series has them."""

from __future__ import annotations

import re

from duologue.viewer.charts import curves


def test_steps_keep_their_order_where_the_first_series_has_a_hole() -> None:
    one = [None, ("32-48", 2.0, 1.0, 3.0), None]
    other = [("0-32", 4.0, 3.0, 5.0), ("32-48", 3.0, 2.0, 4.0), None]
    drawn = curves({"clean": one, "hard": other}, unit="degrees")
    assert re.findall(r">(\d+-\d+)<", drawn) == ["0-32", "32-48"]


def test_nothing_measured_is_said() -> None:
    assert "Not measured" in curves({"clean": [None]}, unit="degrees")
