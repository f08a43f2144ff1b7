"""DualTalk files to a data set and back."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from dataset_factory import make_pairs, write_dataset
from duologue.fitting.head_model import rotation_matrix
from duologue.model import convert
from duologue.model.dualtalk_convert import clip_to_pair, pair_to_clip
from duologue.model.dualtalk_format import Clip, Side, clip_names, read_clip, write_clip
from duologue.model.evaluate import score_dualtalk
from duologue.model.nominal import speech_by_level
from duologue.schemas.check import row_problems
from duologue.schemas.dataset import Dataset
from duologue.schemas.errors import BadInput, UsageError
from duologue.schemas.row import pair_row
from duologue.schemas.verify import verify
from unils_factory import voice

DEMO = Path(__file__).parents[2].parent / "shared" / "media" / "dualtalk_demo"
MADE = {"config_hash": "c", "code_version": "0"}


def side(seed: int, start: int, stop: int, frames: int = 100) -> Side:
    rng = np.random.default_rng(seed)
    motion = np.cumsum(rng.normal(size=(frames, 56)) * 0.01, axis=0).astype(np.float32)
    return Side(motion, voice(seed, frames, start, stop), rng.normal(size=100).astype(np.float32))


def dyad(name: str = "abc_DE_sub_video_7_000", seed: int = 0) -> Clip:
    return Clip(name, (side(seed, 10, 50), side(seed + 1, 45, 90)))


def call(*words: str) -> int:
    parser = argparse.ArgumentParser()
    convert.configure(parser)
    return convert.run(parser.parse_args([str(word) for word in words]))


def test_a_clip_becomes_a_sound_row() -> None:
    pair = clip_to_pair(dyad(), license_text="Apache-2.0", **MADE)
    assert row_problems(pair_row(pair)) == []
    assert pair.source.source_id == "abc_DE"
    assert pair.fitted.head_model_tier == "flame"
    assert not pair.relation.layout
    assert np.isnan(pair.relation.mutual_gaze).all()
    assert np.isnan(pair.fitted.a.gaze).all()
    np.testing.assert_array_equal(np.flatnonzero(pair.voices.speaking_a), np.arange(10, 50))
    np.testing.assert_array_equal(np.flatnonzero(pair.voices.speaking_b), np.arange(45, 90))
    assert [(turn.face, turn.start_s, turn.end_s) for turn in pair.voices.turns] == [("a", 0.4, 2.0), ("b", 1.8, 3.6)]
    assert pair.scores["overlap_share"] == pytest.approx(5 / 80)
    same = clip_to_pair(dyad("other"), **MADE)
    assert same.pair_id == pair.pair_id  # content, not name
    assert clip_to_pair(dyad(seed=5), **MADE).pair_id != pair.pair_id


def test_head_rotations_change_axes_as_the_placement_says() -> None:
    clip = dyad()
    motion = clip.sides[0].motion
    assert motion is not None
    pair = clip_to_pair(clip, **MADE)
    flip = np.diag([1.0, -1.0, -1.0])
    theirs, ours = rotation_matrix(motion[:, 53:]), rotation_matrix(pair.fitted.a.rotation)
    np.testing.assert_allclose(ours @ flip, flip @ theirs, atol=1e-6)  # X_camera = F R x


def test_back_again_is_the_same_motion() -> None:
    clip = dyad()
    again = pair_to_clip(clip_to_pair(clip, **MADE))
    for before, after in zip(clip.sides, again.sides, strict=True):
        np.testing.assert_allclose(after.motion, before.motion, atol=1e-6)
        np.testing.assert_array_equal(after.shape, before.shape)
    first = again.sides[0].audio
    assert first is not None
    assert np.abs(first[: 9 * 640]).max() == 0  # silent before the person speaks
    assert np.abs(first[60 * 640 :]).max() == 0
    assert np.sqrt((first[15 * 640 : 40 * 640] ** 2).mean()) == pytest.approx(0.2, rel=0.5)


def test_gaps_are_bridged_or_refused() -> None:
    pair = clip_to_pair(dyad(), **MADE)
    head = pair.fitted.a
    whole = pair_to_clip(pair).sides[0].motion
    head.valid[20:25] = False
    head.expression[20:25] = np.nan
    bridged = pair_to_clip(pair).sides[0].motion
    assert whole is not None
    assert bridged is not None
    np.testing.assert_array_equal(bridged[25:], whole[25:])
    np.testing.assert_allclose(bridged[22, 0], whole[19, 0] + (whole[25, 0] - whole[19, 0]) * 3 / 6, atol=1e-6)
    head.valid[20:40] = False
    with pytest.raises(BadInput, match=r"gap of 0.80 s"):
        pair_to_clip(pair)


def test_a_folder_to_a_data_set_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for k in range(3):
        write_clip(tmp_path / "in", dyad(f"vid{k}_sub_video_1", 10 * k))
    (tmp_path / "in" / "bad_sub_video_1_speaker1.npz").write_text("no")
    write_clip(tmp_path / "in", Clip("sound_only", (Side(None, voice(0, 80, 0, 9)), Side(None, voice(1, 80, 0, 9)))))
    assert (
        call(tmp_path / "in", "--from", "dualtalk", "--out", tmp_path / "set", "--license", "Apache-2.0", "--json") == 0
    )
    done = json.loads(capsys.readouterr().out)
    assert (done["written"], done["left_out"]) == (3, {"unreadable": 1, "no_face": 1})
    assert verify(tmp_path / "set").problems == []
    data = Dataset(tmp_path / "set")
    assert len(data.ids()) == 3  # all selected
    assert {pair.source.license for pair in data.pairs()} == {"Apache-2.0"}
    assert {reject.reason for reject in data.rejects()} == {"unreadable", "no_face"}
    assert call(tmp_path / "set", "--to", "dualtalk", "--out", tmp_path / "out") == 0
    assert "3 clips written" in capsys.readouterr().out
    originals = {name: read_clip(tmp_path / "in", name) for name in clip_names(tmp_path / "in") if name[:3] == "vid"}
    names = {pair.pair_id: pair.source.source_uri for pair in data.pairs()}
    for name in clip_names(tmp_path / "out"):
        for before, after in zip(originals[names[name]].sides, read_clip(tmp_path / "out", name).sides, strict=True):
            np.testing.assert_allclose(after.motion, before.motion, atol=2e-4)  # rounded to the columns' steps
    scored = score_dualtalk(tmp_path / "out", tmp_path / "out", baselines=False)
    assert scored.means["mse_exp"] == 0
    assert scored.means["fd_exp"] == pytest.approx(0, abs=1e-6)


def test_the_published_demo_becomes_single_person_rows(tmp_path: Path) -> None:
    if not DEMO.exists():
        pytest.skip("the demo files are not here")
    assert convert.from_dualtalk(DEMO, tmp_path / "set").written == 2
    assert verify(tmp_path / "set").problems == []
    rows = {pair.source.source_uri: pair for pair in Dataset(tmp_path / "set").pairs()}
    assert {pair.source.n_people for pair in rows.values()} == {1}
    long = rows["xkHwlcDSOjc_sub_video_109_000"]
    assert (len(long.fitted.times), long.fitted.a.track_id) == (750, "speaker1")
    assert rows["UbjUDM1MiGE_sub_video_72"].fitted.a.track_id == "speaker2"
    assert 0.05 < long.scores["speaking_a"] < 0.95


def test_refusals(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", make_pairs(2))
    with pytest.raises(UsageError, match=r"head model canonical \(canonical\)"):
        convert.to_dualtalk(tmp_path / "set", tmp_path / "out")
    done = convert.to_dualtalk(tmp_path / "set", tmp_path / "out", any_head_model=True)
    assert done.written == 2
    with pytest.raises(UsageError, match="not empty"):
        convert.to_dualtalk(tmp_path / "set", tmp_path / "out", any_head_model=True)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "c_speaker1.npz").write_text("no")
    with pytest.raises(UsageError, match="none of 1 clips"):
        convert.from_dualtalk(tmp_path / "bad", tmp_path / "set2")
    with pytest.raises(SystemExit):
        call(tmp_path / "set", "--out", tmp_path / "x")


def test_speech_by_level_bridges_breaths_and_drops_clicks() -> None:
    audio = voice(0, 100, 20, 60)
    audio[35 * 640 : 40 * 640] *= 1e-4  # 0.2 s breath
    audio[80 * 640 : 81 * 640] = 0.2  # a click of one frame
    np.testing.assert_array_equal(np.flatnonzero(speech_by_level(audio, 100)), np.arange(20, 60))
    assert not speech_by_level(np.zeros(16000, np.float32), 25).any()
    assert len(speech_by_level(audio[:100], 10)) == 10
