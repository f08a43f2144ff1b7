"""What was measured, drawn over the pixels it was measured on: mesh, head axes, gaze rays, boxes, who speaks."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
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

COLOURS = {"a": (255, 150, 40), "b": (70, 170, 255), "": (170, 170, 170)}  # RGB
AXES = ((235, 70, 70), (80, 210, 90), (90, 120, 255))  # x: subject's left, y: up, z: out of the face
AXIS_M, GAZE_M = 0.09, 0.45
LANE = 7  # pixels of one person's turns
HEIGHT = 720  # small sources are enlarged to about this height, so that what is written on them can be read
FLIP = np.diag([1.0, -1.0, -1.0])


def project(points: Array, focal_px: float, width: int, height: int) -> Array:
    """[..., 3] metres in the camera frame -> [..., 2] pixels; principal point at the image centre,
    pixel centres at integers."""
    z = np.maximum(points[..., 2:3], 1e-3)
    return np.asarray(points[..., :2] / z * focal_px + np.array([(width - 1) / 2, (height - 1) / 2]))


def head_vertices(model: HeadModel, head: HeadTrack, frame: int) -> Array:
    """[V, 3] metres in the camera frame: the fitted mesh at one frame of the clip clock."""
    shape, expression = head.shape.astype(np.float64), head.expression[frame].astype(np.float64)
    mesh = model.pose(shape, expression, jaw=head.jaw[frame], neck=head.neck[frame], eyes=head.eyes[frame])
    root = model.posed_joints(shape)[0]
    rotation = Rotation.from_rotvec(head.rotation[frame].astype(np.float64)).as_matrix()
    return np.asarray(head.scale * (mesh - root) @ (rotation @ FLIP).T + head.translation[frame])


def draw_pair(
    rgb: UInt8, pair: Pair, frame: int, model: HeadModel | None, triangles: npt.NDArray[np.int64], scale: int = 1
) -> UInt8:
    """A copy of a frame, ``scale`` times as large, with everything the row says about it.

    Args:
        rgb: [H, W, 3] the frame at ``pair.fitted.times[frame]``, at the original size.
        triangles: [F, 3] of the mesh; lines on the side turned away from the camera are left out.
    """
    height, width = rgb.shape[:2]
    canvas = np.ascontiguousarray(
        rgb.copy() if scale == 1 else cv2.resize(rgb, (width * scale, height * scale), interpolation=cv2.INTER_CUBIC)
    )
    fitted = pair.fitted
    view = (fitted.focal_px * scale, fitted.width * scale, fitted.height * scale)
    for who, head in _people(pair):
        colour = COLOURS[who]
        speaking = float((pair.voices.speaking_a if who == "a" else pair.voices.speaking_b)[frame])
        if head.valid[frame] and model is not None:
            points = project(head_vertices(model, head, frame), *view)
            edges = facing_edges(points, triangles)
            _lines(canvas, points[edges[:, 0]], points[edges[:, 1]], colour, 0.4)
        box = head.box[frame] * scale
        if np.isfinite(box).all():
            _box(canvas, box, colour, who, speaking)
    for _, head in _people(pair):
        if not head.valid[frame]:
            continue
        centre = head.head_centre[frame].astype(np.float64)
        rotation = Rotation.from_rotvec(head.rotation[frame].astype(np.float64)).as_matrix() @ FLIP
        for axis, tone in zip(rotation.T, AXES, strict=True):
            _ray(canvas, centre, centre + AXIS_M * axis, tone, view, 2)
        gaze = head.gaze[frame].astype(np.float64)
        if np.isfinite(gaze).all():
            _ray(canvas, centre, centre + GAZE_M * gaze, (255, 255, 90), view, 3)
    _caption(canvas, pair, frame)
    return canvas


def _people(pair: Pair) -> tuple[tuple[str, HeadTrack], ...]:
    both = (("a", pair.fitted.a), ("b", pair.fitted.b))
    return both[: pair.source.n_people]


def _box(canvas: UInt8, box: npt.NDArray[np.float32], colour: tuple[int, ...], who: str, speaking: float) -> None:
    x0, y0, x1, y1 = (round(float(v)) for v in box)
    talks = speaking > 0.5
    cv2.rectangle(canvas, (x0, y0), (x1, y1), colour, 3 if talks else 1, cv2.LINE_AA)
    put_text(canvas, f"{who} speaks {speaking:.2f}" if talks else who, (x0, y0 - 6), colour)


def put_text(canvas: UInt8, text: str, place: tuple[int, int], colour: tuple[int, ...], size: float = 0.6) -> int:
    """Text on a dark ground, its lower left corner at ``place``; returns where it ends."""
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    x = int(np.clip(place[0], 4, max(4, canvas.shape[1] - width - 4)))
    y = int(np.clip(place[1], height + 4, canvas.shape[0] - base - 2))
    patch = canvas[max(0, y - height - 4) : y + base + 2, max(0, x - 4) : x + width + 4]
    patch[:] = (patch * 0.3).astype(np.uint8)
    cv2.putText(canvas, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)
    return x + width


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
    tip = min(0.4, 6.0 * width / max(float(np.hypot(x1 - x0, y1 - y0)), 1.0))
    cv2.arrowedLine(canvas, (round(x0), round(y0)), (round(x1), round(y1)), colour, width, cv2.LINE_AA, tipLength=tip)


def caption_text(pair: Pair, frame: int) -> str:
    """One line: time, distance and its standard deviation, mutual gaze, who was not measured."""
    relation = pair.relation
    distance, sd, mutual = (
        float(values[frame]) for values in (relation.distance_m, relation.relative_position_sd, relation.mutual_gaze)
    )
    words = [f"{pair.fitted.times[frame]:.2f} s"]
    words.append(f"distance {distance:.2f} +- {sd:.2f} m" if np.isfinite(distance) else "distance unknown")
    words.append(f"mutual gaze {mutual:.2f}" if np.isfinite(mutual) else "mutual gaze unknown")
    words += [f"{who} not measured" for who, head in _people(pair) if not head.valid[frame]]
    return "   ".join(words)


def _caption(canvas: UInt8, pair: Pair, frame: int) -> None:
    """The caption, and under it the turns."""
    draw_turns(canvas, pair, frame)
    put_text(canvas, caption_text(pair, frame), (10, canvas.shape[0] - 2 * LANE - 16), (255, 255, 255), 0.65)


def draw_turns(canvas: UInt8, pair: Pair, frame: int) -> None:
    """The turns of the clip along the lower edge, with a play-head at ``frame``."""
    height, width = canvas.shape[:2]
    lane = LANE
    strip = canvas[height - 2 * lane - 3 :]
    strip[:] = (strip * 0.3).astype(np.uint8)
    times, fps = pair.fitted.times, pair.fitted.fps
    share = width * fps / max(len(times), 1)
    for turn in pair.voices.turns:
        x0, x1 = (round((t - times[0]) * share) for t in (turn.start_s, turn.end_s))
        top, bottom = {"a": (0, lane), "b": (lane + 2, 2 * lane + 2)}.get(turn.face, (lane, lane + 2))
        y = height - 2 * lane - 3
        cv2.rectangle(canvas, (max(x0, 0), y + top), (min(x1, width - 1), y + bottom - 1), COLOURS[turn.face], -1)
    x = round((frame + 0.5) * width / max(len(times), 1))
    cv2.line(canvas, (x, height - 2 * lane - 6), (x, height), (255, 255, 255), 2)


def facing_edges(points: Array, triangles: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """[N, 2] unique edges of the triangles that face the camera. points: [V, 2] pixels, y down."""
    corners = points[triangles]
    u, v = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    front = triangles[u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0] < 0]
    pairs = np.concatenate([front[:, [0, 1]], front[:, [1, 2]], front[:, [2, 0]]])
    return np.unique(np.sort(pairs, axis=1), axis=0).astype(np.int64)


def overlay_frames(pair: Pair, video_path: str, model: HeadModel | None) -> Iterator[tuple[int, UInt8]]:
    """(frame of the clip clock, drawn picture) for every frame, on the source's frame nearest in time.

    Pictures are [s H, s W, 3] with s = :func:`enlargement`.

    Raises:
        UsageError: the file is not the one the pair was measured on.
    """
    video = probe(video_path, InputItem(video_path))
    if video.video_id != pair.source.video_id:
        raise UsageError(f"{video_path} is not the video of pair {pair.pair_id} (its content differs)")
    triangles = model.triangles if model is not None else np.zeros((0, 3), np.int64)
    scale = enlargement(pair)
    times = pair.fitted.times
    slack = 1.0 / pair.fitted.fps
    with read_frames(
        video_path, video, start_s=float(times[0]) - slack, end_s=float(times[-1]) + slack, longest_side=None,
        max_fps=60.0, options=DecodeOptions(),
    ) as reader:  # fmt: skip
        for frame, rgb in nearest_frames(times, ((source.time_s, source.rgb) for source in reader)):
            yield frame, draw_pair(rgb, pair, frame, model, triangles, scale)


def nearest_frames(times: Array, source: Iterable[tuple[float, UInt8]]) -> Iterator[tuple[int, UInt8]]:
    """(index into ``times``, picture) of the source's frame nearest to each time; nothing where it has no frame.

    The last frame not after a time would lie half a period back, and a whole one where two equal times differ in their
    last digit.

    Args:
        times: [T] seconds, rising. source: (seconds, picture), rising; a picture may be overwritten by the next.
    """
    done = 0
    held: tuple[float, UInt8] | None = None
    for time_s, rgb in source:
        while held is not None and done < len(times) and times[done] - held[0] <= time_s - times[done]:
            yield done, held[1]
            done += 1
        held = time_s, rgb.copy()
    while held is not None and done < len(times):
        yield done, held[1]
        done += 1


def enlargement(pair: Pair) -> int:
    """How many times a small source is enlarged for drawing."""
    return max(1, round(HEIGHT / pair.fitted.height))


def write_overlay(pair: Pair, video_path: str, out: Path, model: HeadModel | None) -> None:
    """An mp4 of one pair with everything drawn over it, and its sound.

    Raises:
        UsageError: the file is not the one that was measured, or ffmpeg cannot write ``out``.
    """
    scale = enlargement(pair)
    width, height = (side * scale // 2 * 2 for side in (pair.fitted.width, pair.fitted.height))
    frames = (canvas[:height, :width] for _, canvas in overlay_frames(pair, video_path, model))
    write_mp4(frames, (width, height), pair.fitted.fps, pair.voices.audio, out)


def write_mp4(frames: Iterable[UInt8], size: tuple[int, int], fps: float, audio: bytes | None, out: Path) -> None:
    """Encode pictures [H, W, 3] of ``size`` (width, height; even) with their sound (FLAC or WAV bytes).

    Raises:
        UsageError: ffmpeg cannot write ``out``.
    """
    with tempfile.TemporaryDirectory() as folder:
        picture = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{size[0]}x{size[1]}", framerate=fps)
        streams = [picture]
        if audio is not None:
            sound = Path(folder) / "sound"
            sound.write_bytes(audio)
            streams.append(ffmpeg.input(str(sound)))
        made, log = Path(folder) / "overlay.mp4", Path(folder) / "log"
        command = ffmpeg.output(
            *streams, str(made), vcodec="libx264", pix_fmt="yuv420p", crf=20, preset="veryfast", acodec="aac",
            movflags="+faststart",
        ).global_args("-loglevel", "error", "-nostdin")  # fmt: skip
        with open(log, "wb") as errors:
            process = subprocess.Popen(command.compile(), stdin=subprocess.PIPE, stdout=errors, stderr=errors)
            assert process.stdin is not None
            try:
                with contextlib.suppress(BrokenPipeError):  # ffmpeg ended early: its status and log say why
                    for canvas in frames:
                        process.stdin.write(np.ascontiguousarray(canvas).tobytes())
                    process.stdin.close()
            except BaseException:
                process.kill()
                raise
            finally:
                status = process.wait()
        if status != 0:
            lines = log.read_text(errors="replace").splitlines() or [f"exit status {status}"]
            raise UsageError(f"ffmpeg could not write {out}: {lines[-1]}")
        try:
            shutil.move(made, out)
        except OSError as error:
            raise UsageError(f"cannot write {out}: {error.strerror}") from error
