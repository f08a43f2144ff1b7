from __future__ import annotations

import subprocess
import sys

MODELS = """
import numpy as np
from duologue.transforms.detect_faces import FaceDetector
from duologue.transforms.face_mesh import FaceMesh, Region
import skimage.data
picture = skimage.data.astronaut()
assert len(FaceDetector().detect(picture, 100.0)) == 1
assert FaceMesh().measure(picture, Region(222, 122, 170)).logit > 10
"""
MIXED = """
import os, sys
from duologue.transforms.quiet import without_noise
with without_noise():
    os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\\n")
    os.write(2, b"E0000 something is broken\\n")
    print("and Python says so", file=sys.stderr)
os.write(2, b"after\\n")
"""


def stderr_of(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stderr.splitlines()


def test_models_start_without_a_word() -> None:
    assert stderr_of(MODELS) == []


def test_only_known_lines_are_dropped_and_the_descriptor_comes_back() -> None:
    assert stderr_of(MIXED) == ["E0000 something is broken", "and Python says so", "after"]


def test_a_process_without_standard_error_is_left_alone() -> None:
    code = (
        "import os\nfrom duologue.transforms.quiet import without_noise\nos.close(2)\nwith without_noise():\n    pass"
    )
    assert stderr_of(code) == []


def test_the_packages_other_parts_load_when_they_are_asked_for() -> None:
    code = (
        "import sys\nfrom duologue.transforms.quiet import load_mediapipe\nmp = load_mediapipe()\n"
        "assert 'matplotlib' not in sys.modules\n"
        "import mediapipe\nassert mediapipe is mp and hasattr(mp.solutions.face_mesh, 'FaceMesh') and mp.Image\n"
        "assert not hasattr(mp, 'nothing')"
    )
    assert stderr_of(code) == []
