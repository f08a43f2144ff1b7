"""Small charts as SVG text: what a report needs, drawn without a plotting library."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


def escaped(text: object) -> str:
    """Text safe in HTML and SVG, in attributes too."""
    return html.escape(str(text), quote=True)


def figure(value: float, unit: str = "") -> str:
    """A number as people read it; shares in percent."""
    if unit == "share":
        size = abs(value)
        digits = 3 if 0 < size < 0.0005 else 1 if 0 < size < 0.01 or 0.99 < size < 1 else 0
        return f"{100 * value:.{digits}f} %"
    size = abs(value)
    digits = 0 if size >= 100 or value == 0 else 1 if size >= 10 else 2 if size >= 0.1 else 3
    return f"{value:.{digits}f}".replace("-", "−")


def bin_edges(values: Values, limits: Sequence[float], bins: int = 24) -> Values:
    """Edges on round steps over the limits and the 0.5 to 99.5 percentiles of the values."""
    low, high = (float(v) for v in np.percentile(values, [0.5, 99.5]))
    low, high = min(low, *limits, high), max(high, *limits, low)
    if high - low < 1e-9:
        low, high = (0.0, 1.0) if 0 <= low <= 1 else (low - 0.5, high + 0.5)
    step = round_step((high - low) / bins)
    first, last = math.floor(low / step), max(math.ceil(high / step), math.floor(low / step) + 1)
    return np.asarray(np.arange(first, last + 1) * step, np.float64)


def round_step(least: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is not below ``least`` (positive)."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= least * 0.999)


def histogram(
    values: Values,
    *,
    fails: npt.NDArray[np.bool_],
    limits: Sequence[float],
    unit: str,
    label: str = "",
    width: int = 250,
    height: int = 84,
) -> str:
    """Bars of counts, failing values in red, thresholds as dashed lines.

    Args:
        label: what a reader who does not see the picture is told.
        values: finite numbers; ``fails`` says of each whether its threshold stops it.
        limits: places of the threshold lines.
    """
    if not len(values):
        return f'<svg class="chart" viewBox="0 0 {width} {height}"></svg>'
    edges = bin_edges(values, limits)
    clipped = np.clip(values, edges[0], edges[-1])
    good = np.histogram(clipped[~fails], edges)[0]
    bad = np.histogram(clipped[fails], edges)[0]
    top = max(int((good + bad).max()), 1)
    floor, left, span = height - 16, 2.0, width - 4.0
    bar = span / (len(edges) - 1)

    def place(value: float) -> float:
        return left + (value - edges[0]) / (edges[-1] - edges[0]) * span

    parts = [f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escaped(label)}">']
    for k, (yes, no) in enumerate(zip(good, bad, strict=True)):
        x, base = left + k * bar, float(floor)
        for count, kind in ((yes, "good"), (no, "bad")):
            tall = float(count) / top * (floor - 12)
            if count:
                span_of = f"{figure(edges[k], unit)} to {figure(edges[k + 1], unit)}: {count}"
                parts.append(
                    f'<rect class="{kind}" x="{x + 0.5:.2f}" y="{base - tall:.2f}" width="{max(bar - 1, 0.5):.2f}" '
                    f'height="{tall:.2f}"><title>{escaped(span_of)}</title></rect>'
                )
            base -= tall
    parts.append(f'<line class="axis" x1="{left}" x2="{left + span}" y1="{floor}" y2="{floor}"/>')
    for limit in limits:
        x = place(limit)
        parts.append(f'<line class="limit" x1="{x:.2f}" x2="{x:.2f}" y1="2" y2="{floor}"/>')
        anchor = "end" if x > width * 0.6 else "start"
        parts.append(
            f'<text class="limit" x="{x + (3 if anchor == "start" else -3):.2f}" y="9" text-anchor="{anchor}">'
            f"{escaped(figure(limit, unit))}</text>"
        )
    parts.append(f'<text x="{left}" y="{height - 4}">{escaped(figure(edges[0], unit))}</text>')
    parts.append(
        f'<text x="{left + span}" y="{height - 4}" text-anchor="end">{escaped(figure(edges[-1], unit))}</text>'
    )
    parts.append(f'<text x="{width / 2}" y="{height - 4}" text-anchor="middle">most {top}</text></svg>')
    return "".join(parts)


def bar(share: float, kind: str = "good") -> str:
    """A horizontal bar, 0..1 of its cell."""
    return f'<div class="bar"><i class="{kind}" style="width:{100 * min(max(share, 0.0), 1.0):.2f}%"></i></div>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, kind: str = "") -> str:
    """A table of cells that are already HTML."""
    if not rows:
        return '<p class="none">None.</p>'
    top = "".join(f"<th>{escaped(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


def curves(
    series: Mapping[str, Sequence[tuple[str, float, float, float] | None]],
    *,
    unit: str,
    limits: dict[str, float] | None = None,
    most: float | None = None,
    width: int = 420,
    height: int = 210,
) -> str:
    """Values over named steps with their intervals, one line per series; a step without a value leaves a hole.

    Args:
        series: name -> (step, value, low, high) for every step, in order; all series have the same steps.
        limits: dashed lines by series name. most: top of the axis; a round one above all where None.
    """
    colours = ("#4f86c6", "#c8453a", "#3f8f5f", "#8a63b8", "#7a828d")
    known = [point for points in series.values() for point in points if point is not None]
    if not known:
        return '<p class="none">Not measured.</p>'
    columns = zip(*series.values(), strict=True)
    steps = [next(point[0] for point in column if point is not None) for column in columns if any(column)]
    highest = max([point[3] for point in known] + list((limits or {}).values())) or 1.0
    top = most or 4 * round_step(highest / 4)
    left, floor, right = 34.0, height - 34.0, width - 8.0

    def x(step: str, shift: float = 0.0) -> float:
        return left + (steps.index(step) + 0.5) / len(steps) * (right - left) + shift

    def y(value: float) -> float:
        return floor - value / top * (floor - 18.0)

    told = escaped(f"{', '.join(series)} over {', '.join(steps)}, {unit}")
    parts = [f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{told}">']
    for k in range(5):
        value = top * k / 4
        parts.append(
            f'<line x1="{left}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#e1e5ea"/>'
            f'<text x="{left - 4}" y="{y(value) + 3:.1f}" text-anchor="end">{value:g}</text>'
        )
    parts += [f'<text x="{x(s):.1f}" y="{floor + 13}" text-anchor="middle">{escaped(s)}</text>' for s in steps]
    legend = left
    for k, (name, points) in enumerate(series.items()):
        colour, shift = colours[k % len(colours)], 5.0 * (k - (len(series) - 1) / 2)
        line = ""
        for point in points:
            if point is None:
                line += " "
                continue
            step, value, low, high = point
            at = x(step, shift)
            line += f"{'M' if not line or line.endswith(' ') else 'L'}{at:.1f} {y(value):.1f}"
            label = f"{name}, {step}: {figure(value)} {unit} ({figure(low)} to {figure(high)})"
            parts.append(
                f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}" stroke="{colour}"/>'
                f'<circle cx="{at:.1f}" cy="{y(value):.1f}" r="3.2" fill="{colour}"><title>{escaped(label)}</title>'
                "</circle>"
            )
        parts.append(f'<path d="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(f'<text x="{legend:.0f}" y="10" style="fill:{colour}">{escaped(name)}</text>')
        legend += 5.0 * len(name) + 14.0
        if limits and name in limits:
            at_y = y(limits[name])
            parts.append(
                f'<line x1="{left}" x2="{right}" y1="{at_y:.1f}" y2="{at_y:.1f}" stroke="{colour}" '
                'stroke-dasharray="4 3"/>'
            )
    parts.append(f'<text x="{right}" y="10" text-anchor="end">{escaped(unit)}</text></svg>')
    return "".join(parts)


def interval(value: float, low: float, high: float, *, top: float, limit: float | None, kind: str = "") -> str:
    """A value (dot) with its interval (line) on an axis from 0 to ``top``, and a threshold (dashed)."""
    width, middle = 150.0, 8.0

    def x(at: float) -> float:
        return 4.0 + min(max(at / top, 0.0), 1.0) * (width - 8.0)

    parts = [
        f'<svg class="strip {kind}" viewBox="0 0 {width:g} {2 * middle:g}" aria-hidden="true">'
        f'<line class="axis" x1="4" x2="{width - 4:g}" y1="{middle}" y2="{middle}"/>'
    ]
    if limit is not None:
        parts.append(f'<line class="limit" x1="{x(limit):.1f}" x2="{x(limit):.1f}" y1="1" y2="{2 * middle - 1:g}"/>')
    parts.append(
        f'<line class="range" x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{middle}" y2="{middle}"/>'
        f'<circle cx="{x(value):.1f}" cy="{middle}" r="3.4"/></svg>'
    )
    return "".join(parts)
