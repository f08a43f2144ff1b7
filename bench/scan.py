"""What the cheap scan loses against a full-resolution one, and what it costs.

    python bench/scan.py [CLIP...] [--json] [--out FILE]

Retention: short synthetic shots hold the two public-domain portraits of skimage and matplotlib, mirrored, squeezed,
blurred, dimmed and noisy, at face scales from the selection's 24 px upwards, on 720p, 1080p and 2160p backgrounds.
Given real CLIPs, their two-person shots are also shrunk and set into larger pictures. Each shot is judged twice: by
the scan as it is (reduced frames, few looks) and with every sample searched at full resolution. Retention is the
share of the latter's clips that the former keeps too.

Cost: CPU milliseconds per frame of the scan's own work, decoding not counted, one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from duologue.schemas.records import InputItem, Video
from duologue.transforms.decode import read_frames
from duologue.transforms.detect_faces import Detections, FaceDetector
from duologue.transforms.probe import probe
from duologue.transforms.scan import (
    BOX_PER_SCALE,
    ScanOptions,
    judge_shot,
    merge_scan,
    scan_longest_side,
    scan_piece,
)
from duologue.transforms.shots import PySceneDetectShots

SIZES = ((1280, 720), (1920, 1080), (3840, 2160))
SCALES = (24.0, 27.0, 32.0, 40.0, 60.0, 100.0)
SECONDS, FPS = 5.0, 4.0


class _Frame:
    def __init__(self, time_s: float, rgb: np.ndarray) -> None:
        self.time_s, self.rgb = time_s, rgb


class _Everywhere:
    """The detector made to search everything at every call, for frames of full resolution."""

    def __init__(self, detector: FaceDetector, smallest_px: float) -> None:
        self.detector, self.smallest_px = detector, smallest_px
        self.backend, self.input_px, self.least_px = detector.backend, detector.input_px, detector.least_px

    def detect(self, rgb: np.ndarray, smallest_px: float, enough: int = 0) -> Detections:
        return self.detector.detect(rgb, self.smallest_px)


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


def video_of(width: int, height: int, seconds: float, fps: float) -> Video:
    return Video("0" * 64, "synthetic", 0.0, seconds, seconds, width, height, 0, fps, False, 0.0, None, "", "", "", 0)


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
    """Set a patch into a picture, cut off at its edges; ``soft`` fades the patch's own edges out."""
    x0, y0 = round(x), round(y)
    h, w = patch.shape[:2]
    left, top = max(0, -x0), max(0, -y0)
    right, bottom = min(w, picture.shape[1] - x0), min(h, picture.shape[0] - y0)
    into = picture[y0 + top : y0 + bottom, x0 + left : x0 + right]
    if not soft:
        into[:] = patch[top:bottom, left:right]
        return
    across = np.clip(np.minimum(np.arange(w), np.arange(w)[::-1]) / (0.12 * w), 0, 1)
    down = np.clip(np.arange(h) / (0.08 * h), 0, 1)  # the lower edge stays: shoulders go on below
    alpha = (down[:, None] * across)[top:bottom, left:right, None]
    into[:] = (alpha * patch[top:bottom, left:right] + (1 - alpha) * into).astype(np.uint8)


def synthetic_shot(
    rng: np.random.Generator, size: tuple[int, int], scale: float, faces: list[tuple[np.ndarray, float]]
) -> list[_Frame]:
    """Two people who sway a little, the smaller at ``scale``, the other up to 1.6 times larger."""
    width, height = size
    still = background(rng, width, height)
    blur = rng.choice([0.0, 0.0, 0.02, 0.05]) * scale
    gain, noise = rng.uniform(0.45, 1.1), rng.choice([0.0, 4.0, 10.0])
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
        if noise:
            shaded += rng.normal(0, noise, (*picture.shape[:2], 1)).astype(np.float32)
        frames.append(_Frame(i / FPS, np.clip(shaded, 0, 255).astype(np.uint8)))
    return frames


def reduced(frames: list[_Frame], video: Video) -> Iterator[_Frame]:
    longest = scan_longest_side(video)
    factor = longest / max(video.width, video.height)
    size = (round(video.width * factor), round(video.height * factor))
    for frame in frames:
        yield _Frame(
            frame.time_s, cv2.resize(frame.rgb, size, interpolation=cv2.INTER_LINEAR) if factor < 1 else frame.rgb
        )


