"""``duologue accuracy``: its figures on exact small cases."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from duologue.cli import main
from duologue.fitting.fit import HeadFitter
from duologue.fitting.head_model import rotation_matrix
from duologue.fitting.load_head import load_head_model
from duologue.fitting.reduce import reduce
from duologue.pipeline.accuracy.clock import box_iou, exact_pair, truth_at, who_is_who
from duologue.pipeline.accuracy.figures import average_precision, median_of, precision_of, ratio_of, share_of
from duologue.pipeline.accuracy.found import FoundVideo
from duologue.pipeline.accuracy.measures import BY_KEY, MEASURES, met
from duologue.pipeline.accuracy.page import page_html
from duologue.pipeline.accuracy.rows import Heads, in_fitted_axes
from duologue.pipeline.accuracy.stages import calls, cuts, selection, tracks, usable, whole_shots, windows
from duologue.pipeline.accuracy.suite import Conversation, load_suite
from duologue.pipeline.accuracy.verb import beyond, read_limits
from duologue.schemas.errors import UsageError
from duologue.schemas.records import Reject, Turn
from duologue.schemas.selection import SelectionOptions
from duologue.synthesis import voices
from duologue.synthesis.scenario import Scenario
from duologue.synthesis.truth import BystanderTruth, PersonTruth, Transition, Truth
from duologue.transforms.clips import ClipOptions

LIMITS = Path(__file__).parents[1] / "data" / "accuracy_quick.json"
FIXED = ("cuts_f1", "idf1", "der", "speaking_ap", "binding", "offset_ms", "rotation_deg", "relative_rotation_deg",
         "distance_pct", "gaze_deg", "mutual_gaze_ap", "layout_accuracy", "usable_precision",
         "usable_recall")  # fmt: skip


def person(x: float, count: int) -> PersonTruth:
    """A face of 40 px face scale at rest, ``x`` metres from the middle, seen by a camera of focal length 1000 px."""
    zeros, single = np.zeros, np.float32
    marks = zeros((count, 478, 3), single)
    marks[:, 33, 0], marks[:, 263, 0] = -28.4, 28.4
    centre = np.tile([x, 0.0, 1.5], (count, 1)).astype(single)
    middle = 1000 * x / 1.5 + 640
    return PersonTruth(
        voice="v", portrait="p", size=1.0, shape=zeros(3, single), expression=zeros((count, 2), single),
        jaw=zeros((count, 3), single), eyes=zeros((count, 2, 3), single), rotation=zeros((count, 3), single),
        translation=centre, head_centre=centre, gaze=np.tile([0, 0, -1], (count, 1)).astype(single),
        looking_at_partner=zeros(count, single), landmarks=marks,
        box=np.tile([middle - 40, 320, middle + 40, 400], (count, 1)).astype(single),
        aperture=zeros((count, 2), single), lips=zeros(count, single), speaking=np.arange(count) % 2 == 0,
        visible=np.ones(count, bool), visible_share=np.ones(count, single), focal_px=np.full(count, 1000.0),
        window=(0, 0, 1280, 720),
    )  # fmt: skip


def truth(seconds: float = 12.0, shots: tuple[float, ...] = (0.0,), split: bool = False) -> Truth:
    times = np.arange(round(25 * seconds)) / 25
    count, starts = len(times), [*shots, seconds]
    return Truth(
        times=times, fps=25.0, width=1280, height=720, shots=tuple(pairwise(starts)),
        shot_index=np.searchsorted(shots, times + 1e-9, side="right") - 1, focal_px=np.full(count, 1000.0),
        turns=(Turn(0.0, seconds, "v0", "a"),), distance_m=np.full(count, 0.9, np.float32),
        mutual_gaze=np.zeros(count, bool), av_offset_s=0.0, split_screen=split, head_model_id="canonical-1",
        head_model_sha256="", head_model_tier="canonical", seed=1, pair=np.ones(count, bool),
        transitions=tuple(Transition("cut", at, at, k) for k, at in enumerate(shots) if k),
        occlusions=(), bystanders=(), laughs=(), music=False, screen="halves" if split else "", backdrop="room",
        rotate=0,
        a=person(-0.45, count), b=person(0.45, count),
    )  # fmt: skip


def test_average_precision_of_a_ranking() -> None:
    scores, labels = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False])
    assert average_precision(scores, labels) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert average_precision(np.zeros(4), labels) == pytest.approx(0.5)  # all alike: the share of positives
    assert np.isnan(average_precision(scores, np.zeros(4, bool)))


def test_figures_leave_out_what_was_not_measured_and_say_how_many_clips() -> None:
    assert median_of([1.0, float("nan"), 3.0, 2.0]).value == 2.0
    assert median_of([1.0, float("nan"), 3.0, 2.0]).clips == 3
    assert np.isnan(median_of([float("nan")]).value)
    both = ratio_of([(1.0, 2.0), (3.0, 3.0), (0.0, 0.0)])
    assert (both.value, both.clips) == (0.8, 2)
    assert both.low <= both.value <= both.high
    ranked = precision_of([(np.array([0.9, 0.1]), np.array([True, False]))] * 3)
    assert ranked.value == ranked.low == ranked.high == 1.0


def test_intervals_are_as_wide_as_the_clips_differ() -> None:
    rng = np.random.default_rng(0)
    few = median_of(rng.normal(10, 1, 8).tolist())
    many = median_of(rng.normal(10, 1, 800).tolist())
    assert many.high - many.low < 0.3 < few.high - few.low


def test_cuts_are_right_within_a_frame_and_used_once() -> None:
    exact = truth(12.0, (0.0, 4.0, 8.0))
    assert cuts(exact, FoundVideo(cuts=(4.0, 8.04))) == (4.0, 4.0)
    assert cuts(exact, FoundVideo(cuts=(4.0, 4.04, 9.0))) == (2.0, 5.0)


def test_a_fade_is_one_change_wherever_inside_it_is_cut() -> None:
    exact = truth(12.0, (0.0, 4.0, 8.0))
    film = replace(exact, transitions=(Transition("fade", 0.0, 0.4, 0), Transition("fade", 3.6, 4.4, 1),
                                       Transition("dissolve", 7.6, 8.4, 2)))  # fmt: skip
    assert cuts(film, FoundVideo(cuts=(0.2, 3.9, 4.12, 7.7))) == (4.0, 4.0)
    assert cuts(film, FoundVideo(cuts=(3.9, 7.7, 8.2))) == (4.0, 5.0)  # a dissolve has no two ends
    assert cuts(film, FoundVideo(cuts=(4.0, 8.6))) == (2.0, 4.0)


def boxes_of(exact: Truth, swapped_from: int | None = None) -> dict[str, np.ndarray]:
    a, b = exact.a.box.astype(np.float64), exact.b.box.astype(np.float64)
    if swapped_from is not None:
        a[swapped_from:], b[swapped_from:] = b[swapped_from:].copy(), a[swapped_from:].copy()
    return {"p0": a, "p1": b}


def test_idf1_of_perfect_swapped_and_missing_tracks() -> None:
    exact = truth(4.0)
    perfect = tracks(exact, FoundVideo(tracks=[(exact.times, 0, boxes_of(exact))]))
    assert (perfect.idf1[0] / perfect.idf1[1], perfect.switches) == (1.0, 0)
    swapped = tracks(exact, FoundVideo(tracks=[(exact.times, 0, boxes_of(exact, 75))]))
    assert (swapped.idf1[0] / swapped.idf1[1], swapped.switches) == (0.75, 2)
    alone = tracks(exact, FoundVideo(tracks=[(exact.times, 0, {"p0": exact.a.box.astype(np.float64)})]))
    assert alone.idf1[0] / alone.idf1[1] == pytest.approx(2 / 3)


def test_a_passer_by_may_have_a_track_but_not_one_of_the_two() -> None:
    exact = truth(4.0)
    walks = np.tile(np.float32([600, 320, 680, 400]), (100, 1))
    share = np.ones(100, np.float32)
    passing = BystanderTruth("p", walks, np.zeros((100, 3), np.float32), np.zeros((100, 3), np.float32), share)
    hidden = exact.a.visible_share.copy()
    hidden[40:60] = 0.1
    film = replace(exact, bystanders=(passing,), a=replace(exact.a, visible_share=hidden))
    found = {**boxes_of(exact), "p2": walks.astype(np.float64)}
    good = tracks(film, FoundVideo(tracks=[(exact.times, 0, found)]))
    assert good.idf1[0] / good.idf1[1] == 1.0  # the third track, and the first where its face is hidden, cost nothing
    lured = {"p0": found["p0"].copy(), "p1": found["p1"]}
    lured["p0"][40:60] = walks[40:60]
    bad = tracks(film, FoundVideo(tracks=[(exact.times, 0, lured)]))
    assert bad.idf1[0] / bad.idf1[1] == pytest.approx(360 / 380)


def test_a_count_without_misses_still_has_an_interval() -> None:
    none = share_of([(0.0, 20.0), (0.0, 10.0)])
    assert (none.value, none.low, none.clips) == (0.0, 0.0, 30)
    assert none.high == pytest.approx(0.1135, abs=1e-3)  # Wilson, 0 of 30


def test_people_are_told_apart_by_their_boxes() -> None:
    exact = truth(2.0)
    clip = truth_at(exact, exact.times)
    a, b = clip.people[0].box, clip.people[1].box
    assert who_is_who(clip, a, b) == (0, 1)
    assert who_is_who(clip, b, a) == (1, 0)
    assert who_is_who(clip, a, a) is None
    assert box_iou(a[0], a[0]) == pytest.approx(1.0)


def test_truth_is_not_interpolated_across_a_cut() -> None:
    exact = truth(4.0, (0.0, 2.0))
    moved = exact.a.head_centre.copy()
    moved[50:, 0] += 5.0
    clip = truth_at(replace(exact, a=replace(exact.a, head_centre=moved)), np.array([1.94, 1.98]))
    assert clip.people[0].head_centre[:, 0] == pytest.approx([-0.45, -0.45], abs=1e-6)


def test_the_exact_pair_has_the_true_distance() -> None:
    exact = truth(2.0)
    pair = exact_pair(truth_at(exact, exact.times), (0, 1), 25.0, 1280, 720)
    assert np.linalg.norm(pair.b.head_centre - pair.a.head_centre, axis=-1) == pytest.approx(np.full(50, 0.9))


def test_usable_stretches() -> None:
    options = SelectionOptions()
    assert usable(truth(), 0, 10, 30.0, options) == (True, "")
    assert usable(truth(), 0, 10, 3.0, options)[1] == "noisy"
    assert usable(truth(12.0, (0.0, 6.0)), 0, 10, None, options)[1] == "a cut inside"
    assert usable(truth(split=True), 0, 10, None, options)[1] == "two rooms"
    assert usable(truth(), 0, 2, None, options)[1] == "too short"
    exact = truth()
    away = replace(exact.a, rotation=np.tile(np.float32([0, 1.4, 0]), (300, 1)))
    assert usable(replace(exact, a=away), 0, 10, None, options)[1] == "turned away"
    big = np.tile(np.float32([600, 300, 680, 380]), (300, 1))
    third = BystanderTruth("p", big, np.zeros((300, 3), np.float32), np.zeros((300, 3), np.float32), np.ones(300))
    crowd = replace(exact, bystanders=(third,))
    assert usable(crowd, 0, 10, None, options, ClipOptions())[1] == "a third person"
    assert usable(crowd, 0, 10, None, options) == (True, "")
    unseen = replace(exact.a, visible_share=np.full(300, 0.1, np.float32))
    assert usable(replace(exact, a=unseen), 0, 10, None, options)[1] == "out of sight"
    assert windows([(0.0, 22.0), (22.0, 34.0)]) == [(0.0, 10.0), (10.0, 20.0), (22.0, 32.0)]
    change = Transition("dissolve", 4.4, 5.6, 1)
    film = replace(exact, shots=((0.0, 5.0), (5.0, 10.0)), transitions=(change,))
    assert whole_shots(film) == [(0.0, 4.4), (5.6, 10.0)]


def test_truth_of_another_head_is_turned_into_the_fitted_heads_axes() -> None:
    canonical, second = load_head_model("canonical"), load_head_model("second")
    heads = Heads(canonical, {one.model_id: one for one in (canonical, second)}, HeadFitter(reduce(canonical)))
    exact = truth(1.0)
    assert in_fitted_axes(exact, heads) is exact
    shape = np.random.default_rng(3).standard_normal(reduce(second).shape_dirs.shape[-1]).astype(np.float32)
    turns = np.linspace(0, 1.3, 25)[:, None] * np.float32([0, 1, 0])
    filmed = replace(exact, head_model_id=second.model_id, a=replace(exact.a, shape=shape, rotation=turns),
                     b=replace(exact.b, shape=0 * shape))  # fmt: skip
    same = in_fitted_axes(filmed, heads)
    before, after = rotation_matrix(turns), rotation_matrix(same.a.rotation.astype(np.float64))
    own = before.transpose(0, 2, 1) @ after  # one turn of the head itself, whatever its pose
    assert np.allclose(own, own[0], atol=1e-5)
    assert 0.1 < np.degrees(np.arccos((np.trace(own[0]) - 1) / 2)) < 10
    assert not np.allclose(
        own[0], rotation_matrix(same.b.rotation.astype(np.float64))[0], atol=1e-3
    )  # person by person
    assert same.a.head_centre is filmed.a.head_centre


def test_a_selected_pair_of_strangers_is_wrong() -> None:
    exact, options = truth(10.0), SelectionOptions()
    row = {"pair_id": "1", "start_s": 0.0, "end_s": 10.0, "n_frames": 250, "fps": 25.0,
           "a.box": exact.a.box.astype(float), "b.box": exact.b.box.astype(float)}  # fmt: skip
    good = selection(exact, FoundVideo(rows=[row], selected={"1"}), None, options, ClipOptions())
    assert (good.precision, good.recall) == ((10.0, 10.0), (10.0, 10.0))
    bad = selection(
        exact, FoundVideo(rows=[{**row, "b.box": row["a.box"]}], selected={"1"}), None, options, ClipOptions()
    )
    assert (bad.precision, bad.recall) == ((0.0, 10.0), (0.0, 10.0))
    assert selection(exact, FoundVideo(rows=[row]), None, options, ClipOptions()).recall == (0.0, 10.0)
    late = selection(
        replace(exact, av_offset_s=0.2), FoundVideo(rows=[row], selected={"1"}), None, options, ClipOptions()
    )
    assert late.precision == (0.0, 10.0)


def test_calls_and_two_shots_are_counted_apart() -> None:
    stopped = FoundVideo(rejects=[Reject("v", "u", "shots", "split_screen", "", 0.0, 12.0, 0)])
    assert calls(truth(split=True), stopped) == ((1.0, 1.0), (0.0, 0.0))
    assert calls(truth(split=True), FoundVideo()) == ((0.0, 1.0), (0.0, 0.0))
    assert calls(truth(), stopped) == ((0.0, 0.0), (1.0, 1.0))


def test_every_fixed_key_is_a_measure_and_targets_have_a_side() -> None:
    assert set(FIXED) <= set(BY_KEY)
    assert met(BY_KEY["rotation_deg"], "clean", 1.4) is True
    assert met(BY_KEY["rotation_deg"], "clean", 1.6) is False
    assert met(BY_KEY["idf1"], "hard", 0.96) is True
    assert met(BY_KEY["coverage_gaze"], "hard", 1.0) is False
    assert met(BY_KEY["lips"], "clean", 0.1) is None


def test_the_suite_is_well_formed() -> None:
    suite = load_suite("full")
    assert {one.condition for one in suite} == {"clean", "hard"}
    assert {one.name for one in load_suite("quick")} < {one.name for one in suite}
    assert len({one.scenario.seed for one in suite}) == len(suite)


def test_a_changed_scenario_is_filmed_anew() -> None:
    one = Conversation("n", "clean", (), False, Scenario())
    assert one.digest != replace(one, scenario=replace(Scenario(), seed=2)).digest


@pytest.mark.parametrize("content", ["no: list", "conversations: [{name: x}]", "[1, 2", "conversations: 3"])
def test_a_broken_suite_is_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(content)
    with pytest.raises(UsageError):
        load_suite("full", path)


def test_limits(tmp_path: Path) -> None:
    path = tmp_path / "limits.json"
    path.write_text('{"clean.idf1": [0.9, 1.0]}')
    limits = read_limits(str(path))
    assert beyond({"clean.idf1": 0.95}, limits) == []
    assert beyond({"clean.idf1": 0.85}, limits) == ["clean.idf1 is 0.85, allowed is 0.9 to 1"]
    assert beyond({"clean.idf1": None}, limits) == ["clean.idf1 is None, allowed is 0.9 to 1"]
    path.write_text("[1]")
    with pytest.raises(UsageError):
        read_limits(str(path))


def test_wrong_requests_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("x")
    for words in (["--workers", "0"], ["--tolerance", "gone.json"],
                  ["--real", str(tmp_path), "--tolerance", str(LIMITS)], ["--out", str(tmp_path / "file" / "x")],
                  ["--real", str(tmp_path / "gone")]):  # fmt: skip
        assert main(["accuracy", *words]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.timeout(600)
def test_the_quick_suite_keeps_its_committed_limits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not voices.available():
        pytest.skip("espeak-ng is not installed")
    code = main(["accuracy", "--suite", "quick", "--out", str(tmp_path), "--tolerance", str(LIMITS), "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    result = json.loads(said.out.splitlines()[-1])
    for condition in ("clean", "hard"):
        assert set(FIXED) <= set(result[condition])
        assert result[f"{condition}.rotation_deg"] == result[condition]["rotation_deg"]
    page = (tmp_path / "accuracy.html").read_text()
    assert all(measure.title.replace("'", "&#x27;") in page for measure in MEASURES)
    assert "http" not in page.replace("http://www.w3.org", "")
    assert page_html(result) == page
