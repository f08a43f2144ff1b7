"""What `duologue curate` costs against its own ceiling, on the same clips in the same run, and how it scales.

    python bench/curate.py [--videos FILE ...] [--clips N] [--json] [--write]

Ceiling: the CPU seconds of what cannot be left out, one thread, nothing else: a bare PyAV loop over each whole video at
the scan's size, one over the surviving spans at full size, and the bare landmark network on exactly the face crops
that the run measured. It is taken before and after the pipeline's run; the mean counts.

Pipeline: `duologue curate` on one core with one worker, user and system time of the whole process tree. The fit's own
share is taken out of ``ceiling_ratio`` and is in ``ceiling_ratio_total``. The bare network is the project's own call of
it, which costs less than half of what MediaPipe's FaceMesh solution costs for the same crop; with the solution in its
place (each crop for itself, as a still picture) the ratio is ``ceiling_ratio_mediapipe_solution``. Start-up (imports,
opening the models, building the graph) is measured by curating one file that is no video; both ratios are given without
it, and with it in ``..._with_startup``, where it weighs more the fewer clips there are.

Scaling: ``speedup_2_workers`` is the wall time of one worker on one core over that of two workers on two cores;
``..._without_startup`` takes each one's own start-up out. ``seconds_per_video_hour`` is wall time on the one core.

Clips are copies of the given videos in new containers, so that each is a video of its own; without ``--videos``, of a
synthetic conversation.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
os.environ.update(THREADS)

import av  # noqa: E402
import numpy as np  # noqa: E402
from av.video.reformatter import VideoReformatter  # noqa: E402
from duologue import __version__  # noqa: E402
from duologue.pipeline.config import CurateConfig  # noqa: E402
from duologue.pipeline.plan import Plan, make_plan  # noqa: E402
from duologue.schemas.records import Video  # noqa: E402
from duologue.transforms.decode import output_size, thinning_rate  # noqa: E402
from duologue.transforms.decode_child import select_frames  # noqa: E402
from duologue.transforms.elements import Span, TrackDone  # noqa: E402
from duologue.transforms.face_mesh import FaceMesh, crop_region, region_from_landmarks  # noqa: E402
from duologue.transforms.quiet import load_mediapipe, without_noise  # noqa: E402
from duologue.transforms.scan import scan_longest_side  # noqa: E402
from duologue.transforms.tracklet import PieceTracks  # noqa: E402

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "curate.json"
PR_SET_CHILD_SUBREAPER = 36
PACKAGES = ("apache-beam", "av", "mediapipe", "numpy", "opencv-contrib-python-headless", "torch")
MAX_FPS = 30.0  # of the track pass
CROPS_AT_ONCE = 128
SOLUTION_EVERY = 8


@dataclass(frozen=True)
class Cost:
    wall_s: float
    cpu_s: float


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


def adopt_orphans() -> None:
    """Make this process the parent of grandchildren whose parent died, so that their CPU time is counted here."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run_tree(command: list[str], cores: set[int], log: Path) -> tuple[int, Cost]:
    """Exit code and cost of a command on the given cores; CPU of every process of its tree, ended or orphaned.

    Call :func:`adopt_orphans` before. Waits for all children of this process.
    """
    cpu, wall = children_cpu_s(), time.perf_counter()
    with log.open("wb") as stream:
        child = subprocess.Popen(
            command, stdout=stream, stderr=stream, preexec_fn=lambda: os.sched_setaffinity(0, cores)
        )
        code = child.wait()
    wall = time.perf_counter() - wall
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            break
    return code, Cost(wall, children_cpu_s() - cpu)


def curate(inputs: list[Path], out: Path, cores: set[int], workers: int) -> Cost:
    """One run of the program on the given cores."""
    command = [sys.executable, "-m", "duologue.cli", "curate", *map(str, inputs), "--out", str(out)]
    command += ["--workers", str(workers), "--quiet"]
    log = out.with_suffix(".log")
    code, cost = run_tree(command, cores, log)
    if code:
        raise SystemExit(f"{' '.join(command)}: exit code {code}\n{log.read_text(errors='replace')[-2000:]}")
    return cost


def stage_costs(out: Path) -> dict[str, dict[str, float]]:
    """Seconds of each stage as the workers wrote them: wall, and CPU without decoder children."""
    stages: dict[str, dict[str, float]] = defaultdict(lambda: {"wall_s": 0.0, "cpu_s": 0.0, "items": 0})
    for path in sorted((out / "_work" / "progress").glob("*.tsv")):
        for line in path.read_text().splitlines():
            stage, _, wall, cpu, fresh = line.split("\t")
            if fresh != "1":
                raise SystemExit(f"{path}: {stage} was resumed, nothing was measured")
            stages[stage]["wall_s"] += float(wall)
            stages[stage]["cpu_s"] += float(cpu)
            stages[stage]["items"] += 1
    return dict(stages)


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


def make_clips(videos: list[Path], count: int, folder: Path, seconds: float) -> list[Path]:
    """``count`` files of different content, in turn from the given videos (or a synthetic conversation)."""
    if not videos:
        made = folder / "conversation"
        subprocess.run(
            [sys.executable, "-m", "duologue.cli", "synthesize", "--out", str(made), "--seconds", str(seconds)],
            check=True,
            capture_output=True,
        )
        videos = sorted(made.glob("*.mp4"))
    clips = []
    for index in range(count):
        source = videos[index % len(videos)]
        target = folder / f"clip{index:02d}{source.suffix}"
        command = ["ffmpeg", "-v", "error", "-y", "-i", str(source), "-map", "0", "-c", "copy", "-copyts"]
        command += ["-metadata", f"comment=copy {index}", str(target)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        clips.append(target)
    return clips


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 2),
    }


