"""What a training run is fed: its data sets' loaders, their statistics, and batches prepared ahead in a thread."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor

from ..fitting.head_model import HeadModel
from ..fitting.load_head import load_head_model
from ..schemas.dataset import Dataset
from ..schemas.errors import UsageError
from .audio_features import FeatureCache, FrontEnd
from .augment import mirror_maps
from .data import Batch, LoaderOptions, PairLoader
from .mix import MixedLoader
from .ranks import Ranks
from .representation import Statistics, statistics_of
from .train_config import SetOptions, TrainConfig

STATISTICS_WINDOWS = 20_000  # enough for a mean and a deviation; the shards' order is random


def head_of(config: TrainConfig, head_model_id: str) -> HeadModel | None:
    """The data sets' mesh: the one named, or the embedded one if it is theirs."""
    head = load_head_model(config.head_model or "canonical")
    if head.model_id == head_model_id:
        return head
    if config.head_model:
        raise UsageError(f"{config.head_model} is {head.model_id}, the data sets are labelled with {head_model_id}")
    return None


def loader_of(
    config: TrainConfig, sets: tuple[SetOptions, ...], ranks: Ranks, head_model_id: str, head: HeadModel | None
) -> MixedLoader:
    """One stage's stream of training batches."""
    load = config.load
    mirror = None
    if load.mirror:
        if head is None:
            raise UsageError("load.mirror needs head_model, the mesh of the data sets' head model")
        mirror = mirror_maps(head)
    options = LoaderOptions(
        batch_size=load.batch_size, window=load.window, fps=load.fps, split="train", selected=load.selected,
        pool_groups=load.pool_groups, seed=config.seed, audio=not config.audio.cache, swap=load.swap,
        workers=load.workers,
    )  # fmt: skip
    loaders = [
        PairLoader(one.path, options, rank=ranks.rank, world=ranks.world, head_model_id=head_model_id, mirror=mirror)
        for one in sets
    ]
    return MixedLoader(loaders, [one.weight for one in sets], config.seed)


def statistics_of_sets(config: TrainConfig, head_model_id: str) -> Statistics:
    """Of the first stage's training windows; large data sets count by their weights."""
    load = config.load
    options = LoaderOptions(
        batch_size=64, window=load.window, fps=load.fps, split="train", selected=load.selected, shuffle=False,
        audio=False, drop_last=False, workers=load.workers,
    )  # fmt: skip
    sets = config.stages[0].data
    whole = sum(one.weight for one in sets)
    batches = chain.from_iterable(
        islice(
            PairLoader(one.path, options, head_model_id=head_model_id),
            math.ceil(STATISTICS_WINDOWS / options.batch_size * one.weight / whole),
        )
        for one in sets
    )
    return statistics_of(batches, head_model_id)


def held_out(config: TrainConfig, head_model_id: str, count: int) -> list[Batch]:
    """The first ``count`` validation batches of the first stage's first set, in stored order; none where it has no such
    split."""
    data = Dataset(config.stages[0].data[0].path)
    if not count or not data.ids(selected=config.load.selected, split="val"):
        return []
    load = config.load
    options = LoaderOptions(
        batch_size=load.batch_size, window=load.window, fps=load.fps, split="val", selected=load.selected,
        shuffle=False, drop_last=False, workers=1,
    )  # fmt: skip
    return list(islice(PairLoader(data, options, head_model_id=head_model_id), count))


def preparation(
    front: FrontEnd, cache: FeatureCache | None, window: int, device: torch.device
) -> Callable[[Batch], tuple[Batch, Tensor]]:
    """What turns a loader's batch into one on the device and its audio features, cached or computed."""

    def prepare(batch: Batch) -> tuple[Batch, Tensor]:
        moved = batch.to(device)
        if cache is not None:
            heard = cache.read(moved.pair_ids, moved.starts.tolist(), window).to(device)
        else:
            with torch.no_grad():
                heard = front(moved.audio)
        if not moved.audio.shape[1]:  # the loader left the sound out: the cache knows who has some
            moved = replace(moved, audio_valid=heard.flatten(1).any(1))
        return moved, heard

    return prepare


class Ahead:
    """Batches prepared in a thread, with the loader's state after each: what a checkpoint at that batch needs."""

    def __init__(self, loader: MixedLoader, prepare: Callable[[Batch], Any], depth: int = 2) -> None:
        self._queue: queue.Queue[Any] = queue.Queue(depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._fill, args=(loader, prepare), daemon=True)
        self._thread.start()

    def _fill(self, loader: MixedLoader, prepare: Callable[[Batch], Any]) -> None:
        try:
            for batch in loader:
                item = (*prepare(batch), loader.state_dict())
                while not self._stop.is_set():
                    try:
                        self._queue.put(item, timeout=0.1)
                        break
                    except queue.Full:
                        continue
                if self._stop.is_set():
                    return
        except BaseException as error:  # handed to the training thread, which raises it
            self._queue.put(error)

    def __iter__(self) -> Iterator[tuple[Batch, Tensor, dict[str, Any]]]:
        while True:
            item = self._queue.get()
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        while self._thread.is_alive():
            try:
                self._queue.get_nowait()
            except queue.Empty:
                self._thread.join(0.05)
