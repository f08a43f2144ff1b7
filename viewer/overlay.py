"""What was measured, drawn over the pixels it was measured on: mesh, head axes, gaze rays, boxes, who speaks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import ffmpeg
import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from ..fitting.head_model import HeadModel
from ..schemas.errors import UsageError
from ..schemas.heads import HeadTrack
from ..schemas.records import InputItem
from ..schemas.row import Pair
from ..transforms.decode import DecodeOptions, read_frames
from ..transforms.probe import probe

UInt8 = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float64]

COLOURS = {"a": (255, 170, 60), "b": (70, 190, 255)}  # RGB
AXES = ((235, 70, 70), (80, 210, 90), (90, 120, 255))  # x: subject's left, y: up, z: out of the face
AXIS_M, GAZE_M = 0.09, 0.45
FLIP = np.diag([1.0, -1.0, -1.0])


def project(points: Array, focal_px: float, width: int, height: int) -> Array:
    """[..., 3] metres in the camera frame -> [..., 2] pixels; principal point at the image centre."""
    z = np.maximum(points[..., 2:3], 1e-3)
    return np.asarray(points[..., :2] / z * focal_px + np.array([width / 2, height / 2]))


def head_vertices(model: HeadModel, head: HeadTrack, frame: int) -> Array:
    """[V, 3] metres in the camera frame: the fitted mesh at one frame of the clip clock."""
    shape, expression = head.shape.astype(np.float64), head.expression[frame].astype(np.float64)
    mesh = model.pose(shape, expression, jaw=head.jaw[frame], neck=head.neck[frame], eyes=head.eyes[frame])
    root = model.posed_joints(shape)[0]
    rotation = Rotation.from_rotvec(head.rotation[frame].astype(np.float64)).as_matrix()
    return np.asarray((mesh - root) @ (rotation @ FLIP).T + head.translation[frame])


def draw_pair(rgb: UInt8, pair: Pair, frame: int, model: HeadModel | None, edges: npt.NDArray[np.int64]) -> UInt8:
    """A copy of a frame with everything the row says about it.

    Args:
        rgb: [H, W, 3] the frame at ``pair.fitted.times[frame]``, at the original size.
        edges: [N, 2] vertex indices of the lines to draw.
    """
    canvas = np.ascontiguousarray(rgb.copy())
    fitted = pair.fitted
    view = (fitted.focal_px, fitted.width, fitted.height)
    for who, head in (("a", fitted.a), ("b", fitted.b)):
        colour = COLOURS[who]
        speaking = float((pair.voices.speaking_a if who == "a" else pair.voices.speaking_b)[frame])
        box = head.box[frame]
        if np.isfinite(box).all():
            _box(canvas, box, colour, who, speaking)
        if not head.valid[frame]:
            continue
        if model is not None:
            points = project(head_vertices(model, head, frame), *view)
            _lines(canvas, points[edges[:, 0]], points[edges[:, 1]], colour, 0.45)
        centre = head.head_centre[frame].astype(np.float64)
        rotation = Rotation.from_rotvec(head.rotation[frame].astype(np.float64)).as_matrix() @ FLIP
        for axis, tone in zip(rotation.T, AXES, strict=True):
            _ray(canvas, centre, centre + AXIS_M * axis, tone, view, 2)
        gaze = head.gaze[frame].astype(np.float64)
        if np.isfinite(gaze).all():
            _ray(canvas, centre, centre + GAZE_M * gaze, (255, 255, 90), view, 3)
    _caption(canvas, pair, frame)
    return canvas


def _box(canvas: UInt8, box: npt.NDArray[np.float32], colour: tuple[int, ...], who: str, speaking: float) -> None:
    x0, y0, x1, y1 = (round(float(v)) for v in box)
    talks = speaking > 0.5
    cv2.rectangle(canvas, (x0, y0), (x1, y1), colour, 4 if talks else 1, cv2.LINE_AA)
    text = f"{who} speaking {speaking:.2f}" if talks else who
    cv2.putText(canvas, text, (x0, max(18, y0 - 8)), cv2.FONT_HERSHEY_SIMPLEX, 0.6, colour, 2, cv2.LINE_AA)


def _lines(canvas: UInt8, start: Array, end: Array, colour: tuple[int, ...], alpha: float) -> None:
    layer = canvas.copy()
    points = np.round(np.stack([start, end], axis=1) * 16).astype(np.int32)  # four fractional bits
    cv2.polylines(layer, list(points), False, colour, 1, cv2.LINE_AA, shift=4)
    cv2.addWeighted(layer, alpha, canvas, 1 - alpha, 0, dst=canvas)


def _ray(
    canvas: UInt8, start: Array, end: Array, colour: tuple[int, ...], view: tuple[float, int, int], width: int
) -> None:
    if min(start[2], end[2]) < 0.05:
        return  # behind the camera
    (x0, y0), (x1, y1) = (project(p, *view) for p in (start, end))
    cv2.arrowedLine(canvas, (round(x0), round(y0)), (round(x1), round(y1)), colour, width, cv2.LINE_AA, tipLength=0.15)


def _caption(canvas: UInt8, pair: Pair, frame: int) -> None:
    relation = pair.relation
    lines = [f"{pair.fitted.times[frame]:8.2f} s   distance {relation.distance_m[frame]:.2f} m   "
             f"mutual gaze {relation.mutual_gaze[frame]:.2f}"]  # fmt: skip
    for k, text in enumerate(lines):
        place = (12, canvas.shape[0] - 14 - 24 * k)
        cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 4, cv2.LINE_AA)
        cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 1, cv2.LINE_AA)


def mesh_edges(model: HeadModel) -> npt.NDArray[np.int64]:
    """[N, 2] unique edges of the mesh's triangles."""
    pairs = np.concatenate([model.triangles[:, [0, 1]], model.triangles[:, [1, 2]], model.triangles[:, [2, 0]]])
    return np.unique(np.sort(pairs, axis=1), axis=0).astype(np.int64)


