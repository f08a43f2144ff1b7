"""Frames: right times and pixels from every backend, pieces equal the whole, and hostile files cost only themselves."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import media_factory as factory
from decode_factory import facts, frames
from duologue.schemas.errors import BadInput, UsageError
from duologue.schemas.records import Video
from duologue.transforms.decode import DecodeOptions, output_size, read_frames, ring_slots, thinning_rate
from duologue.transforms.decode_child import select_frames
from hypothesis import given, settings
from hypothesis import strategies as st
from media_factory import Movie

SHARED = Path(__file__).parents[2].parent / "shared" / "media"
BACKENDS = ("pyav", "decord", "ffmpeg")


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    factory.write_movie(folder / "plain.mp4", Movie())
    return folder


VFR = tuple(float(t) for t in np.cumsum([0] + [1 / 30, 1 / 15, 1 / 60, 1 / 25] * 20))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("name", "movie"),
    [
        ("cfr.mp4", Movie(seconds=2)),
        ("late.mkv", Movie(seconds=2, video_late_s=0.7)),
        ("early.mp4", Movie(seconds=2, video_late_s=0.5, b_frames=3)),
        ("vfr.mp4", Movie(times=VFR, fps=30, seconds=3)),
        ("bt709.mp4", Movie(seconds=1, bt709=True, audio=False)),
        ("turned90.mp4", Movie(seconds=1, rotate=90)),
        ("turned709.mp4", Movie(seconds=1, rotate=90, bt709=True, audio=False)),
        ("turned180.mp4", Movie(seconds=1, rotate=180)),
        ("turned270.mp4", Movie(seconds=1, rotate=270)),
    ],
)
def test_every_backend_gives_the_true_frames(tmp_path: Path, backend: str, name: str, movie: Movie) -> None:
    path = factory.write_movie(tmp_path / name, movie)
    video = facts(path)
    assert (video.width, video.height, video.rotation) == (movie.width, movie.height, movie.rotate)
    got, damage = frames(path, video, options=DecodeOptions(backend=backend))
    assert not damage
    truth = np.asarray(movie.frame_times()) + movie.video_late_s
    assert np.abs(np.array([t for t, _ in got]) - truth).max() < 1e-3
    assert [factory.read_number(rgb) for _, rgb in got] == [i % 256 for i in range(len(truth))]
    picture = factory.upright_picture(0, False, movie.width, movie.height)
    assert np.abs(got[0][1].astype(int) - picture).mean() < 3  # the encoder's loss
    reference, _ = frames(path, video)
    for (_, mine), (_, theirs) in zip(got, reference, strict=True):
        assert np.abs(mine.astype(int) - theirs).mean() <= 0.01


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["cut_noface_to_face.mov", "two_sitcom_cuts.mp4", "no_face_animation.mp4"])
def test_backends_agree_on_real_files(backend: str, name: str) -> None:
    if not (SHARED / name).exists():
        pytest.skip("no real media here")
    video = facts(SHARED / name)
    if backend == "decord" and name == "no_face_animation.mp4":
        with pytest.raises(BadInput, match="edit list"):
            frames(SHARED / name, video, options=DecodeOptions(backend=backend))
        return
    for start_s, end_s, side in ((video.video_offset_s, video.video_offset_s + 0.5, None), (2.9, 3.3, 320)):
        got, _ = frames(SHARED / name, video, start_s, end_s, longest_side=side, options=DecodeOptions(backend=backend))
        want, _ = frames(SHARED / name, video, start_s, end_s, longest_side=side)
        assert len(got) == len(want) > 3
        assert max(abs(a[0] - b[0]) for a, b in zip(got, want, strict=True)) < 1e-3
        assert max(np.abs(a[1].astype(int) - b[1]).mean() for a, b in zip(got, want, strict=True)) <= 1.0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("max_fps", [30.0, 10.0])
def test_pieces_give_the_frames_of_the_whole(tmp_path: Path, backend: str, max_fps: float) -> None:
    path = factory.write_movie(tmp_path / "a.mp4", Movie(times=VFR, fps=30, seconds=3, gop=30, video_late_s=0.31))
    video = facts(path)
    options = DecodeOptions(backend=backend)
    whole, _ = frames(path, video, max_fps=max_fps, options=options)
    pieces = []
    for start_s in np.arange(0.0, 4.0, 0.7):
        pieces += frames(path, video, float(start_s), float(start_s + 0.7), max_fps=max_fps, options=options)[0]
    assert [t for t, _ in pieces] == [t for t, _ in whole]
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(pieces, whole, strict=True))


def test_a_seek_lands_on_every_frame(media: Path) -> None:
    video = facts(media / "plain.mp4")
    for index in (0, 1, 11, 12, 13, 24, 37, 60, 98, 99):
        got, _ = frames(media / "plain.mp4", video, index / 25 - 1e-4, index / 25 + 1e-4)
        assert [factory.read_number(rgb) for _, rgb in got] == [index]
    assert frames(media / "plain.mp4", video, 50.0, 60.0)[0] == []


@given(
    gaps=st.lists(st.floats(0.001, 0.2), min_size=1, max_size=120),
    rate=st.floats(1.0, 60.0),
    origin=st.floats(-1.0, 1.0),
    cuts=st.lists(st.floats(0.0, 10.0), max_size=5),
)
@settings(max_examples=150, deadline=None)
def test_thinning_depends_on_times_alone(gaps: list[float], rate: float, origin: float, cuts: list[float]) -> None:
    times = [float(t) for t in np.cumsum(gaps)]

    def kept(start_s: float, end_s: float, first: int = 0) -> list[float]:
        source = ((t, lambda: None) for t in times[first:])
        return [t for t, _ in select_frames(source, start_s, end_s, rate, origin)]

    whole = kept(-np.inf, np.inf)
    bins = np.floor((np.array(whole) - origin) * rate + 0.5 + 1e-4)
    assert (np.diff(bins) >= 1).all()  # at most one a bin
    edges = [-np.inf, *sorted(cuts), np.inf]
    parts: list[float] = []
    for start_s, end_s in itertools.pairwise(edges):
        # a reader that seeks starts anywhere at or before the bin of start_s
        begin = (np.floor((start_s - origin) * rate + 0.5) - 0.5) / rate + origin - 1e-3 if start_s > -np.inf else -1
        parts += kept(start_s, end_s, int(np.searchsorted(times, begin)))
    assert parts == whole


@pytest.mark.parametrize(("fps", "kept"), [(25, 25), (29.97, 29.97), (30.3, 30.3), (50, 25), (59.94, 29.97), (120, 30)])
def test_a_constant_rate_stays_constant(fps: float, kept: float) -> None:
    rng = np.random.default_rng(0)
    times = np.arange(0, 20, 1 / fps)
    video = _video(mean_fps=fps)
    stamped = np.round(times, 3) + rng.uniform(-2e-4, 2e-4, times.size)  # millisecond time stamps
    rate = thinning_rate(video, 30.0)
    source = ((float(t), lambda: None) for t in stamped)
    got = np.array([t for t, _ in select_frames(source, 0.0, 20.0, rate, 0.0)])
    assert abs(np.diff(got)[:-1] - 1 / kept).max() < 0.003  # the last bin may be cut short


def _video(**changes: object) -> Video:
    values: dict[str, object] = {
        "video_id": "0", "uri": "x", "start_s": 0.0, "end_s": 1.0, "duration_s": 1.0, "width": 1920, "height": 1080,
        "rotation": 0, "mean_fps": 25.0, "variable_rate": False, "video_offset_s": 0.0, "audio_offset_s": None,
        "container": "mov", "video_codec": "h264", "audio_codec": "", "size_bytes": 1,
    }  # fmt: skip
    return Video(**{**values, **changes})


def test_frames_shrink_to_the_longest_side(media: Path) -> None:
    assert output_size(_video(), 640) == (640, 360)
    assert output_size(_video(width=1080, height=1920), 640) == (360, 640)
    assert output_size(_video(), 4000) == (1920, 1080)
    got, _ = frames(media / "plain.mp4", longest_side=80)
    assert got[0][1].shape == (48, 80, 3)
    small = factory.upright_picture(0, False, 160, 96).reshape(48, 2, 80, 2, 3).mean((1, 3))
    assert np.abs(got[0][1] - small)[2:-2, 2:-2].mean() < 6


def test_fast_decoding_is_nearly_the_same(media: Path) -> None:
    exact, _ = frames(media / "plain.mp4", longest_side=80)
    fast, _ = frames(media / "plain.mp4", longest_side=80, options=DecodeOptions(fast=True))
    assert [t for t, _ in exact] == [t for t, _ in fast]
    assert np.mean([np.abs(a[1].astype(int) - b[1]).mean() for a, b in zip(exact, fast, strict=True)]) < 6


def test_a_frame_is_a_read_only_view(media: Path) -> None:
    video = facts(media / "plain.mp4")
    with read_frames(str(media / "plain.mp4"), video, start_s=0, end_s=1) as reader:
        frame = next(iter(reader))
        assert not frame.rgb.flags.writeable
        assert not frame.rgb.flags.owndata
        assert frame.rgb.flags.c_contiguous


@pytest.mark.parametrize("share", [0.5, 0.8])
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_a_truncated_file_gives_its_frames_and_says_so(tmp_path: Path, share: float, name: str) -> None:
    options = {"movflags": "faststart"} if name == "a.mp4" else {}
    whole = factory.write_movie(tmp_path / name, Movie(audio=False, options=options))
    cut = factory.truncate(whole, share, tmp_path / f"cut_{name}")
    good, _ = frames(whole)
    got, damage = frames(cut)
    assert 0.3 * len(good) < len(got) < len(good)
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(got, good, strict=False))
    assert damage


def test_damage_in_the_middle_costs_frames_not_the_file(tmp_path: Path) -> None:
    whole = factory.write_movie(tmp_path / "a.mp4", Movie(audio=False))
    torn = factory.damage(whole, 0.40, 0.45, tmp_path / "torn.mp4")
    good = dict(frames(whole)[0])
    got, damage = frames(torn, facts(whole))
    assert "after" in damage or "from" in damage
    assert min(good) in dict(got)
    assert max(good) in dict(got)
    assert len(good) * 0.6 < len(got) < len(good)
    wrong = sum(np.abs(rgb.astype(int) - good[t]).mean() > 10 for t, rgb in got)
    assert wrong <= 2


def test_impossible_requests_are_usage_errors(media: Path) -> None:
    video = facts(media / "plain.mp4")
    with pytest.raises(UsageError, match="quicktime"):
        DecodeOptions(backend="quicktime")
    with pytest.raises(UsageError):
        DecodeOptions(backend="decord", fast=True)
    with pytest.raises(UsageError), read_frames("x", video, start_s=2.0, end_s=1.0):
        pass


def test_large_frames_get_fewer_slots() -> None:
    assert ring_slots(32, 480 * 270 * 3) == 32
    assert ring_slots(32, 1920 * 1080 * 3) == 16
    assert ring_slots(32, 8192 * 4320 * 3) == 8
    assert ring_slots(4, 8192 * 4320 * 3) == 4
