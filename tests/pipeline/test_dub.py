from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from duologue.cli import main
from duologue.pipeline.dub import dub_dataset
from duologue.schemas.audio import encode_audio
from duologue.schemas.dataset import Dataset
from duologue.schemas.finish import reselect
from duologue.schemas.heads import HeadTrack
from duologue.schemas.row import Pair
from duologue.schemas.selection import SelectionOptions, split_of
from duologue.schemas.verify import verify
from duologue.transforms.dub import DubOptions, dub, floor_plan

from ..dataset_factory import CONFIG_HASH, make_head, make_pair, write_dataset


def alone(seed: int, frames: int = 125) -> Pair:
    """A single-person row that speaks most of the time, louder with its number."""
    pair = make_pair(seed, frames=frames, video=f"solo{seed}")
    head = make_head(np.random.default_rng(seed), frames, 0.05, facing=0.1)

    def nobody(values: np.ndarray) -> np.ndarray:
        return np.full_like(values, np.nan)

    empty = {
        name: nobody(value)
        for name, value in vars(pair.fitted.b).items()
        if isinstance(value, np.ndarray) and value.dtype == np.float32 and name not in ("shape", "confidence")
    }
    b = HeadTrack(
        **{
            **vars(pair.fitted.b),
            **empty,
            "valid": np.zeros(frames, bool),
            "confidence": np.zeros(frames, np.float32),
            "shape": np.zeros_like(head.shape),
        }
    )
    speaking = np.ones(frames, np.float32)
    speaking[40:48] = 0
    nan = np.full(frames, np.nan, np.float32)
    relation = replace(
        pair.relation, camera_to_dyad=np.eye(4), distance_m=nan, relative_position_sd=nan, looking_a=nan, looking_b=nan,
        mutual_gaze=nan, layout={}, codes=(), captions=(),
    )  # fmt: skip
    t = np.arange(frames * 640) / 16000
    tone = (0.1 * np.sin(2 * np.pi * (150 + 40 * seed) * t)).astype(np.float32)
    turns = (replace(pair.voices.turns[0], start_s=pair.source.start_s, end_s=pair.source.end_s, face="a"),)
    return replace(
        pair,
        source=replace(pair.source, n_people=1),
        fitted=replace(pair.fitted, a=head, b=b),
        relation=relation,
        voices=replace(pair.voices, turns=turns, speaking_a=speaking, speaking_b=speaking * 0, voice_b="",
                       audio=encode_audio(tone)),
        scores={**pair.scores, "valid_b": float("nan")},
    )  # fmt: skip


@pytest.fixture(scope="module")
def singles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("singles") / "set"
    write_dataset(root, [alone(seed) for seed in range(6)])
    assert verify(root).sound, verify(root).problems
    return root


