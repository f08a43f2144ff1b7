"""Which values of a configuration make sense: a run that cannot end well is refused before it starts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..schemas.errors import UsageError

MOST = math.inf
BOUNDS: dict[str, tuple[float, float]] = {  # option -> least, most
    "run.scan_piece_s": (1, MOST),
    "run.track_piece_s": (1, MOST),
    "run.track_warm_s": (0, MOST),
    "run.rows_per_shard": (1, MOST),
    "run.max_failed_share": (0, 1),
    "run.min_failed": (1, MOST),
    "probe.max_bytes": (1, MOST),
    "probe.max_pixels": (1, MOST),
    "probe.max_duration_s": (0.1, MOST),
    "probe.progress_timeout_s": (0.1, MOST),
    "probe.memory_mb": (400, MOST),
    "decode.memory_mb": (400, MOST),
    "decode.max_frames": (1, MOST),
    "decode.max_pixels": (1, MOST),
    "decode.progress_timeout_s": (0.1, MOST),
    "audio.max_window_s": (1, MOST),
    "audio.memory_mb": (400, MOST),
    "audio.progress_timeout_s": (0.1, MOST),
    "scan.people": (1, 2),
    "scan.sample_s": (0.01, 60),
    "scan.thorough_s": (0.01, 60),
    "scan.clip_s": (0.1, MOST),
    "scan.shortest_s": (0.1, MOST),
    "track.max_faces": (1, MOST),
    "clips.people": (1, 2),
    "clips.clip_s": (0.1, MOST),
    "clips.shortest_s": (0.1, MOST),
    "clips.context_s": (0, MOST),
    "listen.piece_s": (1, MOST),
    "listen.context_s": (0, MOST),
    "listen.hop_s": (0.01, MOST),
    "fit.fps": (1, 240),
    "fit.batch_clips": (1, MOST),
}


def check_bounds(values: Mapping[str, Any]) -> None:
    """Refuse values that are out of bounds or contradict each other.

    Args:
        values: every option by its name, such as ``clips.clip_s``.

    Raises:
        UsageError: one line that names the option.
    """
    for name, value in values.items():
        numbers = value if isinstance(value, tuple) else (value,)
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            raise UsageError(f"option {name}: {value} is not a finite number")
    for name, (least, most) in BOUNDS.items():
        if not least <= values[name] <= most:
            wanted = f"at least {least:g}" if most == MOST else f"from {least:g} to {most:g}"
            raise UsageError(f"option {name}: {values[name]} is not {wanted}")
    shortest, clip = values["clips.shortest_s"], values["clips.clip_s"]
    if shortest > clip:
        raise UsageError(f"option clips.shortest_s: {shortest:g} s is longer than clips.clip_s, {clip:g} s")
    people, seen = values["clips.people"], values["scan.people"]
    if people != seen:
        raise UsageError(f"option clips.people: {people} contradicts scan.people, {seen} (--people sets both)")
