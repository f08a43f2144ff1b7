"""How fast do training batches come from the shards? Against HF ``datasets``' torch iteration over the same files.

    python bench/load.py [--pairs 128] [--workers 2] [--json]

Rows are 10 s clips of smooth motion with measurement noise, 50 identity and 50 expression coefficients, and 10 s of
speech-like noise as FLAC. Both sides read the same columns, give torch tensors and decode the sound; ``datasets`` is
measured map-style and streaming, with its sound decoded by the same function, and the faster one counts.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from duologue.bench.shared.report import machine, parser_of, tell
from duologue.model.data import PERSON, LoaderOptions, PairLoader
from duologue.schemas.audio import decode_audio, encode_audio
from duologue.schemas.dataset import Dataset
from duologue.schemas.files import LocalFiles
from duologue.schemas.finish import finish_dataset, write_rejects, write_shard
from duologue.schemas.heads import FittedPair, HeadTrack, Relation
from duologue.schemas.pair import pair_id
from duologue.schemas.records import Turn
from duologue.schemas.row import Pair, Provenance, Row, Source, Voices, pair_row
from duologue.schemas.shard import shard_count, shard_index

FRAMES, FPS, COEFFICIENTS = 250, 25.0, 50


def walk(rng: np.random.Generator, scale: float, *shape: int) -> np.ndarray:
    """Smooth motion plus noise of a fit's size, float32."""
    steps = np.cumsum(rng.normal(size=(FRAMES, *shape)), axis=0) * scale * 0.2
    return (steps + rng.normal(size=steps.shape) * scale).astype(np.float32)


def head(rng: np.random.Generator, x: float, name: str) -> HeadTrack:
    centre = walk(rng, 0.003, 3) + np.array([x, 0, 1.5], np.float32)
    gaze = walk(rng, 0.02, 3) + np.array([0, 0, -1], np.float32)
    gaze /= np.linalg.norm(gaze, axis=1, keepdims=True)
    box = np.array([600 + 400 * x, 300, 700 + 400 * x, 420], np.float32) + walk(rng, 1.0, 4)
    return HeadTrack(
        track_id=name, shape=rng.normal(size=COEFFICIENTS).astype(np.float32),
        expression=walk(rng, 0.05, COEFFICIENTS), jaw=walk(rng, 0.004, 3), neck=np.zeros((FRAMES, 3), np.float32),
        rotation=walk(rng, 0.004, 3), translation=centre, eyes=walk(rng, 0.01, 2, 3), gaze_raw=gaze, gaze=gaze,
        head_centre=centre, rotation_sd=abs(walk(rng, 0.01, 3)), translation_sd=abs(walk(rng, 0.1)),
        gaze_sd=abs(walk(rng, 0.07)), residual=abs(walk(rng, 0.03)), box=box,
        confidence=np.clip(0.9 + walk(rng, 0.01), 0, 1), valid=np.ones(FRAMES, bool), scale_log_sd=0.06,
    )  # fmt: skip


def make_row(number: int) -> Row:
    """One pair row; depends on its number alone."""
    rng = np.random.default_rng(number)
    a, b = head(rng, -0.4, "t0"), head(rng, 0.4, "t1")
    video, nothing = f"{number:064x}", np.zeros(FRAMES, np.float32)
    level = np.repeat(np.abs(rng.normal(size=100)), 1600)
    sound = (np.convolve(rng.normal(size=160_000), np.ones(8) / 8, "same") * level * 0.1).astype(np.float32)
    pair = Pair(
        pair_id=pair_id(video, 0.0, FRAMES / FPS, "bench"),
        source=Source(video, f"{number}.mp4", 0.0, FRAMES / FPS),
        fitted=FittedPair(
            np.arange(FRAMES) / FPS, FPS, 1280, 720, 900.0, "prior", 0.25, "bench", "0" * 64, "flame", a, b
        ),
        relation=Relation(np.eye(4), nothing, nothing, nothing, nothing, nothing, {}, (), ()),
        voices=Voices((Turn(0.0, 5.0, "v0", "a"),), nothing, nothing, "v0", "", encode_audio(np.clip(sound, -1, 1))),
        scores={},
        provenance=Provenance("bench", "0"),
    )  # fmt: skip
    return pair_row(pair)


