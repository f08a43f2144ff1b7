"""Measures one file: what it is, how long it really lasts, and where its picture and sound stand on the video clock."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass
from typing import Any

from ..schemas.errors import BadInput
from ..schemas.records import METADATA_LOG_SD, USER_LOG_SD, Focal, InputItem, Video
from . import decode_process

_BLOCK = 1 << 20


@dataclass(frozen=True)
class ProbeOptions:
    """Limits on what is taken in, and on the process that opens it.

    Attributes:
        max_bytes: size of the file.
        max_duration_s: length of the video stream, in seconds.
        max_pixels: of a coded frame (8K by default).
        progress_timeout_s: the child is killed after so long without progress, in seconds.
        memory_mb: address space of the child, in MiB; 350 of it are taken before the first file.
    """

    max_bytes: int = 64 << 30
    max_duration_s: float = 12 * 3600.0
    max_pixels: int = 8192 * 4320
    progress_timeout_s: float = 60.0
    memory_mb: int = 4096


def content_sha256(path: str) -> str:
    """sha256 (hex) of a file's bytes, read in blocks."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def probe(path: str, item: InputItem, options: ProbeOptions | None = None) -> Video:
    """Measures a local file; demuxing and the first frame's decoding happen in the killable child.

    Duration, rate and offsets come from the packets and the first decoded frame and sample, never from header
    guesses: edit lists and codec priming are respected. Zero of the clock is the earliest presentation time over all
    audio and video streams. A missing audio stream is no error here (``Video.has_audio``).

    Args:
        path: local file with the content of ``item.uri``.

    Raises:
        BadInput: ``unreadable`` (missing, empty, not media), ``no_video`` (cover pictures do not count),
            ``too_large``, ``too_short`` (the part asked for lies outside the file), ``decode_failed`` (no frame can
            be decoded), ``decode_timeout``.
    """
    options = options or ProbeOptions()
    size = _size(path)
    if size > options.max_bytes:
        raise BadInput("too_large", f"{size} bytes is over {options.max_bytes}")
    try:
        video_id = content_sha256(path)
    except OSError as error:
        raise BadInput("unreadable", error.strerror or type(error).__name__) from error
    facts = _facts(path, options)
    tagged = facts.pop("focal_px")
    focal = None if tagged is None else Focal(float(tagged), "metadata", METADATA_LOG_SD)
    if item.focal_px is not None:
        focal = Focal(item.focal_px, "user", item.focal_log_sd or USER_LOG_SD)
    duration_s = float(facts["duration_s"])
    start_s = max(0.0, item.start_s or 0.0)
    end_s = duration_s if item.end_s is None else min(item.end_s, duration_s)
    if end_s <= start_s:
        raise BadInput("too_short", f"the part {start_s:g}-{end_s:g} s is empty; the file lasts {duration_s:.3f} s")
    return Video(
        video_id=video_id,
        uri=item.uri,
        start_s=start_s,
        end_s=end_s,
        size_bytes=size,
        source_id=item.source_id,
        license=item.license,
        attribution=item.attribution,
        focal=focal,
        **facts,
    )


def _size(path: str) -> int:
    try:
        found = os.stat(path)
    except OSError as error:
        raise BadInput("unreadable", error.strerror or type(error).__name__) from error
    if not stat.S_ISREG(found.st_mode):
        raise BadInput("unreadable", "not a regular file")
    if found.st_size == 0:
        raise BadInput("unreadable", "the file is empty (0 bytes)")
    return found.st_size


def _facts(path: str, options: ProbeOptions) -> dict[str, Any]:
    child = decode_process.acquire()
    try:
        answers = child.request(
            "probe",
            options.progress_timeout_s,
            path=path,
            memory_mb=options.memory_mb,
            max_duration_s=options.max_duration_s,
            max_pixels=options.max_pixels,
        )
        facts: dict[str, Any] = json.loads(next(answers)[1])
        return facts
    finally:
        decode_process.release(child)
