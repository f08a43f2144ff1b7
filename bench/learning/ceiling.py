"""How well can mutual gaze be foretold at all from what the network is given? A ceiling to read its figures against.

Boosted trees (scikit-learn) on hand-made facts of every frame: who speaks now, shortly before and after, time since the
first frame, distance and both facing angles there. ``one_draw_ap``: the average precision of a single fair coin thrown
with those probabilities, as one sample of a perfect generator would give.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from duologue.model.dyad_metrics import angle_between, forward_directions
from duologue.schemas.dataset import Dataset
from duologue.schemas.row import Pair

SPANS = ((-100, -50), (-50, -25), (-25, -10), (-10, 0), (0, 10), (10, 25), (25, 50), (50, 100))  # frames
FACTS = len(SPANS) + 1  # of one person's voice
Array = npt.NDArray[np.float64]


def facts_of(pair: Pair) -> Array:
    """[T, 1 + 2 FACTS + 3]: time, both voices, distance, both facing angles."""
    frames = np.arange(len(pair.fitted.times))
    columns = [frames / pair.fitted.fps]
    for speaking in (pair.voices.speaking_a, pair.voices.speaking_b):
        heard = np.concatenate([[0.0], np.cumsum(np.nan_to_num(speaking))])
        for low, high in SPANS:
            first, last = (np.clip(frames + at, 0, len(frames)) for at in (low, high))
            columns.append((heard[last] - heard[first]) / np.maximum(last - first, 1))
        columns.append(np.nan_to_num(speaking))
    a, b = pair.fitted.a, pair.fitted.b
    apart = (b.head_centre[0] - a.head_centre[0]).astype(np.float64)
    facing = [
        float(angle_between(forward_directions(head.rotation[:1]), towards[None])[0])
        for head, towards in ((a, apart), (b, -apart))
    ]
    still = np.array([np.linalg.norm(apart), *facing])
    return np.concatenate([np.stack(columns, 1), np.broadcast_to(still, (len(frames), 3))], axis=1)


def exchanged(facts: Array) -> Array:
    """The same with the two people exchanged."""
    time, one, two, distance, first, second = np.split(
        facts, [1, 1 + FACTS, 1 + 2 * FACTS, 2 + 2 * FACTS, 3 + 2 * FACTS], axis=1
    )
    return np.concatenate([time, two, one, distance, second, first], axis=1)


def mutual_gaze_ceiling(data: Path, train_pairs: int = 600) -> dict[str, float]:
    """``ap`` of the foretold probability, ``one_draw_ap``, and ``share`` of mutual frames (chance), test split."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import average_precision_score

    dataset = Dataset(data)

    def frames(split: str, most: int, step: int) -> tuple[Array, npt.NDArray[np.bool_]]:
        x, y = [], []
        for key in dataset.ids(split=split)[:most]:
            pair = dataset.pair(key)
            label = pair.relation.mutual_gaze
            known = np.isfinite(label)
            known[np.arange(len(known)) % step != 0] = False
            x.append(facts_of(pair)[known])
            y.append(label[known] > 0.5)
        return np.concatenate(x), np.concatenate(y)

    x, y = frames("train", train_pairs, 5)
    trees = HistGradientBoostingClassifier(
        max_iter=80, learning_rate=0.06, max_leaf_nodes=15, min_samples_leaf=200, random_state=0
    )
    trees.fit(np.concatenate([x, exchanged(x)]), np.concatenate([y, y]))
    x, y = frames("test", 10**9, 2)
    chance = 0.5 * (trees.predict_proba(x)[:, 1] + trees.predict_proba(exchanged(x))[:, 1])
    thrown = np.random.default_rng(0).random(len(chance)) < chance
    return {
        "ap": float(average_precision_score(y, chance)),
        "one_draw_ap": float(average_precision_score(y, thrown.astype(float))),
        "share": float(y.mean()),
    }