def write(root: Path, count: int) -> Dataset:
    """A data set of ``count`` rows."""
    files, shards = LocalFiles(root), shard_count(count)
    keyed = sorted((pair_id(f"{number:064x}", 0.0, FRAMES / FPS, "bench"), number) for number in range(count))
    entries = []
    for index in range(shards):
        mine = (make_row(number) for key, number in keyed if shard_index(key, shards) == index)
        entries.append(write_shard(files, mine, index, shards))
    finish_dataset(
        files, entries, write_rejects(files, []), config_hash="bench", code_version="0", config_yaml="", funnel={}
    )
    return Dataset(root)


def seconds(function: Callable[[], int], count: int, repeats: int) -> tuple[float, float]:
    """Wall and CPU seconds (all threads) of the fastest run; every run must yield ``count`` pairs."""
    times = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        got = function()
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
        if got != count:
            raise RuntimeError(f"{got} pairs instead of {count}")
    return min(times)


def ours(dataset: Dataset, options: LoaderOptions) -> Callable[[], int]:
    loader = PairLoader(dataset, options)
    return lambda: sum(len(batch.pair_ids) for batch in loader)


def theirs(dataset: Dataset, cache: Path, audio: bool, streaming: bool) -> Callable[[], int]:
    """``datasets``' rows as torch tensors, one after the other, as its own DataLoader examples use them."""
    from datasets import Audio, load_dataset

    columns = [f"{who}.{name}" for who in "ab" for name in (*PERSON, "shape", "valid")]
    columns += ["audio"] if audio else []
    files = [f"{dataset.files.root}/{entry.path}" for entry in dataset.shards]
    rows = load_dataset("parquet", data_files=files, split="train", streaming=streaming, cache_dir=str(cache))
    rows = rows.select_columns(columns)
    if audio:
        rows = rows.cast_column("audio", Audio(decode=False))
    rows = rows.with_format("torch")

    def run() -> int:
        count = 0
        for row in rows:
            if audio:
                torch.from_numpy(decode_audio(row["audio"]["bytes"]))
            count += 1
        return count

    return run


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    dataset = write(folder / "set", options.pairs)
    out: dict[str, Any] = {"pairs": options.pairs, "workers": options.workers, "cores": os.cpu_count()}
    out["bytes_per_pair"] = round(sum(entry.bytes for entry in dataset.shards) / options.pairs)
    for audio in (True, False):
        tail = "" if audio else "_without_audio"
        loader = LoaderOptions(
            split="", selected=False, workers=options.workers, drop_last=False, audio=audio, window=FRAMES
        )
        mine = seconds(ours(dataset, loader), options.pairs, 3)
        other = {
            name: seconds(theirs(dataset, folder / "cache", audio, name == "streaming"), options.pairs, 1)
            for name in ("map", "streaming")
        }
        best = min(other, key=lambda name: other[name])
        out[f"pairs_per_s{tail}"] = round(options.pairs / mine[0], 1)
        out[f"datasets_pairs_per_s{tail}"] = round(options.pairs / other[best][0], 1)
        out[f"datasets_style{tail}"] = best
        out[f"ratio_vs_datasets{tail}"] = round(other[best][0] / mine[0], 2)
        # CPU time does not feel what else runs on the machine.
        out[f"cpu_ms_per_pair{tail}"] = round(mine[1] / options.pairs * 1e3, 3)
        out[f"datasets_cpu_ms_per_pair{tail}"] = round(other[best][1] / options.pairs * 1e3, 3)
    return out


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--pairs", type=int, default=128)
    parser.add_argument("--workers", type=int, default=2, help="decoding threads")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pa.set_cpu_count(options.workers)
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    with tempfile.TemporaryDirectory() as folder:
        result = machine(torch.device("cpu")) | measure(options, Path(folder))
    tell(result, options.json)


if __name__ == "__main__":
    main()
