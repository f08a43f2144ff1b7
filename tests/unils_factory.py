"""Small folders in UniLS's format, and their records by value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import lmdb
import numpy as np
from duologue.model.unils_format import DATABASE, PAIRS, Record, record_bytes


def voice(seed: int, frames: int, start: int, stop: int, level: float = 0.2) -> np.ndarray:
    """Noise of a level from frame ``start`` to ``stop``, faint hum elsewhere."""
    rng = np.random.default_rng(seed)
    out = rng.normal(size=frames * 640) * 1e-4
    out[start * 640 : stop * 640] += rng.normal(size=(stop - start) * 640) * level
    return out.astype(np.float32)


def record(seed: int, frames: int = 100, start: int = 10, stop: int = 60) -> Record:
    """A person who moves at random and speaks from frame ``start`` to ``stop``."""
    rng = np.random.default_rng(seed)
    motion = np.cumsum(rng.normal(size=(frames, 112)) * 0.01, axis=0).astype(np.float32)
    mask = np.zeros(frames, bool)
    mask[start:stop] = True
    return Record(motion, voice(seed, frames, start, stop, level=0.1), mask)


def write_database(root: Path, values: Mapping[str, bytes | Record]) -> None:
    (root / DATABASE).mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(root / DATABASE), map_size=2**28) as environment, environment.begin(write=True) as transaction:
        for name, value in values.items():
            transaction.put(name.encode(), record_bytes(value) if isinstance(value, Record) else value)


def write_folder(root: Path, values: Mapping[str, bytes | Record], lists: Mapping[str, object]) -> Path:
    """A folder of records and a list of conversations by split; splits not given are empty."""
    write_database(root, values)
    (root / PAIRS).write_text(json.dumps({"train": {}, "val": {}, "test": {}} | dict(lists)))
    return root
