"""All scores of a suite into one document: figures with intervals by clean and hard, and by condition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...fitting.fit import FitOptions, HeadFitter
from ...fitting.load_head import load_head_model
from ...fitting.reduce import reduce
from ...synthesis.scenario import Scenario
from ...synthesis.truth import Truth
from ..config import CurateConfig
from . import stages
from .figures import Figure, median_of, precision_of, ratio_of, share_of
from .found import FoundVideo, read_found
from .measures import MEASURES, Measure, met
from .rows import LEVELS, Heads, RowScore, in_fitted_axes, score_row
from .suite import Conversation, truth_of

CONDITIONS = ("clean", "hard")


@dataclass
class VideoScore:
    """One conversation's scores: of its whole video and of each of its pairs."""

    conversation: Conversation
    parts: dict[str, stages.Parts]
    offset_ms: float
    rows: list[RowScore]
    pairs: int
    strangers: int  # pairs whose tracks are not the two people


def score_suite(suite: Sequence[Conversation], videos: Path, curated: Path, config: CurateConfig) -> list[VideoScore]:
    """Every conversation of a suite, filmed in ``videos`` and curated into ``curated``, against its truth."""
    found = read_found(curated, config)
    fitted = load_head_model(config.backends.head_model or None)
    films = [load_head_model(name) for name in sorted({one.scenario.head_model or "canonical" for one in suite})]
    fitter = HeadFitter(reduce(fitted), config.fit if config.fit.focal_px is None else FitOptions())
    heads = Heads(fitted, {model.model_id: model for model in films}, fitter)
    return [score_video(one, truth_of(one, videos), found.get(one.name, FoundVideo()), heads, config) for one in suite]


def score_video(one: Conversation, truth: Truth, found: FoundVideo, heads: Heads, config: CurateConfig) -> VideoScore:
    """One conversation. Of split screens only cuts, split and selection are scored: the two share no space."""
    truth = in_fitted_axes(truth, heads)
    parts = {"cuts_f1": stages.cuts(truth, found)}
    parts["split_found"], parts["two_shots_lost"] = stages.calls(truth, found)
    usable = stages.selection(truth, found, snr_of(one.scenario), config.select, config.clips)
    parts["usable_precision"], parts["usable_recall"] = usable.precision, usable.recall
    rows: list[RowScore] = []
    strangers, offset = 0, math.nan
    if not truth.split_screen:
        tracked = stages.tracks(truth, found)
        parts["idf1"] = tracked.idf1
        minutes = sum(len(times) for times, _, _ in found.tracks) / max(truth.fps, 1.0) / 60
        parts["switches_per_minute"] = (float(tracked.switches), minutes)
        turns = stages.turns(truth, found)
        parts["der"], parts["der_collar"] = turns.strict, turns.collar
        if found.offset_confidence >= config.bind.least_confidence:
            offset = 1000 * abs(found.offset_s - truth.av_offset_s)
        for row in found.rows:
            scored = score_row(truth, row, found.clips.get(row["pair_id"]), heads)
            strangers += scored is None
            rows += [scored] if scored is not None else []
    return VideoScore(one, parts, offset, rows, len(found.rows), strangers)


def snr_of(scenario: Scenario) -> float | None:
    """Decibels of the speech over noise and music together; None where neither is there."""
    powers = [10 ** (-db / 10) for db in (scenario.noise_snr_db, scenario.music_snr_db) if db is not None]
    return -10 * math.log10(sum(powers)) if powers else None


def figure_of(measure: Measure, videos: Sequence[VideoScore]) -> Figure:
    """One measure over some conversations. Whole videos are drawn for what is scored by video, pairs for the rest."""
    rows = [row for video in videos for row in video.rows]
    if measure.key == "offset_ms":
        return median_of([video.offset_ms for video in videos])
    if measure.how == "median":
        return median_of([row.values.get(measure.key, math.nan) for row in rows])
    if measure.how == "ranked":
        return precision_of([row.ranked[measure.key] for row in rows if measure.key in row.ranked])
    by_video = [video.parts[measure.key] for video in videos if measure.key in video.parts]
    if measure.how == "count":
        return share_of(by_video)
    return ratio_of(by_video or [row.parts[measure.key] for row in rows if measure.key in row.parts])


