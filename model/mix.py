"""Training on several data sets at once: every batch comes from one of them, drawn by weight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..schemas.errors import UsageError
from .data import Batch, PairLoader


class MixedLoader:
    """An endless stream of batches of several loaders.

    Args:
        loaders: of one head model. A loader that ends its epoch begins the next.
        weights: how often each is drawn, any positive numbers.
        seed: of the draws; the same on every rank, so that all train on the same set at once.

    Raises:
        UsageError: different head models, or weights that do not fit.
    """

    def __init__(self, loaders: Sequence[PairLoader], weights: Sequence[float], seed: int = 0) -> None:
        models = {loader.dataset.manifest.head_model_id: loader.dataset.files.root for loader in loaders}
        if len(models) > 1:
            raise UsageError(
                "one network has one head model; these data sets have "
                + ", ".join(f"{model} ({root})" for model, root in sorted(models.items()))
            )
        if len(weights) != len(loaders) or not loaders or not all(weight > 0 for weight in weights):
            raise UsageError(f"{len(loaders)} data sets need as many positive weights, not {list(weights)}")
        self.loaders, self.seed = tuple(loaders), seed
        self._share = np.asarray(weights, np.float64) / float(np.sum(weights))
        self.step = 0

    def state_dict(self) -> dict[str, Any]:
        """Where the stream and each loader stand."""
        return {"step": self.step, "seed": self.seed, "loaders": [loader.state_dict() for loader in self.loaders]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the exact next batch.

        Raises:
            UsageError: the state is of other data sets or another seed.
        """
        if len(state["loaders"]) != len(self.loaders) or state["seed"] != self.seed:
            raise UsageError("the saved loader state is of another mix of data sets")
        for loader, part in zip(self.loaders, state["loaders"], strict=True):
            loader.load_state_dict(part)
        self.step = int(state["step"])

    def __iter__(self) -> Iterator[Batch]:
        streams = [iter(loader) for loader in self.loaders]
        try:
            while True:
                drawn = int(np.random.default_rng([self.seed, self.step]).choice(len(streams), p=self._share))
                batch = next(streams[drawn], None)
                if batch is None:
                    streams[drawn] = iter(self.loaders[drawn])
                    batch = next(streams[drawn])
                self.step += 1
                yield batch
        finally:
            for stream in streams:
                close = getattr(stream, "close", None)
                if close is not None:
                    close()
