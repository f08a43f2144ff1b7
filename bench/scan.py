"""What the cheap scan loses against a full-resolution one, and what it costs.

    python bench/scan.py [CLIP...] [--json] [--out FILE]

Retention, through the pipeline's own decoder and scan: short synthetic shots hold the two public-domain portraits of
skimage and matplotlib, mirrored, squeezed,
blurred, dimmed and noisy, at face scales from the selection's 24 px upwards, on 720p, 1080p and 2160p backgrounds.
Given real CLIPs, their two-person shots are also shrunk and set into larger pictures. Each shot is an H.264 file of 4
frames a second, of good or poor quality, and is read twice: as the pipeline's scan does (no loop filter, planes
shrunk in the decoder, few looks) and whole, with every sample searched everywhere.
Retention is the share of the latter's clip windows of which the former keeps three quarters or more; its bound is
Clopper and Pearson's, one-sided, at 99 % confidence (the shots of one cell differ in everything but size and scale; 460
without a loss prove 99 %).

Cost: CPU milliseconds per frame of the scan's own work, decoding not counted, one thread.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import av
import cv2
import numpy as np
from duologue.pipeline.stages_pixels import MOST_FPS
from duologue.schemas.records import InputItem, Video
from duologue.transforms.decode import DecodeOptions, Frame, for_scan, read_frames
from duologue.transforms.detect_faces import Detections, FaceDetector
from duologue.transforms.probe import probe
from duologue.transforms.scan import (
    BOX_PER_SCALE,
    ScanOptions,
    scan_longest_side,
    scan_piece,
)
from duologue.transforms.scan_verdict import judge_shot, merge_scan
from duologue.transforms.shots import PySceneDetectShots
from scipy.stats import beta

SIZES = ((1280, 720), (1920, 1080), (3840, 2160))
SCALES = (24.0, 27.0, 32.0, 40.0, 60.0, 100.0)
SECONDS, FPS = 3.5, 4.0
CRFS = (23, 32)  # of H.264: good and poor quality
ENOUGH = 0.75  # of a clip window: a cut that one of both misses moves the windows
FACTORS = (0.85, 0.6, 0.45, 0.35)


class _Everywhere:
    """The detector made to search everything at every call, for frames of full resolution."""

    def __init__(self, detector: FaceDetector, smallest_px: float) -> None:
        self.detector, self.smallest_px = detector, smallest_px
        self.backend, self.input_px, self.least_px = detector.backend, detector.input_px, detector.least_px

    def detect(
        self, rgb: np.ndarray, smallest_px: float, enough: int = 0, seen: Detections | None = None
    ) -> Detections:
        return self.detector.detect(rgb, self.smallest_px) if seen is None else seen


def portraits(detector: FaceDetector) -> list[tuple[np.ndarray, float]]:
    """Head-and-shoulder pictures and the width of their face box."""
    import matplotlib.cbook
    import matplotlib.image
    import skimage.data

    hopper = matplotlib.image.imread(str(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    out = []
    for picture, crop in ((skimage.data.astronaut(), np.s_[:330, 40:420]), (hopper, np.s_[:430, 60:460])):
        part = np.ascontiguousarray(picture[crop])
        out.append((part, float(detector.detect(part, 60.0).widths.max())))
    return out


def background(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A soft, muted wall with straight furniture in it."""
    tone = rng.uniform(60, 180) + rng.normal(0, 12, 3)
    coarse = rng.normal(0, 14, (5, 8, 1)) + rng.normal(0, 4, (5, 8, 3))
    picture = tone + cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(12):
        x, y = rng.integers(0, width), rng.integers(0, height)
        w, h = rng.integers(width // 60, width // 8), rng.integers(height // 40, height // 4)
        picture[y : y + h, x : x + w] = tone + rng.normal(0, 40) + rng.normal(0, 12, 3)
    return np.asarray(np.clip(picture, 0, 255).astype(np.uint8))


def paste(picture: np.ndarray, patch: np.ndarray, x: float, y: float, soft: bool = False) -> None:
    """Set a patch into a picture, cut off at its edges; ``soft`` leaves an oval of it that fades out."""
    x0, y0 = round(x), round(y)
    h, w = patch.shape[:2]
    left, top = max(0, -x0), max(0, -y0)
    right, bottom = min(w, picture.shape[1] - x0), min(h, picture.shape[0] - y0)
    into = picture[y0 + top : y0 + bottom, x0 + left : x0 + right]
    if not soft:
        into[:] = patch[top:bottom, left:right]
        return
    # An oval: straight edges around a face would make it a picture in a picture, which the scan rightly turns away.
    across, down = (2 * np.arange(w) - w + 1) / w, (2 * np.arange(h) - h + 1) / h
    alpha = np.clip(6 * (1 - across**2 - down[:, None] ** 2), 0, 1)[top:bottom, left:right, None]
    into[:] = (alpha * patch[top:bottom, left:right] + (1 - alpha) * into).astype(np.uint8)


def synthetic_shot(
    rng: np.random.Generator, size: tuple[int, int], scale: float, faces: list[tuple[np.ndarray, float]]
) -> list[Frame]:
    """Two people who sway a little, the smaller at ``scale``, the other up to 1.6 times larger."""
    width, height = size
    still = background(rng, width, height)
    blur = rng.choice([0.0, 0.0, 0.02, 0.05]) * scale
    gain, noise = rng.uniform(0.45, 1.1), rng.choice([0.0, 4.0, 10.0])
    grain = rng.normal(0, noise, (height + 64, width + 64, 1)).astype(np.float32) if noise else None
    people = []
    for k in range(2):
        patch, box_px = faces[(k + int(rng.integers(2))) % 2]
        factor = scale * BOX_PER_SCALE / box_px * (1.0 if k == 0 else rng.uniform(1.0, 1.6))
        squeeze = rng.uniform(0.8, 1.0)  # a turned head is narrower
        patch = patch[:, ::-1] if rng.integers(2) else patch
        shape = (max(8, round(patch.shape[1] * factor * squeeze)), max(8, round(patch.shape[0] * factor)))
        patch = cv2.resize(patch, shape, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
        half = width // 2
        x = rng.uniform(0, max(1, half - shape[0])) + k * half
        people.append((patch, x, rng.uniform(0, max(1, height - shape[1])), rng.uniform(0, 6)))
    frames = []
    for i in range(round(SECONDS * FPS)):
        picture = still.copy()
        for patch, x, y, phase in people:
            paste(
                picture,
                patch,
                x + 0.1 * scale * np.sin(i + phase),
                y + 0.1 * scale * np.cos(0.7 * i + phase),
                soft=True,
            )
        if blur > 0.3:
            picture = cv2.GaussianBlur(picture, (0, 0), blur)
        shaded = picture.astype(np.float32) * gain
        if grain is not None:  # another part of it in every frame
            down, right = rng.integers(0, 64, 2)
            shaded += grain[down : down + height, right : right + width]
        frames.append(Frame(i / FPS, np.clip(shaded, 0, 255).astype(np.uint8)))
    return frames


def write_video(frames: list[Frame], path: Path, crf: int) -> Video:
    """Encode frames as H.264 in an mp4, as people do, and probe the file."""
    height, width = (side // 2 * 2 for side in frames[0].rgb.shape[:2])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=round(FPS), options={"crf": str(crf), "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame.rgb[:height, :width]), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return probe(str(path), InputItem(str(path)))


def spans_kept(
    path: Path, video: Video, detector: object, options: ScanOptions, cheap: bool
) -> list[tuple[float, float]]:
    """The spans that a scan of a file keeps, seconds.

    Args:
        cheap: decode as the pipeline's scan does; else whole frames by the full decoder.
    """
    decode, side = DecodeOptions(), None
    if cheap:
        decode, side = for_scan(decode), scan_longest_side(video, options)
    read = {"start_s": video.start_s, "end_s": video.end_s, "longest_side": side, "max_fps": MOST_FPS}
    with read_frames(str(path), video, **read, options=decode) as frames:  # type: ignore[arg-type]
        shots = PySceneDetectShots(options.shots)
        piece = scan_piece(frames, video, video.start_s, video.end_s, options, detector, shots)  # type: ignore[arg-type]
    return [span for shot in merge_scan([piece], video, options) for span in judge_shot(shot, video, options).spans]


def compare(path: Path, video: Video, detector: FaceDetector, options: ScanOptions) -> tuple[int, int]:
    """Clips that a full-resolution scan of a file keeps, and how many of them the pipeline's scan keeps."""
    everywhere = _Everywhere(detector, 0.9 * options.smallest_scale_px * BOX_PER_SCALE)
    full = spans_kept(path, video, everywhere, options, cheap=False)
    cheap = spans_kept(path, video, detector, options, cheap=True)
    clips = [
        (at, min(at + options.clip_s, end))
        for start, end in full
        for at in np.arange(start, end - options.shortest_s + 1e-6, options.clip_s)
    ]
    shared = [sum(max(0.0, min(e, b) - max(s, a)) for a, b in cheap) / (e - s) for s, e in clips]
    return len(clips), sum(bool(share >= ENOUGH) for share in shared)


def shrunk(frames: list[Frame], factor: float, size: tuple[int, int], rng: np.random.Generator) -> list[Frame]:
    """A real shot at ``factor`` of its size, somewhere in a larger picture."""
    still = background(rng, *size)
    h, w = (round(s * factor) for s in frames[0].rgb.shape[:2])
    x, y = rng.integers(0, max(1, size[0] - w)), rng.integers(0, max(1, size[1] - h))
    out = []
    for frame in frames:
        picture = still.copy()
        paste(picture, cv2.resize(frame.rgb, (w, h), interpolation=cv2.INTER_AREA), x, y)
        out.append(Frame(frame.time_s, picture))
    return out


def synthetic_cell(size: tuple[int, int], scale: float, count: int) -> dict[str, tuple[int, int]]:
    """Clips kept by a full and by the cheap scan, over ``count`` synthetic shots of one size and face scale."""
    detector = FaceDetector()
    faces, rng = portraits(detector), np.random.default_rng([size[1], round(scale)])
    full = both = 0
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(count):
            path = Path(folder) / "shot.mp4"
            video = write_video(synthetic_shot(rng, size, scale, faces), path, int(rng.choice(CRFS)))
            one, two = compare(path, video, detector, ScanOptions())
            full, both = full + one, both + two
    return {f"synthetic {size[1]}p {scale:g}px": (full, both)}


def real_cell(path: Path) -> dict[str, tuple[int, int]]:
    """The same over one real clip: as it is, and set smaller into a picture of its size and encoded anew."""
    detector, options = FaceDetector(), ScanOptions()
    # Split screen is judged elsewhere, and never here: one clip is one, and one set into another picture has a frame.
    plain = replace(options, split=replace(options.split, persistence=2.0))
    video = probe(str(path), InputItem(str(path)))
    cells = {f"{path.name} x1": compare(path, video, detector, plain)}
    with read_frames(str(path), video, start_s=video.start_s, end_s=video.end_s, max_fps=FPS) as reader:
        frames = [Frame(f.time_s, f.rgb.copy()) for f in reader]
    rng = np.random.default_rng(video.height)
    with tempfile.TemporaryDirectory() as folder:
        for factor in FACTORS:
            for crf in CRFS:
                made = Path(folder) / "shot.mp4"
                small = write_video(shrunk(frames, factor, (video.width, video.height), rng), made, crf)
                cells[f"{path.name} x{factor:g} crf {crf}"] = compare(made, small, detector, plain)
    return cells


def retention(clips: list[Path], per_cell: int, jobs: int) -> Iterator[dict[str, object]]:
    """Counts over the cells that are done, and how much retention they prove; again after each cell."""
    cells: dict[str, tuple[int, int]] = {}
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(real_cell, path) for path in clips]
        for size in SIZES:
            count = max(1, per_cell * 720**2 // size[1] ** 2 // (1 if size[1] == 720 else 2))
            waiting += [pool.submit(synthetic_cell, size, scale, count) for scale in SCALES]
        for cell in as_completed(waiting):
            cells |= cell.result()
            full, both = (sum(c[i] for c in cells.values()) for i in (0, 1))
            proven = float(beta.ppf(0.01, both, full - both + 1)) if both else 0.0
            yield {
                "retention": round(both / max(full, 1), 4),
                "retention_at_99_percent_confidence": round(proven, 4),
                "clips_full_resolution": full,
                "clips_lost": full - both,
                "cells": {k: {"full": a, "kept": b} for k, (a, b) in sorted(cells.items())},
            }


def cost(paths: list[Path], detector: FaceDetector) -> dict[str, dict[str, float]]:
    """CPU ms per frame of cuts alone and of the whole scan, per clip."""
    options, rows = ScanOptions(), {}
    for path in paths:
        video = probe(str(path), InputItem(str(path)))
        side = scan_longest_side(video, options)
        with read_frames(str(path), video, start_s=0.0, end_s=video.end_s, longest_side=side) as reader:
            frames = [Frame(f.time_s, f.rgb.copy()) for f in reader]
        shots = PySceneDetectShots(options.shots)
        best_cuts = best_scan = float("inf")
        for _ in range(3):
            start = time.process_time()
            for frame in frames:
                shots.push(frame.time_s, frame.rgb)
            shots.finish()
            cuts = time.process_time()
            scan_piece(frames, video, 0.0, video.end_s, options, detector, shots)
            best_cuts = min(best_cuts, cuts - start)
            best_scan = min(best_scan, time.process_time() - cuts)
        rows[path.name] = {
            "longest_side": side,
            "cuts_ms_per_frame": round(1e3 * best_cuts / len(frames), 3),
            "scan_ms_per_frame": round(1e3 * best_scan / len(frames), 3),
        }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", type=Path, help="real clips with two people")
    parser.add_argument(
        "--per-cell", type=int, default=60, help="synthetic 720p shots per face scale; fewer of larger ones"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--out", type=Path, help="write the figures there")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    detector = FaceDetector()
    figures: dict[str, object] = {"cost": cost(options.clips, detector)}
    for found in retention(options.clips, options.per_cell, options.jobs):
        figures |= found
        if options.out:  # what is known so far survives an interruption
            options.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures) if options.json else json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
