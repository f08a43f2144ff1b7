"""Every hard cut within one frame and none invented, fades at both ends, pieces equal to the whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from duologue.schemas.errors import UsageError
from duologue.transforms.shots import (
    WARM_UP_S,
    Cut,
    PySceneDetectShots,
    ShotOptions,
    ShotTrace,
    black_runs,
    find_cuts,
    join_traces,
    shot_detector,
)

SHARED = Path(__file__).parents[2].parent / "shared"
REAL = {  # hard cuts, seconds (first frame of the new shot)
    "two_sitcom_cuts.mp4": [6.042, 12.965, 18.429, 20.556, 24.769],
    "cut_noface_to_face.mov": [3.945],
    "cuts_counter.mp4": [1.0, 2.0],
    "cuts_testvideo.mp4": [1.001, 6.006],
    "two_faces_family_silent.mp4": [],
    "two_split_interview.mp4": [],
    "two_faces_sitcom_short.avi": [],
    "many_faces_street.mp4": [],
    "one_face_talking.mp4": [],
}


def world(seed: int, shape: tuple[int, int] = (90, 160)) -> np.ndarray:
    """A still picture of smooth random colour patches."""
    import cv2

    rng = np.random.default_rng(seed)
    patches = rng.integers(20, 235, (6, 10, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(patches, shape[::-1], interpolation=cv2.INTER_CUBIC))


def movie(seconds: float, cuts: list[float], fps: float = 25.0, seed: int = 0) -> Iterator[tuple[float, np.ndarray]]:
    """Frames of noisy, panning shots with hard cuts at the given times."""
    rng = np.random.default_rng(seed)
    for i in range(round(seconds * fps)):
        t = i / fps
        shot = sum(t >= c - 1e-9 for c in cuts)
        picture = np.roll(world(shot + 10 * seed), abs(i % 80 - 40), axis=1).astype(np.int16)
        yield t, np.clip(picture + rng.integers(-6, 7, picture.shape), 0, 255).astype(np.uint8)


def run(frames: Iterator[tuple[float, np.ndarray]], detector: PySceneDetectShots | None = None) -> ShotTrace:
    detector = detector or PySceneDetectShots()
    for t, rgb in frames:
        detector.push(t, rgb)
    return detector.finish()


def real_frames(name: str, width: int = 480) -> Iterator[tuple[float, np.ndarray]]:
    import av

    path = SHARED / "media" / name
    if not path.is_file():
        pytest.skip(f"no {name} here")
    with av.open(str(path)) as container:
        starts = [float(s.start_time * s.time_base) for s in container.streams if s.start_time is not None]
        video = container.streams.video[0]
        width = min(width, video.codec_context.width)
        height = round(video.codec_context.height * width / video.codec_context.width)
        for frame in container.decode(video):
            picture = frame.reformat(width, height, "rgb24", interpolation="AREA").to_ndarray()
            yield float(frame.pts * video.time_base) - min(starts), picture


@pytest.mark.parametrize("name", sorted(REAL))
def test_real_cut_lists(name: str) -> None:
    times, detector = [], PySceneDetectShots()
    for t, rgb in real_frames(name):
        times.append(t)
        detector.push(t, rgb)
    hard = [c.time_s for c in find_cuts(detector.finish()) if c.kind == "hard"]
    assert len(hard) == len(REAL[name])
    frame = float(np.median(np.diff(times)))
    np.testing.assert_allclose(hard, REAL[name], atol=frame)


def test_real_fades_lie_around_the_published_scene_starts() -> None:
    """PySceneDetect's own golden list for this clip has the middle of its black runs: 6.706 and 12.746 s."""
    runs = black_runs(run(real_frames("cuts_testvideo.mp4", 160)))
    inside = [any(start < t < end for start, end, _ in runs) for t in (6.706, 12.746)]
    assert inside == [True, True]
    assert runs[0][0] == 0.0  # black at first ...
    assert runs[-1][1] == float("inf")  # ... and at the end
    assert len(runs) == 4


