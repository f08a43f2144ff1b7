"""The scale benchmark: its rows pass every check, a small run fills its table, and its reckoning adds up."""

from __future__ import annotations

from pathlib import Path

import pytest
from duologue.bench.scale import measure
from duologue.bench.scaling.cost import FOLLOWS, cost_table
from duologue.bench.scaling.steps import STEPS


@pytest.mark.slow
def test_every_step_is_measured_at_every_size(tmp_path: Path) -> None:
    result = measure([20, 40], tmp_path)  # the verify step fails on a row that is not sound
    assert set(result["steps"]) == set(STEPS)
    assert all(set(step["cpu_s"]) == {"20", "40"} for step in result["steps"].values())
    assert result["pairs"] == 40
    assert result["peak_mb"] >= result["start_mb"] > 50


def test_a_cost_is_rates_times_hours() -> None:
    """One hour of video, of which a quarter is tracked, all heard, a tenth kept; every stage takes 36 s an hour."""
    seconds = {**dict.fromkeys(FOLLOWS, 36.0), "graph and files": 0.0}
    media = dict.fromkeys(FOLLOWS, 3600.0) | {"track": 900.0, "clips": 900.0}
    measured = {"media_s": media, "kept_s": 360.0, "disk_mb": {"pairs": 36.0, "_work": 360.0}}
    kept_h = 2_000_000 * 10 / 3600
    same, rare = (cost_table(seconds, measured, 0.0018, share) for share in (0.1, 0.01))
    for name in FOLLOWS:  # each stage takes 1 % of the time of the video, whatever reaches it
        assert same[f"core_hours_{name}"] == pytest.approx(kept_h * 10 * 0.01)
    assert same["core_hours_sink"] == pytest.approx(1.0)
    assert same["video_hours"] == pytest.approx(kept_h * 10)
    assert rare["core_hours_scan"] == pytest.approx(10 * same["core_hours_scan"])
    assert rare["core_hours_fit"] == same["core_hours_fit"]
    assert (same["tb_pairs"], same["tb_work"]) == (pytest.approx(2.0), pytest.approx(20.0))
