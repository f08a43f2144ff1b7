"""Probing: facts from packets, hostile and empty files as the rejects they are."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import av
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import media_factory as factory
from duologue.schemas.errors import BadInput
from duologue.schemas.records import Focal, InputItem, Video
from duologue.transforms.audio import read_audio
from duologue.transforms.decode import read_frames
from duologue.transforms.probe import ProbeOptions, probe
from media_factory import Movie

SHARED = Path(__file__).parents[2].parent / "shared" / "media"


def facts(path: Path, options: ProbeOptions | None = None, **item: float) -> Video:
    return probe(str(path), InputItem(path.name, **item), options)


def make(tmp_path: Path, name: str = "a.mp4", **changes: object) -> Path:
    return factory.write_movie(tmp_path / name, Movie(**{"seconds": 2.0, **changes}))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.ts"])
def test_plain_facts(tmp_path: Path, name: str) -> None:
    path = make(tmp_path, name)
    video = facts(path)
    assert video.video_id == hashlib.sha256(path.read_bytes()).hexdigest()
    assert video.size_bytes == path.stat().st_size
    assert (video.width, video.height, video.rotation) == (160, 96, 0)
    assert (video.video_codec, video.audio_codec) == ("h264", "aac")
    assert video.mean_fps == pytest.approx(25.0, abs=1e-3)
    assert not video.variable_rate
    assert video.duration_s == pytest.approx(2.0, abs=0.03)
    assert video.has_audio
    assert min(video.video_offset_s, video.audio_offset_s or 0.0) == 0.0
    assert video.video_offset_s == pytest.approx(video.audio_offset_s, abs=0.022)  # MPEG-TS cannot trim AAC priming
    assert (video.start_s, video.end_s) == (0.0, video.duration_s)


@pytest.mark.parametrize(
    ("name", "tag", "text", "expected"),
    [
        ("a.mov", "com.apple.quicktime.camera.focal_length.35mm_equivalent", "26", 26 / 34.6 * 160),
        ("a.mp4", "com.apple.quicktime.camera.focal_length.35mm_equivalent", "26", 26 / 34.6 * 160),
        ("a.mkv", "FocalLengthIn35mmFilm", "50.0 mm", 50 / 34.6 * 160),
        ("a.mkv", "FocalLengthIn35mmFormat", "0", None),
        ("a.mkv", "FocalLengthIn35mmFormat", "wide", None),
    ],
)
def test_the_camera_s_focal_length(tmp_path: Path, name: str, tag: str, text: str, expected: float | None) -> None:
    plain = make(tmp_path, "plain.mp4")
    assert facts(plain).focal is None
    options = {} if name.endswith("mkv") else {"movflags": "use_metadata_tags"}
    with av.open(str(plain)) as source, av.open(str(tmp_path / name), "w", options=options) as out:
        out.metadata[tag] = text
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    found = facts(tmp_path / name).focal
    assert (found and found.px) == pytest.approx(expected)
    assert found is None or found.source == "metadata"
    told = probe(str(tmp_path / name), InputItem("x", focal_px=500.0, focal_log_sd=0.15))
    assert told.focal == Focal(500.0, "user", 0.15)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize(("video_late", "audio_late"), [(0.7, 0.0), (0.0, 0.7), (0.3, 0.3)])
def test_offsets_are_on_one_clock(tmp_path: Path, name: str, video_late: float, audio_late: float) -> None:
    video = facts(make(tmp_path, name, video_late_s=video_late, audio_late_s=audio_late))
    earliest = min(video_late, audio_late)
    assert video.video_offset_s == pytest.approx(video_late - earliest, abs=0.022)
    assert video.audio_offset_s == pytest.approx(audio_late - earliest, abs=0.025)
    assert video.video_offset_s - (video.audio_offset_s or 0) == pytest.approx(video_late - audio_late, abs=0.025)
    assert min(video.video_offset_s, video.audio_offset_s or 0) == pytest.approx(0.0, abs=1e-9)


def test_aac_priming_is_not_time(tmp_path: Path) -> None:
    """The encoder's 1024 priming samples lie before zero and are never presented."""
    video = facts(make(tmp_path, "a.mp4"))
    assert video.clock_zero_s == pytest.approx(0.0, abs=1e-6)
    assert video.audio_offset_s == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("rotate", [90, 180, 270])
def test_rotation_metadata(tmp_path: Path, rotate: int) -> None:
    video = facts(make(tmp_path, rotate=rotate))
    assert (video.width, video.height, video.rotation) == (160, 96, rotate)


def test_wide_pixels_are_made_square(tmp_path: Path) -> None:
    video = facts(make(tmp_path, "a.mkv", aspect=2.0, audio=False))
    assert (video.width, video.height) == (320, 96)


def test_variable_rate_is_measured(tmp_path: Path) -> None:
    times = np.cumsum([0.0] + [1 / 30, 1 / 15] * 20)
    video = facts(make(tmp_path, times=tuple(times), fps=30, audio=False))
    assert video.variable_rate
    assert video.mean_fps == pytest.approx(20.0, abs=0.01)
    assert not facts(make(tmp_path, "b.mkv", fps=29.97, audio=False)).variable_rate  # millisecond time stamps