def test_synthetic_cuts_are_exact_and_the_detector_is_reusable() -> None:
    detector = PySceneDetectShots()
    for seed in (1, 2):
        trace = run(movie(6, [1.0, 2.48, 5.0], seed=seed), detector)
        assert [round(c.time_s, 3) for c in find_cuts(trace)] == [1.0, 2.48, 5.0]
    assert len(trace.times) == 150


def test_a_photographers_flash_is_no_cut() -> None:
    def flashing() -> Iterator[tuple[float, np.ndarray]]:
        for t, rgb in movie(4, [3.0]):
            flash = 1.0 <= t < 1.03 or 2.0 <= t < 2.1
            yield t, (255 - (255 - rgb) // 4).astype(np.uint8) if flash else rgb

    assert [round(c.time_s, 3) for c in find_cuts(run(flashing()))] == [3.0]


def fading(t: float, rgb: np.ndarray) -> np.ndarray:
    """Out over 1 s from t = 2, black to 4, in over 1 s."""
    gain = np.clip(3 - t, 0, 1) if t < 3.5 else np.clip(t - 4, 0, 1)
    return np.asarray((rgb * gain).astype(np.uint8))


def test_fades_give_both_ends_of_the_black() -> None:
    trace = run((t, fading(t, rgb)) for t, rgb in movie(7, [3.5]))
    out, back = find_cuts(trace)
    assert (out.kind, back.kind) == ("fade_out", "fade_in")
    assert 2.8 < out.time_s <= 3.0
    assert 4.0 < back.time_s < 4.2


def dissolving(middle: float, seconds: float, light: bool = False) -> Iterator[tuple[float, np.ndarray]]:
    """Noisy pictures with something moving, mixed from one to another around ``middle``; or one in another light."""
    rng = np.random.default_rng(3)
    for i in range(150):
        t = i / 25
        share = float(np.clip((t - middle) / seconds + 0.5, 0.0, 1.0))
        first, second = world(10).astype(float), world(11).astype(float)
        for picture in (first, second):
            picture[30:60, 40 + i // 4 : 60 + i // 4] = 200
        mixed = (1 - share) * first + share * (0.35 * first if light else second)
        yield t, np.clip(mixed + rng.integers(-6, 7, mixed.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("seconds", [0.4, 0.8, 1.5])
def test_a_dissolve_is_cut_in_its_middle(seconds: float) -> None:
    (cut,) = find_cuts(run(dissolving(3.0, seconds)))
    assert cut.kind == "dissolve"
    assert cut.time_s == pytest.approx(3.0, abs=0.11)


def test_a_dissolve_at_a_variable_frame_rate() -> None:
    kept = [frame for i, frame in enumerate(dissolving(3.0, 0.8)) if i % 7 not in (2, 3)]
    assert [c.kind for c in find_cuts(run(iter(kept)))] == ["dissolve"]


def test_light_pans_and_fades_are_no_dissolves() -> None:
    assert find_cuts(run(dissolving(3.0, 0.8, light=True))) == []
    assert find_cuts(run(movie(6, []))) == []
    assert {c.kind for c in find_cuts(run((t, fading(t, rgb)) for t, rgb in movie(7, [3.5])))} == {
        "fade_out",
        "fade_in",
    }


def test_a_dissolve_is_found_once_wherever_pieces_end() -> None:
    everything = list(dissolving(3.0, 0.8))
    whole = find_cuts(run(iter(everything)))
    for edge in (2.6, 2.96, 3.0, 3.04, 3.5):
        parts = [
            run(f for f in everything if start - WARM_UP_S <= f[0] < end + WARM_UP_S).between(start, end)
            for start, end in ((0.0, edge), (edge, 6.0))
        ]
        assert find_cuts(join_traces(parts)) == whole


def test_a_real_dissolve_among_cuts_and_fades() -> None:
    """Seen by eye: leaves become shingles between 17.6 and 18.8 s."""
    slow = [c for c in find_cuts(run(real_frames("cuts_testvideo.mp4", 160))) if c.kind == "dissolve"]
    assert [17.6 < c.time_s < 18.8 for c in slow] == [True]


def test_a_dim_scene_is_not_black() -> None:
    trace = ShotTrace(
        np.arange(100) / 25.0,
        (11 + 2 * np.sin(np.arange(100))).astype(np.float32),
        np.zeros(0),
        np.zeros(0, np.float32),
    )
    assert find_cuts(trace) == []
    assert find_cuts(trace, ShotOptions(deep_black=10)) != []


@pytest.mark.parametrize("grid_s", [3.0, 5.0])
def test_pieces_give_the_cuts_of_the_whole(grid_s: float) -> None:
    """Cuts at, just before and just after the grid's edges; a black run across one."""

    def frames() -> list[tuple[float, np.ndarray]]:
        cuts = [2.96, 5.04, 6.0, 9.0, 9.48, 10.0, 14.96]
        out = []
        for t, rgb in movie(18, cuts):
            out.append((t, np.zeros_like(rgb) if 11.4 <= t < 16.2 else rgb))
        return out

    everything = frames()
    whole = find_cuts(run(iter(everything)))
    detector, parts = PySceneDetectShots(), []
    for k in range(round(18 / grid_s + 0.49)):
        start, end = k * grid_s, (k + 1) * grid_s
        near = (f for f in everything if start - WARM_UP_S <= f[0] < end + WARM_UP_S)
        parts.append(run(near, detector).between(start, end))
    assert find_cuts(join_traces(parts)) == whole
    assert [round(c.time_s, 2) for c in whole] == [2.96, 5.04, 6.0, 9.0, 9.48, 10.0, 11.4, 16.2]


def test_variable_frame_times_and_backward_times() -> None:
    frames = list(movie(4, [2.0]))
    kept = [f for i, f in enumerate(frames) if i % 7 not in (2, 3)]
    assert [c.time_s for c in find_cuts(run(iter(kept)))] == [next(t for t, _ in kept if t >= 2.0)]
    detector = PySceneDetectShots()
    detector.push(1.0, frames[0][1])
    with pytest.raises(ValueError, match="must rise"):
        detector.push(1.0, frames[0][1])


def test_nothing_gives_nothing() -> None:
    assert find_cuts(PySceneDetectShots().finish()) == []
    assert find_cuts(join_traces([])) == []
    assert find_cuts(run(movie(0.04, []))) == []


def test_transnetv2_finds_the_same_cuts() -> None:
    import torch

    torch.set_num_threads(2)
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    detector = shot_detector(ShotOptions(backend="transnetv2"))
    assert torch.get_num_threads() == 1
    assert torch.equal(torch.rand(1), expected)  # building it leaves the process's generators alone
    for t, rgb in movie(6, [2.0, 4.4]):
        detector.push(t, rgb)
    assert [round(c.time_s, 3) for c in find_cuts(detector.finish())] == [2.0, 4.4]
    assert find_cuts(detector.finish()) == []


def test_transnetv2_on_a_real_clip() -> None:
    import torch

    torch.set_num_threads(1)
    detector = shot_detector(ShotOptions(backend="transnetv2"))
    for t, rgb in real_frames("two_sitcom_cuts.mp4", 160):
        if 10.9 < t < 14.9:
            detector.push(t, rgb)
    cuts = find_cuts(detector.finish())
    np.testing.assert_allclose([c.time_s for c in cuts], [12.965], atol=0.042)
    assert all(isinstance(c, Cut) for c in cuts)


def test_unknown_backend() -> None:
    with pytest.raises(UsageError, match="unknown shots backend 'magic'"):
        shot_detector(ShotOptions(backend="magic"))
