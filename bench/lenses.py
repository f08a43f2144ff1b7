"""Are the stored deviations right where lenses and head sizes vary as the fit's own priors say they do?

    python bench/lenses.py [--films N] [--seed S] [--out DIR] [--workers N] [--json] [--write]

Two people in one room, 4 s each, without sound. Focal lengths are the evenly spaced quantiles of the prior (median 1.37
picture widths, deviation 0.3 in the logarithm), the camera as much farther away for a longer one, so that faces keep
their size; head sizes are drawn with the prior's 4.8 %; camera height and side, seats and how far people are turned at
random. Half of the films wear another head model than the fitted one. They are curated as any video is, focal
length unknown, and errors are held against the stored standard deviations: all, and by thirds of the lens.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from duologue.bench.shared.report import default_device, machine, numbers, parser_of
from duologue.fitting.camera import PRIOR_FIELD_OF_VIEW_DEG, PRIOR_LOG_SD
from duologue.fitting.fit import FitOptions, HeadFitter
from duologue.fitting.load_head import load_head_model
from duologue.fitting.metric import HEAD_SIZE_LOG_SD
from duologue.fitting.reduce import reduce
from duologue.pipeline.accuracy.figures import median_of, ratio_of
from duologue.pipeline.accuracy.found import FoundVideo, read_found
from duologue.pipeline.accuracy.rows import LEVELS, Heads, RowScore, in_fitted_axes, score_row
from duologue.pipeline.accuracy.suite import VIDEO, Conversation, film_all, truth_of
from duologue.pipeline.accuracy.verb import SUITE_SETTINGS, curate_videos
from duologue.pipeline.config import load_config
from duologue.synthesis.identities import NAMES
from duologue.synthesis.scenario import Camera, Person, Scenario, ShotPlan, check
from scipy.special import ndtri

RESULT = Path(__file__).parent / "results" / "lenses.json"
SEED = 84000
WIDTH, HEIGHT, FPS, SECONDS = 960, 540, 12.5, 4.0
NEAR_M, NEAR_WIDTHS = 1.5, 0.94  # the camera's distance at this focal length, as in the suite
SETTINGS = (*SUITE_SETTINGS, "run.geometry_only=true")
MEDIANS = ("rotation_deg", "gaze_deg", "distance_unknown_focal_pct", "relative_position_cm")


def films(count: int, seed: int) -> list[Conversation]:
    """What is filmed."""
    rng = np.random.default_rng(seed)
    middle = 0.5 / math.tan(math.radians(PRIOR_FIELD_OF_VIEW_DEG) / 2)
    lenses = middle * np.exp(PRIOR_LOG_SD * ndtri((rng.permutation(count) + 0.5) / count))
    out = []
    for k, widths in enumerate(lenses.tolist()):
        portraits = rng.permutation(NAMES)[:2]
        away = NEAR_M * widths / NEAR_WIDTHS
        around = math.radians(rng.uniform(-25.0, 25.0))
        camera = Camera(
            (away * math.sin(around), rng.uniform(-0.12, 0.08) * widths / NEAR_WIDTHS, -away * math.cos(around)),
            (0.0, 0.13, 0.0),
            widths * WIDTH,
        )
        people = [
            Person(
                str(portraits[who]), "en-us", 165, 40,
                (side * rng.uniform(0.36, 0.46), rng.uniform(-0.02, 0.02), rng.uniform(-0.1, 0.1)),
                -side * rng.uniform(5.0, 35.0), float(np.exp(rng.normal(0.0, HEAD_SIZE_LOG_SD))),
            )
            for who, side in enumerate((-1.0, 1.0))
        ]  # fmt: skip
        scenario = Scenario(
            SECONDS, FPS, WIDTH, HEIGHT, seed + k, people[0], people[1], (ShotPlan(0.0, camera),), audio=False,
            head_model="second" if k % 2 else "",
        )  # fmt: skip
        out.append(Conversation(f"lens-{k:03}", "clean", (), False, check(scenario)))
    return out


def scores(suite: Sequence[Conversation], videos: Path, curated: Path) -> list[tuple[float, RowScore]]:
    """(true focal length in picture widths, scores) of every pair that was found."""
    found = read_found(curated, load_config("", list(SETTINGS)))
    models = [load_head_model(name) for name in ("canonical", "second")]
    heads = Heads(models[0], {model.model_id: model for model in models}, HeadFitter(reduce(models[0]), FitOptions()))
    out = []
    for one in suite:
        truth = in_fitted_axes(truth_of(one, videos), heads)
        for row in found.get(one.name, FoundVideo()).rows:
            score = score_row(truth, row, None, heads)
            if score is not None:
                out.append((float(truth.focal_px[0]) / WIDTH, score))
    return out


def summary(rows: Sequence[RowScore]) -> dict[str, Any]:
    """Coverage at two deviations and at each level, and median errors; intervals are bootstrapped over clips."""
    names = sorted({name for row in rows for name in row.inside})
    return {
        "clips": len(rows),
        "coverage": {name: ratio_of([row.inside[name][LEVELS.index(2.0)] for row in rows]).as_json() for name in names},
        "inside": {
            name: {str(level): ratio_of([row.inside[name][k] for row in rows]).value for k, level in enumerate(LEVELS)}
            for name in names
        },
        "errors": {name: median_of([row.values.get(name, math.nan) for row in rows]).as_json() for name in MEDIANS},
    }


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--films", type=int, default=96)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, help="keep films and data set here (films are made once)")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name} beside the other results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    suite = films(options.films, options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        out = options.out or Path(temporary)
        film_all(suite, out / "videos", options.workers, lambda name: None)
        curated = out / "curated"
        shutil.rmtree(curated, ignore_errors=True)
        curate_videos([out / "videos" / one.name / VIDEO for one in suite], curated, options.workers, list(SETTINGS))
        found = sorted(scores(suite, out / "videos", curated), key=lambda pair: pair[0])
    rows = [score for _, score in found]
    edges = [round(len(rows) * k / 3) for k in range(4)]
    document = numbers({
        "films": options.films,
        **summary(rows),
        "by_lens": [
            {"widths": [round(found[low][0], 2), round(found[high - 1][0], 2)], **summary(rows[low:high])}
            for low, high in pairwise(edges)
            if high > low
        ],
        "command": f"python bench/lenses.py --films {options.films} --seed {options.seed}",
        **machine(default_device()),
    })  # fmt: skip
    if not options.json:
        for part in (document, *document["by_lens"]):
            print(part.get("widths", "all"), part["clips"], "clips")
            for name, figure in part["coverage"].items():
                print(f"  {name:18} {figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]")
            print("  ", {name: round(figure["value"], 2) for name, figure in part["errors"].items()})
    if options.write:
        RESULT.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
