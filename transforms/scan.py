"""The cheap first look: one low-resolution pass that finds shots, and in them the spans with two people.

Every frame feeds the shot detector; about twice a second faces are counted and a seam between the two largest is
looked for. The scan decides generously, because what it drops is never seen again and what it keeps is measured by
the track pass: a face lost in some samples or seen in profile does not reject a shot, nor does a passer-by.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..schemas.records import Video
from ..schemas.tracks import Bool, Float32, Float64
from .decode import Frame
from .detect_faces import SURE, FaceFinder, no_detections
from .shots import ShotDetector, ShotOptions, ShotTrace
from .split_screen import EVIDENCE, SplitOptions, seam_evidence

UInt8 = npt.NDArray[np.uint8]

BOX_PER_SCALE = 2.3  # width of a detector's face box over the face scale
NARROW = 0.85  # a head that is turned has a narrower box
FACE_PX = 20.0  # the smallest wanted face box has this width on a scan frame
SEAM_S = 1.5  # seconds between two looks for a seam
MOSTLY_SEEN = 0.75  # a face of this share of the smallest reliably found one is found in about three of four samples
CHANGED = 12.0  # mean absolute difference (0..255) of tiny pictures that makes the next sample a thorough one


@dataclass(frozen=True)
class ScanOptions:
    """Attributes:
    smallest_scale_px: faces down to this face scale (original pixels per 63 mm) are looked for.
    reject_scale_px: a span whose second face is smaller than this is dropped.
    sample_s: seconds between two face counts.
    thorough_s: seconds between searches for small faces while they bring something; twice that while they do not,
        four times that while two faces are sure and nobody else was seen; none while there are four or more.
    min_score: detections under this are ignored.
    clip_s, shortest_s: the windows in which people are counted, and the shortest piece of use, seconds.
    absence_s: a person counts as present through a gap this long, seconds.
    edge_s: and this long before the first and after the last sighting.
    bystander: a third face counts when it is at least this share of the second's size ...
    bystander_s: ... and is seen for this long in the window, seconds.
    least_second: the second face is at least this share of the first's size.
    people: 2 keeps spans with two people, 1 those with one.
    """

    smallest_scale_px: float = 24.0
    reject_scale_px: float = 14.0
    sample_s: float = 0.5
    thorough_s: float = 1.0
    min_score: float = 0.45
    clip_s: float = 10.0
    shortest_s: float = 3.0
    absence_s: float = 5.0
    edge_s: float = 1.5
    bystander: float = 0.6
    bystander_s: float = 2.5
    least_second: float = 0.2
    people: int = 2
    shots: ShotOptions = field(default_factory=ShotOptions)
    split: SplitOptions = field(default_factory=SplitOptions)


@dataclass(frozen=True)
class ScanPiece:
    """What the scan keeps of a piece of a video (start_s <= t < end_s).

    Attributes:
        trace: brightness of every frame, hard cuts and dissolves.
        sample_times: [S] float64 seconds.
        thorough: [S] small faces were searched too.
        owner: [N] int64, the sample that each detection belongs to, rising.
        boxes: [N, 4] x0, y0, x1, y1 in pixels of the original upright image.
        scores: [N].
        seams: [S, 8] seam evidence between the two largest faces in the order of ``split_screen.EVIDENCE``; NaN
            where it was not looked for, 0 where the two faces leave no room for one.
    """

    trace: ShotTrace
    sample_times: Float64
    thorough: Bool
    owner: npt.NDArray[np.int64]
    boxes: Float32
    scores: Float32
    seams: Float32

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All values as named arrays, for a work file."""
        return {
            "frame_times": self.trace.times,
            "luma": self.trace.luma,
            "cut_times": self.trace.cut_times,
            "cut_scores": self.trace.cut_scores,
            "dissolve_times": self.trace.dissolve_times,
            "dissolve_scores": self.trace.dissolve_scores,
            "sample_times": self.sample_times,
            "thorough": self.thorough,
            "owner": self.owner,
            "boxes": self.boxes,
            "scores": self.scores,
            "seams": self.seams,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> ScanPiece:
        """The inverse of :meth:`to_arrays`."""
        frames = ("frame_times", "luma", "cut_times", "cut_scores", "dissolve_times", "dissolve_scores")
        trace = ShotTrace(*(arrays[name] for name in frames))
        names = ("sample_times", "thorough", "owner", "boxes", "scores", "seams")
        return cls(trace, *(np.asarray(arrays[name]) for name in names))


def scan_longest_side(video: Video, options: ScanOptions | None = None) -> int:
    """Longer side in pixels to which scan frames should be decoded: small, but with the smallest wanted face visible.

    Not under 480, where seams blur, nor over 1280; never over the original.
    """
    options = options or ScanOptions()
    longest = max(video.width, video.height)
    wanted = longest * FACE_PX / (options.smallest_scale_px * BOX_PER_SCALE)
    return min(longest, max(480, min(1280, 16 * math.ceil(wanted / 16))))


def scan_piece(
    frames: Iterable[Frame],
    video: Video,
    start_s: float,
    end_s: float,
    options: ScanOptions,
    detector: FaceFinder,
    shot_detector: ShotDetector,
) -> ScanPiece:
    """Scan one piece of a video in one pass.

    Args:
        frames: upright frames in time order, at about ``scan_longest_side``; decoded from ``shots.WARM_UP_S`` before
            the piece to as much after it (where there is any), so that cuts at its edges are the whole video's.
        video: the probed file; gives the original size.
        start_s, end_s: the piece; samples and cuts outside it are left to its neighbours.
        detector, shot_detector: built once per process.

    Returns:
        The piece's numbers; the same for the same frames, whatever was scanned before.
    """
    sampler = _FaceSampler(video, options, detector)
    for frame in frames:
        shot_detector.push(frame.time_s, frame.pixels)
        if start_s <= frame.time_s < end_s:
            sampler.push(frame)
    return sampler.finish(shot_detector.finish().between(start_s, end_s))


class _FaceSampler:
    """Counts faces on the first frame of every ``sample_s`` of the video clock."""

    def __init__(self, video: Video, options: ScanOptions, detector: FaceFinder) -> None:
        self.video, self.options, self.detector = video, options, detector
        self._bin = -1
        self._times: list[float] = []
        self._thorough: list[bool] = []
        self._owner: list[int] = []
        self._boxes: list[Float32] = []
        self._scores: list[Float32] = []
        self._seams: list[list[float]] = []
        self._picture: npt.NDArray[np.int16] | None = None
        self._last_thorough = self._next_thorough = -math.inf
        self._next_seam = -math.inf
        self._count = 0  # sure faces at the last sample

    def push(self, frame: Frame) -> None:
        time_s = frame.time_s
        bin_ = math.floor(time_s / self.options.sample_s + 1e-6)
        if bin_ == self._bin:
            return
        self._bin, rgb = bin_, frame.rgb
        scale = self.video.width / rgb.shape[1]
        smallest = self.options.smallest_scale_px * BOX_PER_SCALE / scale
        picture = np.asarray(cv2.resize(rgb, (16, 9), interpolation=cv2.INTER_AREA), np.int16)
        changed = self._picture is None or float(np.abs(picture - self._picture).mean()) > CHANGED
        self._picture = picture
        found = self.detector.detect(rgb, float(max(rgb.shape[:2])), enough=2)
        sure = np.sort(found.widths[found.scores >= SURE])[::-1]
        # Two faces so large that a bystander worth counting mostly shows at first sight need no second look.
        large = len(sure) == 2 and self.options.bystander * float(sure[1]) > MOSTLY_SEEN * self._sight_px(rgb)
        clear = len(sure) > 2 or large
        if changed or len(sure) < min(self._count, 2):
            self._next_thorough = min(self._next_thorough, self._last_thorough + self.options.thorough_s)
        elif len(sure) < 2:
            self._next_thorough = min(self._next_thorough, self._last_thorough + 2 * self.options.thorough_s)
        self._count = len(sure)
        thorough = not clear and time_s >= self._next_thorough
        if thorough:
            if len(found) < 2:
                smallest *= NARROW
            elif len(sure) == 2:  # a third counts only when it is not much smaller
                smallest = max(smallest, 0.9 * self.options.bystander * float(sure[1]))
            found = self.detector.detect(rgb, smallest, enough=3, seen=found)
            useful = bool((found.widths < self._sight_px(rgb)).any())
            crowd = int((found.scores >= SURE).sum()) > 3  # looked at closely until it is certain
            self._last_thorough = time_s - 1e-6
            patience = 0 if crowd else 1 if useful else 4 if len(sure) == 2 else 2
            self._next_thorough = self._last_thorough + patience * self.options.thorough_s
        keep = found.scores >= self.options.min_score
        found = found.take(keep) if len(found) else no_detections()
        index = len(self._times)
        self._times.append(time_s)
        self._thorough.append(thorough)
        self._owner += [index] * len(found)
        self._boxes.append(found.boxes * np.float32(scale))
        self._scores.append(found.scores)
        self._seams.append([math.nan] * len(EVIDENCE))
        if len(found) >= 2 and time_s >= self._next_seam - (0.5 * SEAM_S if changed else 0.0):
            self._next_seam = time_s - 1e-6 + SEAM_S
            largest = np.argsort(-found.widths, kind="stable")[:2]
            seam = seam_evidence(rgb, found.boxes[largest[0]], found.boxes[largest[1]])
            self._seams[-1] = seam.to_row() if seam else [0.0] * len(EVIDENCE)

    def _sight_px(self, rgb: UInt8) -> float:
        """Width of the smallest face that one look at the whole frame finds."""
        return float(max(rgb.shape[:2]) * self.detector.least_px / self.detector.input_px)

    def finish(self, trace: ShotTrace) -> ScanPiece:
        return ScanPiece(
            trace,
            np.array(self._times, np.float64),
            np.array(self._thorough, np.bool_),
            np.array(self._owner, np.int64),
            np.concatenate(self._boxes).reshape(-1, 4) if self._boxes else np.zeros((0, 4), np.float32),
            np.concatenate(self._scores) if self._scores else np.zeros(0, np.float32),
            np.array(self._seams, np.float32).reshape(-1, len(EVIDENCE)),
        )