def commit() -> str:
    """The checkout's commit, "+" where it holds changes; "" outside one."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(HERE), *words], capture_output=True, text=True).stdout.strip()

    return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def measure(clips: list[Path], folder: Path) -> dict[str, Any]:
    cores = sorted(os.sched_getaffinity(0))[:2]
    one = set(cores[:1])
    nothing = folder / "nothing.mp4"
    nothing.write_text("not a video\n")
    startup = curate([nothing], folder / "start1", one, 1)
    two = startup2 = None
    if len(cores) == 2:
        startup2 = curate([nothing], folder / "start2", set(cores), 2)
        two = curate(clips, folder / "two", set(cores), 2)
    # The ceiling is taken on either side of the run that counts; an earlier run names the crops.
    earlier = folder / ("two" if two else "earlier")
    if not two:
        curate(clips, earlier, one, 1)
    mesh, out = FaceMesh(), folder / "one"
    with without_noise():
        solution = load_mediapipe().solutions.face_mesh.FaceMesh(True, max_num_faces=1, refine_landmarks=True)
        solution.process(np.zeros((192, 192, 3), np.uint8))
    first = make_plan(CurateConfig(), str(earlier))
    os.sched_setaffinity(0, one)
    before = measure_ceiling(first, mesh, solution)
    run = curate(clips, out, one, 1)
    after = measure_ceiling(make_plan(CurateConfig(), str(out)), mesh, solution)
    os.sched_setaffinity(0, set(cores))
    if before.counts != after.counts:
        raise SystemExit(f"two runs measured different frames and faces: {before.counts}, {after.counts}")
    ceiling_s = (before.total_s + after.total_s) / 2
    solution_s = sum(half.decode_s + half.solution_s for half in (before, after)) / 2
    stages = stage_costs(out)
    fit_s = stages.get("fit", {"cpu_s": 0.0})["cpu_s"]
    media_s = sum(video.end_s - video.start_s for video in ledger(first, "probe", Video))
    work_s = run.cpu_s - startup.cpu_s
    rest_s = run.wall_s - startup.wall_s - sum(cost["wall_s"] for cost in stages.values())
    figures: dict[str, Any] = {
        "ceiling_ratio": (work_s - fit_s) / ceiling_s,
        "ceiling_ratio_total": work_s / ceiling_s,
        "ceiling_ratio_mediapipe_solution": (work_s - fit_s) / solution_s,
        "ceiling_ratio_with_startup": (run.cpu_s - fit_s) / ceiling_s,
        "ceiling_ratio_total_with_startup": run.cpu_s / ceiling_s,
        "speedup_2_workers": None,
        "speedup_2_workers_without_startup": None,
        "seconds_per_video_hour": {
            **{name: 3600 * cost["wall_s"] / media_s for name, cost in stages.items()},
            "graph and files": 3600 * rest_s / media_s,
        },
        "cpu_s": {
            "pipeline": run.cpu_s,
            "startup": startup.cpu_s,
            "ceiling": ceiling_s,
            "ceiling_before": vars(before),
            "ceiling_after": vars(after),
            "stages_without_decoder": {name: cost["cpu_s"] for name, cost in stages.items()},
            "decoder_graph_and_files": work_s - sum(cost["cpu_s"] for cost in stages.values()),
        },
        "wall_s": {"one_worker": run.wall_s, "startup_one_worker": startup.wall_s},
        "media_s": media_s,
        "clips": len(clips),
    }  # fmt: skip
    if two and startup2:
        figures["speedup_2_workers"] = run.wall_s / two.wall_s
        figures["speedup_2_workers_without_startup"] = (run.wall_s - startup.wall_s) / (two.wall_s - startup2.wall_s)
        figures["wall_s"] |= {"two_workers": two.wall_s, "startup_two_workers": startup2.wall_s}
        figures["cpu_s"]["pipeline_two_workers"] = two.cpu_s
    return figures


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    return round(value, 3) if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", nargs="+", type=Path, default=[], metavar="FILE", help="real two-person videos")
    parser.add_argument("--clips", type=int, default=6, help="copies to curate (default 6)")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the synthetic conversation")
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name} beside the other results")
    args = parser.parse_args()
    missing = [path for path in args.videos if not path.is_file()]
    if missing or args.clips < 1:
        parser.error(f"no such file: {missing[0]}" if missing else "--clips must be at least 1")
    adopt_orphans()
    machine_before = machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = measure(make_clips(args.videos, args.clips, folder, args.seconds), folder)
    result = rounded(figures) | {
        "videos": [path.name for path in args.videos] or [f"synthetic conversation, {args.seconds:g} s"],
        "machine": machine_before,
        "versions": {"duologue": __version__, "python": platform.python_version()}
        | {package: metadata.version(package) for package in PACKAGES},
        "commit": commit(),
    }
    if args.write:
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
    if not args.json:
        for key in ("ceiling_ratio", "ceiling_ratio_mediapipe_solution", "ceiling_ratio_total", "speedup_2_workers"):
            print(f"{key:32s} {result[key]}")
        for stage, seconds in result["seconds_per_video_hour"].items():
            print(f"{stage:24s} {seconds:8.1f} s per hour of video")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
