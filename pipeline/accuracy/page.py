"""The page of ``duologue accuracy``: figures, curves by condition, calibration, every conversation; self-contained."""

from __future__ import annotations

import math
from typing import Any

from ...viewer.charts import curves, escaped, interval, table
from ...viewer.view import STATIC
from .measures import BY_KEY, COVERAGE, MEASURES, Measure
from .table import CONDITIONS

STYLE = """
td.miss { color: #b3352b; } td.hit { color: #2f7d4f; }
td.miss b, td.hit b { font-weight: 600; } td b { font-weight: 500; }
tr.stage td { padding-top: 14px; color: #1d2530; font-weight: 600; border-bottom: 1px solid #d5dae1; }
td.n { white-space: nowrap; } td small { display: block; } td.what { min-width: 190px; max-width: 270px; }
.strip { width: 120px; height: 16px; display: block; } .strip .axis { stroke: #e1e5ea; }
.strip .limit { stroke: #1d2530; stroke-dasharray: 2 2; } .strip .range { stroke: #7a828d; stroke-width: 3; }
.strip circle { fill: #7a828d; } .strip.miss circle { fill: #c8453a; } .strip.miss .range { stroke: #e0968f; }
.strip.hit circle { fill: #3f8f5f; } .strip.hit .range { stroke: #9cc7ac; }
.tight table { font-size: 12px; } .tight td, .tight th { white-space: nowrap; }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 18px 28px; }
@media (max-width: 800px) { .two { grid-template-columns: 1fr; } }
"""
STAGES = {
    "shots": "Shots", "tracks": "Tracks", "turns": "Turns", "bind": "Who speaks", "fit": "Heads", "gaze": "Gaze",
    "relate": "The two together", "select": "Selection",
}  # fmt: skip
BY_LABEL = ("cuts_f1", "split_found", "idf1", "speaking_ap", "der", "rotation_deg", "distance_pct", "gaze_deg", "lips",
            "usable_precision", "usable_recall")  # fmt: skip
SHORT = {
    "cuts_f1": "changes F1", "idf1": "IDF1", "speaking_ap": "speaking AP", "der": "diarization error",
    "rotation_deg": "rotation °", "distance_pct": "distance %", "gaze_deg": "gaze °", "lips": "lips",
    "usable_precision": "usable precision", "usable_recall": "usable recall", "switches_per_minute": "switches/min",
    "split_found": "call found", "two_shots_lost": "taken for call", "der_collar": "with collar",
    "offset_ms": "offset ms", "lids": "lids",
}  # fmt: skip
INSIDE = {"rotation": "rotation", "relative_rotation": "relative rotation", "distance": "distance", "gaze": "gaze"}


def page_html(result: dict[str, Any]) -> str:
    """The whole page; needs no server and no network."""
    style = (STATIC / "report.css").read_text(encoding="utf-8") + STYLE
    sections = (
        ("Figures", "Dot: the value; bar: its 95 % interval; dashed: the target. Errors and shares run from 0.",
         _figures(result)),
        ("Error by how the face is seen", "Median over faces of a clip's mean error in that band. Dashed: the target "
         "over all bands.", _curves(result)),
        ("By what a film was made to be", "All films under a label, clean and hard together; brackets are 95 % "
         "intervals.", _labels(result)),
        ("Are the stored uncertainties right?", "Share of the errors inside so many stored standard deviations. On the "
         "grey curve they are as normal errors are; above it, larger than need be; below, too small.",
         _calibration(result)),
        ("Conversations", "What became of each film. Strangers: pairs whose tracks are not the two people.",
         _conversations(result)),
    )  # fmt: skip
    body = "".join(
        f'<section><h2>{title}</h2><p class="note">{note}</p>{content}</section>' for title, note, content in sections
    )
    facts = (
        f"{result['videos']} conversations, {result['video_seconds']:g} s · {result['suite']} suite · "
        f"version {result['code_version']} · {result['machine']}"
    )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        'content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>duologue accuracy</title><style>{style}</style></head><body>"
        f"<header><h1>Label accuracy</h1><p>{escaped(facts)}</p></header>{_tiles(result)}"
        '<p class="note">Every label of the curated pairs against the exact truth of rendered conversations: rendered '
        "faces and synthetic voices, so the figures rank stages and catch regressions, and say less about real video. "
        "Intervals: percentile bootstrap over clips (over films for shots, tracks, turns and selection); Wilson's for "
        "counts. Published figures are of others on real data, as they state them; none was run here.</p>"
        f"{body}</body></html>\n"
    )


def _tiles(result: dict[str, Any]) -> str:
    tiles = []
    for condition in CONDITIONS:
        told = [figure["met"] for figure in result["figures"][condition].values() if figure["met"] is not None]
        tiles.append(
            f"<div><span>targets met, {condition}</span><b>{sum(told)}</b> of {len(told)}</div>"
            if told
            else f"<div><span>targets met, {condition}</span>nothing measured</div>"
        )
    pairs = sum(row["pairs"] for row in result["conversations"])
    strangers = sum(row["strangers"] for row in result["conversations"])
    tiles += [
        f"<div><span>pairs measured</span><b>{pairs}</b></div>",
        f"<div><span>of them not the two people</span><b>{strangers}</b></div>",
    ]
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _figures(result: dict[str, Any]) -> str:
    rows, stage = [], ""
    for measure in MEASURES:
        if measure.stage != stage:
            stage = measure.stage
            rows.append(f'<tr class="stage"><td colspan="7">{STAGES[stage]}</td></tr>')
        figures = {condition: result["figures"][condition][measure.key] for condition in CONDITIONS}
        top = _top(measure, list(figures.values()))
        cells = "".join(_cell(measure, condition, figure, top) for condition, figure in figures.items())
        unit = f", {escaped(measure.unit)}" if measure.unit else ""
        rows.append(
            f"<tr><td class='what'>{escaped(measure.title)}{unit}</td>{cells}<td class='n'>{_target(measure)}</td>"
            f"<td><small>{escaped(measure.published)}</small></td></tr>"
        )
    head = "".join(f"<th>{name}</th>" for name in ("", "clean", "", "hard", "", "target", "published by others"))
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _limit(measure: Measure, condition: str) -> float | None:
    if measure.key.startswith("coverage_"):
        return 0.954
    return None if measure.target is None else measure.target[CONDITIONS.index(condition)]


