"""The progress of a run is summed as it is written; nothing is read twice."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from duologue.pipeline import progress
from duologue.pipeline.progress import ProgressLine, ProgressReader


def test_lines_are_counted_once_and_when_they_are_whole(tmp_path: Path) -> None:
    reader = ProgressReader(tmp_path)
    assert reader.read() == {}
    one = tmp_path / "1.tsv"
    one.write_text("scan\t10.000\t2.0\t1.5\t1\nscan\t5.0")
    assert (reader.read()["scan"].media_s, reader.stages["scan"].items) == (10.0, 1)
    with one.open("a") as stream:
        stream.write("00\t1.0\t0.5\t0\n")
    (tmp_path / "2.tsv").write_text("track\t3.0\t1track\t3.0\t1.0\t1.0\t1\ntrack\t3.0\t1.0\t1.0\t1\n")  # a kill between
    for _ in range(2):
        stages = reader.read()
        scan = stages["scan"]
        assert (scan.media_s, scan.wall_s, scan.cpu_s, scan.items, scan.resumed) == (15.0, 3.0, 2.0, 2, 1)
        assert stages["track"].media_s == 3.0


def test_a_pipe_gets_a_line_a_stage(tmp_path: Path) -> None:
    out = io.StringIO()
    line = ProgressLine(tmp_path, out)
    for stage in ("probe", "probe", "scan"):
        with (tmp_path / "1.tsv").open("a") as stream:
            stream.write(f"{stage}\t10.0\t2.0\t1.5\t1\n")
        line.draw()
    line.finish()
    assert out.getvalue() == "  probe ...\n  scan ...\n"


def test_a_log_file_is_told_every_five_minutes_how_far_a_long_stage_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    (tmp_path / "1.tsv").write_text("probe\t7200.0\t2.0\t1.5\t1\n")
    line = ProgressLine(tmp_path, out := io.StringIO())
    for minute in range(12):
        now[0] = 1000.0 + 60 * minute
        with (tmp_path / "1.tsv").open("a") as stream:
            stream.write("scan\t360.0\t2.0\t1.5\t1\n")
        line.draw()
    assert out.getvalue().splitlines() == [
        "  scan ...",
        "  scan    2160.0 s of 2.00 h  7.2x real time  ETA 0:11:40",
        "  scan    1.10 h of 2.00 h  6.6x real time  ETA 0:08:10",
    ]
