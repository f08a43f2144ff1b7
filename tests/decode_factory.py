"""Decoding in tests: what a file is, and all of its frames."""

from __future__ import annotations

from pathlib import Path

from duologue.schemas.records import InputItem, Video
from duologue.transforms.decode import read_frames
from duologue.transforms.probe import probe


def facts(path: Path) -> Video:
    return probe(str(path), InputItem(path.name))


def frames(path: Path, video: Video | None = None, start_s: float = 0.0, end_s: float = 1e6, **kw):
    video = video or facts(path)
    with read_frames(str(path), video, start_s=start_s, end_s=end_s, **kw) as reader:
        return [(f.time_s, f.rgb.copy()) for f in reader], reader.damage
