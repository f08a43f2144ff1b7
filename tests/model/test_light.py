"""A bare GPU machine: the trainer's modules load with torch, numpy and pyarrow alone."""

from __future__ import annotations

import subprocess
import sys

TRAINING = (
    "augment", "data", "dualtalk", "dualtalk_format", "mix", "wav2vec", "baselines", "representation", "audio_features",
    "diffusion", "network", "transformer", "losses", "train_config", "checkpoint", "given", "manner", "sample", "train",
    "plots",
)  # fmt: skip
ABSENT = (
    "scipy", "sklearn", "apache_beam", "mediapipe", "cv2", "av", "decord", "pyannote", "soundfile", "datasets",
    "transformers", "torchaudio", "tensorboard", "matplotlib", "yaml", "safetensors", "pydantic",
)  # fmt: skip

CODE = """
import importlib, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
for name in TRAINING:
    importlib.import_module(f"duologue.model.{name}")
print("ok")
"""


def test_training_modules_need_nothing_else() -> None:
    code = f"ABSENT, TRAINING = {ABSENT!r}, {TRAINING!r}\n{CODE}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "ok", done.stderr[-800:]
