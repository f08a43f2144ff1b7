"""How what grows with the number of rows grows: writing, selecting, reporting, verifying, opening for training.

    python bench/scale.py [--pairs N N N] [--curated OUT] [--json] [--write]

Finished rows (3 s, synthetic, with sound; `bench/scaling/rows.py`) go through the sink's own Beam transforms in one
process, and the verbs run on what it wrote, each in a process of its own. Rejects and counts come with them, three and
twelve a row. For each step: processor seconds and the largest anonymous memory (mapped files apart) at each size.

``growth_exponent`` is the largest, over the steps, of the slope of log seconds over log pairs between the two largest
sizes: 1 is linear, 2 quadratic. ``peak_mb`` is the largest memory at the largest size, ``kb_per_pair`` how it grew.
``cost`` reckons 2,000,000 pairs of 10 s (core-hours by stage, terabytes) for some shares of the video that are kept:
seconds by stage from ``bench/results/curate.json``; what reached each stage and what lay on disk from ``--curated``, a
folder to which `duologue curate` wrote the same video in one go, or as the last written result has it.
"""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import torch
from duologue.bench.scaling.cost import KEPT_SHARES, PAIRS, cost_table, yield_of
from duologue.bench.scaling.steps import STEPS, Cost, cost_of, prepared
from duologue.bench.shared.report import machine, parser_of, tell

RESULTS = Path(__file__).resolve().parent / "results"


def slope(sizes: list[int], costs: dict[int, Cost]) -> float:
    """d log seconds / d log pairs between the two largest sizes."""
    small, large = sizes[-2:]
    return math.log(costs[large].cpu_s / costs[small].cpu_s) / math.log(large / small)


def measure(sizes: list[int], folder: Path) -> dict[str, Any]:
    """Every step at every size."""
    prepared(folder, sizes[-1])
    found = {name: {size: cost_of(name, folder, size) for size in sizes} for name in STEPS}
    small, large = sizes[-2:]
    steps: dict[str, dict[str, Any]] = {}
    for name, costs in found.items():
        a, b = costs[small], costs[large]
        more = large - small
        steps[name] = {
            "cpu_s": {str(size): round(cost.cpu_s, 3) for size, cost in costs.items()},
            "peak_mb": {str(size): round(cost.peak_mb) for size, cost in costs.items()},
            "exponent": round(slope(sizes, costs), 3),
            "ms_per_pair": round(1e3 * (b.cpu_s - a.cpu_s) / more, 4),
            "kb_per_pair": round(1024 * (b.peak_mb - a.peak_mb) / more, 2),
        }
    return {
        "growth_exponent": max(step["exponent"] for step in steps.values()),
        "pairs": large,
        "peak_mb": max(round(costs[large].peak_mb) for costs in found.values()),
        "start_mb": round(min(costs[large].before_mb for costs in found.values())),
        "steps": steps,
    }


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--pairs", type=int, nargs="+", default=[500, 2000, 8000], help="sizes, at least two")
    parser.add_argument("--curated", type=Path, metavar="OUT", help="what curate made of the video of curate.json")
    parser.add_argument("--write", action="store_true", help="write results/scale.json")
    options = parser.parse_args()
    sizes = sorted(set(options.pairs))
    if len(sizes) < 2 or sizes[0] < 10:
        parser.error("--pairs takes at least two different sizes of 10 or more")
    seconds = json.loads((RESULTS / "curate.json").read_text())["seconds_per_video_hour"]
    last = RESULTS / "scale.json"
    if options.curated is None and not last.is_file():
        parser.error("there is no result yet: name with --curated what `duologue curate` made of the bench's video")
    measured = yield_of(options.curated) if options.curated else json.loads(last.read_text())["curated"]
    with tempfile.TemporaryDirectory() as folder:
        result = machine(torch.device("cpu")) | measure(sizes, Path(folder))
    per_pair = result["steps"]["sink"]["ms_per_pair"] / 1e3
    result["curated"], result["cost_pairs"] = measured, PAIRS
    result["cost"] = [
        {
            name: round(value, 3 if value < 10 else 1)
            for name, value in cost_table(seconds, measured, per_pair, share).items()
        }
        for share in KEPT_SHARES
    ]
    if options.write:
        last.write_text(json.dumps(result, indent=1) + "\n")
    tell(result, options.json)


if __name__ == "__main__":
    main()
