"""The ceiling of a curation: what a finished run's decoding and landmark network cost when nothing else is done.

Set the libraries' thread counts to one before importing this.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from duologue.pipeline.plan import Plan
from duologue.schemas.records import Video
from duologue.transforms.decode import output_size, thinning_rate
from duologue.transforms.decode_child import select_frames
from duologue.transforms.elements import Span, TrackDone
from duologue.transforms.face_mesh import FaceMesh, crop_region, region_from_landmarks
from duologue.transforms.scan import scan_longest_side
from duologue.transforms.tracklet import PieceTracks

MAX_FPS = 30.0  # of the track pass
CROPS_AT_ONCE = 128
SOLUTION_EVERY = 8


@dataclass(frozen=True)
class Ceiling:
    """CPU seconds, and what they bought."""

    scan_decode_s: float
    track_decode_s: float
    landmarks_s: float
    solution_s: float  # the same crops through mediapipe.solutions.face_mesh, from every SOLUTION_EVERY-th of them
    scan_frames: int
    track_frames: int
    faces: int

    @property
    def counts(self) -> tuple[int, int, int]:
        return self.scan_frames, self.track_frames, self.faces

    @property
    def decode_s(self) -> float:
        return self.scan_decode_s + self.track_decode_s

    @property
    def total_s(self) -> float:
        return self.decode_s + self.landmarks_s


def ledger(plan: Plan, stage: str, kind: type) -> list[Any]:
    """All outputs of one kind that a finished run recorded for a stage."""
    folder = Path(plan.work.root) / "ledger" / stage
    found = [
        plan.work.finished(stage, path.stem, {kind.__name__: kind, "Reject": object}) or []
        for path in sorted(folder.glob("*.json"))
        if f'"kind":"{kind.__name__}"' in path.read_text()
    ]
    return [output for outputs in found for output in outputs if isinstance(output, kind)]


def bare_frames(
    video: Video, side: int | None, fast: bool, start_s: float, end_s: float, max_fps: float
) -> Iterator[tuple[float, np.ndarray]]:
    """The cheapest loop that gives a stage its frames: demux, decode on one thread, convert the kept frames to RGB."""
    width, height = output_size(video, side)
    if video.rotation % 180:
        width, height = height, width
    reformatter, shrinker, how = VideoReformatter(), VideoReformatter(), "AREA" if fast else "BILINEAR"

    def picture(frame: Any) -> np.ndarray:
        if fast and width < frame.width and frame.format.name == "yuv420p":
            # Twice as fast as scaling and converting at once.
            frame = shrinker.reformat(frame, width=width, height=height, format="yuv420p", interpolation=how, threads=1)
        rgb = reformatter.reformat(frame, width=width, height=height, format="rgb24", interpolation=how, threads=1)
        plane: Any = rgb.planes[0]
        return np.ndarray((height, width, 3), np.uint8, buffer=plane, strides=(plane.line_size, 3, 1))

    with av.open(video.uri) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        if fast:
            stream.codec_context.options = {"skip_loop_filter": "all"}
        if start_s > video.video_offset_s + 0.5:
            container.seek(int((start_s + video.clock_zero_s) / stream.time_base), stream=stream)
        base, zero_s = stream.time_base, video.clock_zero_s
        decoded = ((float(f.pts * base) - zero_s, partial(picture, f)) for f in container.decode(stream))
        rate = thinning_rate(video, max_fps)
        for time_s, look in select_frames(decoded, start_s, end_s, rate, video.video_offset_s):
            yield time_s, look()


def decode_cost(*read: Any) -> tuple[float, int]:
    begin, count = time.process_time(), 0
    for _, rgb in bare_frames(*read):
        count += rgb.shape[2] == 3
    return time.process_time() - begin, count


def measured_faces(plan: Plan, pieces: list[TrackDone]) -> dict[int, list[np.ndarray]]:
    """Landmarks of every measured face by time in milliseconds."""
    faces: dict[int, list[np.ndarray]] = defaultdict(list)
    for piece in pieces:
        for track in PieceTracks.from_arrays(plan.work.get_arrays(piece.file)).tracklets:
            for index in np.flatnonzero(track.valid):
                faces[round(1e3 * track.times[index])].append(track.landmarks[index])
    return faces


def landmark_cost(
    plan: Plan, span: Span, pieces: list[TrackDone], mesh: FaceMesh, solution: Any, fast: bool
) -> tuple[float, float, int]:
    """CPU seconds of the bare network, and of MediaPipe's solution, on the crops of one span's measured faces.

    Decoding and cropping are not counted.

    Args:
        solution: ``mediapipe.solutions.face_mesh.FaceMesh`` for still pictures.

    Returns:
        Seconds of the network, seconds of the solution, number of crops.
    """
    faces = measured_faces(plan, pieces)
    seconds, solution_s, count = 0.0, 0.0, 0
    crops: list[np.ndarray] = []

    def spent(call: Any, some: list[np.ndarray]) -> float:
        begin = time.process_time()
        for crop in some:
            call(crop)
        return time.process_time() - begin

    def infer() -> tuple[float, float]:
        some = crops[::SOLUTION_EVERY]
        each = spent(solution.process, some) / max(len(some), 1)
        taken = spent(mesh.infer, crops), each * len(crops)
        crops.clear()
        return taken

    for time_s, rgb in bare_frames(span.video, None, fast, span.start_s, span.end_s, MAX_FPS):
        for landmarks in faces.get(round(1e3 * time_s), ()):
            crops.append(np.ascontiguousarray(crop_region(rgb, region_from_landmarks(landmarks))[0]))
            count += 1
        if len(crops) >= CROPS_AT_ONCE:
            network, api = infer()
            seconds, solution_s = seconds + network, solution_s + api
    expected = sum(len(found) for found in faces.values())
    if count != expected:
        raise SystemExit(f"{span.video.uri}: {count} crops for {expected} measured faces")
    network, api = infer()
    return seconds + network, solution_s + api, count


def measure_ceiling(plan: Plan, mesh: FaceMesh, solution: Any) -> Ceiling:
    """The ceiling of a finished run, from what its ledger says was decoded and measured."""
    scan: Any = plan.stages.scan
    track: Any = plan.stages.track
    videos, spans = ledger(plan, "probe", Video), ledger(plan, "shots", Span)
    pieces: list[TrackDone] = ledger(plan, "track", TrackDone)
    times, counts = [0.0, 0.0, 0.0, 0.0], [0, 0, 0]
    for video in videos:
        side, fast = scan_longest_side(video, scan.options), scan.decode.fast
        cost, count = decode_cost(video, side, fast, video.start_s, video.end_s, 240.0)
        times[0] += cost
        counts[0] += count
    for span in spans:
        cost, count = decode_cost(span.video, None, track.decode.fast, span.start_s, span.end_s, MAX_FPS)
        times[1] += cost
        counts[1] += count
        mine = [piece for piece in pieces if piece.span == span]
        cost, api, count = landmark_cost(plan, span, mine, mesh, solution, track.decode.fast)
        times[2] += cost
        times[3] += api
        counts[2] += count
    return Ceiling(times[0], times[1], times[2], times[3], counts[0], counts[1], counts[2])
