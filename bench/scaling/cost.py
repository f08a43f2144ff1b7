"""What a data set of millions of pairs costs, reckoned from what curation and its sink were measured to cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from duologue.schemas.dataset import Dataset

from .steps import folder_mb

PAIRS, PAIR_S = 2_000_000, 10.0
KEPT_SHARES = (0.5, 0.1, 0.028)  # a film chosen for it; chosen channels; SpeakerVid-5M's dialogue of all it gathered
# What each stage's cost follows: hours of video, hours in which two people were seen, or hours that became rows.
FOLLOWS = {
    "probe": "video", "scan": "video", "shots": "video", "track": "track", "clips": "track", "listen": "listen",
    "turns": "listen", "evidence": "kept", "bind": "kept", "fit": "kept", "score": "kept",
}  # fmt: skip


def yield_of(out: Path) -> dict[str, Any]:
    """Seconds of media that reached each stage of a finished run, seconds that became rows, and MB on disk.

    Deterministic, unlike times; ``out`` must not have been resumed.
    """
    media: dict[str, float] = defaultdict(float)
    for path in sorted((out / "_work" / "progress").glob("*.tsv")):
        for line in path.read_text().splitlines():
            stage, seconds, *_ = line.split("\t")
            media[stage] += float(seconds)
    clips = Dataset(out).table(["start_s", "end_s"])
    return {
        "media_s": {name: round(media[name], 3) for name in FOLLOWS},
        "kept_s": round(float((clips["end_s"].to_numpy() - clips["start_s"].to_numpy()).sum()), 3),
        "disk_mb": {name: round(folder_mb(out / name), 3) for name in ("pairs", "landmarks", "_work")},
    }


def cost_table(
    seconds: Mapping[str, float], measured: Mapping[str, Any], sink_s_per_pair: float, kept_share: float
) -> dict[str, float]:
    """Core-hours by stage, and terabytes, of :data:`PAIRS` rows of :data:`PAIR_S` seconds.

    Args:
        seconds: of one core for an hour of the measured video, by stage (``bench/results/curate.json``).
        measured: :func:`yield_of` that video.
        kept_share: of the hours of video. A smaller one means more hours to scan; what is tracked and heard for each
            hour that is kept is taken to be as measured.
    """
    kept_h, media = PAIRS * PAIR_S / 3600, measured["media_s"]
    per_kept = {name: media[name] / measured["kept_s"] for name in ("scan", "track", "listen")} | {"kept": 1.0}
    hours = {name: kept_h * ratio for name, ratio in per_kept.items()} | {"video": kept_h / kept_share}
    whole_h = media["scan"] / 3600  # of the measured video
    out = {}
    for name, follows in FOLLOWS.items():
        reached_h = whole_h if follows == "video" else per_kept[follows] * measured["kept_s"] / 3600
        out[name] = seconds[name] * whole_h / reached_h * hours[follows] / 3600
    out["graph and files"] = seconds["graph and files"] * hours["scan"] / 3600
    out["sink"] = PAIRS * sink_s_per_pair / 3600
    return {
        "kept_share": kept_share,
        "video_hours": hours["video"],
        "core_hours": sum(out.values()),
        **{f"core_hours_{name}": value for name, value in out.items()},
        **{f"tb_{name.strip('_')}": mb * kept_h * 3600 / measured["kept_s"] / 1e6
           for name, mb in measured["disk_mb"].items()},
    }  # fmt: skip
