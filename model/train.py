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
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist

from ..schemas.dataset import Dataset
from ..schemas.errors import UsageError
from . import checkpoint
from .audio_features import cache_features, front_end
from .losses import MotionLoss, MouthMesh, mouth_dims
from .network import DualStream
from .objective import Objective
from .ranks import Ranks, any_of_ranks, join_ranks
from .representation import Statistics
from .run_log import RunLog, validate
from .supply import Ahead, head_of, held_out, loader_of, preparation, statistics_of_sets
from .train_config import TrainConfig, load_config

HELP = "train the dual-stream network on data sets"


class Stopped(Exception):
    """Training cannot go on; the message is one line."""


class Ended(Exception):
    """Training was asked to end, and left a checkpoint; the message is one line."""


class Ending:
    """SIGTERM, as machines are taken back: before the first step the process ends at once, from then on training asks
    whether it came."""

    def __init__(self) -> None:
        self.came = self.asking = False

    def handle(self, number: int, frame: object) -> None:
        """The signal's handler."""
        if not self.asking:
            raise SystemExit(128 + number)
        self.came = True

    def __call__(self) -> bool:
        self.asking = True
        return self.came


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
    """Train; 1 where training had to stop, 143 where a SIGTERM ended it."""
    config = load_config(args.config, args.set)
    ending = Ending()
    before = signal.signal(signal.SIGTERM, ending.handle)
    try:
        result = train(config, say=lambda line: print(line, file=sys.stderr, flush=True), ending=ending)
    except (Stopped, Ended) as stop:
        if int(os.environ.get("RANK", "0")) == 0:  # all ranks stop at once
            print(f"duologue train: {stop}", file=sys.stderr)
        return 1 if isinstance(stop, Stopped) else 128 + signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)
    if int(os.environ.get("RANK", "0")) == 0:
        print(json.dumps(result) if args.json else outcome(result, config.out))
    return 0


