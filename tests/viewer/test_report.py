"""``duologue report``: its figures, its charts, and that nothing from outside becomes markup."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dataset_factory import make_pair, make_pairs, write_dataset
from duologue.cli import main
from duologue.schemas.dataset import Dataset
from duologue.schemas.records import Reject
from duologue.schemas.selection import threshold_names
from duologue.viewer.charts import bin_edges, figure, histogram, table
from duologue.viewer.reject_groups import group_rejects
from duologue.viewer.report import SOURCES, counts, duration, read_facts, report_html
from hypothesis import given
from hypothesis import strategies as st


def test_counts_are_the_data_sets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataset(tmp_path, make_pairs(6))
    assert main(["report", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["page"] == str(tmp_path / "report.html")
    assert (found["pairs"], found["selected"], found["videos"], found["rejects"]) == (6, 5, 3, 1)
    assert found["hours"] == pytest.approx(6 * 3 / 3600, abs=1e-6)
    assert found["rejects_by_reason"] == {"one_face": 1}


def test_every_part_is_on_the_page(tmp_path: Path) -> None:
    pairs = [replace(pair, scores={**pair.scores, "music_share": float("nan")}) for pair in make_pairs(6)]
    write_dataset(tmp_path, pairs)
    text = report_html(read_facts(Dataset(tmp_path), tmp_path))
    assert re.search(r"Measured in no pair: [^.<]*music share", text)
    failing = next(pair for pair in make_pairs(6) if pair.scores["speech_share"] == 0.1)
    for words in (
        "one_face", "one face in 40 of 40 frames", "videos/one.mp4", "speech_share", failing.pair_id[:12], "CC0-1.0",
        "face to face", "mediapipe", "train", "components",
    ):  # fmt: skip
        assert words in text
    assert "http:" not in text
    assert "https:" not in text


def test_pairs_on_the_viewer_page_are_linked(tmp_path: Path) -> None:
    write_dataset(tmp_path, make_pairs(6))
    link = 'href="view/index.html#pair='
    assert link not in report_html(read_facts(Dataset(tmp_path), tmp_path))
    assert main(["view", str(tmp_path)]) == 0
    assert link in report_html(read_facts(Dataset(tmp_path), tmp_path))


def test_names_from_outside_are_text(tmp_path: Path) -> None:
    pair = make_pair(1)
    source = replace(pair.source, source_id="<img src=x onerror=alert(1)>", license='"><b>')
    write_dataset(tmp_path, [replace(pair, source=source)])
    text = report_html(read_facts(Dataset(tmp_path), tmp_path))
    assert "<img" not in text
    assert "<b>&" not in text
    assert "&lt;img src=x" in text


def test_every_threshold_is_named_also_where_all_pairs_pass(tmp_path: Path) -> None:
    write_dataset(tmp_path, [make_pair(1)])
    facts = read_facts(Dataset(tmp_path), tmp_path)
    section = report_html(facts).partition('id="selection"')[2].partition("</section>")[0]
    assert facts.options is not None
    assert re.findall(r"<tr><td>(\w+)</td><td>[^<]*</td><td>0</td>", section) == list(threshold_names(facts.options))
    assert "<td>face_scale_px</td><td>24.0</td><td>0</td>" in section


def test_sources_that_are_not_shown_are_counted(tmp_path: Path) -> None:
    pairs = [make_pair(seed) for seed in range(SOURCES + 3)]
    write_dataset(tmp_path, [replace(p, source=replace(p.source, source_id=p.pair_id[:8])) for p in pairs])
    assert "And 3 more." in report_html(read_facts(Dataset(tmp_path), tmp_path))


def test_yaws_are_held_to_the_limit_where_their_bound_is_not_known(tmp_path: Path) -> None:
    unknown = {"yaw_bound_a": float("nan"), "yaw_bound_b": float("nan"), "yaw95_a": 80.0}
    write_dataset(tmp_path, [make_pair(1), make_pair(2, scores=unknown)])
    text = report_html(read_facts(Dataset(tmp_path), tmp_path))
    cards = {name: text.partition(f"<b>{name}</b>")[2].partition("</figure>")[0] for name in ("yaw95", "yaw bound")}
    assert "1 of 4 fail" in cards["yaw95"]
    assert "0 of 2 fail, 2 not measured" in cards["yaw bound"]
    write_dataset(tmp_path / "known", [make_pair(1)])
    text = report_html(read_facts(Dataset(tmp_path / "known"), tmp_path))
    assert " fail" not in text.partition("<b>yaw95</b>")[2].partition("</figure>")[0]


def test_an_empty_data_set_has_a_report(tmp_path: Path) -> None:
    write_dataset(tmp_path, [])
    facts = read_facts(Dataset(tmp_path), tmp_path)
    assert counts(facts)["pairs"] == 0
    assert "None." in report_html(facts)


@pytest.mark.parametrize(("option", "word"), [("--out", "cannot write"), ("nowhere", "not a folder")])
def test_what_cannot_be_done_is_one_line(
    option: str, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(tmp_path / "set", [make_pair(1)])
    (tmp_path / "file").write_text("in the way")
    given_ = [str(tmp_path / "set"), "--out", str(tmp_path / "file" / "x")] if option == "--out" else [option]
    assert main(["report", *given_]) == 2
    error = capsys.readouterr().err
    assert word in error
    assert error.count("\n") == 1


@given(
    st.lists(st.floats(-1e4, 1e4, allow_nan=False), min_size=1, max_size=60),
    st.lists(st.floats(-1e3, 1e3, allow_nan=False), max_size=2),
)
def test_a_histogram_shows_every_value_and_every_limit(values: list[float], limits: list[float]) -> None:
    array = np.array(values)
    edges = bin_edges(array, limits)
    assert 1 <= len(edges) - 1 <= 60
    assert (np.diff(edges) > 0).all()
    slack = 1e-9 * np.abs(edges).max()
    assert all(edges[0] - slack <= limit <= edges[-1] + slack for limit in limits)
    fails = array > np.median(array)
    chart = histogram(array, fails=fails, limits=limits, unit="m")
    shown = {"good": 0, "bad": 0}
    for kind, count in re.findall(r'<rect class="(good|bad)".*?: (\d+)</title>', chart):
        shown[kind] += int(count)
    assert shown == {"good": int((~fails).sum()), "bad": int(fails.sum())}
    assert chart.count('<line class="limit"') == len(limits)


def test_numbers_as_people_read_them() -> None:
    assert figure(0.954, "share") == "95 %"
    assert figure(0.004, "share") == "0.4 %"
    assert figure(0.998, "share") == "99.8 %"
    assert figure(0.00004, "share") == "0.004 %"
    assert figure(1.0, "share") == "100 %"
    assert figure(-12.34) == "−12.3"
    assert figure(0.0123) == "0.012"
    assert duration(0.01) == "36.0 s"
    assert duration(0.5) == "30.0 min"
    assert duration(3.0) == "3.0 h"
    assert "None." in table(["a"], [])


def test_rejects_of_several_shards_are_one_group_a_reason() -> None:
    def stopped(k: int, stage: str = "scan") -> Reject:
        return Reject("e" * 64, f"{k:02d}.mp4", stage, "no_face", "", 0.0, 36.0)

    groups = group_rejects([[stopped(k) for k in (9, 3, 7, 8)], [stopped(k) for k in (1, 6)], [stopped(0, "shots")]])
    assert [(g.stage, g.reason, g.count, round(g.hours, 9)) for g in groups] == [
        ("scan", "no_face", 6, 0.06), ("shots", "no_face", 1, 0.01),
    ]  # fmt: skip
    assert [reject.uri for reject in groups[0].examples] == ["01.mp4", "03.mp4", "06.mp4", "07.mp4", "08.mp4"]