def test_duration_is_measured_not_believed(tmp_path: Path) -> None:
    cut = factory.truncate(make(tmp_path, "a.mkv", seconds=4.0), 0.5, tmp_path / "cut.mkv")
    video = facts(cut)
    assert 1.0 < video.duration_s < 3.0


def test_the_wanted_part(tmp_path: Path) -> None:
    path = make(tmp_path)
    video = facts(path, start_s=0.5, end_s=99.0)
    assert (video.start_s, video.end_s) == (0.5, video.duration_s)
    with pytest.raises(BadInput, match="too_short"):
        facts(path, start_s=5.0)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.mp4", b""),
        ("text.mp4", b"Dear diary, this is not a film.\n" * 50),
        ("noise.mp4", np.random.default_rng(0).integers(0, 256, 20000, np.uint8).tobytes()),
        ("head.mp4", b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41"),
        ("page.html", b"<html><body>404</body></html>"),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:4,\nhttp://127.0.0.1:9/x.ts\n"),
    ],
)
def test_what_is_no_film_is_unreadable(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        facts(path)
    assert caught.value.reason == "unreadable"
    assert caught.value.detail


def test_missing_files_folders_and_pipes_are_unreadable(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    for path in (tmp_path / "none.mp4", tmp_path, tmp_path / "pipe.mp4"):
        with pytest.raises(BadInput, match="unreadable"):
            facts(path)


def test_an_mp4_cut_before_its_index_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="unreadable"):
        facts(factory.truncate(make(tmp_path), 0.5, tmp_path / "cut.mp4"))


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no_video"):
        facts(make(tmp_path, "a.mp4", video=False))
    cover = factory.write_cover_song(tmp_path / "song.mp4")
    with pytest.raises(BadInput, match="no_video"):
        facts(cover)


def test_silence_is_the_callers_to_judge(tmp_path: Path) -> None:
    video = facts(make(tmp_path, audio=False))
    assert not video.has_audio
    assert video.audio_codec == ""


def test_limits(tmp_path: Path) -> None:
    path = make(tmp_path)
    for options in (
        ProbeOptions(max_bytes=1000),
        ProbeOptions(max_duration_s=1.0),
        ProbeOptions(max_pixels=100 * 100),
    ):
        with pytest.raises(BadInput, match="too_large"):
            facts(path, options)


REAL = {  # file: width, height, mean rate, variable, first frame, first sample
    "cut_noface_to_face.mov": (960, 540, 26.476, True, 0.0, 0.0),
    "cuts_counter.mp4": (1920, 1080, 10.0, False, 0.0, None),
    "no_face_animation.mp4": (960, 540, 24.0, False, 0.0, 0.0),
    "many_faces_street.mp4": (1920, 1080, 25.0, False, 0.0, 0.01),
    "two_faces_headpose.gif": (480, 270, 12.009, False, 0.0, None),
    "two_faces_sitcom_short.avi": (544, 416, 25.0, False, 0.08, 0.0),
    "two_sitcom_cuts.mp4": (1280, 720, 23.976, False, 1.704, 0.0),
    "two_split_interview.mp4": (1280, 720, 25.0, False, 0.0, 0.0),
}


@pytest.mark.parametrize("name", sorted(REAL))
def test_real_files(name: str) -> None:
    if not (SHARED / name).exists():
        pytest.skip("no real media here")
    video = facts(SHARED / name)
    width, height, fps, variable, first_frame, first_sample = REAL[name]
    assert (video.width, video.height, video.variable_rate) == (width, height, variable)
    assert video.mean_fps == pytest.approx(fps, abs=1e-3)
    assert video.video_offset_s == pytest.approx(first_frame, abs=1e-6)
    assert video.audio_offset_s == (None if first_sample is None else pytest.approx(first_sample, abs=1e-6))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_corrupt_files_end_in_frames_or_a_reason(tmp_path: Path, name: str) -> None:
    """Random bytes overwritten, half of them in the header: every file is read or rejected, none hangs or raises."""
    whole = make(tmp_path, name, seconds=1.0).read_bytes()
    rng = np.random.default_rng(1)
    for index in range(12):
        data = bytearray(whole)
        for at in rng.integers(0, 2000 if index % 2 else len(data), rng.integers(1, 30)):
            data[at] = int(rng.integers(0, 256))
        path = tmp_path / f"{index}_{name}"
        path.write_bytes(bytes(data))
        reason, detail = _read_all(path)
        assert reason in ("", "unreadable", "no_video", "decode_failed", "too_large")
        assert not detail.startswith(("AttributeError", "IndexError", "TypeError", "KeyError", "Overflow"))


def _read_all(path: Path) -> tuple[str, str]:
    try:
        video = facts(path, ProbeOptions(progress_timeout_s=20.0))
        with read_frames(str(path), video, start_s=0.0, end_s=1e6) as reader:
            shapes = {frame.rgb.shape for frame in reader}
        sound = read_audio(str(path), video, 0.0, 2.0) if video.has_audio else np.zeros(32000)
    except BadInput as error:
        return error.reason, error.detail
    assert shapes <= {(video.height, video.width, 3)}
    assert sound.shape == (32000,)
    return "", ""
