"""What a page needs of a pair and of a head model, as JSON with base64 arrays: plain values in, plain values out."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ..fitting.head_model import HeadModel
from ..schemas.heads import HeadTrack
from ..schemas.pair import LAYOUT, SCORES
from ..schemas.row import Pair
from ..schemas.selection import SelectionOptions
from .compact import Basis

Json = dict[str, Any]
PEAKS = 1600  # bins of the drawn waveform
_CODES = {"float32": "f4", "int16": "i2", "int8": "i1", "uint8": "u1", "uint16": "u2", "uint32": "u4"}

# Score -> the threshold that reads it, and the side that passes.
THRESHOLDS: dict[str, tuple[str, str]] = {
    "valid_a": ("valid_share", ">="), "valid_b": ("valid_share", ">="),
    "face_scale_a": ("face_scale_px", ">="), "face_scale_b": ("face_scale_px", ">="),
    "yaw_bound_a": ("yaw_deg", "<="), "yaw_bound_b": ("yaw_deg", "<="),
    "residual_a": ("residual", "<="), "residual_b": ("residual", "<="),
    "speech_share": ("speech_share", ">="), "bound_share": ("bound_share", ">="),
    "snr_db": ("snr_db", ">="), "av_offset_s": ("av_offset_s", "abs<="),
}  # fmt: skip
SOUND_THRESHOLDS = ("speech_share", "bound_share", "snr_db", "av_offset_s")

_PERSON_ARRAYS = (
    "expression", "jaw", "neck", "rotation", "translation", "eyes", "gaze", "head_centre", "translation_sd",
    "gaze_sd", "residual", "box", "confidence",
)  # fmt: skip


def pack(array: npt.ArrayLike, kind: str = "float32") -> Json:
    """An array for the page: type code, shape, little-endian base64 data. NaN stays NaN."""
    values = np.ascontiguousarray(array, dtype=np.dtype(kind).newbyteorder("<"))
    return {"t": _CODES[kind], "s": list(values.shape), "d": base64.b64encode(values.tobytes()).decode("ascii")}


def pack_modes(modes: npt.NDArray[np.floating]) -> Json:
    """[V, 3, K] modes -> [K, V, 3] int16, each with its own scale: rounded to 1/32767 of a mode's largest value."""
    rows = np.moveaxis(np.asarray(modes, dtype=np.float64), 2, 0)
    largest = np.abs(rows).max(axis=(1, 2)) if rows.size else np.zeros(len(rows))
    scale = np.where(largest > 0, largest, 1.0) / 32767.0
    return {"q": pack(np.rint(rows / scale[:, None, None]), "int16"), "scale": pack(scale)}


def model_data(model: HeadModel, basis: Basis | None = None) -> Json:
    """What posing needs besides the person: modes, skinning, triangles; identity is baked into each person's vertices.

    Args:
        basis: expression modes that stand for the model's own (:mod:`compact`).
    """
    return {
        "sha256": model.sha256,
        "id": model.model_id,
        "tier": model.tier,
        "triangles": pack(model.triangles, "uint32"),
        "parts": pack(model.parts, "uint8"),
        "weights": pack(model.weights),
        "expression": pack_modes(model.expression_dirs if basis is None else basis.modes),
        "pose": None if model.pose_dirs is None else pack_modes(model.pose_dirs),
        "eyeball_radius": model.eyeball_radius,
        "iris_radius": model.iris_radius,
    }


