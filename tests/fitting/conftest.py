"""Real head-model files, where the machine has them."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from duologue.fitting.head_model import HeadModel
from duologue.fitting.load_head import load_head_model

SHARED = Path(__file__).parents[2].parent / "shared"


@pytest.fixture(scope="session")
def ict_folder() -> Path:
    """ICT-FaceKit "light", unpacked once into the user's cache."""
    archive = SHARED / "headmodels" / "ict-facekit-25.tar.xz"
    if not archive.exists():
        pytest.skip(f"no {archive.name}")
    cache = Path.home() / ".cache" / "duologue-tests"
    done = cache / "ICT-FaceKit.done"
    if not done.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as tar:
            tar.extractall(cache, filter="data")
        done.touch()
    return cache / "ICT-FaceKit"


@pytest.fixture(scope="session")
def ict(ict_folder: Path) -> HeadModel:
    return load_head_model(ict_folder)


@pytest.fixture(scope="session")
def task_file() -> Path:
    path = SHARED / "weights" / "face_landmarker_v2_with_blendshapes.task"
    if not path.exists():
        pytest.skip(f"no {path.name}")
    return path
