"""Training batches straight from the shards: shuffled, sharded over ranks, in an order that workers cannot change.

The unit of reading is a Parquet row group (32 clips, decoded once per epoch); the unit of shuffling is a *pool* of a
few row groups. An epoch is planned from the manifest, the options and the seed alone, so that batch n is the same for
any number of workers and can be reached again without decoding what lies before it. Workers are threads: decompression
and FLAC decoding release Python's lock, and nothing is copied between processes.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ..schemas.audio import decode_audio
from ..schemas.dataset import Dataset
from ..schemas.errors import UsageError
from ..schemas.pair import SAMPLE_RATE
from ..schemas.row import Row, table_to_rows
from .augment import MirrorMaps, reflect

# Per person, [T, ...] in the row, [B, 2, W, ...] in a batch.
PERSON: tuple[str, ...] = (
    "expression", "jaw", "neck", "rotation", "translation", "eyes", "gaze", "head_centre", "speaking",
)  # fmt: skip


@dataclass(frozen=True)
class LoaderOptions:
    """What a batch is made of.

    Attributes:
        batch_size: pairs a batch and rank.
        window: frames of a sample; shorter clips are padded, longer ones give as many windows as fit, placed at random.
        fps: that all rows must have, frames a second.
        split: "train", "val", "test", or "" for all.
        selected: only pairs that pass the data set's thresholds.
        shuffle: False reads in stored order, windows from each clip's start.
        pool_groups: row groups shuffled together; also how many are held in memory, twice over.
        seed: of order and windows.
        audio: decode the sound.
        swap: exchange both people in half of the samples, so that no network learns "the left one".
        drop_last: leave out the last, smaller batch. With several ranks it is always left out.
        workers: decoding threads.
    """

    batch_size: int = 32
    window: int = 250
    fps: float = 25.0
    split: str = "train"
    selected: bool = True
    shuffle: bool = True
    pool_groups: int = 4
    seed: int = 0
    audio: bool = True
    swap: bool = True
    drop_last: bool = True
    workers: int = 2

    def __post_init__(self) -> None:
        low = [name for name in ("batch_size", "window", "pool_groups", "workers") if getattr(self, name) < 1]
        if low or not self.fps > 0:
            raise UsageError(f"loader: {', '.join(low) or 'fps'} must be positive")
        if self.split not in ("", "train", "val", "test"):
            raise UsageError(f"loader: split {self.split!r} is none of train, val, test")


@dataclass(frozen=True)
class Batch:
    """B samples of W frames of two people; index 0 is whoever is further left (right where ``swapped``).

    Numbers are 0 where a mask says that they are not known.

    Attributes:
        expression [B, 2, W, E], jaw, neck, rotation, translation, gaze, head_centre [B, 2, W, 3], eyes [B, 2, W, 2, 3],
            speaking [B, 2, W], shape [B, 2, S]: as in the pair row, units and frames too.
        valid: [B, 2, W] bool, measured; False in padding. gaze_valid: [B, 2, W] bool, the gaze is known too.
        audio: [B, W * 16000 / fps] mixed sound, 16 kHz. audio_valid: [B] bool, the row has sound.
        frames: [B] frames before the padding. pair_ids: [B]. starts: [B] first frame within the clip.
        swapped, mirrored: [B] bool, how the sample was augmented.
        mouth_only: [B] bool, a dubbed or single-speaker row, whose interaction is not real: only mouths may be learned.
    """

    expression: Tensor
    jaw: Tensor
    neck: Tensor
    rotation: Tensor
    translation: Tensor
    eyes: Tensor
    gaze: Tensor
    head_centre: Tensor
    speaking: Tensor
    shape: Tensor
    valid: Tensor
    gaze_valid: Tensor
    audio: Tensor
    audio_valid: Tensor
    frames: Tensor
    starts: Tensor
    swapped: Tensor
    mirrored: Tensor
    mouth_only: Tensor
    pair_ids: tuple[str, ...]

    def to(self, device: torch.device | str) -> Batch:
        """The batch on another device."""
        moved = {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in vars(self).items()}
        return Batch(**moved)


@dataclass(frozen=True)
class _Group:
    """A row group that holds wanted rows.

    Attributes:
        shard, index: which. rows: positions of the wanted rows. lengths: frames of each.
    """

    shard: int
    index: int
    rows: tuple[int, ...]
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class _Sample:
    group: int  # position in the pool
    row: int  # position among the group's wanted rows
    start: int
    swap: bool
    mirror: bool


class PairLoader:
    """An endless supply of epochs: iterating yields the rest of the current epoch, then the next one begins.

    Args:
        dataset: a data-set folder, or an open :class:`Dataset`.
        options: see :class:`LoaderOptions`.
        rank, world: this process among those that train together; each reads row groups of its own.
        head_model_id: what the network was built for; "" takes the data set's.
        mirror: reflect half of the samples left to right; needs the head model's maps (:func:`.augment.mirror_maps`).

    Raises:
        UsageError: no manifest, another schema version, head model or frame rate, or nothing to train on.
    """

    def __init__(
        self,
        dataset: str | Path | Dataset,
        options: LoaderOptions = LoaderOptions(),
        *,
        rank: int = 0,
        world: int = 1,
        head_model_id: str = "",
        mirror: MirrorMaps | None = None,
    ) -> None:
        if not 0 <= rank < world:
            raise UsageError(f"rank {rank} of {world}")
        self.dataset = dataset if isinstance(dataset, Dataset) else Dataset(dataset)
        self.options, self.rank, self.world = options, rank, world
        root, model = self.dataset.files.root, self.dataset.manifest.head_model_id
        self._mirror = mirror
        if mirror is not None and mirror.head_model_id != model:
            raise UsageError(
                f"{root} is labelled with head model {model}, the mirror maps are {mirror.head_model_id}'s"
            )
        if head_model_id and model != head_model_id:
            raise UsageError(f"{root} is labelled with head model {model}, this network with {head_model_id}")
        self._groups = _find_groups(self.dataset, options)
        if not self._groups:
            chosen = f"selected pair in {options.split or 'any split'}" if options.selected else "pair"
            raise UsageError(f"{root} has no {chosen}")
        if len(self) == 0:
            raise UsageError(
                f"{root}: {self.samples} samples in {len(self._groups)} row groups do not give each of {world} ranks "
                f"a batch of {options.batch_size}"
            )
        self.epoch, self._next = 0, 0
        self._local = threading.local()

    @cached_property
    def samples(self) -> int:
        """Windows in one epoch, all ranks."""
        return sum(_windows(length, self.options.window) for group in self._groups for length in group.lengths)

    def __len__(self) -> int:
        """Batches in one epoch, the same on every rank."""
        return self._batches

    @cached_property
    def _batches(self) -> int:
        size = self.options.batch_size
        if self.world == 1:
            return self.samples // size if self.options.drop_last else -(-self.samples // size)
        # Which groups a rank gets differs by epoch; what every rank can always give is what the smallest set gives.
        counts = sorted(sum(_windows(n, self.options.window) for n in group.lengths) for group in self._groups)
        return sum(counts[: len(counts) // self.world]) // size

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands: after the batches already yielded, not those decoded ahead."""
        return {"epoch": self.epoch, "batch": self._next, "fingerprint": self.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the exact next batch.

        Raises:
            UsageError: the state is of another data set, other options or another number of ranks.
        """
        if state.get("fingerprint") != self.fingerprint:
            raise UsageError("the saved loader state is of another data set, other options or another number of ranks")
        self.epoch, self._next = int(state["epoch"]), int(state["batch"])

    @cached_property
    def fingerprint(self) -> str:
        """Of everything that decides the order of samples; ``workers`` does not."""
        options = {key: value for key, value in asdict(self.options).items() if key != "workers"}
        files = [(entry.path, entry.sha256) for entry in self.dataset.manifest.files if entry.kind == "pairs"]
        chosen = [(group.shard, group.index, group.rows) for group in self._groups]
        text = json.dumps([options, files, chosen, self.rank, self.world, self._mirror is not None], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def __iter__(self) -> Iterator[Batch]:
        pools = self._plan(self.epoch)
        size, last = self.options.batch_size, len(self)
        with ThreadPoolExecutor(self.options.workers, thread_name_prefix="loader") as threads:
            waiting: list[tuple[_Sample, list[Row]]] = []
            # Whole pools that earlier batches used up are not read again.
            skip = self._next * size
            while pools and skip >= len(pools[0][1]):
                skip -= len(pools.popleft()[1])
            ahead: deque[tuple[list[Future[list[Row]]], list[_Sample]]] = deque()
            try:
                while self._next < last:
                    while pools and len(ahead) < 2:
                        groups, samples = pools.popleft()
                        ahead.append(([threads.submit(self._read, group) for group in groups], samples))
                    while len(waiting) < size and ahead:
                        futures, samples = ahead.popleft()
                        rows = [future.result() for future in futures]
                        waiting += [(sample, rows[sample.group]) for sample in samples[skip:]]
                        skip = 0
                        if pools:
                            groups, samples = pools.popleft()
                            ahead.append(([threads.submit(self._read, group) for group in groups], samples))
                    mine, waiting = waiting[:size], waiting[size:]
                    batch = self._collate(mine)
                    self._next += 1
                    yield batch
            finally:
                for futures, _ in ahead:
                    for future in futures:
                        future.cancel()
        self.epoch, self._next = self.epoch + 1, 0

    def _plan(self, epoch: int) -> deque[tuple[list[_Group], list[_Sample]]]:
        """This rank's pools of an epoch: row groups read together, and their samples in order."""
        options = self.options
        order = np.arange(len(self._groups))
        if options.shuffle:
            order = np.random.default_rng([options.seed, epoch]).permutation(len(self._groups))
        mine = order[self.rank :: self.world].tolist()
        pools: deque[tuple[list[_Group], list[_Sample]]] = deque()
        for first in range(0, len(mine), options.pool_groups):
            chosen = mine[first : first + options.pool_groups]
            rng = np.random.default_rng([options.seed, epoch, 1 + chosen[0]])
            samples = []
            for position, name in enumerate(chosen):
                for row, length in enumerate(self._groups[name].lengths):
                    count = _windows(length, options.window)
                    room = max(length - count * options.window, 0)
                    phase = int(rng.integers(room + 1)) if options.shuffle else 0
                    for k in range(count):
                        swap = bool(rng.integers(2)) if options.shuffle and options.swap else False
                        flip = bool(rng.integers(2)) if options.shuffle and self._mirror is not None else False
                        samples.append(_Sample(position, row, phase + k * options.window, swap, flip))
            if options.shuffle:
                samples = [samples[index] for index in rng.permutation(len(samples))]
            pools.append(([self._groups[name] for name in chosen], samples))
        return pools

    def _read(self, group: _Group) -> list[Row]:
        """The wanted rows of a row group, sound decoded; runs in a worker thread."""
        opened: dict[int, Any] = self._local.__dict__.setdefault("shards", {})
        if group.shard not in opened:
            while len(opened) >= 8:  # a fetched shard is held whole
                opened.pop(next(iter(opened)))
            opened[group.shard] = self.dataset.open(self.dataset.shards[group.shard])
        columns = [
            "pair_id",
            "origin",
            "n_people",
            *(f"{who}.{name}" for who in "ab" for name in (*PERSON, "shape", "valid")),
        ]
        columns += ["audio"] if self.options.audio else []
        try:
            table = opened[group.shard].read_row_group(group.index, columns=columns, use_threads=False)
            every = list(table_to_rows(table))
            rows = [every[position] for position in group.rows]
            for row in rows:
                stored = row.pop("audio", None)
                data = None if stored is None else stored["bytes"]
                row["sound"] = None if data is None else decode_audio(data)
        except (OSError, ValueError, pa.ArrowException) as error:
            name = f"{self.dataset.files.root}/{self.dataset.shards[group.shard].path}"
            line = " ".join(str(error).split())[:160]
            raise UsageError(f"{name}, group {group.index}, cannot be read ({line}): see 'duologue verify'") from error
        return rows

    def _collate(self, samples: list[tuple[_Sample, list[Row]]]) -> Batch:
        """Windows of rows to one batch."""
        options, count, width = self.options, len(samples), self.options.window
        per_frame = SAMPLE_RATE / options.fps
        example = samples[0][1][samples[0][0].row]
        arrays = {name: np.zeros((count, 2, width, *example[f"a.{name}"].shape[1:]), np.float32) for name in PERSON}
        shape = np.zeros((count, 2, len(example["a.shape"])), np.float32)
        valid = np.zeros((count, 2, width), bool)
        audio = np.zeros((count, round(width * per_frame) if options.audio else 0), np.float32)
        heard, frames = np.zeros(count, bool), np.zeros(count, np.int64)
        for index, (sample, rows) in enumerate(samples):
            row = rows[sample.row]
            part = slice(sample.start, sample.start + width)
            frames[index] = length = len(row["a.valid"][part])
            for slot, who in enumerate("ba" if sample.swap else "ab"):
                for name, array in arrays.items():
                    array[index, slot, :length] = row[f"{who}.{name}"][part]
                valid[index, slot, :length] = row[f"{who}.valid"][part]
                shape[index, slot] = row[f"{who}.shape"]
            if row["sound"] is not None:
                heard[index] = True
                at = round(sample.start * per_frame)
                piece = row["sound"][at : at + audio.shape[1]]
                audio[index, : len(piece)] = piece
        if self._mirror is not None:
            reflect(arrays, shape, valid, np.array([sample.mirror for sample, _ in samples]), self._mirror)
        gaze_valid = valid & np.isfinite(arrays["gaze"]).all(axis=-1)
        tensors = {name: torch.from_numpy(np.nan_to_num(array, copy=False)) for name, array in arrays.items()}
        return Batch(
            **tensors,
            shape=torch.from_numpy(shape),
            valid=torch.from_numpy(valid),
            gaze_valid=torch.from_numpy(gaze_valid),
            audio=torch.from_numpy(audio),
            audio_valid=torch.from_numpy(heard),
            frames=torch.from_numpy(frames),
            starts=torch.tensor([sample.start for sample, _ in samples]),
            mirrored=torch.tensor([sample.mirror for sample, _ in samples]),
            swapped=torch.tensor([sample.swap for sample, _ in samples]),
            mouth_only=torch.tensor(
                [rows[s.row]["origin"] == "dubbed" or rows[s.row]["n_people"] < 2 for s, rows in samples]
            ),
            pair_ids=tuple(rows[sample.row]["pair_id"] for sample, rows in samples),
        )


def _windows(length: int, window: int) -> int:
    """Windows that a clip gives in one epoch."""
    return max(length // window, 1)


def _find_groups(dataset: Dataset, options: LoaderOptions) -> list[_Group]:
    """Row groups with wanted rows, from light columns."""
    everything = not options.selected and not options.split
    wanted = None if everything else set(dataset.ids(selected=options.selected, split=options.split or None))
    out = []
    for number, entry in enumerate(dataset.shards):
        shard = dataset.open(entry)
        for index in range(shard.metadata.num_row_groups):
            light = shard.read_row_group(
                index, columns=["pair_id", "n_frames", "fps", "head_model_id"], use_threads=False
            )
            keys, lengths = light["pair_id"].to_pylist(), light["n_frames"].to_pylist()
            rows = [position for position, key in enumerate(keys) if wanted is None or key in wanted]
            rates, models = light["fps"].to_pylist(), light["head_model_id"].to_pylist()
            for row in rows:
                if models[row] != dataset.manifest.head_model_id:
                    raise UsageError(
                        f"pair {keys[row]} of {dataset.files.root} is labelled with head model {models[row]}, its "
                        f"manifest says {dataset.manifest.head_model_id}: see 'duologue verify'"
                    )
                if abs(rates[row] - options.fps) > 1e-6:
                    raise UsageError(f"pair {keys[row]} has {rates[row]:g} frames a second, not {options.fps:g}")
            if rows:
                out.append(_Group(number, index, tuple(rows), tuple(lengths[row] for row in rows)))
    return out
