"""How many 10 s rows without pixels are made an hour, on one core; and how well their labels follow their sound.

    python bench/synthesize_parameters.py [--rows 60] [--json]

Time is processor time of this process and of espeak-ng's. ``jaw_loudness_correlation`` is over frames in which one
person speaks alone, the jaw against the sound three frames later (lips lead by 0.12 s), loudness in dB.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from duologue.schemas.dataset import Dataset
from duologue.synthesis.parameters import ParameterOptions, write_parameters

LEAD_FRAMES, LOOKING = 3, np.radians(12.0)


def _mean(values: list[float]) -> float:
    return round(float(np.mean(values)), 3) if values else float("nan")


def statistics(folder: Path) -> dict[str, float]:
    """What the rows look like."""
    jaw: list[float] = []
    speaking: list[float] = []
    listening: list[float] = []
    mutual, overlap, loaded = [], [], 0
    for pair in Dataset(folder).pairs(selected=False):
        loaded += 1
        samples = pair.voices.samples()
        frames = len(pair.fitted.times)
        level = 10 * np.log10((samples.reshape(frames, -1) ** 2).mean(1) + 1e-8)
        sides = (
            (pair.fitted.a, pair.relation.looking_a, pair.voices.speaking_a, pair.voices.speaking_b),
            (pair.fitted.b, pair.relation.looking_b, pair.voices.speaking_b, pair.voices.speaking_a),
        )
        for head, angle, own, other in sides:
            alone = (own > 0) & (other == 0)
            now = np.flatnonzero(alone[LEAD_FRAMES:])
            if len(now) > 25:
                jaw.append(float(np.corrcoef(head.jaw[now, 0], level[now + LEAD_FRAMES])[0, 1]))
            known = np.isfinite(angle)
            for mask, out in ((alone, speaking), ((own == 0) & (other > 0), listening)):
                if (mask & known).sum() > 25:
                    out.append(float((angle[mask & known] < LOOKING).mean()))
        mutual.append(float(np.nanmean(pair.relation.mutual_gaze)))
        overlap.append(pair.scores["overlap_share"])
    return {
        "pairs": loaded,
        "jaw_loudness_correlation": _mean(jaw),
        "look_share_speaking": _mean(speaking),
        "look_share_listening": _mean(listening),
        "mutual_gaze_share": _mean(mutual),
        "overlap_share": _mean(overlap),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--json", action="store_true", help="only the JSON line")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_parameters(Path(folder) / "warm", ParameterOptions(6, seed=999))  # imports and caches
        before, began = os.times(), time.perf_counter()
        write_parameters(Path(folder) / "rows", ParameterOptions(options.rows))
        after, wall = os.times(), time.perf_counter() - began
        cpu = sum(after[:4]) - sum(before[:4])
        size = sum(path.stat().st_size for path in (Path(folder) / "rows").rglob("*") if path.is_file())
        facts = {
            "rows": options.rows,
            "rows_per_cpu_hour": round(3600 * options.rows / cpu),
            "rows_per_wall_hour": round(3600 * options.rows / wall),
            "kb_per_row": round(size / options.rows / 1e3),
            **statistics(Path(folder) / "rows"),
        }
    if not options.json:
        for name, value in facts.items():
            print(f"{name:28} {value}")
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
