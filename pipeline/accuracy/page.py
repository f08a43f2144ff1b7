"""The page of ``duologue accuracy``: the table, error curves by condition, every conversation; self-contained."""

from __future__ import annotations

from typing import Any

from ...viewer.charts import curves, escaped, table
from ...viewer.view import STATIC
from .measures import BY_KEY, COVERAGE, MEASURES, Measure
from .table import CONDITIONS

STYLE = """
td.miss { color: #c8453a; font-weight: 600; } td.hit { color: #2f7d4f; font-weight: 600; }
tr.stage td { padding-top: 12px; color: #697485; font-weight: 600; border-bottom: 1px solid #d5dae1; }
td.n { white-space: nowrap; } td small { display: block; }
"""


def page_html(result: dict[str, Any]) -> str:
    """The whole page; needs no server and no network."""
    style = (STATIC / "report.css").read_text(encoding="utf-8") + STYLE
    sections = (("Figures", _figures(result)), ("Error by condition", _curves(result)), ("Labels", _labels(result)),
                ("Conversations", _conversations(result)))  # fmt: skip
    body = "".join(f"<section><h2>{title}</h2>{content}</section>" for title, content in sections)
    facts = (
        f"{result['videos']} conversations, {result['video_seconds']:g} s · {result['suite']} suite · "
        f"version {result['code_version']} · {result['machine']}"
    )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        'content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>duologue accuracy</title><style>{style}</style></head><body>"
        f"<header><h1>Label accuracy</h1><p>{escaped(facts)}</p></header>"
        '<p class="note">Every label of the curated pairs against the exact truth of rendered conversations. Brackets: '
        "95 % interval, bootstrap over clips. Published figures are of others on real data, as they state them.</p>"
        f"{body}</body></html>\n"
    )


def _figures(result: dict[str, Any]) -> str:
    rows, stage = [], ""
    for measure in MEASURES:
        if measure.stage != stage:
            stage = measure.stage
            rows.append(f'<tr class="stage"><td colspan="5">{escaped(stage)}</td></tr>')
        cells = "".join(_cell(result["figures"][condition][measure.key]) for condition in CONDITIONS)
        unit = f" <small>{escaped(measure.unit)}</small>" if measure.unit else ""
        rows.append(
            f"<tr><td>{escaped(measure.title)}{unit}</td>{cells}<td class='n'>{_target(measure)}</td>"
            f"<td><small>{escaped(measure.published)}</small></td></tr>"
        )
    head = "".join(f"<th>{name}</th>" for name in ("", "clean", "hard", "target", "published by others"))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _target(measure: Measure) -> str:
    if measure.key.startswith("coverage_"):
        return f"{COVERAGE[0]:g} to {COVERAGE[1]:g}"
    if measure.target is None:
        return ""
    return f"{'≤' if measure.less else '≥'} {measure.target[0]:g} / {measure.target[1]:g}"


def _cell(figure: dict[str, Any]) -> str:
    if figure["value"] is None:
        return '<td class="none">not measured</td>'
    kind = {True: "n hit", False: "n miss", None: "n"}[figure["met"]]
    return (
        f'<td class="{kind}">{figure["value"]:.3g}<small>{figure["low"]:.3g} to {figure["high"]:.3g}, '
        f"{figure['clips']} clips</small></td>"
    )


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
            cards.append(
                f"<figure><figcaption>{escaped(BY_KEY[name].title)} <span>by {of}</span></figcaption>{chart}</figure>"
            )
    return f'<div class="cards" style="grid-template-columns:1fr 1fr">{"".join(cards)}</div>'


def _point(figure: dict[str, Any] | None, band: str) -> tuple[str, float, float, float] | None:
    if figure is None or figure["value"] is None:
        return None
    step = band.split()[1].replace("-1000", "+")
    return step, figure["value"], figure["low"], figure["high"]


def _labels(result: dict[str, Any]) -> str:
    keys = ("rotation_deg", "gaze_deg", "distance_pct", "lids", "lips", "speaking_ap", "der", "offset_ms", "idf1",
            "split_found", "usable_recall")  # fmt: skip
    rows = [
        [escaped(label), *(_short(figures.get(key)) for key in keys)] for label, figures in result["labels"].items()
    ]
    return table(["label", *keys], rows)


def _short(figure: dict[str, Any] | None) -> str:
    return "–" if figure is None or figure["value"] is None else f"{figure['value']:.3g}"


def _conversations(result: dict[str, Any]) -> str:
    keys = [key for key in dict.fromkeys(k for row in result["conversations"] for k in row) if key != "condition"]
    rows = [[_plain(row.get(key)) for key in ("condition", *keys)] for row in result["conversations"]]
    return f'<div style="overflow-x:auto">{table(["condition", *keys], rows)}</div>'


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else escaped(value)
