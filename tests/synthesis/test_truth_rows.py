"""The truth as rows of the pair schema: equal to ``truth.npz``, cut as clips are, resampled where it must be."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from duologue.fitting.load_head import load_head_model
from duologue.pipeline.inputs import resolve_inputs
from duologue.schemas.dataset import Dataset
from duologue.schemas.errors import UsageError
from duologue.schemas.heads import HeadTrack
from duologue.schemas.row import Pair
from duologue.schemas.verify import verify
from duologue.synthesis.avatar import face_points
from duologue.synthesis.render import VIDEO_NAME, render_conversation
from duologue.synthesis.scenario import Scenario
from duologue.synthesis.truth import Truth, read_truth
from duologue.synthesis.truth_rows import truth_pairs, truth_spans, write_truth_rows
from scipy.spatial.transform import Rotation, Slerp

NAMES = load_head_model("canonical").expression_names


@pytest.fixture(scope="module")
def truth(small_conversation: Path) -> Truth:
    return read_truth(small_conversation)


def kept(truth: Truth, rows: np.ndarray) -> Truth:
    """The truth at some of its frames only."""
    count = len(truth.times)

    def part(item: object) -> dict[str, object]:
        values = {f.name: getattr(item, f.name) for f in fields(item)}
        return {n: v[rows] for n, v in values.items() if isinstance(v, np.ndarray) and n != "shape" and len(v) == count}

    people = {who: replace(getattr(truth, who), **part(getattr(truth, who))) for who in "ab"}
    return replace(truth, **part(truth), **people)


def head_pixels(pair: Pair, head: HeadTrack) -> np.ndarray:
    """[T, 468, 2] where a row's parameters put the skin's landmarks, by the rules of ``schemas/heads.py``."""
    model = load_head_model("canonical")
    posed = model.pose(head.shape, head.expression.astype(np.float64), head.jaw.astype(np.float64))
    turned = Rotation.from_rotvec(head.rotation).as_matrix() @ np.diag([1.0, -1.0, -1.0])
    skin = face_points(model, posed) - model.posed_joints(head.shape)[0]
    placed = head.scale * np.einsum("tij,tlj->tli", turned, skin) + head.translation[:, None]
    middle = (np.array([pair.fitted.width, pair.fitted.height]) - 1) / 2
    return np.asarray(placed[..., :2] / placed[..., 2:] * pair.fitted.focal_px + middle)


def only(truth: Truth, sound: np.ndarray | None = None) -> Pair:
    (pair,) = truth_pairs(truth, NAMES, sound, ("0" * 64, "film.mp4"), "c")
    return pair


def test_rows_beside_the_film_equal_the_truth(small_conversation: Path, truth: Truth) -> None:
    report = verify(small_conversation / "truth")
    assert report.sound, report.problems
    assert not report.notes
    (pair,) = Dataset(small_conversation / "truth").pairs()
    assert pair.source.video_id == hashlib.sha256((small_conversation / VIDEO_NAME).read_bytes()).hexdigest()
    assert (pair.source.origin, pair.source.start_s, pair.source.end_s) == ("synthetic", 0.0, 8.0)
    np.testing.assert_allclose(pair.fitted.times, truth.times, atol=1e-9)
    assert (pair.fitted.focal_px, pair.fitted.focal_log_sd) == (600.0, 0.0)
    assert pair.fitted.head_model_sha256 == truth.head_model_sha256
    for head, person in ((pair.fitted.a, truth.a), (pair.fitted.b, truth.b)):
        assert (head.scale, head.valid.all()) == (1.0, True)
        for name in ("shape", "expression", "jaw", "eyes", "rotation", "translation", "head_centre"):
            np.testing.assert_allclose(getattr(head, name), getattr(person, name), atol=2.0**-12, err_msg=name)
        skin = head_pixels(pair, head)  # by the data set's own convention: principal point (W - 1) / 2
        corners = np.concatenate([skin.min(1), skin.max(1)], axis=1)
        np.testing.assert_allclose(head.box, corners, atol=0.12)  # half a step of 1/16, and what rounded values move
        open_eyes = np.isfinite(head.gaze[:, 0])
        assert 0.7 < open_eyes.mean() < 1.0
        np.testing.assert_allclose(head.gaze[open_eyes], person.gaze[open_eyes], atol=1e-3)
        assert not head.rotation_sd.any()
        assert not np.stack([head.translation_sd, head.residual]).any()
    np.testing.assert_allclose(pair.relation.distance_m, truth.distance_m, atol=1e-3)
    np.testing.assert_allclose(
        pair.relation.looking_a[np.isfinite(pair.relation.looking_a)],
        truth.a.looking_at_partner[np.isfinite(pair.relation.looking_a)], atol=2e-3,
    )  # fmt: skip
    np.testing.assert_array_equal(pair.voices.speaking_a > 0.5, truth.a.speaking)
    np.testing.assert_array_equal(pair.voices.speaking_b > 0.5, truth.b.speaking)
    assert pair.voices.turns == truth.turns
    assert len(pair.voices.samples()) == 8 * 16000
    assert pair.relation.codes
    assert pair.relation.captions


def test_bytes_are_the_same_again_and_replace_an_earlier_film(small_conversation: Path, tmp_path: Path) -> None:
    truth = read_truth(small_conversation)
    (tmp_path / VIDEO_NAME).write_bytes((small_conversation / VIDEO_NAME).read_bytes())
    sound = np.zeros(8 * 16000, np.float32)
    found = []
    for _ in range(2):
        assert write_truth_rows(tmp_path, VIDEO_NAME, truth, NAMES, sound, Scenario()) == 1
        found.append({p: p.read_bytes() for p in sorted((tmp_path / "truth").rglob("*")) if p.is_file()})
    assert found[0] == found[1]
    assert sorted(p.name for p in tmp_path.iterdir()) == [VIDEO_NAME, "truth"]


def test_a_larger_head_is_its_model_times_its_size(truth: Truth) -> None:
    pair = only(replace(truth, a=replace(truth.a, size=1.07)))
    assert (pair.fitted.a.scale, pair.fitted.b.scale) == (1.07, 1.0)


def test_a_folder_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="not the truth of an earlier film"):
        render_conversation(Scenario(), tmp_path)
    assert (tmp_path / "truth" / "notes.txt").read_text() == "mine"


def test_rows_follow_shots_the_grid_and_what_can_be_seen(truth: Truth) -> None:
    assert truth_spans(truth) == [(0, 0.0, 8.0)]
    pair = truth.pair.copy()
    pair[50:75] = False  # 1 s: bridged
    assert truth_spans(replace(truth, pair=pair)) == [(0, 0.0, 8.0)]
    pair[50:100] = False  # 2 s: ends it
    assert truth_spans(replace(truth, pair=pair)) == [(0, 4.0, 8.0)]
    assert truth_spans(replace(truth, pair=np.zeros_like(pair))) == []
    two = replace(truth, shots=((0.0, 2.0), (2.0, 8.0)), shot_index=(truth.times >= 2.0 - 1e-9).astype(np.int64))
    assert truth_spans(two) == [(1, 2.0, 8.0)]
    (row,) = truth_pairs(two, NAMES, np.zeros(8 * 16000, np.float32), ("0" * 64, "film.mp4"), "c")
    np.testing.assert_allclose(row.fitted.a.rotation, truth.a.rotation[50:], atol=1e-6)
    assert all(2.0 <= turn.start_s < turn.end_s <= 8.0 for turn in row.voices.turns)


def test_other_rates_are_resampled_and_gaps_are_not_bridged(truth: Truth) -> None:
    dropped = only(kept(truth, np.delete(np.arange(200), [30, 60, 61, 62])))
    np.testing.assert_array_equal(np.flatnonzero(~dropped.fitted.a.valid), [60, 61, 62])
    half = only(replace(kept(truth, np.arange(0, 200, 2)), fps=12.5))
    valid = half.fitted.a.valid
    assert valid[:-1].all()
    assert not valid[-1]  # beyond the last frame
    for head, person in ((half.fitted.a, truth.a), (half.fitted.b, truth.b)):
        turned, at = Rotation.from_rotvec(person.rotation[::2]), np.arange(0.0, 7.93, 0.04)
        expected = Slerp(truth.times[::2], turned)(np.minimum(at, truth.times[198]))
        difference = (expected.inv() * Rotation.from_rotvec(head.rotation[valid])).magnitude()
        assert np.degrees(difference).max() < 0.01
        np.testing.assert_allclose(head.translation[:-1:2], person.translation[::2], atol=1e-4)
        middle = 0.5 * (person.translation[:-2:2] + person.translation[2::2])
        np.testing.assert_allclose(head.translation[1:-1:2], middle, atol=1e-4)
        assert np.isnan(head.rotation[~valid]).all()


def test_late_sound_is_moved_back_and_a_silent_film_has_none(truth: Truth) -> None:
    sound = np.random.default_rng(1).normal(0.0, 0.1, 8 * 16000).astype(np.float32)
    turns = tuple(replace(t, start_s=t.start_s + 0.2, end_s=t.end_s + 0.2) for t in truth.turns)
    late = replace(truth, av_offset_s=0.2, turns=turns)
    pair = only(late, sound)
    np.testing.assert_allclose([t.start_s for t in pair.voices.turns], [t.start_s for t in truth.turns], atol=1e-9)
    np.testing.assert_allclose(pair.voices.samples()[:1000], sound[3200:4200], atol=1e-4)
    assert not pair.voices.samples()[-3200:].any()
    silent = only(truth)
    assert silent.voices.audio is None
    assert silent.voices.turns == ()
    assert np.isnan(silent.voices.speaking_a).all()


def test_the_person_further_left_is_a(truth: Truth) -> None:
    swapped = only(replace(truth, a=truth.b, b=truth.a), np.zeros(8 * 16000, np.float32))
    np.testing.assert_array_equal(swapped.fitted.a.head_centre, truth.a.head_centre)
    assert swapped.voices.speaking_a.sum() == truth.a.speaking.sum()
    faces = [turn.face for turn in swapped.voices.turns]
    assert faces == ["ba"["ab".index(turn.face)] for turn in truth.turns]


def test_a_film_without_a_pair_has_an_empty_set(small_conversation: Path, truth: Truth, tmp_path: Path) -> None:
    (tmp_path / VIDEO_NAME).write_bytes(b"film")
    call = replace(truth, pair=np.zeros(len(truth.times), np.bool_))
    assert write_truth_rows(tmp_path, VIDEO_NAME, call, NAMES, None, Scenario()) == 0
    report = verify(tmp_path / "truth")
    assert report.sound, report.problems


@pytest.mark.parametrize("tail", ["", "/", "/*", "/**", "/*.mp4"])
def test_the_truth_is_no_input(small_conversation: Path, tail: str) -> None:
    assert (small_conversation / "truth" / "manifest.json").exists()
    found = [Path(item.uri) for item in resolve_inputs([f"{small_conversation}{tail}"])]
    assert found == [small_conversation / VIDEO_NAME]
