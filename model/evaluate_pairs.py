"""Scoring generated pairs against true ones, row by row: Talking Together's columns, mesh measures, gaze and layout."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..fitting.gaze import looking_at_partner
from ..fitting.head_model import HeadModel
from ..schemas.dataset import Dataset, RowsById
from ..schemas.errors import UsageError
from ..schemas.heads import HeadTrack
from ..schemas.row import Pair, pair_from_row
from ..schemas.tracks import Float32
from .baselines import NearestNeighbour
from .dyad_metrics import (
    gaze_directions,
    gaze_error_deg,
    lip_modes,
    mutual_gaze_ap,
    mutual_gaze_chance,
    parameter_errors,
    space_errors,
)
from .mesh_metrics import mesh_errors
from .turns import unwrapped

Heads = tuple[HeadTrack, HeadTrack]
Answer = Callable[[Pair], Heads | None]
BASELINES: dict[str, str] = {
    "zero": "neutral faces at their first place and turn, looking straight ahead",
    "oracle_mean": "each person's own true mean, held (no method is given this)",
    "copy_partner": "the partner's true face and eyes at one's own first place and turn",
    "train_mean": "the mean face and eyes of --train at one's own first place and turn",
    "nearest_neighbour": "face and eyes of --train while its partner moved most like this one, place and turn as above",
}
_FACE = ("expression", "jaw", "neck", "eyes")
LIBRARY = 2000  # training pairs that the last two baselines are made of, at most


@dataclass(frozen=True)
class TrainingFaces:
    """Faces and eyes of training people beside their partners', in units of their deviation.

    Attributes:
        mean, sd: [D] of expression, jaw, neck and both eyes.
    """

    mean: Float32
    sd: Float32
    library: NearestNeighbour

    @classmethod
    def of(cls, train: Dataset) -> TrainingFaces:
        """From the training split's first :data:`LIBRARY` pairs in which both are valid in nine frames of ten.

        Raises:
            UsageError: there is no such pair.
        """
        sides = []
        for row in train.rows(ids=train.ids(split="train")[:LIBRARY]):
            a, b = _heads(pair_from_row(row))
            if min(a.valid.mean(), b.valid.mean()) > 0.9:
                sides.append((_face_of(a), _face_of(b)))
        if not sides:
            raise UsageError(f"{train.files.root} has no training pair in which both people are valid most of the time")
        every = np.concatenate([side for pair in sides for side in pair])
        mean, sd = np.nanmean(every, 0), np.nanstd(every, 0)
        sd = np.where(sd > 1e-6, sd, 1.0)
        normal = [tuple(np.nan_to_num((side - mean) / sd) for side in pair) for pair in sides]
        both = [*normal, *((two, one) for one, two in normal)]
        return cls(mean.astype(np.float32), sd.astype(np.float32), NearestNeighbour.of(both))

    def answer(self, truth: HeadTrack, partner: HeadTrack) -> HeadTrack:
        """:data:`BASELINES` ``nearest_neighbour``."""
        asked = np.nan_to_num((_face_of(partner) - self.mean) / self.sd)
        return _with_face(truth, self.library.predict(asked, len(asked))[0] * self.sd + self.mean)

    def still(self, truth: HeadTrack) -> HeadTrack:
        """:data:`BASELINES` ``train_mean``."""
        return _with_face(truth, np.broadcast_to(self.mean, (len(truth.valid), len(self.mean))))


def _face_of(head: HeadTrack) -> Float32:
    frames = len(head.valid)
    return np.concatenate([getattr(head, name).reshape(frames, -1) for name in _FACE], axis=1).astype(np.float32)


def _with_face(truth: HeadTrack, face: Float32) -> HeadTrack:
    """The truth held at its first place and turn, with another face."""
    held = _held(truth, int(np.argmax(truth.valid)), _PLACE)
    parts: dict[str, Any] = {}
    at = 0
    for name in _FACE:
        shape = getattr(truth, name).shape
        width = int(np.prod(shape[1:]))
        parts[name] = face[:, at : at + width].reshape(shape).astype(np.float32)
        at += width
    return _with_gaze(replace(held, **parts))


def score_pairs(
    truth: Dataset, predictions: Dataset | Answer, head: HeadModel | None = None, *, baselines: bool = True,
    train: Dataset | None = None, ids: Sequence[str] | None = None,
) -> tuple[dict[str, float], dict[str, dict[str, float]], int]:  # fmt: skip
    """Means over people and pairs of every measure of :mod:`.dyad_metrics` and, with a head mesh, :mod:`.mesh_metrics`.

    Pairs are matched by id. Measures that a pair does not allow (a listener who never listens) are left out of their
    mean. ``mutual_gaze_ap`` ranks frames by the larger of both people's angles between gaze and partner, so that it
    needs no probability from the model; ``mutual_gaze_chance`` is what a random order would have.

    Args:
        predictions: a data set, or a function from true pairs to heads (None of one that it leaves out).
        ids: only these pairs; None for all.
        head: of the coefficients; None leaves the mesh measures out.
        train: for the baselines that need a training set.

    Returns:
        Means, those of each baseline, and how many pairs were scored.

    Raises:
        UsageError: no pair in common, or rows that do not fit together.
    """
    known = predictions if isinstance(predictions, Dataset) else None
    every = [data for data in (truth, known, train) if data is not None]
    models = {data.files.root: data.manifest.head_model_id for data in every}
    if len(set(models.values())) > 1:
        raise UsageError(f"different head models: {', '.join(f'{model} ({root})' for root, model in models.items())}")
    wanted = list(truth.ids(selected=False) if ids is None else ids)
    if isinstance(predictions, Dataset):
        answer, have = _stored(predictions)
        wanted = [key for key in wanted if key in have]
        if not wanted:
            raise UsageError(f"{predictions.files.root} has no pair of {truth.files.root}")
    else:
        answer = predictions
    systems: dict[str, Callable[[Heads, Heads], Heads]] = {"": lambda true, got: got}
    if baselines:
        systems |= {"zero": lambda true, _: (neutral(true[0]), neutral(true[1]))}
        systems |= {"oracle_mean": lambda true, _: (still(true[0]), still(true[1]))}
        systems |= {"copy_partner": lambda true, _: (as_partner(*true), as_partner(true[1], true[0]))}
    if baselines and train is not None:
        faces = TrainingFaces.of(train)
        systems |= {"train_mean": lambda true, _: (faces.still(true[0]), faces.still(true[1]))}
        systems |= {"nearest_neighbour": lambda true, _: (faces.answer(*true), faces.answer(true[1], true[0]))}
    tables: dict[str, list[dict[str, float]]] = {name: [] for name in systems}
    ranks: dict[str, list[Float32]] = {name: [] for name in systems}
    labels: list[Float32] = []
    for row in truth.rows(ids=wanted):
        real = pair_from_row(row)
        true, got = _heads(real), answer(real)
        if got is None:
            continue
        labels.append(real.relation.mutual_gaze)
        for name, build in systems.items():
            shown = build(true, got)
            tables[name].append(_pair_measures(shown, real, head))
            ranks[name].append(_mutual_rank(shown))
    if not labels:
        raise UsageError(
            f"{truth.files.root}: no pair can be scored: none has sound and a frame that shows both people"
        )
    means = {}
    for name, rows in tables.items():
        means[name] = {measure: _mean([row[measure] for row in rows]) for measure in rows[0]}
        means[name]["mutual_gaze_ap"] = mutual_gaze_ap(ranks[name], labels)
        means[name]["mutual_gaze_chance"] = mutual_gaze_chance(ranks[name], labels)
    return means.pop(""), means, len(labels)


def _stored(predictions: Dataset) -> tuple[Answer, RowsById]:
    """Heads of a data set of predictions, by pair id."""
    rows = RowsById(predictions)

    def answer(real: Pair) -> Heads:
        made = pair_from_row(rows(real.pair_id))
        if len(real.fitted.times) != len(made.fitted.times) or real.fitted.fps != made.fitted.fps:
            raise UsageError(
                f"pair {real.pair_id}: {len(made.fitted.times)} predicted frames for {len(real.fitted.times)}"
            )
        return _heads(made)

    return answer, rows


def _heads(pair: Pair) -> Heads:
    return pair.fitted.a, pair.fitted.b


def _pair_measures(shown: Heads, real: Pair, head: HeadModel | None) -> dict[str, float]:
    true = _heads(real)
    lips = lip_modes(head.expression_names) if head is not None else []
    people = []
    try:
        for index, speaking in enumerate((real.voices.speaking_a, real.voices.speaking_b)):
            got, wanted, partner = shown[index], true[index], true[1 - index]
            measures = parameter_errors(got, wanted, partner, speaking, lips)
            measures["gaze_deg"] = gaze_error_deg(got, wanted)
            people.append(measures | (mesh_errors(head, got, wanted, speaking) if head is not None else {}))
        space = vars(space_errors(shown, true))
    except ValueError as error:
        raise UsageError(f"pair {real.pair_id}: {error}") from error
    return {name: _mean([person[name] for person in people]) for name in people[0]} | space


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan


def _mutual_rank(heads: Heads) -> Float32:
    """[T] higher where both look closer at the partner's eyes; NaN where unknown."""
    a, b = heads
    angles = (
        looking_at_partner(a.gaze, a.head_centre, b.head_centre),
        looking_at_partner(b.gaze, b.head_centre, a.head_centre),
    )
    return np.asarray(-np.maximum(*angles), dtype=np.float32)


