"""The canonical face mesh inside a MediaPipe ``face_landmarker.task`` bundle (Apache-2.0): a zip with one small
protobuf.

``geometry_pipeline_metadata_landmarks.binarypb`` holds 468 vertices (x, y, z, u, v) in centimetres and 898 triangles.
It is read
by wire format, without protobuf: field 1 (mesh) > field 3 (packed or repeated floats), field 4 (indices).
"""

from __future__ import annotations

import hashlib
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..schemas.errors import UsageError
from .head_model import LEFT_EYE, LEFT_EYEBALL, RIGHT_EYE, RIGHT_EYEBALL, Array, HeadModel, Index

MEMBER = "geometry_pipeline_metadata_landmarks.binarypb"
_LIMIT = 4 << 20  # bytes; the real one has 19,376


def read_task(path: Path) -> tuple[Array, Index]:
    """Vertices [468, 3] in metres and triangles [898, 3] of the bundle's mesh."""
    try:
        with zipfile.ZipFile(path) as bundle:
            if bundle.getinfo(MEMBER).file_size > _LIMIT:
                raise UsageError(f"head model {path}: {MEMBER} is larger than {_LIMIT} bytes")
            data = bundle.read(MEMBER)
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise UsageError(f"head model {path}: expected a MediaPipe .task bundle with {MEMBER} ({error})") from None
    try:
        mesh = _fields(_messages(_fields(data)[1])[0])
        floats = np.frombuffer(b"".join(_messages(mesh[3])), dtype="<f4")
        indices = np.array(_integers(mesh[4]), dtype=np.int64)
    except (KeyError, IndexError, ValueError, struct.error) as error:
        raise UsageError(f"head model {path}: {MEMBER} does not hold a mesh ({error})") from None
    if floats.size != 468 * 5 or indices.size % 3 or indices.size == 0 or indices.max() >= 468:
        raise UsageError(
            f"head model {path}: expected 468 vertices of 5 floats and triangles among them, found {floats.size} "
            f"floats and {indices.size} indices"
        )
    return floats.reshape(468, 5)[:, :3].astype(np.float64) * 0.01, indices.reshape(-1, 3)


def load_task(path: Path, embedding: Path | None = None) -> HeadModel:
    """MediaPipe's mesh as face, with the canonical head's eyeballs, joints and modes carried over. Tier "canonical".

    The mesh has no deformations of its own: the canonical head is moved onto it vertex by vertex (skin exactly but for
    parted lips, everything else by the smooth field that the skin's displacement defines).
    """
    from . import canonical

    if embedding is not None:
        raise UsageError("a MediaPipe .task has FaceMesh's own vertices: it takes no landmark embedding")
    vertices, triangles = read_task(path)
    base = canonical.load_embedded("canonical")
    skin = base.vertices[:468]
    canthi = [33, 263, 133, 362]
    vertices = vertices + (skin[canthi] - vertices[canthi]).mean(0)
    moved = base.vertices + _carry(skin, vertices - skin, base.vertices)
    moved[:468] = vertices
    moved += _lips_together(base, moved)
    joints = base.joints + _carry(skin, vertices - skin, base.joints)
    for joint, part in (
        (LEFT_EYE, LEFT_EYEBALL),
        (RIGHT_EYE, RIGHT_EYEBALL),
    ):  # eyeballs stay spheres: they move as one
        rows = base.parts == part
        moved[rows] = base.vertices[rows] - base.joints[joint] + joints[joint]
    return replace(
        base,
        model_id="mediapipe-task",
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        license="Apache-2.0 (MediaPipe)",
        vertices=moved,
        joints=joints,
        notes=(*base.notes, f"{len(triangles)} triangles of MediaPipe's mesh, modes of the canonical head"),
    )


def _lips_together(base: HeadModel, vertices: Array) -> Array:
    """MediaPipe's mesh rests with parted lips: the multiple of mouthClose that brings them to the canonical gap."""
    close = base.expression_dirs[..., base.expression_names.index("mouthClose")].astype(np.float64)

    def gap(points: Array) -> float:
        return float(points[13, 1] - points[14, 1])

    return np.asarray(close * ((gap(base.vertices) - gap(vertices)) / gap(close)))


def _carry(anchors: Array, displacement: Array, points: Array, width: float = 0.02) -> Array:
    """Displacement at ``points`` [N, 3] as the Gaussian-weighted mean (``width`` metres) of the anchors'."""
    d2 = ((points[:, None] - anchors[None]) ** 2).sum(-1)
    w = np.exp(-0.5 * (d2 - d2.min(1, keepdims=True)) / width**2)
    return np.asarray((w @ displacement) / w.sum(1, keepdims=True))


# protobuf wire format -----------------------------------------------------------------------------------------------


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        shift += 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("varint too long")


def _fields(data: bytes) -> dict[int, list[int | bytes]]:
    out: dict[int, list[int | bytes]] = {}
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        value: int | bytes
        if wire == 0:
            value, at = _varint(data, at)
        elif wire in (1, 2, 5):
            size = {1: 8, 5: 4}.get(wire, 0)
            if wire == 2:
                size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("truncated")
            value, at = data[at : at + size], at + size
        else:
            raise ValueError(f"wire type {wire}")
        out.setdefault(key >> 3, []).append(value)
    return out


def _messages(values: list[int | bytes]) -> list[bytes]:
    if not all(isinstance(v, bytes) for v in values):
        raise ValueError("expected bytes")
    return [v for v in values if isinstance(v, bytes)]


def _integers(values: list[int | bytes]) -> list[int]:
    out: list[int] = []
    for value in values:
        if isinstance(value, int):
            out.append(value)
            continue
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            out.append(number)
    return out
