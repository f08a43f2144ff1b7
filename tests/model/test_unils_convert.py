"""UniLS's folders to data sets and back."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dataset_factory import make_pair, make_pairs, write_dataset
from duologue.fitting.head_model import rotation_matrix
from duologue.model import convert
from duologue.model.data import LoaderOptions, PairLoader
from duologue.model.train import train
from duologue.model.unils_convert import read_talk, records_of, row_of, windows
from duologue.model.unils_format import Conversation, Record, read_list, reading
from duologue.schemas.check import row_problems
from duologue.schemas.dataset import Dataset
from duologue.schemas.errors import BadInput, UsageError
from duologue.schemas.row import Pair, pair_row
from duologue.schemas.verify import verify
from train_factory import config_for, losses
from unils_factory import record, write_folder

MADE = {"config_hash": "c", "code_version": "0"}
NAMES = ("V00_S0809_I00000582_P0947", "V00_S0809_I00000582_P0950.npz")


def talk_of(*records: Record, frames: int | None = None, keys: tuple[str, ...] = NAMES):
    keys = keys[: len(records)]
    one = Conversation("talk", keys, frames or len(records[0].motion))
    return read_talk(one, dict(zip(keys, records, strict=True)).__getitem__)


def pair_of(*records: Record) -> Pair:
    return row_of(talk_of(*records), 0, len(records[0].motion), **MADE)


def call(*words: object) -> int:
    parser = argparse.ArgumentParser()
    convert.configure(parser)
    return convert.run(parser.parse_args([str(word) for word in words]))


def test_rows_lie_on_a_fixed_grid() -> None:
    assert list(windows(250)) == [(0, 250)]
    assert list(windows(600)) == [(0, 250), (250, 500), (500, 600)]
    assert list(windows(10)) == [(0, 10)]


def test_a_conversation_becomes_sound_rows() -> None:
    one, two = record(0, 400, 10, 300), record(1, 400, 280, 390)
    talk = talk_of(one, two)
    pair = row_of(talk, 250, 400, license_text="CC-BY-NC-4.0", **MADE)
    assert row_problems(pair_row(pair)) == []
    assert (pair.source.source_id, pair.source.start_s, pair.source.end_s) == ("talk", 10.0, 16.0)
    assert (pair.fitted.a.track_id, pair.fitted.b.track_id) == NAMES
    assert (pair.person_a, pair.person_b) == ("V00_P0947", "V00_P0950")
    assert (pair.fitted.head_model_tier, pair.fitted.head_model_id) == ("flame", "flame-emica")
    for head, whole in ((pair.fitted.a, one.motion), (pair.fitted.b, two.motion)):
        motion = whole[250:]
        np.testing.assert_array_equal(head.expression, motion[:, :100])
        np.testing.assert_array_equal(head.jaw, motion[:, 103:106])
        np.testing.assert_array_equal(head.eyes[:, 0], motion[:, 106:109])  # FLAME's joint 3, the subject's left
        np.testing.assert_array_equal(head.eyes[:, 1], motion[:, 109:112])
        flip = np.diag([1.0, -1.0, -1.0])
        np.testing.assert_allclose(
            rotation_matrix(head.rotation) @ flip, flip @ rotation_matrix(motion[:, 100:103]), atol=1e-6
        )
        assert not head.shape.any()
        assert np.isnan(head.gaze).all()
    assert np.isnan(pair.relation.mutual_gaze).all()
    np.testing.assert_array_equal(np.flatnonzero(pair.voices.speaking_a), np.arange(50))
    np.testing.assert_array_equal(np.flatnonzero(pair.voices.speaking_b), np.arange(30, 140))
    assert [(t.face, t.start_s, t.end_s) for t in pair.voices.turns] == [("a", 10.0, 12.0), ("b", 11.2, 15.6)]
    assert pair.scores["overlap_share"] == pytest.approx(20 / 140)
    assert one.audio is not None
    assert two.audio is not None
    sound = (one.audio + two.audio)[250 * 640 :]
    np.testing.assert_allclose(pair.voices.samples(), sound, atol=1 / 32768)


def test_the_mask_says_who_speaks_else_the_level_does() -> None:
    one, two = record(0, 100, 10, 60), record(1, 100, 50, 90)
    masked = np.zeros(100, bool)
    masked[70:80] = True
    pair = pair_of(replace(one, speech=masked), replace(two, speech=None))
    np.testing.assert_array_equal(pair.voices.speaking_a > 0, masked)
    np.testing.assert_array_equal(np.flatnonzero(pair.voices.speaking_b), np.arange(50, 90))
    silent = pair_of(one, replace(two, audio=None))
    assert silent.voices.audio is None
    assert np.isnan(silent.voices.speaking_a).all()
    assert row_problems(pair_row(silent)) == []


def test_sound_is_padded_cut_and_turned_down_as_a_whole() -> None:
    loud = replace(record(0, 500), audio=np.full(400 * 640, 0.9, np.float32))  # ends early
    other = replace(record(1, 500), audio=np.full(600 * 640, 0.6, np.float32))  # goes on
    talk = talk_of(loud, other)
    first, second = (row_of(talk, *bounds, **MADE).voices.samples() for bounds in ((0, 250), (250, 500)))
    np.testing.assert_allclose(first, 1.0, atol=1e-4)
    np.testing.assert_allclose(second[: 150 * 640], 1.0, atol=1e-4)
    np.testing.assert_allclose(second[150 * 640 :], 0.4, atol=1e-4)  # the same factor in every row


def test_lengths_may_differ_by_a_frame() -> None:
    one, two = record(0, 100), record(1, 101)
    assert talk_of(one, two, frames=101).frames == 100
    assert talk_of(one, record(1, 300), frames=90).frames == 90
    with pytest.raises(BadInput, match=r"motions and masks of \[100, 100, 101, 101\] frames, the list says 102"):
        talk_of(one, two, frames=102)


def test_an_impossible_turn_costs_its_row(tmp_path: Path) -> None:
    bad, good = record(0, 500), record(1, 500)
    bad.motion[260, 106:109] = (0, 1.8, 0)
    write_folder(tmp_path / "in", {"a": bad, "b": good}, {"train": {"t": ["a", "b", 500]}})
    done = convert.from_unils(tmp_path / "in", tmp_path / "set", split="train")
    assert (done.written, done.left_out) == (1, {"fit_failed": 1})
    assert done.details == ("t: a: eye turns by 103 degrees",)
    (reject,) = Dataset(tmp_path / "set").rejects()
    assert (reject.start_s, reject.end_s, reject.source_id) == (10.0, 20.0, "t")


def test_back_again_is_the_same_to_the_last_bit() -> None:
    one, two = record(0), record(1, start=60, stop=90)
    for before, after in zip((one, two), records_of(pair_of(one, two)), strict=True):
        assert after.motion.dtype == np.float32
        np.testing.assert_array_equal(after.motion, before.motion)
        np.testing.assert_array_equal(after.speech, before.speech)
        assert after.audio is not None
        assert before.speech is not None
        on = np.flatnonzero(before.speech)
        assert not after.audio[: (on[0] - 1) * 640].any()  # silent where that person is
        inside = slice((on[0] + 1) * 640, (on[-1] - 1) * 640)
        np.testing.assert_allclose(after.audio[inside], before.audio[inside], atol=1e-3)  # the other's hum


def folder(root: Path) -> Path:
    """Two conversations of train (12.4 and 21 s), one of test, and one record of each kind that is bad."""
    values: dict[str, Record | bytes] = {
        f"c{k}_{who}": record(2 * k + who, 310, 5, 290) for k in (0, 1) for who in (0, 1)
    }
    values |= {"d_0": record(8, 525, 5, 500), "d_1": record(9, 525, 100, 300)}
    values |= {"short": record(7, 40, stop=30), "cut": b"PK\x03\x04 and no more", "nan": record(3, 310)}
    values["nan"].motion[5, 5] = np.nan  # type: ignore[union-attr]
    train = {
        "c0": ["x/c0_0", "y/c0_1", 310], "d": ["d_0", "d_1", 525], "same": ["c0_0", "c0_1", 310],
        "brief": ["short", "c0_1", 40], "absent": ["c0_0", "nobody", 310], "cut": ["cut", "c0_0", 310],
        "nan": ["nan", "c0_0", 310], "line": ["c0_0", 310],
    }  # fmt: skip
    return write_folder(root, values, {"train": train, "test": {"c1": ["c1_0", "c1_1", 310]}})


def test_a_folder_to_a_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (folder(tmp_path / "in"), "--from", "unils", "--split", "train", "--license", "CC-BY-NC-4.0", "--json")
    assert call(*words, "--out", tmp_path / "set") == 0
    done = json.loads(capsys.readouterr().out)
    assert done["written"] == 3  # 310 = 250 + 60; 525 = 250 + 250 + 25
    assert done["left_out"] == {"too_short": 4, "duplicate": 1, "unreadable": 4}
    assert verify(tmp_path / "set").problems == []
    assert verify(tmp_path / "set").notes == []
    data = Dataset(tmp_path / "set")
    assert len(data.ids(split="train")) == 3  # all of it, and selected
    pairs = list(data.pairs())
    assert sorted((p.source.source_id, p.source.start_s, len(p.fitted.times)) for p in pairs) == [
        ("c0", 0.0, 250), ("d", 0.0, 250), ("d", 10.0, 250)
    ]  # fmt: skip
    assert {p.source.license for p in pairs} == {"CC-BY-NC-4.0"}
    components = data.selection()["component"].to_pylist()
    assert len(set(components)) == 2  # one a conversation
    assert {r.uri: r.detail for r in data.rejects()} == {
        "absent": "nobody is not in the database",
        "cut": "cut is not an npz file of plain arrays: File is not a zip file",
        "line": 'the list says ["c0_0", 310], expected 2 name(s) and a number of frames',
        "nan": "nan has NaN or infinity in motioncode",
    }
    funnel = json.loads((tmp_path / "set" / "funnel.json").read_text())["convert"]
    assert funnel["too_short"]["hours"] == pytest.approx((60 + 60 + 25 + 40) / 25 / 3600)
    assert "split: train" in (tmp_path / "set" / "config.yaml").read_text()
    assert call(words[0], "--from", "unils", "--split", "test", "--out", tmp_path / "test") == 0
    assert "1 pairs written" in capsys.readouterr().out
    assert len(Dataset(tmp_path / "test").ids(split="test")) == 1
    assert Dataset(tmp_path / "test").ids(split="train") == []
    assert verify(tmp_path / "test").problems == []
    assert call(*words, "--out", tmp_path / "again") == 0
    for path in (tmp_path / "set" / "pairs").iterdir():  # the same bytes
        assert path.read_bytes() == (tmp_path / "again" / "pairs" / path.name).read_bytes()


def test_records_without_partner_or_sound_become_rows_of_one(tmp_path: Path) -> None:
    values = {f"m{k}": Record(record(k, 260).motion) for k in range(3)}
    write_folder(tmp_path / "in", values, {"train": [[f"m{k}", 260] for k in range(3)]})
    done = convert.from_unils(tmp_path / "in", tmp_path / "set", split="train")
    assert (done.written, done.left_out) == (3, {"too_short": 3})
    assert verify(tmp_path / "set").problems == []
    pairs = list(Dataset(tmp_path / "set").pairs())
    assert len(pairs) == 3  # selected though silent
    assert {(p.source.n_people, p.source.source_id[0], p.voices.audio) for p in pairs} == {(1, "m", None)}


def test_there_and_back_keeps_every_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    convert.from_unils(folder(tmp_path / "in"), tmp_path / "set", split="train")
    assert call(tmp_path / "set", "--to", "unils", "--out", tmp_path / "out", "--json") == 0
    assert json.loads(capsys.readouterr().out)["written"] == 3
    assert [len(read_list(tmp_path / "out", split)[1]) for split in ("train", "val", "test")] == [3, 0, 0]
    first = {p.pair_id: p for p in Dataset(tmp_path / "set").pairs()}
    with reading(tmp_path / "out") as read:
        for name, pair in first.items():
            motion = read(f"{name}_b").motion
            np.testing.assert_array_equal(motion[:, :100], pair.fitted.b.expression)
            np.testing.assert_array_equal(motion[:, 103:106], pair.fitted.b.jaw)
    convert.from_unils(tmp_path / "out", tmp_path / "again", split="train")
    for again in Dataset(tmp_path / "again").pairs():
        pair = first[again.source.source_id]
        for head, other in ((again.fitted.a, pair.fitted.a), (again.fitted.b, pair.fitted.b)):
            for field in ("expression", "jaw", "rotation", "eyes"):
                np.testing.assert_array_equal(getattr(head, field), getattr(other, field))
        np.testing.assert_array_equal(again.voices.speaking_a, pair.voices.speaking_a)
        np.testing.assert_array_equal(again.voices.speaking_b, pair.voices.speaking_b)


def test_exports_keep_splits_and_leave_out_what_does_not_fit(tmp_path: Path) -> None:
    pairs = [*make_pairs(8), make_pair(20, video="silent", audio=False)]
    one = make_pair(21, video="alone")
    nobody = replace(one.fitted.b, valid=np.zeros(75, bool))
    pairs.append(replace(one, source=replace(one.source, n_people=1), fitted=replace(one.fitted, b=nobody)))
    write_dataset(tmp_path / "set", pairs)
    with pytest.raises(UsageError, match=r"head model canonical \(canonical\); UniLS's are FLAME's"):
        convert.to_unils(tmp_path / "set", tmp_path / "out")
    done = convert.to_unils(tmp_path / "set", tmp_path / "out", selected=False, any_head_model=True)
    assert (done.written, done.left_out) == (8, {"no_audio": 1, "one_face": 1})
    table = Dataset(tmp_path / "set").selection()
    splits = dict(zip(table["pair_id"].to_pylist(), table["split"].to_pylist(), strict=True))
    listed = {one.name: split for split in ("train", "val", "test") for one in read_list(tmp_path / "out", split)[1]}
    assert listed == {p.pair_id: splits[p.pair_id] for p in pairs[:8]}
    with reading(tmp_path / "out") as read:  # 20 coefficients and gaps of three frames
        motion = read(f"{pairs[0].pair_id}_a").motion
    assert motion.shape == (75, 112)
    assert not motion[:, 20:100].any()
    assert np.isfinite(motion).all()


def test_refusals(tmp_path: Path) -> None:
    root = folder(tmp_path / "in")
    with pytest.raises(UsageError, match="give --split"):
        call(root, "--from", "unils", "--out", tmp_path / "x")
    with pytest.raises(UsageError, match="does not go with --from dualtalk"):
        call(root, "--from", "dualtalk", "--split", "val", "--out", tmp_path / "x")
    with pytest.raises(UsageError, match="none of 0 conversations"):
        call(root, "--from", "unils", "--split", "val", "--out", tmp_path / "x")
    with pytest.raises(UsageError, match="not empty"):
        call(root, "--from", "unils", "--split", "train", "--out", root)
    write_folder(tmp_path / "bad", {}, {"train": {"t": ["a", "b", 90]}})
    with pytest.raises(UsageError, match="none of 1 conversations can be converted; the first: a is not in the"):
        call(tmp_path / "bad", "--from", "unils", "--split", "train", "--out", tmp_path / "x")


def test_training_takes_an_imported_set(tmp_path: Path) -> None:
    values = {f"c{k}_{who}": record(2 * k + who, 250, 5, 240) for k in range(8) for who in (0, 1)}
    write_folder(tmp_path / "in", values, {"train": {f"c{k}": [f"c{k}_0", f"c{k}_1", 250] for k in range(8)}})
    convert.from_unils(tmp_path / "in", tmp_path / "set", split="train")
    batch = next(iter(PairLoader(tmp_path / "set", LoaderOptions(batch_size=8, window=250, workers=1))))
    assert batch.expression.shape == (8, 2, 250, 100)
    assert bool(batch.valid.all())
    assert not bool(batch.gaze_valid.any())
    assert bool(batch.eyes.any())
    train(config_for(tmp_path / "set", tmp_path / "run"))
    assert len(losses(tmp_path / "run")) == 6
    assert np.isfinite(losses(tmp_path / "run")).all()
