"""The pair schema: complete, described, readable by tools that know nothing of it."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from duologue.schemas import pair
from hypothesis import given
from hypothesis import strategies as st

PERSON = (
    "track_id", "voice_id", "person_id", "scale_log_sd", "shape", "expression", "jaw", "neck", "rotation",
    "translation", "eyes", "gaze", "gaze_raw", "head_centre", "rotation_sd", "translation_sd", "gaze_sd",
    "speaking", "box", "valid", "confidence", "residual", "looking", "child", "scale",
)  # fmt: skip
SHARED = (
    "pair_id", "video_id", "source_uri", "source_id", "license", "attribution", "origin", "n_people", "start_s",
    "end_s", "fps", "n_frames", "width", "height", "shot_index", "captions", "layout.codes", "focal_px",
    "focal_source", "focal_log_sd", "audio", "turns", "mutual_gaze", "distance_m", "relative_position_sd",
    "camera_to_dyad", "head_model_id", "head_model_sha256", "head_model_tier", "config_hash", "code_version",
    "backends", "duplicate_of",
)  # fmt: skip


def test_columns_are_the_contract() -> None:
    expected = {*SHARED, *(f"{who}.{name}" for who in "ab" for name in PERSON)}
    expected |= {f"scores.{name}" for name in pair.SCORES} | {f"layout.{name}" for name in pair.LAYOUT}
    assert set(pair.pair_schema().names) == expected
    assert len(pair.pair_schema().names) == len(expected)


def test_every_field_says_what_it_means() -> None:
    for field in pair.pair_schema():
        meta = field.metadata
        assert len(meta[b"description"]) > 5, field.name
        if pa.types.is_list(field.type) and field.name not in ("turns", "captions", "layout.codes", "backends"):
            shape = json.loads(meta[b"shape"])
            rank, kind = 0, field.type
            while pa.types.is_list(kind):
                rank, kind = rank + 1, kind.value_type
            assert len(shape) == rank, field.name
            assert meta[b"dtype"].decode() == str(kind)


@pytest.mark.parametrize(
    ("name", "unit", "frame"),
    [
        ("a.rotation", "rad", "camera"), ("b.translation", "m", "camera"), ("a.jaw", "rad", "model"),
        ("b.box", "px", "image"), ("start_s", "s", "video clock"), ("turns", "s", "video clock"),
        ("a.residual", "face scale", ""), ("scores.snr_db", "dB", ""),
    ],
)  # fmt: skip
def test_units_and_frames(name: str, unit: str, frame: str) -> None:
    meta = pair.pair_schema().field(name).metadata
    assert meta[b"unit"].decode() == unit
    assert meta.get(b"frame", b"").decode().startswith(frame)


def test_schema_metadata() -> None:
    meta = pair.pair_schema().metadata
    assert meta[b"duologue.schema_version"] == b"1"
    for word in (b"Metres", b"OpenCV", b"presentation time", b"axis-angle", b"NaN"):
        assert word in meta[b"duologue.conventions"]
    assert json.loads(meta[b"huggingface"])["info"]["features"]["audio"]["_type"] == "Audio"


def test_light_columns_hold_no_array_and_no_sound() -> None:
    assert not set(pair.LIGHT) & set(pair.ARRAYS)
    assert "audio" not in pair.LIGHT
    assert set(pair.LIGHT) | set(pair.ARRAYS) | {"audio"} == set(pair.BY_NAME)


def test_pair_id_is_stable() -> None:
    """Changing this value makes every published id change: bump the schema version with it."""
    assert pair.pair_id("a" * 64, 1.704, 11.704, "c" * 32) == "6df839e7ce0ee90ad6f52f807449910a"


@given(st.floats(0, 1e5), st.floats(0.001, 100))
def test_pair_id_tells_clips_apart(start: float, length: float) -> None:
    one = pair.pair_id("v", start, start + length, "c")
    assert one != pair.pair_id("v", start + 0.01, start + 0.01 + length, "c")
    assert one != pair.pair_id("v", start, start + length, "d")
    assert one != pair.pair_id("w", start, start + length, "c")
