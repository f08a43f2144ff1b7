"""Sound: on the video clock to the sample, whatever the rate, layout, container or window."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import media_factory as factory
from duologue.schemas.errors import BadInput, UsageError
from duologue.schemas.records import InputItem, Video
from duologue.transforms.audio import SAMPLE_RATE, AudioOptions, read_audio
from duologue.transforms.decode import read_frames
from duologue.transforms.probe import probe
from media_factory import Movie

SHARED = Path(__file__).parents[2].parent / "shared" / "media"


def facts(path: Path) -> Video:
    return probe(str(path), InputItem(path.name))


def onsets(sound: np.ndarray, quiet_s: float = 0.3) -> np.ndarray:
    """Seconds at which sound begins after quiet."""
    loud = np.flatnonzero(np.abs(sound) > 0.1) / SAMPLE_RATE
    return loud[np.diff(loud, prepend=-np.inf) > quiet_s]


def flashes(path: Path, video: Video) -> np.ndarray:
    """Seconds of the first frame of each flash."""
    with read_frames(str(path), video, start_s=0.0, end_s=1e6, max_fps=240.0) as reader:
        seen = [(f.time_s, factory.is_flash(f.rgb)) for f in reader]
    return np.array([t for i, (t, on) in enumerate(seen) if on and (i == 0 or not seen[i - 1][1])])


# Times at which frames of an uneven rate fall, with one exactly on each flash.
_UNEVEN = tuple(sorted({*np.round(np.cumsum([0.0] + [1 / 30, 1 / 15, 1 / 60] * 33), 4).tolist(), 1.0, 2.6}))


@pytest.mark.parametrize(
    ("name", "movie"),
    [
        ("plain.mp4", Movie()),
        ("plain.mkv", Movie()),
        ("video_late.mp4", Movie(video_late_s=0.7)),
        ("audio_late.mp4", Movie(audio_late_s=0.7)),
        ("audio_early.mp4", Movie(audio_late_s=-0.5)),
        ("video_late.mkv", Movie(video_late_s=1.704)),
        ("audio_late.mkv", Movie(audio_late_s=0.333)),
        ("video_late.ts", Movie(video_late_s=0.7)),
        ("audio_late.ts", Movie(audio_late_s=0.7)),
        ("uneven.mp4", Movie(times=_UNEVEN, fps=30)),
        ("uneven_late.mkv", Movie(times=_UNEVEN, fps=30, video_late_s=0.4)),
        ("turned.mp4", Movie(rotate=90, audio_late_s=0.2)),
        ("telephone.mkv", Movie(audio_rate=8000, audio_layout="mono", audio_codec="pcm_s16le")),
        ("surround.mp4", Movie(audio_layout="5.1", video_late_s=0.25)),
        ("cd.mp4", Movie(audio_rate=44100, audio_late_s=0.1)),
        ("hires.mkv", Movie(audio_rate=96000, audio_codec="flac")),
        ("opus.webm", Movie(audio_codec="libopus", codec="libvpx", b_frames=0)),
        ("mp3.mkv", Movie(audio_codec="libmp3lame", video_late_s=0.3)),
        ("mp3.avi", Movie(audio_codec="libmp3lame", codec="mpeg4", b_frames=0)),
    ],
)
def test_flash_and_beep_within_20_ms(tmp_path: Path, name: str, movie: Movie) -> None:
    path = factory.write_movie(tmp_path / name, movie)
    video = facts(path)
    sound = read_audio(str(path), video, 0.0, video.duration_s)
    assert sound.size == round(video.duration_s * SAMPLE_RATE)
    beeps, lights = onsets(sound), flashes(path, video)
    assert len(beeps) == len(lights) == 2
    meant = movie.audio_late_s - movie.video_late_s  # the beep was written this much after the flash
    assert np.abs(beeps - lights - meant).max() < 0.020
    assert 0.3 < np.abs(sound).max() < 0.7


@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1", "7.1"])
def test_channels_are_averaged(tmp_path: Path, layout: str) -> None:
    movie = Movie(audio_rate=48000, audio_layout=layout, audio_codec="pcm_s16le", first_channel_only=True)
    path = factory.write_movie(tmp_path / "a.mkv", movie)
    sound = read_audio(str(path), facts(path), 1.02, 1.08)
    channels = {"mono": 1, "stereo": 2, "5.1": 6, "7.1": 8}[layout]
    assert np.sqrt(2) * sound.std() == pytest.approx(0.5 / channels, rel=0.01)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000, 96000])
def test_samples_keep_their_place(tmp_path: Path, rate: int) -> None:
    """The resampled tone equals the tone computed at 16 kHz: no delay, no drift, no loss of level."""
    movie = Movie(audio_rate=rate, audio_layout="mono", audio_codec="pcm_s16le", tone_hz=440.0, flashes=(0.5,))
    path = factory.write_movie(tmp_path / "a.mkv", movie)
    video = facts(path)
    sound = read_audio(str(path), video, 0.52, 0.58)
    t = 0.52 + np.arange(sound.size) / SAMPLE_RATE
    assert np.abs(sound - 0.5 * np.sin(2 * np.pi * 440.0 * t)).max() < 0.01


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le", "libopus"])
def test_windows_join_to_the_whole(tmp_path: Path, codec: str) -> None:
    movie = Movie(audio_codec=codec, flashes=(0.3, 1.1, 1.95, 2.97), video_late_s=0.13, seconds=4.0)
    path = factory.write_movie(tmp_path / "a.mkv", movie)
    video = facts(path)
    whole = read_audio(str(path), video, 0.0, 4.0)
    parts = [read_audio(str(path), video, t, t + 0.8) for t in (0.0, 0.8, 1.6, 2.4, 3.2)]
    assert np.abs(np.concatenate(parts) - whole).max() < 2e-3


def test_outside_the_stream_is_silence(tmp_path: Path) -> None:
    path = factory.write_movie(tmp_path / "a.mkv", Movie(audio_late_s=1.0, flashes=(0.0,), seconds=2.0))
    video = facts(path)
    sound = read_audio(str(path), video, -1.0, 8.0)
    assert sound.size == 9 * SAMPLE_RATE
    assert onsets(sound) == pytest.approx([2.0], abs=0.02)
    assert not sound[: int(1.9 * SAMPLE_RATE)].any()
    assert not sound[int(4.1 * SAMPLE_RATE) :].any()
    assert not read_audio(str(path), video, 50.0, 51.0).any()


def test_gaps_in_time_stamps_are_kept(tmp_path: Path) -> None:
    movie = Movie(audio_gap=(1.2, 2.2), audio_codec="pcm_s16le", flashes=(0.5, 3.0))
    path = factory.write_movie(tmp_path / "a.mkv", movie)
    sound = read_audio(str(path), facts(path), 0.0, 4.0)
    assert onsets(sound) == pytest.approx([0.5, 3.0], abs=0.005)


def test_a_cut_short_stream_ends_in_silence(tmp_path: Path) -> None:
    whole = factory.write_movie(tmp_path / "a.mkv", Movie())
    cut = factory.truncate(whole, 0.5, tmp_path / "cut.mkv")
    sound = read_audio(str(cut), facts(cut), 0.0, 4.0)
    assert sound.size == 4 * SAMPLE_RATE
    assert onsets(sound) == pytest.approx([1.0], abs=0.005)


def test_a_span_has_a_length_within_the_limit(tmp_path: Path) -> None:
    path = factory.write_movie(tmp_path / "a.mkv", Movie(seconds=6.0, audio_codec="pcm_s16le"))
    video = facts(path)
    assert read_audio(str(path), video, 0.0, 1.0).size == SAMPLE_RATE
    with pytest.raises(UsageError, match="limit"):
        read_audio(str(path), video, 0.0, 5.0, AudioOptions(max_window_s=1.0))
    with pytest.raises(UsageError):
        read_audio(str(path), video, 1.0, 1.0)


def test_no_audio(tmp_path: Path) -> None:
    path = factory.write_movie(tmp_path / "a.mp4", Movie(audio=False, seconds=1.0))
    with pytest.raises(BadInput, match="no_audio"):
        read_audio(str(path), facts(path), 0.0, 1.0)


def test_files_left_open_by_nobody(tmp_path: Path) -> None:
    path = factory.write_movie(tmp_path / "a.mp4", Movie(seconds=1.0))
    video = facts(path)
    read_audio(str(path), video, 0.0, 1.0)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        read_audio(str(path), video, 0.0, 1.0)
    assert len(os.listdir("/proc/self/fd")) == before


def test_real_offset_of_the_picture() -> None:
    """The picture starts 1.704 s after the sound; both are read on the clock that starts with the sound."""
    path = SHARED / "two_sitcom_cuts.mp4"
    if not path.exists():
        pytest.skip("no real media here")
    video = facts(path)
    with read_frames(str(path), video, start_s=0.0, end_s=3.0) as reader:
        times = [f.time_s for f in reader]
    assert times[0] == pytest.approx(1.704, abs=1e-6)
    _agrees_with_program(path, video, 5.0, 7.0)


@pytest.mark.parametrize("name", ["cut_noface_to_face.mov", "one_face_talking.mp4", "two_faces_sitcom_short.avi"])
def test_real_sound_agrees_with_the_ffmpeg_program(name: str) -> None:
    path = SHARED / name
    if not path.exists():
        pytest.skip("no real media here")
    video = facts(path)
    _agrees_with_program(path, video, 0.5, 2.5)


def _agrees_with_program(path: Path, video: Video, start_s: float, end_s: float) -> None:
    """Cross-correlates with what the ffmpeg program places on the container's own time line."""
    import subprocess

    command = ["ffmpeg", "-v", "error", "-copyts", "-i", str(path), "-vn", "-af",
               "aresample=16000:async=1:first_pts=0,pan=mono|c0=.5*c0+.5*c1", "-f", "f32le", "-"]  # fmt: skip
    if read_channels(path) == 1:
        command[command.index("-af") + 1] = "aresample=16000:async=1:first_pts=0"
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    zero = video.clock_zero_s
    theirs = np.frombuffer(raw, np.float32)[round((start_s + zero) * 16000) : round((end_s + zero) * 16000)]
    ours = read_audio(str(path), video, start_s, end_s)
    assert ours.std() > 1e-3
    size = 2 * ours.size
    match = np.fft.irfft(np.conj(np.fft.rfft(theirs, size)) * np.fft.rfft(ours, size))
    lag = int(np.argmax(match))
    lag -= size if lag > size // 2 else 0
    assert abs(lag) <= 0.001 * SAMPLE_RATE
    assert np.corrcoef(ours, theirs)[0, 1] > 0.99


def read_channels(path: Path) -> int:
    import av

    with av.open(str(path)) as container:
        return len(container.streams.audio[0].layout.channels)
