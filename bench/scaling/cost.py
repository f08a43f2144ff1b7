"""What a data set of millions of pairs costs, reckoned from what curation and its sink were measured to cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PAIRS, PAIR_S = 2_000_000, 10.0
KEPT_SHARES = (0.5, 0.1, 0.028)  # a film chosen for it; chosen channels; SpeakerVid-5M's dialogue of all it gathered
# What each stage's cost follows: hours of video, hours in which two people were seen, or hours that became rows.
FOLLOWS = {
    "probe": "video", "scan": "video", "shots": "video", "track": "tracked", "clips": "tracked", "listen": "heard",
    "turns": "heard", "evidence": "kept", "bind": "kept", "fit": "kept", "score": "kept",
}  # fmt: skip


def stage_rates(curated: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of one core for each hour of what reaches a stage, from ``bench/results/curate.json``."""
    hours, media = curated["media_s"] / 3600, curated["media_s_by_stage"]
    return {
        name: seconds * hours / (media[name] / 3600)
        for name, seconds in curated["seconds_per_video_hour"].items()
        if name in FOLLOWS
    }


def cost_table(curated: Mapping[str, Any], sink_s_per_pair: float, kept_share: float) -> dict[str, float]:
    """Core-hours by stage, and terabytes, of :data:`PAIRS` rows of :data:`PAIR_S` seconds.

    Args:
        kept_share: of the hours of video. A smaller one means more hours to scan; what is tracked and heard for each
            hour that is kept is taken to be as in the measured run.
    """
    kept_h = PAIRS * PAIR_S / 3600
    media = curated["media_s_by_stage"]
    tracked_h = kept_h * media["track"] / curated["kept_s"]
    video_h = max(kept_h / kept_share, tracked_h)
    heard_h = min(video_h, kept_h * media["listen"] / curated["kept_s"])
    hours = {"video": video_h, "tracked": tracked_h, "heard": heard_h, "kept": kept_h}
    out = {name: rate * hours[FOLLOWS[name]] / 3600 for name, rate in stage_rates(curated).items()}
    rest = curated["seconds_per_video_hour"]["graph and files"] * curated["media_s"] / curated["kept_s"]
    out |= {"graph and files": rest * kept_h / 3600, "sink": PAIRS * sink_s_per_pair / 3600}
    disk = curated["disk_mb"]
    return {
        "kept_share": kept_share,
        "video_hours": video_h,
        "core_hours": sum(out.values()),
        **{f"core_hours_{name}": value for name, value in out.items()},
        **{f"tb_{name.strip('_')}": mb / curated["kept_s"] * kept_h * 3600 / 1e6 for name, mb in disk.items()},
    }
