"""Checks without truth: videos are told apart by their content, whatever they are called."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from duologue.fitting.fit import FitOptions
from duologue.fitting.load_head import load_head_model
from duologue.fitting.reduce import reduce
from duologue.pipeline.accuracy import real
from duologue.pipeline.accuracy.real import Clip, agreement, altered, name_of_altered, told_apart
from duologue.schemas.errors import BadInput, UsageError
from duologue.synthesis.face_tracks import TrackOptions, sample_clip
from media_factory import Movie, write_movie

TRACKS, _ = sample_clip(load_head_model("canonical"), TrackOptions(n_frames=30), 1)


def clip(name: str, video_id: str, start_s: float = 0.0) -> Clip:
    return Clip(name, replace(TRACKS, video_id=video_id, start_s=start_s))


def test_two_videos_of_one_name_are_altered_apart(tmp_path: Path) -> None:
    videos = [tmp_path / folder / "clip.mp4" for folder in ("one", "two", "copy")]
    for video in videos:
        video.parent.mkdir()
    write_movie(videos[0], Movie(seconds=0.4))
    write_movie(videos[1], Movie(seconds=0.6))
    videos[2].write_bytes(videos[0].read_bytes())  # the same video again
    made = altered(videos, tmp_path / "mirrored", "mirror")
    ids = [hashlib.sha256(video.read_bytes()).hexdigest() for video in videos[:2]]
    assert [path.stem for path in made] == [name_of_altered(one) for one in ids]
    assert sorted((tmp_path / "mirrored").iterdir()) == sorted(made)
    assert made[0].read_bytes() != made[1].read_bytes()


def test_a_file_that_ffmpeg_cannot_read_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_text("no video")
    with pytest.raises(UsageError, match=r"broken.mp4: ffmpeg cannot read it"):
        altered([tmp_path / "broken.mp4"], tmp_path / "half", "half")
    assert list((tmp_path / "half").iterdir()) == []


def test_clips_meet_the_altered_video_of_their_own_content(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = "1" * 64, "2" * 64
    clips = told_apart([clip("clip.mp4", one), clip("clip.mp4", two), clip("other.mp4", "3" * 64)])
    assert [c.name for c in clips] == ["clip.mp4 (111111)", "clip.mp4 (222222)", "other.mp4"]
    mirrored = [clip(f"{name_of_altered(two)}.mkv", "b" * 64), clip(f"{name_of_altered(one)}.mkv", "a" * 64)]
    monkeypatch.setattr(real, "fitted", lambda _, tracks: tracks)
    met: list[tuple[str, str]] = []

    def compared(mine: object, theirs: object, _: bool) -> dict[str, float]:
        met.append((mine.video_id, theirs.video_id))  # type: ignore[attr-defined]
        return {"rotation_deg": 0.0, "relative_position_cm": 0.0}

    monkeypatch.setattr(real, "compared", compared)
    fitter = real.HeadFitter(reduce(load_head_model("canonical")), FitOptions())
    found = agreement(fitter, clips, mirrored, mirror=True)
    assert met == [(one, "a" * 64), (two, "b" * 64)]
    assert found["clips"]["other.mp4 0.0 s"] is None
    assert len(found["clips"]) == 3


def test_clips_that_cannot_be_fitted_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real.HeadFitter, "fit", lambda *_: [BadInput("fit_failed", "no face")])
    with pytest.raises(UsageError, match="none of 1 clips could be fitted"):
        real.held_out(reduce(load_head_model("canonical")), [clip("a.mp4", "1" * 64)], FitOptions())