def _held(head: HeadTrack, frame: int, names: Sequence[str]) -> HeadTrack:
    """The head with the named arrays held at one frame."""
    held: dict[str, Any] = {name: np.repeat(getattr(head, name)[frame][None], len(head.valid), 0) for name in names}
    return replace(head, **held)


def _with_gaze(head: HeadTrack) -> HeadTrack:
    gaze = gaze_directions(head.rotation, head.eyes).astype(np.float32)
    return replace(head, gaze=gaze, gaze_raw=gaze)


_PLACE = ("rotation", "translation", "head_centre")


def neutral(truth: HeadTrack) -> HeadTrack:
    """:data:`BASELINES` ``zero``."""
    held = _held(truth, int(np.argmax(truth.valid)), _PLACE)
    zeros: dict[str, Any] = {
        name: np.zeros_like(getattr(truth, name)) for name in ("expression", "jaw", "neck", "eyes")
    }
    return _with_gaze(replace(held, **zeros))


def still(truth: HeadTrack) -> HeadTrack:
    """:data:`BASELINES` ``oracle_mean``; rotations are averaged as unwrapped vectors."""
    frames = len(truth.valid)
    motions = {name: getattr(truth, name)[truth.valid] for name in ("expression", "jaw", "neck", "eyes", *_PLACE)}
    motions["rotation"] = unwrapped(motions["rotation"])
    means: dict[str, Any] = {
        name: np.repeat(values.mean(axis=0, dtype=np.float64)[None], frames, 0).astype(np.float32)
        for name, values in motions.items()
    }
    return _with_gaze(replace(truth, **means))


def as_partner(truth: HeadTrack, partner: HeadTrack) -> HeadTrack:
    """:data:`BASELINES` ``copy_partner``."""
    held = _held(truth, int(np.argmax(truth.valid)), _PLACE)
    copied: dict[str, Any] = {name: getattr(partner, name) for name in ("expression", "jaw", "neck", "eyes")}
    return _with_gaze(replace(held, valid=truth.valid & partner.valid, **copied))
