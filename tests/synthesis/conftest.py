"""One short rendered conversation, shared by the tests that look at pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from duologue.synthesis import voices
from duologue.synthesis.render import render_conversation
from duologue.synthesis.scenario import Camera, Scenario, ShotPlan
from duologue.synthesis.truth import Truth

SHORT = replace(
    Scenario(),
    seconds=4.0,
    width=640,
    height=360,
    shots=(
        ShotPlan(0.0, Camera(focal_px=600.0)),
        ShotPlan(2.6, Camera(position=(0.22, -0.12, -1.45), look_at=(0.01, 0.13, 0.0), focal_px=690.0)),
    ),
)


@pytest.fixture(scope="session")
def short(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth, Scenario]:
    if not voices.available():
        pytest.skip("espeak-ng is not installed")
    folder = tmp_path_factory.mktemp("short")
    return folder, render_conversation(SHORT, folder), SHORT