def outcome(result: dict[str, Any], out: str) -> str:
    """What a run came to, for people."""
    if result["loss"] is None:
        return f"{result['checkpoint']} is at step {result['steps']}, the last one: nothing to do"
    return (
        f"step {result['steps']}, loss {result['loss']:.4f}, {result['samples_per_s']:.1f} samples a second\n"
        f"{result['checkpoint']}: duologue sample AUDIO --checkpoint {out} --out MADE"
    )


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then a cosine to zero at the last step."""
    options = config.optimiser
    if step < options.warmup:
        return options.lr * (step + 1) / options.warmup
    share = (step - options.warmup) / max(config.steps - options.warmup, 1)
    return options.lr * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


def train(
    config: TrainConfig, *, say: Callable[[str], None] = lambda line: None, until: int | None = None,
    ending: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:  # fmt: skip
    """Run all stages, from the beginning or from ``out``'s checkpoint.

    Args:
        say: takes progress lines. until: stop after this step, with a checkpoint, as if interrupted there.
        ending: asked at every step whether to end after it.

    Returns:
        ``steps, loss`` (of the last step), ``samples_per_s``, ``loader_wait_share`` (of the time of all steps but for
        the first batch), ``parameters, device, checkpoint``; the first three are None where there was nothing to do.

    Raises:
        UsageError: data, configuration and checkpoint do not fit together.
        Stopped: a loss was not finite.
        Ended: ``ending`` said so.
    """
    ranks = join_ranks(config)
    if ranks.rank:
        say = _silent
    out = Path(config.out)
    head_model_id = Dataset(config.stages[0].data[0].path).manifest.head_model_id
    head = head_of(config, head_model_id)
    last = out / checkpoint.LAST
    state = checkpoint.read(last, ranks.device) if last.exists() else None
    if state is not None:
        checkpoint.check_same_model(state, config, last)
        if state["statistics"]["head_model_id"] != head_model_id:
            raise UsageError(
                f"{last} is of head model {state['statistics']['head_model_id']}, the data sets of {head_model_id}"
            )
    known = statistics_of_sets(config, head_model_id) if state is None else Statistics.of_state(state["statistics"])
    statistics = known.to(ranks.device)
    front = front_end(config.audio, config.load.fps).to(ranks.device)
    if state is not None:
        checkpoint.check_same_encoder(state, front, last)
    torch.manual_seed(config.seed)
    model = DualStream(statistics.dims, front.dims, config.network, config.audio).to(ranks.device)
    if not config.losses.masks:
        model.mask_predictor.requires_grad_(False)  # never run: data-parallel training must not wait for its gradient
    average = copy.deepcopy(model).eval().requires_grad_(False)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=config.optimiser.lr, weight_decay=config.optimiser.weight_decay, betas=(0.9, 0.99),
        fused=True,
    )  # fmt: skip
    step = 0
    if state is not None:
        checkpoint.fill(model, state["model"], last)
        checkpoint.fill(average, state["ema"], last)
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
    log = RunLog(config, ranks, out, step)
    watched = config.log.validate_every, config.log.sample_every
    held = held_out(config, head_model_id, max(config.log.validation_batches, 1) if any(watched) else 0)
    if any(watched) and not held:
        say(f"{config.stages[0].data[0].path} has no validation pairs: no validation losses, no plots of samples")
    parameters = sum(p.numel() for p in model.parameters())
    say(f"{parameters / 1e6:.2f} M parameters, {statistics.dims} numbers a frame, {ranks.device}, {config.steps} steps")
    goal = config.steps if until is None else min(until, config.steps)
    timing = {"wait": 0.0, "all": 0.0, "samples": 0}
    value: float | None = None
    first = 0
    for number, stage in enumerate(config.stages):
        end = first + stage.steps
        if step < min(end, goal):
            loader = loader_of(config, stage.data, ranks, head_model_id, head)
            cache = None
            if config.audio.cache:
                for one in loader.loaders:
                    ids = one.dataset.ids(selected=config.load.selected, split="train")
                    mine = ids[ranks.rank :: ranks.world]
                    cache = cache_features(one.dataset, front, config.audio.cache, ids=mine, device=ranks.device)
                if ranks.world > 1:
                    dist.barrier()
            if state is not None and state["stage"] == number and state["loaders"] is not None:
                if len(state["loaders"]) != ranks.world:
                    raise UsageError(f"{last} is of {len(state['loaders'])} processes, this run has {ranks.world}")
                loader.load_state_dict(state["loaders"][ranks.rank])
            ahead = Ahead(loader, preparation(front, cache, config.load.window, ranks.device))
            try:
                asked = time.perf_counter()
                for batch, heard, place in ahead:
                    got = time.perf_counter()
                    if not timing["samples"]:
                        asked = got  # the first batch waits for files to open: no part of a step
                    for group in optimiser.param_groups:
                        group["lr"] = learning_rate(config, step)
                    seed = int(np.random.SeedSequence([config.seed, step, ranks.rank]).generate_state(1)[0])
                    torch.manual_seed(seed)  # of dropout
                    terms = whole(batch, heard, seed)
                    optimiser.zero_grad(set_to_none=True)
                    terms["loss"].backward()
                    norm = nn.utils.clip_grad_norm_(model.parameters(), config.optimiser.clip)
                    _check(terms, norm, step, last, ranks)
                    optimiser.step()
                    _average(average, model, config.optimiser.ema, step)
                    step += 1
                    value = log.step(step, terms, norm, learning_rate(config, step - 1))
                    timing["wait"] += got - asked
                    timing["samples"] += len(batch.valid)
                    if log.due(step, config.log.validate_every):
                        log.validation(step, validate(config, average, loss, statistics, front, ranks, held))
                    if ranks.rank == 0 and log.due(step, config.log.sample_every):
                        log.plots(step, average, statistics, front, held, head)
                    told = any_of_ranks(ending(), ranks)
                    if step in (end, goal) or log.due(step, config.log.save_every) or told:
                        _save(
                            last, config, model, average, optimiser, statistics, step, number, place, ranks,
                            front.digest,
                        )  # fmt: skip
                    if told and step < goal:
                        raise Ended(f"told to end; {last} is at step {step}, the same command goes on from there")
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
        "samples_per_s": timing["samples"] * ranks.world / timing["all"] if timing["all"] else None,
        "loader_wait_share": timing["wait"] / timing["all"] if timing["all"] else None,
        "parameters": parameters,
        "device": str(ranks.device),
        "checkpoint": str(last),
    }


def _silent(line: str) -> None:
    """Only the first of several processes speaks."""


def _check(terms: dict[str, Tensor], norm: Tensor, step: int, last: Path, ranks: Ranks) -> None:
    if math.isfinite(float(terms["loss"].detach())) and math.isfinite(float(norm)):
        return
    bad = [name for name, value in terms.items() if name != "loss" and not math.isfinite(float(value.detach()))]
    kept = f"the last checkpoint is {last}" if last.exists() else "there is no checkpoint yet"
    # Gradients are those of all processes together.
    what = f"the {', '.join(bad)} loss" if bad else "the gradient" if ranks.world == 1 else "some process's gradient"
    raise Stopped(f"step {step + 1}: {what} is not finite; {kept}")


def _average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    keep = min(decay, (1 + step) / (10 + step))
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - keep)


def _save(
    path: Path, config: TrainConfig, model: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer,
    statistics: Statistics, step: int, stage: int, place: dict[str, Any], ranks: Ranks, encoder: str,
) -> None:  # fmt: skip
    places: list[Any] = [place]
    if ranks.world > 1:
        places = [None] * ranks.world
        dist.all_gather_object(places, place)
    if ranks.rank == 0:
        state = {
            "config": checkpoint.plain(config), "statistics": statistics.state(), "model": model.state_dict(),
            "ema": average.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "stage": stage,
            "loaders": places, "encoder": encoder,
        }  # fmt: skip
        checkpoint.save(path, state)
    if ranks.world > 1:
        dist.barrier()
