"""The error curves of the head fit as a figure, from ``bench/results/fit.json`` (written by ``bench/fit.py``).

python bench/fit_figure.py [--results FILE] [--out docs/images/fit.png]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

ROOT = Path(__file__).resolve().parents[1]


def draw(cases: dict[str, Any], out: Path) -> None:
    """Rotation by yaw band, and rotation, position and gaze by case; grey lines are the bars."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.6), constrained_layout=True)
    for name, row in cases.items():
        bands = row["bands"]
        if "unknown" not in name and "unsmoothed" not in name:
            middles = [(int(low) + int(high)) / 2 for low, high in (band.split("-") for band in bands)]
            axes[0].plot(middles, list(bands.values()), "o-", label=name)
    axes[0].axhline(1.5, color="0.8", zorder=0)
    axes[0].axhline(0.9, color="0.8", zorder=0)
    axes[0].set(xlabel="head turned from the camera, degrees", ylabel="rotation error, degrees", ylim=(0, None))
    axes[0].legend(fontsize=7)
    at = np.arange(len(cases))
    position = [row["medians"]["relative_position_cm"] for row in cases.values()]
    axes[1].barh(at, position, color="tab:blue")
    axes[1].axvline(5.5, color="0.6")
    axes[1].set(xlabel="relative position, cm (median over clips)")
    axes[2].barh(at - 0.2, [row["gaze_raw_deg"] for row in cases.values()], 0.4, label="raw", color="tab:orange")
    axes[2].barh(at + 0.2, [row["gaze_deg"] for row in cases.values()], 0.4, label="corrected", color="tab:green")
    axes[2].axvline(2.6, color="0.6")
    axes[2].set(xlabel="gaze error, degrees (mean)")
    axes[2].legend(fontsize=8)
    for axis, labels in ((axes[1], list(cases)), (axes[2], [""] * len(cases))):
        axis.set_yticks(at, labels, fontsize=8)
        axis.invert_yaxis()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results" / "fit.json")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "fit.png")
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    args = parser.parse_args()
    draw(json.loads(args.results.read_text())["cases"], args.out)
    if args.json:
        print(json.dumps({"figure": str(args.out)}))


if __name__ == "__main__":
    main()
