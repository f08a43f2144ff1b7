"""The trainer learns: on tiny conversations whose jaws follow the sound, held-out lips beat every trivial answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from dataset_factory import make_pair, write_dataset
from duologue.model.checkpoint import load_trained
from duologue.model.sample import generate, place_like
from duologue.model.train import train
from duologue.model.train_config import config_of
from duologue.schemas.audio import encode_audio
from duologue.schemas.dataset import Dataset
from duologue.schemas.row import Pair

OPENS = 0.3  # radians of jaw at full loudness


def talk(seed: int) -> Pair:
    """A pair in which whoever speaks opens the jaw as loudly as the sound is, and the other stays shut."""
    pair = make_pair(seed, video=f"talk{seed}", frames=75)
    rng = np.random.default_rng([seed, 7])
    level = np.interp(np.arange(75), np.arange(0, 80, 5), rng.uniform(0, 1, 16))
    first = bool(rng.integers(2))
    mask = (np.arange(75) < int(rng.integers(25, 50))) == first
    speaking = (mask.astype(np.float32), (~mask).astype(np.float32))
    heads = []
    for head, speaks in zip((pair.fitted.a, pair.fitted.b), speaking, strict=True):
        jaw = np.stack([OPENS * level * speaks, np.zeros(75), np.zeros(75)], axis=1).astype(np.float32)
        heads.append(replace(head, jaw=np.where(head.valid[:, None], jaw, np.nan).astype(np.float32)))
    loud = np.repeat(level, 640)
    wave = (0.3 * loud * np.sin(np.arange(len(loud)) * 0.07) + 0.002 * rng.normal(size=len(loud))).astype(np.float32)
    voices = replace(pair.voices, speaking_a=speaking[0], speaking_b=speaking[1], audio=encode_audio(wave))
    return replace(pair, fitted=replace(pair.fitted, a=heads[0], b=heads[1]), voices=voices)


def test_lips_of_unseen_conversations_follow_the_sound(tmp_path: Path) -> None:
    write_dataset(tmp_path / "train", [talk(k) for k in range(40)], shards=4)
    write_dataset(tmp_path / "test", [talk(1000 + k) for k in range(6)])
    train(
        config_of(
            {
                "out": str(tmp_path / "run"),
                "stages": [{"steps": 200, "data": [{"path": str(tmp_path / "train")}]}],
                "load": {"batch_size": 8, "window": 48, "selected": False, "workers": 1},
                "audio": {"width": 24, "layers": 1},
                "network": {"width": 24, "levels": 2, "blocks": 1, "heads": 2, "condition": 24},
                "losses": {"expression": 8.0},
                "optimiser": {"lr": 4e-3, "warmup": 10, "ema": 0.95},
                "log": {"tensorboard": False, "save_every": 0, "validate_every": 0, "sample_every": 0},
            }
        )
    )
    net = load_trained(tmp_path / "run")
    errors: dict[str, list[float]] = {}
    for pair in Dataset(tmp_path / "test").pairs(selected=False):
        truth = (pair.fitted.a, pair.fitted.b)
        speaking = np.stack([pair.voices.speaking_a, pair.voices.speaking_b])
        sound, places = pair.voices.samples(), place_like(truth)
        samples = [
            generate(net, sound, places, speaking=speaking, seed=k, steps=5, guidance=1.0, overlap_s=0.8)
            for k in range(4)
        ]
        mean = float(net.statistics.mean[20])
        for index in (0, 1):
            made = np.mean([(one.a, one.b)[index].jaw for one in samples], axis=0)
            both = truth[0].valid & truth[1].valid
            wanted, partner = truth[index].jaw[both, 0], truth[1 - index].jaw[both, 0]
            answers = {"model": made[both, 0], "zero": wanted * 0, "mean": wanted * 0 + mean, "partner": partner}
            for name, jaw in answers.items():
                errors.setdefault(name, []).append(float(np.mean((jaw - wanted) ** 2)))
    means = {name: float(np.mean(values)) for name, values in errors.items()}
    trivial = min(value for name, value in means.items() if name != "model")
    assert means["model"] < 0.8 * trivial, means
