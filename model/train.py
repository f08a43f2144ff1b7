"""``duologue train``: one configuration to a trained network; stopped and started again, it goes on exactly.

Everything random in a step (noise, times, dropped sound, dropout) is drawn from a seed of (run, step, rank), and the
loader's place is in the checkpoint: a resumed run has the losses that an unbroken one would have had.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist

from ..fitting.head_model import HeadModel, load_head_model
from ..schemas.dataset import Dataset
from ..schemas.errors import UsageError
from . import checkpoint
from .audio_features import FeatureCache, FrontEnd, cache_features, front_end
from .augment import mirror_maps
from .data import Batch, LoaderOptions, PairLoader
from .diffusion import add_noise
from .losses import MotionLoss, MouthMesh, mask_loss, mouth_dims
from .mix import MixedLoader
from .network import DualStream
from .representation import Statistics, encode, scene_of, statistics_of
from .train_config import SetOptions, TrainConfig, load_config

HELP = "train the dual-stream network on data sets"
STATISTICS_WINDOWS = 20_000  # enough for a mean and a deviation; the shards' order is random
FIRST_T = 1e-3  # the smallest diffusion time trained at


class Stopped(Exception):
    """Training cannot go on; the message is one line."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.description = (
        "Train from one YAML file. A run whose out folder holds a checkpoint goes on from it. "
        "Several GPUs: torchrun --nproc-per-node N -m duologue.cli train CONFIG."
    )
    parser.add_argument("config", metavar="CONFIG", help="YAML or JSON; docs/training.md shows one")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="override an option; repeatable")
    parser.add_argument("--json", action="store_true", help="print one JSON object when done")


def run(args: argparse.Namespace) -> int:
    """Train; 1 where training had to stop."""
    config = load_config(args.config, args.set)
    try:
        result = train(config, say=lambda line: print(line, file=sys.stderr, flush=True))
    except Stopped as stop:
        print(f"duologue train: {stop}", file=sys.stderr)
        return 1
    if args.json and int(os.environ.get("RANK", "0")) == 0:
        print(json.dumps(result))
    return 0


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together."""

    rank: int
    world: int
    device: torch.device


def _ranks(config: TrainConfig) -> Ranks:
    wanted = config.device
    cuda = torch.cuda.is_available() if wanted == "auto" else wanted == "cuda"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UsageError("device is cuda, and torch finds none")
    world, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if cuda else "gloo")
    return Ranks(int(os.environ.get("RANK", "0")), world, device)


def _head(config: TrainConfig, head_model_id: str) -> HeadModel | None:
    """The data sets' mesh: the one named, or the embedded one if it is theirs."""
    head = load_head_model(config.head_model or "canonical")
    if head.model_id == head_model_id:
        return head
    if config.head_model:
        raise UsageError(f"{config.head_model} is {head.model_id}, the data sets are labelled with {head_model_id}")
    return None


def _loader(
    config: TrainConfig, sets: tuple[SetOptions, ...], ranks: Ranks, head_model_id: str, head: HeadModel | None
) -> MixedLoader:
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


