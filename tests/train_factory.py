"""A small data set and a small network to train on it."""

from __future__ import annotations

import json
from pathlib import Path

from dataset_factory import make_pair, write_dataset
from duologue.model.data import LoaderOptions, PairLoader
from duologue.model.train_config import TrainConfig, config_of

SMALL = {"width": 16, "levels": 2, "blocks": 1, "layers": 2, "heads": 2, "condition": 16}


def write_small_set(root: Path) -> Path:
    """24 pairs of 75 frames, in four shards."""
    write_dataset(root, [make_pair(k, video=f"v{k}", frames=75) for k in range(24)], shards=4)
    return root


def config_for(folder: Path, out: Path, **more: object) -> TrainConfig:
    tree: dict[str, object] = {
        "out": str(out),
        "stages": [{"steps": 6, "data": [{"path": str(folder)}]}],
        "load": {"batch_size": 4, "window": 50, "selected": False, "workers": 1},
        "audio": {"width": 16, "layers": 1},
        "network": SMALL,
        "optimiser": {"lr": 1e-3, "warmup": 2},
        "log": {"every": 1, "save_every": 3, "validate_every": 0, "sample_every": 0, "tensorboard": False},
    }
    return config_of({**tree, **more})


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "curves.jsonl").read_text().splitlines()]


def batch_of(folder: Path, window: int = 75):
    options = LoaderOptions(batch_size=8, window=window, split="", selected=False, shuffle=False, workers=1)
    return next(iter(PairLoader(folder, options)))