def overlay_frames(pair: Pair, video_path: str, model: HeadModel | None) -> Iterator[tuple[int, UInt8]]:
    """(frame of the clip clock, drawn picture [H, W, 3]) for every frame, from the source frame nearest in time.

    Raises:
        UsageError: the file is not the one the pair was measured on.
    """
    video = probe(video_path, InputItem(video_path))
    if video.video_id != pair.source.video_id:
        raise UsageError(f"{video_path} is not the video of pair {pair.pair_id} (its content differs)")
    edges = mesh_edges(model) if model is not None else np.zeros((0, 2), np.int64)
    times = pair.fitted.times
    slack = 1.0 / pair.fitted.fps
    done = 0
    last: UInt8 | None = None
    with read_frames(
        video_path, video, start_s=float(times[0]) - slack, end_s=float(times[-1]) + slack, longest_side=None,
        max_fps=60.0, options=DecodeOptions(),
    ) as reader:  # fmt: skip
        for source in reader:
            while done < len(times) and times[done] < source.time_s:
                shown = source.rgb if last is None else last
                yield done, draw_pair(shown, pair, done, model, edges)
                done += 1
            last = source.rgb.copy()
    while last is not None and done < len(times):
        yield done, draw_pair(last, pair, done, model, edges)
        done += 1


def write_overlay(pair: Pair, video_path: str, out: Path, model: HeadModel | None) -> None:
    """An mp4 of one pair with everything drawn over it, and its sound."""
    import tempfile

    width, height = pair.fitted.width // 2 * 2, pair.fitted.height // 2 * 2
    with tempfile.TemporaryDirectory() as folder:
        picture = ffmpeg.input(
            "pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", framerate=pair.fitted.fps
        )
        streams = [picture]
        if pair.voices.audio is not None:
            sound = Path(folder) / "sound.flac"
            sound.write_bytes(pair.voices.audio)
            streams.append(ffmpeg.input(str(sound)))
        command = ffmpeg.output(
            *streams, str(out), vcodec="libx264", pix_fmt="yuv420p", crf=20, preset="veryfast", acodec="aac"
        ).overwrite_output()
        process = command.run_async(pipe_stdin=True, quiet=True)
        try:
            for _, canvas in overlay_frames(pair, video_path, model):
                process.stdin.write(np.ascontiguousarray(canvas[:height, :width]).tobytes())
        finally:
            process.stdin.close()
        errors = process.stderr.read()
        if process.wait() != 0:
            raise UsageError(f"ffmpeg could not write {out}: {errors.decode(errors='replace').splitlines()[-1]}")