def _statistics(config: TrainConfig, head_model_id: str) -> Statistics:
    load = config.load
    options = LoaderOptions(
        batch_size=64, window=load.window, fps=load.fps, split="train", selected=load.selected, shuffle=False,
        audio=False, drop_last=False, workers=load.workers,
    )  # fmt: skip
    loaders = [PairLoader(one.path, options, head_model_id=head_model_id) for one in config.stages[0].data]
    return statistics_of(islice(chain(*loaders), STATISTICS_WINDOWS // 64), head_model_id)


class Objective(nn.Module):
    """One step's losses of a batch; what data-parallel training wraps."""

    def __init__(self, model: DualStream, loss: MotionLoss, statistics: Statistics, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.loss, self.statistics, self.config = model, loss, statistics, config

    def forward(self, batch: Batch, features: Tensor, seed: int) -> dict[str, Tensor]:
        """Terms by name and ``loss``; random numbers from ``seed`` alone."""
        draw = torch.Generator().manual_seed(seed)
        size, frames = batch.valid.shape[0], batch.valid.shape[2]
        device = batch.valid.device
        continues = torch.rand(size, generator=draw) < self.config.load.continues
        wished = torch.where(continues, torch.randint(frames, (size,), generator=draw), torch.tensor(0))
        t = (FIRST_T + (1 - FIRST_T) * torch.rand(size, generator=draw)).to(device)
        silent = torch.rand(size, generator=draw) < self.config.diffusion.audio_dropout
        silent = silent.to(device) | ~batch.audio_valid
        facing_hidden = (torch.rand(size, 1, generator=draw) < 0.2).to(device)
        own = torch.Generator(device).manual_seed(seed)
        noise = torch.randn((size, 2, frames, self.statistics.dims), generator=own, device=device)
        scene = scene_of(batch, wished.to(device))
        layout = scene.layout()
        layout[..., 5:12] *= (~facing_hidden[..., None]).to(layout.dtype)  # facing and whether it is known
        truth = self.statistics.normalise(encode(batch, scene))
        # What was not measured is noise to the network too: it cannot copy it, and is not scored on it.
        truth = torch.where(batch.valid[..., None], truth, torch.zeros_like(truth))
        heard = self.model.hear(features)
        condition = self.model.condition_on(heard, batch.speaking, layout, (~continues).float().to(device), silent)
        predicted = self.model(add_noise(truth, t, noise), t, condition)
        terms = self.loss(predicted, truth, batch.valid, batch.gaze_valid, batch.speaking, batch.mouth_only)
        inside = torch.arange(frames, device=device)[None] < batch.frames[:, None]
        terms["masks"] = mask_loss(
            self.model.mask_predictor(heard.float()), batch.speaking, inside & batch.audio_valid[:, None]
        )
        terms["loss"] = terms["loss"] + self.config.losses.masks * terms["masks"]
        return terms


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


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then a cosine to zero at the last step."""
    options = config.optimiser
    if step < options.warmup:
        return options.lr * (step + 1) / options.warmup
    share = (step - options.warmup) / max(config.steps - options.warmup, 1)
    return options.lr * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


def _features(front: FrontEnd, cache: FeatureCache | None, window: int) -> Callable[[Batch], Tensor]:
    def of(batch: Batch) -> Tensor:
        if cache is not None:
            return cache.read(batch.pair_ids, batch.starts.tolist(), window)
        with torch.no_grad():
            heard: Tensor = front(batch.audio)
            return heard

    return of


def train(
    config: TrainConfig, *, say: Callable[[str], None] = lambda line: None, until: int | None = None
) -> dict[str, Any]:
    """Run all stages, from the beginning or from ``out``'s checkpoint.

    Args:
        say: takes progress lines. until: stop after this step, with a checkpoint, as if interrupted there.

    Returns:
        ``steps, loss`` (of the last step), ``samples_per_s, loader_wait_share, parameters, device, checkpoint``.

    Raises:
        UsageError: data, configuration and checkpoint do not fit together.
        Stopped: a loss was not finite.
    """
    ranks = _ranks(config)
    out = Path(config.out)
    head_model_id = Dataset(config.stages[0].data[0].path).manifest.head_model_id
    head = _head(config, head_model_id)
    last = out / checkpoint.LAST
    state = checkpoint.read(last, ranks.device) if last.exists() else None
    if state is not None:
        checkpoint.check_same_model(state, config, last)
        if state["statistics"]["head_model_id"] != head_model_id:
            raise UsageError(
                f"{last} is of head model {state['statistics']['head_model_id']}, the data sets of {head_model_id}"
            )
    statistics = _statistics(config, head_model_id) if state is None else Statistics.of_state(state["statistics"])
    statistics = statistics.to(ranks.device)
    front = front_end(config.audio, config.load.fps).to(ranks.device)
    torch.manual_seed(config.seed)
    model = DualStream(statistics.dims, front.dims, config.network, config.audio).to(ranks.device)
    average = copy.deepcopy(model).eval().requires_grad_(False)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=config.optimiser.lr, weight_decay=config.optimiser.weight_decay, betas=(0.9, 0.99)
    )
    step = 0
    if state is not None:
        model.load_state_dict(state["model"])
        average.load_state_dict(state["ema"])
        optimiser.load_state_dict(state["optimiser"])
        step = int(state["step"])
        say(f"going on from {last}, step {step}")
    if config.compile:
        model.compile()
    mesh = MouthMesh(head, ranks.device) if head is not None and config.losses.lips > 0 else None
    if config.losses.lips > 0 and mesh is None:
        raise UsageError("losses.lips needs head_model, the mesh of the data sets' head model")
    if head is None:
        say(f"no mesh of head model {head_model_id}: mouths are their jaws alone (head_model in the configuration)")
    loss = MotionLoss(config.losses, statistics, mouth_dims(statistics.expression, head), mesh)
    objective = Objective(model, loss, statistics, config)
    whole: nn.Module = objective
    if ranks.world > 1:
        ids = [ranks.device.index] if ranks.device.type == "cuda" else None
        whole = nn.parallel.DistributedDataParallel(objective, device_ids=ids)
    cast = torch.autocast(ranks.device.type, torch.bfloat16) if config.precision == "bf16" else nullcontext()
    log = _Log(config, ranks, out, step)
    parameters = sum(p.numel() for p in model.parameters())
    say(f"{parameters / 1e6:.2f} M parameters, {statistics.dims} numbers a frame, {ranks.device}, {config.steps} steps")
    goal = config.steps if until is None else min(until, config.steps)
    timing = {"wait": 0.0, "all": 0.0, "samples": 0}
    value = math.nan
    first = 0
    for number, stage in enumerate(config.stages):
        end = first + stage.steps
        if step < min(end, goal):
            loader = _loader(config, stage.data, ranks, head_model_id, head)
            cache = None
            if config.audio.cache:
                for one in loader.loaders:
                    cache = cache_features(one.dataset, front, config.audio.cache, device=ranks.device)
            if state is not None and state["stage"] == number and state["loaders"] is not None:
                if len(state["loaders"]) != ranks.world:
                    raise UsageError(f"{last} is of {len(state['loaders'])} processes, this run has {ranks.world}")
                loader.load_state_dict(state["loaders"][ranks.rank])
            features = _features(front, cache, config.load.window)

            def prepare(batch: Batch, features: Callable[[Batch], Tensor] = features) -> tuple[Batch, Tensor]:
                moved = batch.to(ranks.device)
                heard = features(moved).to(ranks.device)
                if not moved.audio.shape[1]:  # the loader left the sound out: the cache knows who has some
                    moved = replace(moved, audio_valid=heard.flatten(1).any(1))
                return moved, heard

            ahead = Ahead(loader, prepare)
            try:
                asked = time.perf_counter()
                for batch, heard, place in ahead:
                    got = time.perf_counter()
                    for group in optimiser.param_groups:
                        group["lr"] = learning_rate(config, step)
                    seed = int(np.random.SeedSequence([config.seed, step, ranks.rank]).generate_state(1)[0])
                    torch.manual_seed(seed)  # of dropout
                    with cast:
                        terms = whole(batch, heard, seed)
                    optimiser.zero_grad(set_to_none=True)
                    terms["loss"].backward()
                    norm = nn.utils.clip_grad_norm_(model.parameters(), config.optimiser.clip)
                    _check(terms, norm, step, last)
                    optimiser.step()
                    _average(average, model, config.optimiser.ema, step)
                    step += 1
                    value = log.step(step, terms, norm, learning_rate(config, step - 1))
                    timing["wait"] += got - asked
                    timing["samples"] += len(batch.valid)
                    if log.due(step, config.log.validate_every):
                        log.validation(step, _validate(config, average, loss, statistics, front, ranks, head_model_id))
                    if ranks.rank == 0 and log.due(step, config.log.sample_every):
                        log.plots(step, average, statistics, front, head_model_id)
                    if step in (end, goal) or log.due(step, config.log.save_every):
                        _save(last, config, model, average, optimiser, statistics, step, number, place, ranks)
                    if step % config.log.every == 0:
                        say(f"step {step}/{config.steps}  loss {value:.4f}")
                    now = time.perf_counter()
                    timing["all"] += now - asked
                    asked = now
                    if step >= min(end, goal):
                        break
            finally:
                ahead.close()
        first = end
    log.close()
    return {
        "steps": step,
        "loss": value,
        "samples_per_s": timing["samples"] * ranks.world / timing["all"] if timing["all"] else math.nan,
        "loader_wait_share": timing["wait"] / timing["all"] if timing["all"] else math.nan,
        "parameters": parameters,
        "device": str(ranks.device),
        "checkpoint": str(last),
    }


def _check(terms: dict[str, Tensor], norm: Tensor, step: int, last: Path) -> None:
    if math.isfinite(float(terms["loss"].detach())) and math.isfinite(float(norm)):
        return
    bad = [name for name, value in terms.items() if name != "loss" and not math.isfinite(float(value.detach()))]
    kept = f"the last checkpoint is {last}" if last.exists() else "there is no checkpoint yet"
    what = f"the {', '.join(bad)} loss" if bad else "the gradient"
    raise Stopped(f"step {step + 1}: {what} is not finite; {kept}")


def _average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    keep = min(decay, (1 + step) / (10 + step))
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - keep)


def _save(
    path: Path, config: TrainConfig, model: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer,
    statistics: Statistics, step: int, stage: int, place: dict[str, Any], ranks: Ranks,
) -> None:  # fmt: skip
    places: list[Any] = [place]
    if ranks.world > 1:
        places = [None] * ranks.world
        dist.all_gather_object(places, place)
    if ranks.rank == 0:
        state = {
            "config": checkpoint.plain(config), "statistics": statistics.state(), "model": model.state_dict(),
            "ema": average.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "stage": stage,
            "loaders": places,
        }  # fmt: skip
        checkpoint.save(path, state)
    if ranks.world > 1:
        dist.barrier()


def _validate(
    config: TrainConfig, average: DualStream, loss: MotionLoss, statistics: Statistics, front: FrontEnd, ranks: Ranks,
    head_model_id: str,
) -> dict[str, float]:  # fmt: skip
    """Losses of the averaged network on the first validation batches, always at the same noise; {} without any."""
    batches = held_out(config, head_model_id)
    objective = Objective(average, loss, statistics, config)
    sums: dict[str, float] = {}
    count = 0
    with torch.no_grad():
        for number, batch in enumerate(islice(batches, config.log.validation_batches)):
            moved = batch.to(ranks.device)
            for name, term in objective(moved, front(moved.audio), 1_000_003 + number).items():
                sums[name] = sums.get(name, 0.0) + float(term)
            count += 1
    return {name: total / count for name, total in sums.items()}


def held_out(config: TrainConfig, head_model_id: str) -> Iterator[Batch]:
    """Validation batches of the first stage's first set, in stored order; none where it has no such split."""
    data = Dataset(config.stages[0].data[0].path)
    if not data.ids(selected=config.load.selected, split="val"):
        return iter(())
    load = config.load
    options = LoaderOptions(
        batch_size=load.batch_size, window=load.window, fps=load.fps, split="val", selected=load.selected,
        shuffle=False, drop_last=False, workers=1,
    )  # fmt: skip
    return iter(PairLoader(data, options, head_model_id=head_model_id))


class _Log:
    """Curves to ``curves.jsonl`` and TensorBoard, on rank 0."""

    def __init__(self, config: TrainConfig, ranks: Ranks, out: Path, step: int) -> None:
        self.config, self.on = config, ranks.rank == 0
        self.board: Any = None
        if not self.on:
            return
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.json").write_text(json.dumps(checkpoint.plain(config), indent=1) + "\n")
        self.path = out / "curves.jsonl"
        # Lines beyond the checkpoint belong to steps that are now done again.
        kept = self.path.read_text().splitlines() if self.path.exists() else []
        kept = [line for line in kept if json.loads(line)["step"] <= step]
        self.path.write_text("".join(f"{line}\n" for line in kept))
        if config.log.tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise UsageError(
                    "log.tensorboard needs tensorboard (pip install tensorboard), or set log.tensorboard to false"
                ) from error
            self.board = SummaryWriter(str(out), purge_step=step + 1)

    def due(self, step: int, every: int) -> bool:
        return every > 0 and step % every == 0

    def step(self, step: int, terms: dict[str, Tensor], norm: Tensor, rate: float) -> float:
        """Write one step's scalars where due; returns its loss."""
        value = float(terms["loss"].detach())
        if self.on and (self.due(step, self.config.log.every) or step == self.config.steps):
            scalars = {name: float(term.detach()) for name, term in terms.items()}
            self._write(step, "train", scalars | {"gradient": float(norm), "rate": rate})
        return value

    def validation(self, step: int, terms: dict[str, float]) -> None:
        """Write validation losses."""
        if self.on and terms:
            self._write(step, "validation", terms)

    def _write(self, step: int, kind: str, scalars: dict[str, float]) -> None:
        with open(self.path, "a") as stream:
            stream.write(json.dumps({"step": step, "kind": kind, **scalars}) + "\n")
        if self.board is not None:
            for name, value in scalars.items():
                self.board.add_scalar(f"{kind}/{name}", value, step)

    def plots(
        self, step: int, average: DualStream, statistics: Statistics, front: FrontEnd, head_model_id: str
    ) -> None:
        """Gaze and jaw of a sampled clip over time, beside the truth."""
        if self.board is None:
            return
        batch = next(held_out(self.config, head_model_id), None)
        if batch is None:
            return
        from .plots import sample_figure

        batch = batch.to(statistics.mean.device)
        self.board.add_figure(
            "sample", sample_figure(average, statistics, front(batch.audio), batch, self.config), step
        )

    def close(self) -> None:
        """Flush."""
        if self.board is not None:
            self.board.close()
