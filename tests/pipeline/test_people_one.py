"""curate --people 1: single-speaker rows in the same schema, and dialogues made of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from duologue.cli import main
from duologue.schemas.dataset import Dataset
from duologue.schemas.verify import verify

TALKING = Path(__file__).parents[3] / "shared" / "media" / "one_face_talking.mp4"


def crop(film: Path, out: Path, left: int) -> Path:
    command = ["ffmpeg", "-loglevel", "error", "-i", str(film), "-vf", f"crop=320:360:{left}:0", str(out)]
    subprocess.run(command, check=True, timeout=60)
    return out


@pytest.fixture(scope="module")
def halves(two_portraits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("halves")
    crop(two_portraits, folder / "one.mp4", 0)
    return folder


def test_one_face_is_a_row_whose_b_is_nobody(halves: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    assert main(["curate", str(halves), "--people", "1", "--geometry-only", "--quiet", "--out", str(out)]) == 0
    report = verify(out)
    assert report.sound, report.problems
    pairs = list(Dataset(out).pairs(selected=False))
    assert len(pairs) == 1
    for pair in pairs:
        assert pair.source.n_people == 1
        assert pair.source.origin == "curated"
        assert pair.fitted.a.valid.mean() > 0.9
        assert not pair.fitted.b.valid.any()
        assert (pair.person_b, pair.fitted.b.track_id, pair.relation.codes) == ("", "", ())
        assert np.isnan(pair.relation.mutual_gaze).all()


def test_two_faces_are_too_many(two_portraits: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    assert main(["curate", str(two_portraits), "--people", "1", "--geometry-only", "--quiet", "--out", str(out)]) == 0
    dataset = Dataset(out)
    assert len(dataset) == 0
    assert [reject.reason for reject in dataset.rejects()] == ["many_faces"]


@pytest.mark.skipif(not TALKING.is_file(), reason="the recorded clip of one person talking is not on this machine")
def test_a_recorded_speaker_is_heard_and_bound(tmp_path: Path) -> None:
    out = tmp_path / "set"
    assert main(["curate", str(TALKING), "--people", "1", "--quiet", "--out", str(out)]) == 0
    assert verify(out).sound
    pair = next(Dataset(out).pairs())
    assert pair.scores["speech_share"] > 0.5
    assert pair.scores["bound_share"] > 0.8
    assert {turn.face for turn in pair.voices.turns} <= {"a", ""}
    assert np.nan_to_num(pair.voices.speaking_b).max() < 0.5
