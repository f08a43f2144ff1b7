"""The funnel: how many items and hours entered and left each stage, by reason."""

from __future__ import annotations

from collections.abc import Iterable

from ..schemas.records import REASONS
from ..transforms.stage import Tally

# Stage -> what its items are called. The order is the flow's.
STAGES = {
    "probe": "videos", "scan": "pieces", "shots": "spans", "track": "pieces", "clips": "clips",
    "listen": "pieces", "turns": "videos", "evidence": "clips", "bind": "clips", "fit": "clips",
    "score": "pairs",
}  # fmt: skip


def build_funnel(tallies: Iterable[Tally]) -> dict[str, dict[str, dict[str, float]]]:
    """Stage -> outcome -> {"items", "hours"}, stages in flow order and outcomes sorted, "kept" first."""
    sums: dict[str, dict[str, list[float]]] = {}
    for tally in tallies:
        cell = sums.setdefault(tally.stage, {}).setdefault(tally.outcome, [0, 0.0])
        cell[0] += tally.items
        cell[1] += tally.seconds
    order = [*STAGES, *sorted(set(sums) - set(STAGES))]
    funnel: dict[str, dict[str, dict[str, float]]] = {}
    for stage in order:
        if stage in sums:
            outcomes = sorted(sums[stage], key=lambda outcome: (outcome != "kept", outcome))
            funnel[stage] = {
                outcome: {"items": int(sums[stage][outcome][0]), "hours": round(sums[stage][outcome][1] / 3600, 6)}
                for outcome in outcomes
            }
    return funnel


def funnel_text(funnel: dict[str, dict[str, dict[str, float]]]) -> str:
    """A table for the terminal."""
    lines = [f"{'stage':<10}{'outcome':<18}{'items':>7}{'seconds':>10}"]
    for stage, outcomes in funnel.items():
        for outcome, cell in outcomes.items():
            unit = STAGES.get(stage, "items") if outcome == "kept" else ""
            why = f"  {unit}" if unit else f"  {REASONS.get(outcome, '')}"
            lines.append(f"{stage:<10}{outcome:<18}{int(cell['items']):>7}{cell['hours'] * 3600:>10.1f}{why}")
            stage = ""
    return "\n".join(lines)
