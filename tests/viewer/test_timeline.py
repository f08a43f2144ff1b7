"""The page's clock (JavaScript): which frame is shown at a time, and where a frame stands on the timeline."""

from __future__ import annotations

import json
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import duologue.viewer as viewer
import pytest

STATIC = Path(viewer.__file__).parent / "static"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not on this machine")


def evaluated(expression: str) -> Any:
    """The value of an expression about ``Timeline`` and a clip of 75 frames at 25 a second from 1.7 s on."""
    assert NODE is not None
    run = (
        "const Timeline = require(process.argv[1]);"
        "const pair = { start: 1.7, fps: 25, frames: 75 }, box = { x: 10, w: 750 };"
        f"process.stdout.write(JSON.stringify({expression}));"
    )
    done = subprocess.run([NODE, "-e", run, str(STATIC / "timeline.js")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_frame_nearest_in_time_is_shown() -> None:
    times = [1.7, 1.719, 1.721, 1.7 + 0.04 * 25, 1.7 + 0.43, 0.0, 4.66, 4.7, 99.0]
    assert evaluated(f"{times}.map((t) => Timeline.frameAt(pair, t))") == [0, 0, 1, 25, 11, 0, 74, 74, 74]


def test_every_frame_is_found_at_its_own_time() -> None:
    back = evaluated("[...Array(75).keys()].map((k) => Timeline.frameAt(pair, Timeline.timeOf(pair, k)))")
    assert back == list(range(75))


def test_what_is_drawn_of_a_frame_lies_about_its_own_time() -> None:
    spans = evaluated("[...Array(75).keys()].map((k) => Timeline.span(box, pair, k))")
    assert spans[0] == [10, 15]  # ten pixels a frame
    assert spans[10] == pytest.approx([105, 115])  # about 110, where a turn that begins with this frame begins
    assert spans[74] == [745, 760]
    assert all(a[1] == b[0] for a, b in pairwise(spans))


def test_a_turn_is_told_from_its_first_frame_on() -> None:
    turns = '[{ start_s: 2.1, end_s: 2.5, face: "a", speaker: "v0" }]'
    told = evaluated(f"[9, 10, 19, 20].map((k) => Timeline.speakers({{ ...pair, turns: {turns} }}, k))")
    assert told == ["silence", "a", "a", "silence"]
