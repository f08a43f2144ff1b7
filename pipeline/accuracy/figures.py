"""One figure over many clips, with its confidence interval: medians, ratios and average precisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
DRAWS = 1000
SEED = 20251120


@dataclass(frozen=True)
class Figure:
    """A value over ``clips`` clips and its 95 % interval (percentile bootstrap over clips; Efron & Tibshirani 1993)."""

    value: float
    low: float
    high: float
    clips: int

    def as_json(self) -> dict[str, Any]:
        return {"value": self.value, "low": self.low, "high": self.high, "clips": self.clips}


def average_precision(scores: Array, labels: npt.NDArray[np.bool_]) -> float:
    """Area under precision over recall, ties taken together; NaN without a positive label."""
    if not labels.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    s, y = scores[order], labels[order].astype(np.float64)
    last = np.append(np.flatnonzero(np.diff(s)), len(s) - 1)  # a threshold takes all equal scores
    hits = np.cumsum(y)[last]
    precision, recall = hits / (last + 1), hits / y.sum()
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def median_of(values: Sequence[float]) -> Figure:
    """Median over clips of one number each; those that are not finite were not measured."""
    kept = np.array([v for v in values if np.isfinite(v)], np.float64)
    if not len(kept):
        return _nothing()
    return _figure(float(np.median(kept)), np.median(kept[_draws(len(kept))], axis=1), len(kept))


def ratio_of(parts: Sequence[tuple[float, float]]) -> Figure:
    """Sum of numerators over sum of denominators; clips whose denominator is zero have no say."""
    kept = np.array([p for p in parts if p[1] > 0], np.float64).reshape(-1, 2)
    if not len(kept):
        return _nothing()
    drawn = kept[_draws(len(kept))].sum(axis=1)
    return _figure(float(kept[:, 0].sum() / kept[:, 1].sum()), drawn[:, 0] / drawn[:, 1], len(kept))


def share_of(parts: Sequence[tuple[float, float]]) -> Figure:
    """The same of counts of independent events, with Wilson's score interval (J. Am. Stat. Assoc. 22, 1927).

    The bootstrap knows no doubt about 0 of n or n of n. ``clips`` is the number of events.
    """
    hits, total = (float(sum(part[k] for part in parts)) for k in (0, 1))
    if total <= 0:
        return _nothing()
    share, z = hits / total, 1.959964
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * float(np.sqrt(share * (1 - share) / total + z * z / (4 * total * total)))
    return Figure(share, max(middle - half, 0.0), min(middle + half, 1.0), round(total))


def precision_of(parts: Sequence[tuple[Array, npt.NDArray[np.bool_]]]) -> Figure:
    """Average precision of the pooled (scores, labels) of all clips."""
    kept = [(np.asarray(s, np.float64), np.asarray(y, bool)) for s, y in parts if len(s)]
    if not any(y.any() for _, y in kept):
        return _nothing()
    drawn = []
    for rows in _draws(len(kept))[: DRAWS // 5]:
        drawn.append(average_precision(*(np.concatenate([kept[r][i] for r in rows]) for i in (0, 1))))
    value = average_precision(np.concatenate([s for s, _ in kept]), np.concatenate([y for _, y in kept]))
    return _figure(value, np.array([d for d in drawn if np.isfinite(d)]), len(kept))


def _draws(count: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(SEED).integers(0, count, (DRAWS, count))


def _figure(value: float, drawn: Array, clips: int) -> Figure:
    low, high = (float(x) for x in np.percentile(drawn, [2.5, 97.5]))
    return Figure(value, low, high, clips)


def _nothing() -> Figure:
    return Figure(float("nan"), float("nan"), float("nan"), 0)