@pytest.fixture(scope="module")
def dubbed(singles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dubbed") / "set"
    assert main(["dub", str(singles), "--per-clip", "1", "--out", str(out)]) == 0
    return out


def test_the_dubbed_set_is_sound_and_says_what_it_is(dubbed: Path) -> None:
    report = verify(dubbed)
    assert report.sound, report.problems
    pairs = list(Dataset(dubbed).pairs(selected=False))
    assert len(pairs) >= 5
    assert {pair.source.origin for pair in pairs} == {"dubbed"}
    assert {pair.source.n_people for pair in pairs} == {2}
    for pair in pairs:
        distance = pair.relation.distance_m[np.isfinite(pair.relation.distance_m)]
        assert 0.45 < np.median(distance) < 2.4
        assert pair.relation.codes


def test_nobody_is_in_two_splits_and_people_keep_theirs(singles: Path, dubbed: Path) -> None:
    before = {row["pair_id"]: row["split"] for row in Dataset(singles).selection().to_pylist()}
    person = {f"video-{p.source.video_id}": before[p.pair_id] for p in Dataset(singles).pairs(selected=False)}
    after = {row["pair_id"]: row["split"] for row in Dataset(dubbed).selection().to_pylist()}
    for pair in Dataset(dubbed).pairs(selected=False):
        assert pair.person_a != pair.person_b
        assert after[pair.pair_id] == person[pair.person_a] == person[pair.person_b]


def test_the_masks_are_the_sound(singles: Path) -> None:
    """Tones of two pitches: each is heard exactly where its owner has the floor."""
    one, other = alone(1), alone(4)
    pair = dub(one, other, (), "0" * 64, CONFIG_HASH, "0.1.0", seed=3)
    samples = pair.voices.samples().astype(np.float64)
    frames = len(pair.fitted.times)
    t = np.arange(len(samples)) / 16000
    for pitch, speaking in ((190, pair.voices.speaking_a), (310, pair.voices.speaking_b)):
        tone = samples * np.exp(-2j * np.pi * pitch * t)
        level = np.abs(tone.reshape(frames, -1).mean(1))
        inside = np.convolve(speaking > 0, np.ones(3) / 3, "same") > 0.99
        assert level[inside].min() > 0.02
        silent = np.convolve(speaking == 0, np.ones(5) / 5, "same") > 0.99
        muted = silent & (np.arange(frames) > 50)  # the clips' own pause is not muted, only silent
        assert level[muted].max() < 0.012
    assert [turn.face for turn in pair.voices.turns].count("a") >= 1
    assert [turn.face for turn in pair.voices.turns].count("b") >= 1


def test_a_muted_mouth_rests_and_a_heard_one_is_untouched() -> None:
    one, other = alone(1), alone(4)
    pair = dub(one, other, (), "0" * 64, CONFIG_HASH, "0.1.0", seed=3)
    for head, source, speaking in (
        (pair.fitted.a, one, pair.voices.speaking_a),
        (pair.fitted.b, other, pair.voices.speaking_b),
    ):
        heard = (speaking > 0) & head.valid
        np.testing.assert_array_equal(head.jaw[heard], source.fitted.a.jaw[: len(heard)][heard])
        silent = np.convolve(speaking == 0, np.ones(21) / 21, "same") > 0.99
        if (silent & head.valid).sum() > 3:
            assert np.ptp(head.jaw[silent & head.valid, 0]) < 0.3 * np.ptp(
                source.fitted.a.jaw[source.fitted.a.valid, 0]
            )


def test_relative_motion_survives_the_move() -> None:
    one, other = alone(2), alone(5)
    pair = dub(one, other, (), "0" * 64, CONFIG_HASH, "0.1.0", seed=1)
    a, before = pair.fitted.a, one.fitted.a
    both = np.flatnonzero(a.valid)
    step = np.linalg.norm(np.diff(a.head_centre[both], axis=0), axis=1)
    np.testing.assert_allclose(step, np.linalg.norm(np.diff(before.head_centre[both], axis=0), axis=1), atol=1e-5)
    arm = np.linalg.norm(a.head_centre - a.translation, axis=1)[both]
    np.testing.assert_allclose(arm, np.linalg.norm(before.head_centre - before.translation, axis=1)[both], atol=1e-5)


def test_floors_overlap_now_and_then_and_somebody_always_speaks() -> None:
    talk = np.ones(2500, bool)
    floor = floor_plan((talk, talk), 25.0, DubOptions(), np.random.default_rng(0))
    assert 0.01 < floor.all(axis=0).mean() < 0.3
    assert (~floor.any(axis=0)).mean() < 0.15
    assert floor.mean(axis=1).min() > 0.35


def test_equal_seeds_make_equal_sets(singles: Path, dubbed: Path, tmp_path: Path) -> None:
    dub_dataset(str(singles), str(tmp_path / "again"), per_clip=1)
    names = [entry.path for entry in Dataset(dubbed).shards]
    assert all((tmp_path / "again" / name).read_bytes() == (dubbed / name).read_bytes() for name in names)


def test_refusals_are_one_line(singles: Path, dubbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataset(tmp_path / "pairs")
    assert main(["dub", str(tmp_path / "pairs"), "--out", str(tmp_path / "x")]) == 2
    assert "no selected single-person row" in capsys.readouterr().err
    assert main(["dub", str(singles), "--out", str(dubbed)]) == 2
    assert "holds a data set already" in capsys.readouterr().err
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "README.md").write_text("mine")
    assert main(["dub", str(singles), "--out", str(tmp_path / "notes")]) == 2
    assert "is not a data set and holds README.md" in capsys.readouterr().err
    write_dataset(tmp_path / "one", [alone(1)])
    assert main(["dub", str(tmp_path / "one"), "--out", str(tmp_path / "y")]) == 2
    assert capsys.readouterr().err.endswith("nobody to talk to\n")


def test_two_people_whom_chance_put_into_two_splits_can_be_brought_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "two"
    write_dataset(root, [alone(1), alone(2)])
    reselect(root, SelectionOptions(val_share=0.5, test_share=0.5, split_seed=_seed_that_parts(root)))
    assert main(["dub", str(root), "--out", str(tmp_path / "y")]) == 2
    told = capsys.readouterr().err.strip()
    assert told.endswith(f"put them into one: duologue select {root} --set val_share=0 --set test_share=0")
    assert main(["select", *told.partition("duologue select ")[2].split()]) == 0
    assert main(["dub", str(root), "--out", str(tmp_path / "y")]) == 0
    assert len(Dataset(tmp_path / "y")) > 0


def _seed_that_parts(root: Path) -> int:
    names = Dataset(root).selection()["component"].to_pylist()
    assert len(set(names)) == 2
    for seed in range(50):
        options = SelectionOptions(val_share=0.5, test_share=0.5, split_seed=seed)
        if len({split_of(name, options) for name in names}) == 2:
            return seed
    raise AssertionError("no seed parts them")