def pair_data(
    pair: Pair, model: HeadModel | None, verdict: Mapping[str, Any] | None, basis: Basis | None = None
) -> Json:
    """One pair for the page.

    Args:
        model: the head model that the row refers to, or None where it is not at hand.
        basis: what the page's expression coefficients refer to, where not to the model's own modes.
        verdict: its row of ``selection.parquet``, or None where nothing was selected yet.
    """
    fitted, relation, voices, source = pair.fitted, pair.relation, pair.voices, pair.source
    return {
        "id": pair.pair_id,
        "source": {**vars(source)},
        "start": float(fitted.times[0]) if len(fitted.times) else source.start_s,
        "end": source.end_s,
        "fps": fitted.fps,
        "frames": len(fitted.times),
        "width": fitted.width,
        "height": fitted.height,
        "focal": {"px": fitted.focal_px, "source": fitted.focal_source, "log_sd": fitted.focal_log_sd},
        "model": {"id": fitted.head_model_id, "sha256": fitted.head_model_sha256, "tier": fitted.head_model_tier},
        "selection": None if verdict is None else dict(verdict),
        "captions": list(relation.captions),
        "codes": list(relation.codes),
        "layout": {name: _number(relation.layout.get(name)) for name in LAYOUT},
        "scores": {name: _number(pair.scores.get(name)) for name in SCORES},
        "turns": [vars(turn) for turn in voices.turns],
        "duplicate_of": pair.duplicate_of,
        "provenance": {
            "config_hash": pair.provenance.config_hash,
            "code_version": pair.provenance.code_version,
            "backends": [vars(backend) for backend in pair.provenance.backends],
        },
        "a": person_data(fitted.a, model, basis, relation.looking_a, voices.speaking_a, voices.voice_a, pair.person_a),
        "b": person_data(fitted.b, model, basis, relation.looking_b, voices.speaking_b, voices.voice_b, pair.person_b),
        "mutual_gaze": pack(relation.mutual_gaze),
        "distance": pack(relation.distance_m),
        "distance_sd": pack(relation.relative_position_sd),
        "audio": sound_data(pair),
    }


def person_data(
    head: HeadTrack,
    model: HeadModel | None,
    basis: Basis | None,
    looking: npt.ArrayLike,
    speaking: npt.ArrayLike,
    voice_id: str,
    person_id: str,
) -> Json:
    """One person: per-frame parameters and, with a model, the unposed vertices and joints of this identity."""
    out: Json = {name: pack(getattr(head, name)) for name in _PERSON_ARRAYS}
    out |= {
        "valid": pack(head.valid, "uint8"),
        "looking": pack(looking),
        "speaking": pack(speaking),
        "track_id": head.track_id,
        "voice_id": voice_id,
        "person_id": person_id,
        "scale_log_sd": _number(head.scale_log_sd),
        "child": head.child,
        "scale": head.scale,
        "neutral": None,
    }
    if model is not None:
        if basis is not None:
            out["expression"] = pack(basis.coefficients(head.expression))
        shape = head.shape.astype(np.float64)
        moving = model.joint_expression_dirs is not None
        expression = np.nan_to_num(head.expression.astype(np.float64)) if moving else None
        out["neutral"] = pack(model.neutral(shape))
        out["root"] = pack(model.posed_joints(shape)[0])
        out["joints"] = pack(model.posed_joints(shape, expression))
    return out


def sound_data(pair: Pair) -> Json | None:
    """The clip's audio file and the outline of its waveform; None without audio."""
    audio = pair.voices.audio
    if audio is None:
        return None
    samples = pair.voices.samples()
    edges = np.linspace(0, len(samples), PEAKS + 1).astype(np.int64)
    outline = np.zeros((PEAKS, 2))
    for k, (first, last) in enumerate(pairwise(edges)):
        if last > first:
            outline[k] = samples[first:last].min(), samples[first:last].max()
    return {
        "mime": "audio/wav" if audio[:4] == b"RIFF" else "audio/flac",
        "data": base64.b64encode(audio).decode("ascii"),
        "seconds": len(samples) / 16_000,
        "peaks": pack(np.clip(np.rint(outline * 127), -127, 127), "int8"),
    }


def page_facts(options: SelectionOptions | None) -> Json:
    """Names, units and meanings of scores and layout values, and the thresholds in use."""
    limits: Json = {}
    if options is not None:
        values = vars(options)
        for score, (name, side) in THRESHOLDS.items():
            if options.sound or name not in SOUND_THRESHOLDS:
                limits[score] = {"name": name, "side": side, "value": values[name]}
    return {
        "scores": {name: {"unit": unit, "meaning": meaning} for name, (unit, meaning) in SCORES.items()},
        "layout": {name: {"unit": unit, "meaning": meaning} for name, (unit, meaning) in LAYOUT.items()},
        "limits": limits,
        "offset_confidence": None if options is None else options.av_offset_confidence,
    }


def as_script(call: str, value: Mapping[str, Any] | Sequence[Any]) -> str:
    """``call(json);`` for a script file: a page opened from disk may load scripts, not data files."""
    return f"{call}({as_json(value)});\n"


def as_json(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """JSON that is safe inside a ``<script>`` element too."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), sort_keys=True)
    return text.replace("<", "\\u003c")


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
