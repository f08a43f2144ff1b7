"""The figures of ``docs/accuracy.md``, written from a run's result, so that the page cannot say anything else.

duologue accuracy --out ACC --workers 2
python bench/accuracy_table.py ACC/accuracy.json     # keeps it as bench/results/accuracy.json and writes the page
python bench/accuracy_table.py --check               # exit code 1 where the page and the kept result differ
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from duologue.pipeline.accuracy.measures import COVERAGE, MEASURES, Measure
from duologue.pipeline.accuracy.table import CONDITIONS

ROOT = Path(__file__).parents[1]
RESULT, PAGE = ROOT / "bench" / "results" / "accuracy.json", ROOT / "docs" / "accuracy.md"
BEGIN, END = "<!-- figures: written by bench/accuracy_table.py -->", "<!-- end of figures -->"
BY_LABEL = {"cuts_f1": "changes", "idf1": "IDF1", "rotation_deg": "rotation °", "gaze_deg": "gaze °", "lips": "lips",
            "distance_pct": "distance %", "speaking_ap": "speaking", "der_collar": "turns, collar",
            "usable_recall": "recall"}  # fmt: skip


def tables(result: dict[str, Any]) -> str:
    """Markdown: one line for each figure, then the films of each label."""
    lines = [
        f"{result['videos']} conversations, {result['video_seconds']:g} s of film, the canonical head, version "
        f"{result['code_version']}, commit {result['commit']}; {result['machine']}"
        + (f", {result['seconds'] / 60:.0f} minutes." if "seconds" in result else "."),
        "",
        "| figure | clean | hard | target |",
        "|---|---|---|---|",
    ]
    for measure in MEASURES:
        cells = [_cell(result["figures"][condition].get(measure.key)) for condition in CONDITIONS]
        if cells != ["-", "-"]:
            title = measure.title + (f", {measure.unit}" if measure.unit else "")
            lines.append(f"| {title} | {cells[0]} | {cells[1]} | {_target(measure)} |")
    lines += ["", "Films by what they were made to be, clean and hard together:", ""]
    lines += [f"| | {' | '.join(BY_LABEL.values())} |", f"|{'---|' * (1 + len(BY_LABEL))}"]
    for label, figures in result["labels"].items():
        values = [figures.get(key, {}).get("value") for key in BY_LABEL]
        if any(value is not None for value in values):
            lines.append(f"| {label} | {' | '.join('' if value is None else f'{value:.3g}' for value in values)} |")
    return "\n".join(lines)


def _cell(figure: dict[str, Any] | None) -> str:
    if figure is None or figure["value"] is None:
        return "-"
    missed = ", **missed**" if figure["met"] is False else ""
    return f"{figure['value']:.3g} [{figure['low']:.3g}, {figure['high']:.3g}]{missed}"


def _target(measure: Measure) -> str:
    if measure.key.startswith("coverage_"):
        return f"{COVERAGE[0]:.2f} to {COVERAGE[1]:.2f}"
    if measure.target is None:
        return ""
    return f"{'≤' if measure.less else '≥'} {measure.target[0]:g} / {measure.target[1]:g}"


def page_with(page: str, result: dict[str, Any]) -> str:
    """The page with the tables of ``result`` between its two marks."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{tables(result)}\n{END}{rest.split(END)[1]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", nargs="?", type=Path, help="accuracy.json of a run of the full suite, to be kept")
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--json", action="store_true", help="print the kept result's figures as one JSON object")
    options = parser.parse_args()
    if options.run is not None:
        result = json.loads(options.run.read_text(encoding="utf-8"))
        if result["suite"] != "full":
            parser.error(f"{options.run} is of the {result['suite']} suite")
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
        result |= {"commit": commit.stdout.strip(), "command": "duologue accuracy --out DIR --workers 2"}
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    kept = json.loads(RESULT.read_text(encoding="utf-8"))
    wanted = page_with(page, kept)
    if options.json:
        print(json.dumps({**{name: kept[name] for name in CONDITIONS}, "page_is_current": wanted == page}))
    if options.check:
        return int(wanted != page)
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