def document(videos: Sequence[VideoScore]) -> dict[str, Any]:
    """Everything that the text, the page and the JSON show.

    ``clean`` and ``hard``: values by key. ``figures``: with intervals and targets. ``bands``: rotation and gaze by
    yaw and face scale. ``inside``: share of the errors inside so many stored standard deviations. ``labels``: the
    measures by label of the suite. ``conversations``: what became of each.
    """
    out: dict[str, Any] = {"figures": {}, "bands": {}, "inside": {}, "labels": {}}
    for condition in CONDITIONS:
        mine = [video for video in videos if video.conversation.condition == condition]
        shown = {measure.key: figure_of(measure, mine) for measure in MEASURES}
        out[condition] = {key: plain(figure.value) for key, figure in shown.items()}
        out["figures"][condition] = {
            measure.key: {
                **{name: plain(value) for name, value in shown[measure.key].as_json().items()},
                "met": met(measure, condition, shown[measure.key].value),
            }
            for measure in MEASURES
        }
        out["bands"][condition] = _bands(mine)
        out["inside"][condition] = _inside(mine)
    for label in sorted({label for video in videos for label in video.conversation.labels}):
        mine = [video for video in videos if label in video.conversation.labels]
        by_key = {measure.key: figure_of(measure, mine).as_json() for measure in MEASURES}
        out["labels"][label] = {
            key: {name: plain(value) for name, value in figure.items()}
            for key, figure in by_key.items()
            if figure["clips"]
        }
    out["conversations"] = [
        {
            "name": video.conversation.name,
            "condition": video.conversation.condition,
            "pairs": video.pairs,
            "strangers": video.strangers,
            **{key: plain(part / whole) for key, (part, whole) in video.parts.items() if whole},
            "offset_ms": plain(video.offset_ms),
            **{
                name: plain(median_of([row.values.get(name, math.nan) for row in video.rows]).value)
                for name in ("rotation_deg", "distance_pct", "gaze_deg", "lids", "lips")
            },
        }
        for video in videos
    ]
    return out


def _bands(videos: Sequence[VideoScore]) -> dict[str, dict[str, Any]]:
    out: dict[str, dict[str, Any]] = {}
    names = {band for video in videos for row in video.rows for band in row.bands}
    for band in sorted(names, key=lambda name: (name.split()[0] != "yaw", int(name.split()[1].split("-")[0]))):
        faces = [row.bands[band] for video in videos for row in video.rows if band in row.bands]
        figures = {
            name: median_of([face[key] for face in faces for key in face if key.startswith(f"{name}.")]).as_json()
            for name in ("rotation_deg", "gaze_deg")
        }
        if any(figure["clips"] for figure in figures.values()):
            out[band] = {name: {key: plain(value) for key, value in figure.items()} for name, figure in figures.items()}
    return out


def _inside(videos: Sequence[VideoScore]) -> dict[str, dict[str, Any]]:
    out: dict[str, dict[str, Any]] = {}
    rows = [row for video in videos for row in video.rows]
    for name in dict.fromkeys(name for row in rows for name in row.inside):
        known = [row.inside[name] for row in rows if name in row.inside]
        figures = {f"{level:g}": ratio_of([parts[k] for parts in known]).as_json() for k, level in enumerate(LEVELS)}
        out[name] = {level: {key: plain(value) for key, value in one.items()} for level, one in figures.items()}
    return out


def plain(value: Any) -> Any:
    """A number for JSON: five digits, null where there is none."""
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def text(result: dict[str, Any]) -> str:
    """The table for a terminal."""
    lines = [f"{'':60s}{'clean':>22s}  {'hard':>24s}     target"]
    stage = ""
    for measure in MEASURES:
        if measure.stage != stage:
            stage = measure.stage
            lines.append(stage)
        cells = [cell(measure, result["figures"][condition][measure.key]) for condition in CONDITIONS]
        target = (
            ""
            if measure.target is None
            else f"{'<=' if measure.less else '>='} {measure.target[0]:g}/{measure.target[1]:g}"
        )
        title = measure.title + (f" ({measure.unit})" if measure.unit else "")
        lines.append(f"  {title:58s}{cells[0]:>24s} {cells[1]:>26s}   {target}")
    lines.append("")
    lines.append("by condition (median over face-clips, degrees)")
    for condition in CONDITIONS:
        for band, figures in result["bands"][condition].items():
            shown = "   ".join(f"{n.removesuffix('_deg')} {_short(f)}" for n, f in figures.items())
            lines.append(f"  {condition:6s} {band:14s} {shown}")
    for label, figures in result["labels"].items():
        keys = (
            "rotation_deg",
            "gaze_deg",
            "distance_pct",
            "speaking_ap",
            "der",
            "lips",
            "usable_recall",
            "split_found",
        )
        shown = "   ".join(f"{k} {_short(figures[k])}" for k in keys if k in figures)
        lines.append(f"  label {label:14s} {shown}")
    lines.append("")
    lines.append("published by others on real data (not run here):")
    lines += [f"  {m.stage}: {m.published}" for m in MEASURES if m.published]
    return "\n".join(lines)


def cell(measure: Measure, figure: dict[str, Any]) -> str:
    """Value, interval, and a mark where the target is missed."""
    if figure["value"] is None:
        return "-"
    return f"{_short(figure)}{' !' if figure['met'] is False else '  '}"


def _short(figure: dict[str, Any]) -> str:
    if figure["value"] is None:
        return "-"
    return f"{figure['value']:.3g} [{figure['low']:.3g}, {figure['high']:.3g}]"