def clips_kept(
    frames: list[_Frame] | Iterator[_Frame], video: Video, detector: object, options: ScanOptions
) -> set[int]:
    """Start times of the kept clip windows, in tenths of a second, shot by shot."""
    piece = scan_piece(frames, video, 0.0, video.end_s, options, detector, PySceneDetectShots(options.shots))  # type: ignore[arg-type]
    kept = set()
    for shot in merge_scan([piece], video, options):
        for start, end in judge_shot(shot, video, options).spans:
            kept |= {round(10 * t) for t in np.arange(start, end - options.shortest_s + 1e-6, options.clip_s)}
    return kept


def compare(frames: list[_Frame], video: Video, detector: FaceDetector, options: ScanOptions) -> tuple[int, int]:
    """Clips that a full-resolution scan keeps, and how many of them the scan keeps."""
    everywhere = _Everywhere(detector, 0.9 * options.smallest_scale_px * BOX_PER_SCALE)
    full = clips_kept(frames, video, everywhere, options)
    return len(full), len(full & clips_kept(reduced(frames, video), video, detector, options))


def shrunk(frames: list[_Frame], factor: float, size: tuple[int, int], rng: np.random.Generator) -> list[_Frame]:
    """A real shot at ``factor`` of its size, somewhere in a larger picture."""
    still = background(rng, *size)
    h, w = (round(s * factor) for s in frames[0].rgb.shape[:2])
    x, y = rng.integers(0, max(1, size[0] - w)), rng.integers(0, max(1, size[1] - h))
    out = []
    for frame in frames:
        picture = still.copy()
        paste(picture, cv2.resize(frame.rgb, (w, h), interpolation=cv2.INTER_AREA), x, y)
        out.append(_Frame(frame.time_s, picture))
    return out


def retention(clips: list[Path], per_cell: int, detector: FaceDetector) -> dict[str, object]:
    options = ScanOptions()
    faces = portraits(detector)
    cells: dict[str, list[int]] = {}
    for size in SIZES:
        for scale in SCALES:
            rng = np.random.default_rng([size[1], round(scale)])
            cell = cells.setdefault(f"synthetic {size[1]}p {scale:g}px", [0, 0])
            for _ in range(per_cell if size[1] < 2000 else max(1, per_cell // 3)):
                full, both = compare(
                    synthetic_shot(rng, size, scale, faces), video_of(*size, SECONDS, FPS), detector, options
                )
                cell[0] += full
                cell[1] += both
    # Split-screen is judged elsewhere: a clip set into another picture has a frame around it, not between its people.
    plain = replace(options, split=replace(options.split, coverage=2.0, partial_coverage=2.0))
    for path in clips:
        video = probe(str(path), InputItem(str(path)))
        with read_frames(str(path), video, start_s=0.0, end_s=video.end_s, max_fps=FPS) as reader:
            frames = [_Frame(f.time_s, f.rgb.copy()) for f in reader]
        whole = video_of(video.width, video.height, video.end_s, FPS)
        rng = np.random.default_rng(video.height)
        for factor in (1.0, 0.7, 0.5, 0.4, 0.35):
            cell = cells.setdefault(f"{path.name} x{factor:g}", [0, 0])
            shot = frames if factor == 1.0 else shrunk(frames, factor, (video.width, video.height), rng)
            full, both = compare(shot, whole, detector, plain)
            cell[0] += full
            cell[1] += both
    full, both = (sum(c[i] for c in cells.values()) for i in (0, 1))
    return {
        "retention": round(both / max(full, 1), 4),
        "clips_full_resolution": full,
        "clips_lost": full - both,
        "cells_with_loss": {k: {"full": a, "kept": b} for k, (a, b) in cells.items() if a != b},
        "empty_cells": [k for k, (a, _) in cells.items() if a == 0],
    }


def cost(paths: list[Path], detector: FaceDetector) -> dict[str, dict[str, float]]:
    """CPU ms per frame of cuts alone and of the whole scan, per clip."""
    options, rows = ScanOptions(), {}
    for path in paths:
        video = probe(str(path), InputItem(str(path)))
        side = scan_longest_side(video, options)
        with read_frames(str(path), video, start_s=0.0, end_s=video.end_s, longest_side=side) as reader:
            frames = [_Frame(f.time_s, f.rgb.copy()) for f in reader]
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
    parser.add_argument("--per-cell", type=int, default=12, help="synthetic shots per size and face scale")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--out", type=Path, help="write the figures there")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    detector = FaceDetector()
    figures = {**retention(options.clips, options.per_cell, detector), "cost": cost(options.clips, detector)}
    text = json.dumps(figures, indent=1)
    if options.out:
        options.out.write_text(text + "\n")
    print(json.dumps(figures) if options.json else text)


if __name__ == "__main__":
    main()