def _top(measure: Measure, figures: list[dict[str, Any]]) -> float:
    """The end of a row's axis: 1 for shares, a little more than the largest value for the rest."""
    if not measure.less and not measure.unit:
        return 1.0
    known = [figure["high"] for figure in figures if figure["high"] is not None]
    return 1.1 * max([*known, *(measure.target or ()), 1e-9])


def _target(measure: Measure) -> str:
    if measure.key.startswith("coverage_"):
        return f"{COVERAGE[0]:g} to {COVERAGE[1]:g}"
    if measure.target is None:
        return ""
    return f"{'≤' if measure.less else '≥'} {measure.target[0]:g} / {measure.target[1]:g}"


def _cell(measure: Measure, condition: str, figure: dict[str, Any], top: float) -> str:
    if figure["value"] is None:
        return '<td class="none" colspan="2">not measured</td>'
    kind = {True: "hit", False: "miss", None: ""}[figure["met"]]
    by_film = measure.stage in ("shots", "tracks", "turns", "select") or measure.key == "offset_ms"
    of = "shots" if measure.how == "count" else "films" if by_film else "clips"
    strip = interval(
        figure["value"], figure["low"], figure["high"], top=top, limit=_limit(measure, condition), kind=kind
    )
    if figure["clips"] == 1 and measure.how != "count":
        doubt = f"one {of.removesuffix('s')}, no interval"
    else:
        doubt = f"{figure['low']:.3g} to {figure['high']:.3g}, {figure['clips']} {of}"
    return f'<td class="n {kind}"><b>{figure["value"]:.3g}</b><small>{doubt}</small></td><td>{strip}</td>'


def _curves(result: dict[str, Any]) -> str:
    """Rotation and gaze error over yaw and face scale."""
    cards = []
    for name in ("rotation_deg", "gaze_deg"):
        target = BY_KEY[name].target
        limits = dict(zip(CONDITIONS, target, strict=True)) if target else {}
        for axis, of in (("yaw", "face turned from the camera, degrees"), ("scale", "face scale, pixels per 63 mm")):
            steps = [
                band
                for band in dict.fromkeys(b for c in CONDITIONS for b in result["bands"][c])
                if band.startswith(axis)
            ]
            steps.sort(key=lambda band: int(band.split()[1].split("-")[0]))
            series = {
                c: [_point(result["bands"][c].get(band, {}).get(name), band) for band in steps] for c in CONDITIONS
            }
            chart = curves(series, unit="degrees", limits=limits)
            title = "head rotation" if name == "rotation_deg" else "gaze"
            cards.append(f"<figure><figcaption>{title} <span>by {of}</span></figcaption>{chart}</figure>")
    return f'<div class="two">{"".join(cards)}</div>'


def _point(figure: dict[str, Any] | None, band: str) -> tuple[str, float, float, float] | None:
    if figure is None or figure["value"] is None:
        return None
    step = band.split()[1].replace("-1000", "+")
    return step, figure["value"], figure["low"], figure["high"]


def _calibration(result: dict[str, Any]) -> str:
    cards = []
    for condition in CONDITIONS:
        known = result["inside"][condition]
        levels = list(dict.fromkeys(level for name in INSIDE for level in known.get(name, {})))
        series: dict[str, list[tuple[str, float, float, float] | None]] = {}
        for name, title in INSIDE.items():
            points = [known.get(name, {}).get(level) for level in levels]
            series[title] = [
                None if p is None or p["value"] is None else (level, p["value"], p["low"], p["high"])
                for level, p in zip(levels, points, strict=True)
            ]
        if any(point for points_ in series.values() for point in points_):
            normal = [(level, math.erf(float(level) / math.sqrt(2.0))) for level in levels]
            series["normal"] = [(level, share, share, share) for level, share in normal]
        chart = curves(series, unit="share", most=1.0)
        caption = f"{condition} <span>by stored standard deviations</span>"
        cards.append(f"<figure><figcaption>{caption}</figcaption>{chart}</figure>")
    return f'<div class="two">{"".join(cards)}</div>'


def _labels(result: dict[str, Any]) -> str:
    rows = [
        [escaped(label), *(_bracketed(figures.get(key)) for key in BY_LABEL)]
        for label, figures in result["labels"].items()
    ]
    return f'<div class="wide tight">{table(["", *(SHORT[key] for key in BY_LABEL)], rows)}</div>'


def _bracketed(figure: dict[str, Any] | None) -> str:
    if figure is None or figure["value"] is None:
        return "–"
    return f"{figure['value']:.3g}<small>{figure['low']:.2g} to {figure['high']:.2g}</small>"


def _conversations(result: dict[str, Any]) -> str:
    keys = [key for key in dict.fromkeys(k for row in result["conversations"] for k in row) if key != "condition"]
    rows = [[_plain(row.get(key)) for key in ("condition", *keys)] for row in result["conversations"]]
    head = ["condition", *(SHORT.get(key, key.replace("_", " ")) for key in keys)]
    return f'<div class="wide tight">{table(head, rows)}</div>'


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else escaped(value)
