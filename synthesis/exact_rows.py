"""Rows of the pair schema whose every label is known: what films and conversations without pixels share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import __version__
from ..fitting.dyad import relate
from ..schemas.audio import encode_audio
from ..schemas.files import Files
from ..schemas.finish import finish_dataset, write_rejects
from ..schemas.heads import FittedPair, HeadTrack
from ..schemas.manifest import FileEntry
from ..schemas.records import Backend, Turn
from ..schemas.row import Pair, Provenance, Source, Voices
from ..schemas.selection import SelectionOptions
from ..schemas.tracks import Bool, Float32
from ..transforms.exact import exact_scores

EYES_SHUT = 0.65  # lid closure from which the gaze is not known, as where it is measured
SHORTEST_TURN_S = 0.02  # what a clip's edge leaves of a turn is dropped below this
Reals = npt.NDArray[np.floating[Any]]


def exact_head(
    track_id: str, names: tuple[str, ...], *, shape: Reals, expression: Reals, jaw: Reals, eyes: Reals,
    rotation: Reals, translation: Reals, gaze: Reals, head_centre: Reals, box: Reals, valid: Bool | None = None,
    size: float = 1.0,
) -> HeadTrack:  # fmt: skip
    """A track without any error: uncertainties and residual zero, confidence one.

    Args:
        names: of the E expression coefficients; a model without lids that close is never shut.
        shape, ...: as in :class:`HeadTrack`, over T frames. gaze: also while the eyes are shut; unknown there after.
        valid: [T] frames that are known; None for all. Everything is NaN in the others.
        size: of the head over the model's.
    """
    known = np.ones(len(rotation), np.bool_) if valid is None else valid
    blink = names.index("eyeBlinkLeft") if "eyeBlinkLeft" in names else None
    shut = np.zeros(len(known), np.bool_) if blink is None else expression[:, blink] > EYES_SHUT

    def told(values: Reals, where: Bool = known) -> Float32:
        out = np.array(values, np.float32)
        out[~where] = np.nan
        return out

    zeros = np.zeros(len(known), np.float32)
    seen = told(gaze, known & ~shut)
    return HeadTrack(
        track_id=track_id,
        shape=shape.astype(np.float32),
        expression=told(expression),
        jaw=told(jaw),
        neck=told(np.zeros((len(known), 3))),
        rotation=told(rotation),
        translation=told(translation),
        eyes=told(eyes),
        gaze_raw=seen,
        gaze=seen,
        head_centre=told(head_centre),
        rotation_sd=told(np.zeros((len(known), 3))),
        translation_sd=told(zeros),
        gaze_sd=told(zeros, known & ~shut),
        residual=told(zeros),
        box=told(box),
        confidence=known.astype(np.float32),
        valid=known,
        scale_log_sd=0.0,
        scale=size,
    )


def turns_within(turns: Iterable[Turn], start_s: float, end_s: float) -> tuple[Turn, ...]:
    """The turns of a clip, cut at its bounds."""
    return tuple(
        replace(turn, start_s=max(turn.start_s, start_s), end_s=min(turn.end_s, end_s))
        for turn in turns
        if min(turn.end_s, end_s) - max(turn.start_s, start_s) > SHORTEST_TURN_S
    )


def exact_pair(
    identifier: str, source: Source, fitted: FittedPair, config_hash: str, people: tuple[str, str],
    turns: tuple[Turn, ...], speaking: tuple[Float32, Float32], voices: tuple[str, str], sound: Float32 | None,
) -> Pair:  # fmt: skip
    """The row of two exact heads: layout codes, captions and mutual gaze follow from them as in every row.

    Args:
        people, voices: ids of a and b. turns: of this clip. speaking: [T] of a and b, NaN without audio.
        sound: [N] 16 kHz from ``source.start_s`` on; None without audio.
    """
    relation = relate(fitted, seed=identifier)
    audio = None if sound is None else encode_audio(sound)
    return Pair(
        pair_id=identifier,
        source=source,
        fitted=fitted,
        relation=relation,
        voices=Voices(turns, *speaking, *voices, audio),
        scores=exact_scores(fitted, relation, turns, speaking, sound),
        provenance=Provenance(config_hash, __version__, (Backend("voices", "espeak-ng", "", "GPL-3.0-or-later"),)),
        person_a=people[0],
        person_b=people[1],
    )


def hash_of(facts: Mapping[str, object]) -> str:
    """What stands for the configuration of exact rows."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def finish_exact(
    files: Files, entries: Iterable[FileEntry], config_hash: str, config_yaml: str, rows: int, seconds: float,
    sound: bool = True,
) -> None:  # fmt: skip
    """Everything beside the shards of exact rows, the manifest last.

    Args:
        seconds: of all rows together. sound: False where no row has any, so that none is asked of them.
    """
    finish_dataset(
        files, entries, write_rejects(files, []), config_hash=config_hash, code_version=__version__,
        config_yaml=config_yaml,
        funnel={"synthesize": {"kept": {"items": rows, "hours": seconds / 3600}}},
        # Profiles cost exact labels nothing.
        options=SelectionOptions(yaw_deg=180.0, val_share=0.1, test_share=0.1, sound=sound),
    )  # fmt: skip
