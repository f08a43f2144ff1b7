"""What must hold within one pair row: shapes, validity, unit vectors, ranges, times, turns, sound."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from . import pair as schema
from .audio import decode_audio
from .errors import UsageError
from .row import Row
from .tracks import Bool

# Arrays are rounded to their column's step, so that exact properties hold to a few steps.
UNIT_TOLERANCE = 1e-3
POSITION_TOLERANCE_M = 2e-3
TIME_TOLERANCE_S = 1e-3
_SHARES = tuple(name for name, (unit, _) in schema.SCORES.items() if unit == "share")


def row_problems(row: Row) -> list[str]:
    """Everything wrong with a full row, one line each; empty for a sound row."""
    problems = list(_identity(row))
    shapes = list(_shapes(row))
    if shapes:
        return problems + shapes  # the rest would only repeat it
    problems += _scores(row)
    problems += _turns(row)
    problems += _audio(row)
    for who in ("a", "b"):
        problems += _person(row, who)
    problems += _dyad(row)
    return problems


def _identity(row: Row) -> Iterator[str]:
    if not schema.PAIR_ID.fullmatch(row["pair_id"]):
        yield f"pair_id {row['pair_id']!r} is not 32 hex digits"
    if not (math.isfinite(row["start_s"]) and math.isfinite(row["end_s"]) and row["start_s"] < row["end_s"]):
        yield f"times {row['start_s']} to {row['end_s']} are not a clip"
    elif row["fps"] > 0 and abs((row["end_s"] - row["start_s"]) * row["fps"] - row["n_frames"]) > 1 + 1e-6:
        yield f"n_frames {row['n_frames']} does not fit {row['end_s'] - row['start_s']:.3f} s at {row['fps']} fps"
    for name in ("fps", "n_frames", "width", "height", "focal_px"):
        if not row[name] > 0:
            yield f"{name} is {row[name]}"
    if row["n_people"] not in (1, 2):
        yield f"n_people is {row['n_people']}"
    if row["head_model_tier"] not in ("flame", "gnm", "ict", "canonical"):
        yield f"head_model_tier is {row['head_model_tier']!r}"
    if row["focal_source"] not in ("user", "metadata", "prior"):
        yield f"focal_source is {row['focal_source']!r}"


def _shapes(row: Row) -> Iterator[str]:
    sizes = {"T": int(row["n_frames"])}
    for name in schema.ARRAYS:
        symbols, actual = schema.BY_NAME[name].shape, row[name].shape
        want = tuple(int(s) if s.isdigit() else sizes.setdefault(s, n) for s, n in zip(symbols, actual, strict=True))
        if want != actual:
            yield f"{name} has shape {list(actual)}, expected {list(want)}"


def _scores(row: Row) -> Iterator[str]:
    for group in (schema.SCORES, schema.LAYOUT):
        prefix = "scores" if group is schema.SCORES else "layout"
        for name in group:
            value = row.get(f"{prefix}.{name}")  # columns that may not lack were looked for before
            if value is not None and not math.isfinite(value):
                yield f"{prefix}.{name} is {value}; what was not measured is null"
    for name in _SHARES:
        value = row.get(f"scores.{name}")
        if value is not None and not -1e-6 <= value <= 1 + 1e-6:
            yield f"scores.{name} is {value:.4g}, a share lies in 0..1"


def _turns(row: Row) -> Iterator[str]:
    for turn in row["turns"]:
        inside = row["start_s"] - TIME_TOLERANCE_S <= turn["start_s"] < turn["end_s"] <= row["end_s"] + TIME_TOLERANCE_S
        if not inside:
            yield f"turn {turn['start_s']:.3f} to {turn['end_s']:.3f} s lies outside the clip or is empty"
        if turn["face"] not in ("a", "b", ""):
            yield f"turn of face {turn['face']!r}"


def _audio(row: Row) -> Iterator[str]:
    if row["audio"] is None or row["audio"]["bytes"] is None:
        if row["turns"] or not (np.isnan(row["a.speaking"]).all() and np.isnan(row["b.speaking"]).all()):
            yield "speech without audio"
        return
    try:
        samples = decode_audio(row["audio"]["bytes"])
    except UsageError:
        raise
    except ValueError as error:
        yield f"audio: {error}"
        return
    expected = (row["end_s"] - row["start_s"]) * schema.SAMPLE_RATE
    if abs(len(samples) - expected) > schema.SAMPLE_RATE / row["fps"]:
        yield f"audio lasts {len(samples) / schema.SAMPLE_RATE:.3f} s, the clip {row['end_s'] - row['start_s']:.3f} s"


def _person(row: Row, who: str) -> Iterator[str]:
    valid: Bool = row[f"{who}.valid"]
    if who == "b" and row["n_people"] == 1 and valid.any():
        yield "b is valid in a row of one person"
    for name in schema.PERSON_ARRAYS:
        column, value = schema.BY_NAME[f"{who}.{name}"], row[f"{who}.{name}"]
        if np.isinf(value).any():
            yield f"{column.name} holds infinity"
        if not column.masked:
            continue
        axes = tuple(range(1, value.ndim))
        if not column.gaps and np.isnan(value).any(axis=axes)[valid].any():
            yield f"{column.name} is NaN in a valid frame"
        if not np.isnan(value).all(axis=axes)[~valid].all():
            yield f"{column.name} holds numbers in a frame that is not valid"
    known = [np.isfinite(row[f"{who}.{name}"]).reshape(len(valid), -1).all(axis=1) for name in schema.GAZE]
    if any((other != known[0]).any() for other in known[1:]):
        yield f"{who}.gaze, gaze_raw and gaze_sd are not known in the same frames"
    if not np.isfinite(row[f"{who}.shape"]).all():
        yield f"{who}.shape is not finite"
    yield from _ranges(row, who, valid)


def _ranges(row: Row, who: str, valid: Bool) -> Iterator[str]:
    def outside(name: str, low: float, high: float) -> bool:
        value = row[f"{who}.{name}"]
        known = value[np.isfinite(value)]
        return bool(known.size and (known.min() < low or known.max() > high))

    for name in ("gaze", "gaze_raw"):
        length = np.linalg.norm(row[f"{who}.{name}"][valid], axis=-1)
        length = length[~np.isnan(length)]
        if (np.abs(length - 1) > UNIT_TOLERANCE).any():
            yield f"{who}.{name} is not of unit length"
    for name, limit in (("rotation", math.pi), ("neck", math.pi), ("jaw", math.pi / 2), ("eyes", math.pi / 2)):
        if (np.linalg.norm(row[f"{who}.{name}"][valid], axis=-1) > limit + 1e-3).any():
            yield f"{who}.{name} turns by more than {math.degrees(limit):.0f} degrees"
    for name in ("confidence", "speaking"):
        if outside(name, 0, 1):
            yield f"{who}.{name} leaves 0..1"
    if row[f"{who}.confidence"].size and np.nan_to_num(row[f"{who}.confidence"][~valid]).any():
        yield f"{who}.confidence is not 0 in a frame that is not valid"
    for name in ("rotation_sd", "translation_sd", "gaze_sd", "residual"):
        if outside(name, 0, math.inf):
            yield f"{who}.{name} is negative"
    if outside("looking", 0, math.pi + 1e-3):
        yield f"{who}.looking leaves 0..pi"
    if (row[f"{who}.head_centre"][valid][:, 2] <= 0).any():
        yield f"{who}.head_centre lies behind the camera"
    box = row[f"{who}.box"]
    box = box[np.isfinite(box).all(axis=1)]
    if ((box[:, 2:] - box[:, :2]) <= 0).any():
        yield f"{who}.box is empty or turned over"


def _dyad(row: Row) -> Iterator[str]:
    mutual = row["mutual_gaze"][np.isfinite(row["mutual_gaze"])]
    if mutual.size and (mutual.min() < 0 or mutual.max() > 1):
        yield "mutual_gaze leaves 0..1"
    both = row["a.valid"] & row["b.valid"]
    if row["n_people"] != 2 or not both.any():
        return
    a, b = row["a.head_centre"], row["b.head_centre"]
    distance = np.linalg.norm((b - a).astype(np.float64), axis=1)
    if not np.allclose(row["distance_m"][both], distance[both], atol=POSITION_TOLERANCE_M, rtol=1e-3):
        yield "distance_m is not the distance between the head centres"
    boxes = np.isfinite(row["a.box"]).all(axis=1) & np.isfinite(row["b.box"]).all(axis=1)
    if boxes.any():
        first = int(np.argmax(boxes))
        middles = [(row[f"{who}.box"][first, 0] + row[f"{who}.box"][first, 2]) / 2 for who in ("a", "b")]
        if middles[0] > middles[1] + 0.02 * row["width"]:
            yield "a begins to the right of b"
    yield from _transform(row["camera_to_dyad"], a, b, int(np.argmax(both)))


def _transform(matrix: np.ndarray, a: np.ndarray, b: np.ndarray, first: int) -> Iterator[str]:
    turn = matrix[:3, :3]
    rigid = np.allclose(turn @ turn.T, np.eye(3), atol=1e-6) and np.linalg.det(turn) > 0
    if not (rigid and np.allclose(matrix[3], [0, 0, 0, 1])):
        yield "camera_to_dyad is not a rigid transform"
        return
    inside = np.stack([turn @ head[first].astype(np.float64) + matrix[:3, 3] for head in (a, b)])
    half = np.linalg.norm(b[first] - a[first]) / 2
    tolerance = POSITION_TOLERANCE_M + 1e-3 * half
    if not np.isfinite(tolerance) or not np.allclose(inside, np.array([[-half, 0, 0], [half, 0, 0]]), atol=tolerance):
        yield "camera_to_dyad does not put the head centres at the ends of its x axis"
