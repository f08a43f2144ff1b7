"""What the decoder child costs: CPU seconds of reading frames through it against a bare PyAV loop.

    python bench/decode.py [--json] [--repeats N] [VIDEO ...]

Both sides decode the same files on one thread, convert every frame to RGB and touch nothing else; the bare loop runs
in this process. CPU seconds are user + system of this process and the child, without the child's start (given
apart). Without arguments a 1080p and a 720p film are made and measured. The best of N interleaved repeats counts.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from duologue.schemas.records import InputItem, Video
from duologue.transforms.decode import DecodeOptions, close, output_size, read_frames, warm
from duologue.transforms.probe import probe

SCAN_SIDE = 640
LEAST_FRAMES = 600  # so that the variation of the child's start does not matter


def cpu_s() -> float:
    """User + system seconds of this process and of its ended children."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    return total


def bare(path: str, video: Video, side: int | None) -> int:
    """The cheapest honest loop: decode, convert, look at the array."""
    width, height = output_size(video, side)
    if video.rotation % 180:
        width, height = height, width
    reformatter = VideoReformatter()
    count = 0
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            rgb = reformatter.reformat(
                frame, width=width, height=height, format="rgb24", interpolation="BILINEAR", threads=1
            )
            count += rgb.to_ndarray().shape[2] == 3
    return count


def through_child(path: str, video: Video, side: int | None, options: DecodeOptions) -> int:
    count = 0
    with read_frames(path, video, start_s=0.0, end_s=1e9, longest_side=side, max_fps=1000.0, options=options) as reader:
        for frame in reader:
            count += frame.rgb.shape[2] == 3
    return count


def start_cost() -> float:
    """CPU seconds of starting and ending one child."""
    close()
    begin = cpu_s()
    warm()
    close()
    return cpu_s() - begin


def timed(run: Callable[[], int], least_frames: int) -> tuple[float, float, int]:
    """CPU seconds, wall seconds and frames of reading a file until so many frames were read.

    The child is counted when it ends, with its start, which the caller subtracts.
    """
    warm()
    begin, clock = cpu_s(), time.perf_counter()
    count = run()
    while count < least_frames:
        count += run()
    wall = time.perf_counter() - clock
    close()
    return cpu_s() - begin, wall, count


def make_film(path: Path, width: int, height: int, seconds: float) -> Path:
    """A film that costs a decoder about what a real one does: smooth texture that drifts, with grain."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 16 + 8, width // 16 + 8, 3)).astype(np.float32)
    texture = np.kron(coarse, np.ones((16, 16, 1), np.float32))
    grain = rng.normal(0, 3, (height, width, 1)).astype(np.float32)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "24"}
        for index in range(round(seconds * 25)):
            view = texture[index % 64 : index % 64 + height, (2 * index) % 64 : (2 * index) % 64 + width]
            noisy = view + np.roll(grain, 977 * index)
            frame = av.VideoFrame.from_ndarray(np.clip(noisy, 0, 255).astype(np.uint8), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def measure(path: Path, repeats: int, start_s: float) -> list[dict[str, float | str]]:
    video = probe(str(path), InputItem(path.name))
    name = str(path)
    rows: list[dict[str, float | str]] = []
    for mode, side in (("full", None), ("scan", SCAN_SIDE)):
        runs: dict[str, Callable[[], int]] = {
            "bare": partial(bare, name, video, side),
            "child": partial(through_child, name, video, side, DecodeOptions()),
            "fast": partial(through_child, name, video, side, DecodeOptions(fast=True)),
        }
        best: dict[str, tuple[float, float, int]] = {}
        for _ in range(repeats):
            for kind, run in runs.items():
                result = timed(run, LEAST_FRAMES)
                best[kind] = min(best.get(kind, result), result)
        cpu = {kind: value[0] - start_s for kind, value in best.items()}
        frames = best["child"][2]
        rows.append(
            {
                "file": path.name,
                "size": f"{video.width}x{video.height}",
                "mode": mode,
                "frames": frames,
                "bare_ms": 1e3 * cpu["bare"] / best["bare"][2],
                "child_ms": 1e3 * cpu["child"] / frames,
                "fast_ms": 1e3 * cpu["fast"] / frames,
                "ratio": cpu["child"] / cpu["bare"],
                "wall_ratio": best["child"][1] / frames / (best["bare"][1] / best["bare"][2]),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args()
    start_s = min(start_cost() for _ in range(3))
    with tempfile.TemporaryDirectory() as folder:
        videos = arguments.videos or [
            make_film(Path(folder) / "film1080.mp4", 1920, 1080, 4.0),
            make_film(Path(folder) / "film720.mp4", 1280, 720, 6.0),
        ]
        rows = [row for path in videos for row in measure(path, arguments.repeats, start_s)]
    print(
        f"{'file':28} {'size':>10} {'mode':>5} {'bare ms':>8} {'child ms':>8} {'fast ms':>8} {'ratio':>6} {'wall':>6}"
    )
    for r in rows:
        print(
            f"{r['file']:28} {r['size']:>10} {r['mode']:>5} {r['bare_ms']:8.2f} {r['child_ms']:8.2f} "
            f"{r['fast_ms']:8.2f} {r['ratio']:6.2f} {r['wall_ratio']:6.2f}"
        )
    ratios = {mode: [float(r["ratio"]) for r in rows if r["mode"] == mode] for mode in ("full", "scan")}
    summary = {
        "ratio": float(np.mean(ratios["full"])),
        "ratio_scan": float(np.mean(ratios["scan"])),
        "fast_gain_scan": 1 - sum(float(r["fast_ms"]) for r in rows if r["mode"] == "scan")
        / sum(float(r["child_ms"]) for r in rows if r["mode"] == "scan"),
        "child_start_cpu_s": start_s,
        "rows": rows,
    }  # fmt: skip
    print(f"start of a child: {start_s:.2f} CPU s")
    if arguments.json:
        print(json.dumps(summary))


if __name__ == "__main__":
    main()
