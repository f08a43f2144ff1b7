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

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
os.environ.update(THREADS)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from duologue import __version__  # noqa: E402
from duologue.bench.shared.ceiling import ledger, measure_ceiling  # noqa: E402
from duologue.bench.shared.report import machine, parser_of  # noqa: E402
from duologue.pipeline.config import CurateConfig  # noqa: E402
from duologue.pipeline.plan import make_plan  # noqa: E402
from duologue.schemas.records import Video  # noqa: E402
from duologue.transforms.face_mesh import FaceMesh  # noqa: E402
from duologue.transforms.quiet import load_mediapipe, without_noise  # noqa: E402

RESULT = Path(__file__).resolve().parent / "results" / "curate.json"
PR_SET_CHILD_SUBREAPER = 36
PACKAGES = ("apache-beam", "av", "mediapipe", "numpy", "opencv-contrib-python-headless")


@dataclass(frozen=True)
class Cost:
    wall_s: float
    cpu_s: float


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
    parser = parser_of(__doc__)
    parser.add_argument("--videos", nargs="+", type=Path, default=[], metavar="FILE", help="real two-person videos")
    parser.add_argument("--clips", type=int, default=6, help="copies to curate (default 6)")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the synthetic conversation")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name} beside the other results")
    args = parser.parse_args()
    missing = [path for path in args.videos if not path.is_file()]
    if missing or args.clips < 1:
        parser.error(f"no such file: {missing[0]}" if missing else "--clips must be at least 1")
    adopt_orphans()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = measure(make_clips(args.videos, args.clips, folder, args.seconds), folder)
    result = rounded(figures) | {
        "videos": [path.name for path in args.videos] or [f"synthetic conversation, {args.seconds:g} s"],
        **machine(torch.device("cpu")),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": round(load, 2),
        "versions": {"duologue": __version__, "python": platform.python_version()}
        | {package: metadata.version(package) for package in PACKAGES},
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
