"""The benchmark's yardsticks: its bare loop gives the frames that the pipeline sees, its clock counts every process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from duologue.bench.shared.ceiling import bare_frames
from duologue.schemas.records import InputItem
from duologue.transforms.decode import read_frames
from duologue.transforms.probe import probe
from media_factory import Movie, write_movie


@pytest.mark.parametrize(
    ("fps", "side", "start_s", "end_s", "max_fps"),
    [
        (25.0, None, 0.0, 4.0, 30.0),
        (25.0, 80, 0.0, 4.0, 240.0),
        (25.0, None, 1.5, 3.0, 30.0),
        (50.0, None, 0.8, 2.5, 30.0),
    ],
)
def test_the_bare_loop_gives_the_frames_that_the_pipeline_sees(
    tmp_path: Path, fps: float, side: int | None, start_s: float, end_s: float, max_fps: float
) -> None:
    path = str(write_movie(tmp_path / "film.mp4", Movie(fps=fps, video_late_s=0.2)))
    video = probe(path, InputItem(path))
    bare = [(t, rgb.copy()) for t, rgb in bare_frames(video, side, False, start_s, end_s, max_fps)]
    with read_frames(path, video, start_s=start_s, end_s=end_s, longest_side=side, max_fps=max_fps) as reader:
        read = [(frame.time_s, frame.rgb.copy()) for frame in reader]
    assert len(bare) > 20
    assert [t for t, _ in bare] == pytest.approx([t for t, _ in read])
    assert all(np.array_equal(one, other) for (_, one), (_, other) in zip(bare, read, strict=True))


def test_the_clock_counts_grandchildren_that_outlive_their_parent(tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 0.4: pass"
    leave = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {burn!r}])"
    script = (
        "import json, os, pathlib, sys\n"
        "from duologue.bench import curate as bench\n"
        "bench.adopt_orphans()\n"
        f"command = [sys.executable, '-c', {leave!r}]\n"
        "code, cost = bench.run_tree(command, {min(os.sched_getaffinity(0))}, pathlib.Path('log'))\n"
        "print(json.dumps([code, cost.cpu_s, cost.wall_s]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    code, cpu_s, _ = json.loads(done.stdout.splitlines()[-1])
    assert code == 0
    assert 0.4 <= cpu_s < 2.0
