"""What a training run writes down: curves, validation losses, plots of samples."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..fitting.head_model import HeadModel
from ..schemas.errors import UsageError
from . import checkpoint
from .audio_features import FrontEnd
from .data import Batch
from .losses import MotionLoss
from .network import DualStream
from .objective import Objective
from .ranks import Ranks, mean_of_ranks
from .representation import Statistics
from .train_config import TrainConfig


def validate(
    config: TrainConfig, average: DualStream, loss: MotionLoss, statistics: Statistics, front: FrontEnd, ranks: Ranks,
    batches: Sequence[Batch],
) -> dict[str, float]:  # fmt: skip
    """Losses of the averaged network on validation batches, always at the same noise, each term's mean over those that
    hold anything it counts; {} without any."""
    objective = Objective(average, loss, statistics, config)
    sums: dict[str, list[float]] = {}
    with torch.no_grad():
        for number, batch in enumerate(batches):
            moved = batch.to(ranks.device)
            for name, term in objective(moved, front(moved.audio), 1_000_003 + number).items():
                if term or name == "loss":  # exactly zero: nothing in the batch counts for it
                    sums.setdefault(name, []).append(float(term))
    return {name: sum(values) / len(values) for name, values in sums.items()}


def _step_of(line: str) -> float:
    """The step of a line of curves; infinity where a kill left it half-written."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


class RunLog:
    """Curves to ``curves.jsonl`` and TensorBoard, on rank 0."""

    def __init__(self, config: TrainConfig, ranks: Ranks, out: Path, step: int) -> None:
        self.config, self.ranks, self.on = config, ranks, ranks.rank == 0
        self.board: Any = None
        if not self.on:
            return
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"config: cannot write to out, {out}: {error.strerror}") from error
        (out / "config.json").write_text(json.dumps(checkpoint.plain(config), indent=1) + "\n")
        self.path = out / "curves.jsonl"
        # Lines beyond the checkpoint belong to steps that are now done again.
        kept = self.path.read_text().splitlines() if self.path.exists() else []
        kept = [line for line in kept if _step_of(line) <= step]
        self.path.write_text("".join(f"{line}\n" for line in kept))
        if config.log.tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise UsageError(
                    "log.tensorboard needs tensorboard (pip install tensorboard), or set log.tensorboard to false"
                ) from error
            if config.log.sample_every and find_spec("matplotlib") is None:
                raise UsageError("plots of samples need matplotlib (pip install matplotlib), or log.sample_every: 0")
            self.board = SummaryWriter(str(out), purge_step=step + 1)

    def due(self, step: int, every: int) -> bool:
        return every > 0 and step % every == 0

    def step(self, step: int, terms: dict[str, Tensor], norm: Tensor, rate: float) -> float:
        """Write one step's scalars where due, means over all processes; returns its loss (elsewhere this process's)."""
        if not (self.due(step, self.config.log.every) or step == self.config.steps):
            return float(terms["loss"].detach())
        scalars = mean_of_ranks(terms, self.ranks)
        if self.on:
            # Exactly zero: nothing in the batch counts for the term (poses of mouth-only rows, mouths of others).
            counted = {name: value for name, value in scalars.items() if value or name == "loss"}
            self._write(step, "train", counted | {"gradient": float(norm), "rate": rate})
        return scalars["loss"]

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
        self, step: int, average: DualStream, statistics: Statistics, front: FrontEnd, batches: Sequence[Batch],
        head: HeadModel | None,
    ) -> None:  # fmt: skip
        """A sampled clip beside the truth: gaze and lips over time and, where there is a mesh, both heads."""
        if self.board is None or not batches:
            return
        from .plots import heads_figure, sample_figure, sample_of

        batch = batches[0].to(statistics.mean.device)
        made = sample_of(average, statistics, front(batch.audio), batch, self.config)
        self.board.add_figure("sample", sample_figure(made, batch, self.config, head), step)
        if head is not None:
            self.board.add_figure("heads", heads_figure(made, batch, head, self.config.load.fps), step)

    def close(self) -> None:
        """Flush."""
        if self.board is not None:
            self.board.close()
