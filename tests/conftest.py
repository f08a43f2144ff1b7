"""Makes the factories beside this file importable from every test, and holds what several packages' tests share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Before numpy and torch load: bytes are compared with those of other processes, and tests share their machine.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import pytest  # noqa: E402

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)

SMALL_FOCAL_PX = 600.0


@pytest.fixture(scope="session")
def small_conversation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``conversation.mp4`` (8 s, 640x360, one shot, focal length 600 px) and its truth."""
    from duologue.synthesis import voices
    from duologue.synthesis.render import render_conversation
    from duologue.synthesis.scenario import load_scenario

    if not voices.available():
        pytest.skip("espeak-ng is not installed")
    folder = tmp_path_factory.mktemp("conversation")
    scenario = folder / "scenario.yaml"
    scenario.write_text(
        f"seconds: 8\nwidth: 640\nheight: 360\nshots: [{{start_s: 0, camera: {{focal_px: {SMALL_FOCAL_PX:g}}}}}]\n"
    )
    render_conversation(load_scenario(str(scenario)), folder)
    return folder


@pytest.fixture(scope="session")
def two_portraits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A silent film of two public-domain portraits that sway in one room, 4 s, 640x360; needs no voice."""
    from two_portraits import write_two_portraits

    return write_two_portraits(tmp_path_factory.mktemp("portraits") / "portraits.mp4")
