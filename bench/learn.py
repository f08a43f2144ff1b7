"""Does the network learn a conversation? Trained on parameter-level synthetic pairs, scored on held-out people.

    python bench/learn.py [--pairs 2000] [--steps 3000] [--ablate 1500] [--seeds 0 1 2] [--folder DIR] [--json]

Every system begins at the truth's first places and turns. The network is given mixed sound, speaking masks and the
first-frame layout ("audio" track); nearest_neighbour (what a training person did while their partner moved most like
this one) and copy_partner (as in ``evaluate``: the partner's true face and eyes at one's own first place and turn) are
given the partner's true motion. "swapped" is both people's whole true motion exchanged, which leaves mutual gaze as it
was and so is no contender for it. "answer" is the network as those two are served: each person generated
while the partner's true motion is given. "redrawn" is the behaviour that made the truth drawn again with other people's
manners: what a perfect network would do. Figures are means over people and pairs of the test split; of one motion, and
of the mean of eight (eight samples, the eight nearest neighbours, eight redrawn). Mutual gaze of eight is the mean
of how much both look at each other in each: no single motion can rank frames by how likely something is.

``--ablate`` trains each variant over several seeds, in two stages: pairs whose mouths are blurred as hard footage
blurs them, then the same beside dubbed dialogues of other people with exact mouths; all are scored on exact pairs. CPU,
one thread. Runs that ``--folder`` holds already are not repeated.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from duologue.bench.learning.ceiling import mutual_gaze_ceiling
from duologue.bench.learning.data import conversations, dubbed, measured
from duologue.bench.learning.knock_out import knock_outs
from duologue.bench.learning.score import evaluate
from duologue.bench.shared.report import machine, numbers, parser_of
from duologue.model.checkpoint import load_trained
from duologue.model.train import train
from duologue.model.train_config import config_of
from duologue.schemas.dataset import Dataset

VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "no_cross_attention": {"network": {"cross_attention": False}},
    "no_role_embedding": {"network": {"roles": False}},
    "no_roles_no_masks": {"network": {"roles": False, "masks": False}},
    "no_gaze_loss": {"losses": {"gaze": 0.0}},
    "no_stage_two": {},
    "transformer": {"network": {"backbone": "transformer", "width": 64, "layers": 6}},
}
TRANSFORMER_STEPS = 0.32  # of the others': a step takes 3.1 times as long on a CPU, so this is equal training time
DUBBED_ROWS = 480
NEAREST = {  # the network's motions, and the neighbours that each is held against
    "sample": "nearest_neighbour", "mean_of_eight": "nearest_eight",
    "answer": "nearest_neighbour", "answer_of_eight": "nearest_eight",
}  # fmt: skip


def settings(
    out: Path, seed: int, switch: dict[str, Any], stages: list[dict[str, Any]], features: Path, batch: int = 8
) -> dict[str, Any]:
    """A small network that a CPU trains in minutes."""
    tree: dict[str, Any] = {
        "out": str(out),
        "seed": seed,
        "stages": stages,
        "load": {"batch_size": batch, "window": 250, "continues": 0.0},
        "audio": {"width": 32, "layers": 2, "cache": str(features)},
        "network": {"width": 32, "levels": 5, "blocks": 1, "heads": 4, "condition": 32},
        "optimiser": {"lr": 2e-3, "warmup": min(100, sum(stage["steps"] for stage in stages) // 8), "ema": 0.995},
        "diffusion": {"guidance": 1.0},
        "losses": {"masks": 0.0},
        "log": {"every": 100, "save_every": 500, "validate_every": 0, "sample_every": 0, "tensorboard": False},
    }
    for section, options in switch.items():
        tree[section] = {**tree.get(section, {}), **options}
    return tree


def stages_of(steps: int, first: Path, second: Path | None = None) -> list[dict[str, Any]]:
    """One stage, or four fifths of the steps in the first and the rest with the second set beside it."""
    if second is None:
        return [{"steps": steps, "data": [{"path": str(first)}]}]
    return [
        {"steps": steps - steps // 5, "data": [{"path": str(first)}]},
        {"steps": steps // 5, "data": [{"path": str(first)}, {"path": str(second)}]},
    ]


def learn(out: Path, tree: dict[str, Any], test: Path, most: int, baselines: bool) -> dict[str, Any]:
    """Train and score one network; kept in ``out``, and read from there where it is done."""
    kept = out / "score.json"
    found: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    if found and ("changes" in found or not baselines):
        return found
    cpu = time.process_time()
    done = train(config_of(tree), say=lambda line: print(f"{out.name}: {line}", flush=True))
    minutes = (time.process_time() - cpu) / 60
    scores = evaluate(test, load_trained(out, "cpu"), most, baselines)
    result: dict[str, Any] = {
        "training": {"parameters": done["parameters"], "loss": done["loss"], "cpu_minutes": minutes},
        "test": scores.means(),
    }
    if baselines:
        result["changes"] = {
            name: {base: scores.changes(name, base) for base in ("copy_partner", near)}
            for name, near in NEAREST.items()
            if name in scores.tables
        }
    kept.write_text(json.dumps(result))
    return result


def beats(table: dict[str, dict[str, float]], system: str) -> dict[str, bool]:
    """The bars, one by one, of one system; one motion against one, the mean of eight against the mean of eight."""
    mine = table[system]
    out = {}
    for names, measures in (
        (("zero", "mean"), ("fd", "pfd", "sid_speaker", "sid_listener")),
        (
            ("copy_partner", NEAREST[system]),
            ("mse_lip", "rpcc", "mutual_gaze_ap", "distance_m", "position_m", "facing_deg"),
        ),
    ):
        for name in names:
            for measure in measures:
                theirs = table[name][measure]
                higher = measure == "mutual_gaze_ap" or measure.startswith("sid")
                out[f"{measure} against {name}"] = mine[measure] > theirs if higher else mine[measure] < theirs
    return out


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    exact = conversations(folder, options.pairs)
    features = folder / "features"
    out: dict[str, Any] = {
        **machine(torch.device("cpu")), "pairs": len(Dataset(exact)), "given": "audio, masks, first-frame layout",
    }  # fmt: skip
    if options.steps:
        name = folder / f"main-{options.steps}"
        tree = settings(name, 0, {}, stages_of(options.steps, exact), features)
        main_run = learn(name, tree, exact, options.most, True)
        out |= {"steps": options.steps, **main_run, "mutual_gaze_ceiling": mutual_gaze_ceiling(exact)}
        out["without"] = knock_outs(exact, load_trained(name, "cpu"), options.most_ablated)
        out["beats"] = {system: beats(out["test"], system) for system in NEAREST if system in out["test"]}
    if options.ablate:
        first, second = measured(exact, folder / "measured"), dubbed(folder, DUBBED_ROWS)
        runs: dict[str, list[dict[str, Any]]] = {}
        for seed in options.seeds:
            for variant in options.only or VARIANTS:
                where = folder / f"{variant}-{options.ablate}-{seed}"
                steps = round(options.ablate * (TRANSFORMER_STEPS if variant == "transformer" else 1))
                stages = stages_of(steps, first, None if variant == "no_stage_two" else second)
                switch = {**VARIANTS[variant], "diffusion": {"partner_given": 0.0}}
                tree = settings(where, seed, switch, stages, features, options.ablate_batch)
                runs.setdefault(variant, []).append(learn(where, tree, exact, options.most_ablated, False))
        out |= {"ablation_steps": options.ablate, "ablation_seeds": len(options.seeds)}
        out["ablation"] = {variant: summary(each, runs.get("full", [])) for variant, each in runs.items()}
    return out


def summary(runs: list[dict[str, Any]], full: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over seeds of every measure, of one sample and of eight; and how it changes against
    the ``full`` network of the same seed (first weights, batches, test noise), mean and standard error."""
    out: dict[str, Any] = {
        "parameters": runs[0]["training"]["parameters"],
        "cpu_minutes": float(np.mean([one["training"]["cpu_minutes"] for one in runs])),
    }
    for system in ("sample", "mean_of_eight"):
        out[system] = {}
        for measure in runs[0]["test"][system]:
            values, base = (np.array([one["test"][system][measure] for one in each]) for each in (runs, full))
            row = out[system][measure] = {"mean": float(values.mean()), "sd": _sd(values)}
            if len(base) == len(values):
                change = values - base
                row |= {"change": float(change.mean()), "se": _sd(change) / len(change) ** 0.5}
    return out


def _sd(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=3000, help="of the run that is compared with baselines; 0: none")
    parser.add_argument("--ablate", type=int, default=0, metavar="STEPS", help="of each ablation run, both stages")
    parser.add_argument("--ablate-batch", type=int, default=4, help="clips a step of the ablation runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the ablation runs")
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), help="these ablations")
    parser.add_argument("--most", type=int, default=48, help="test pairs")
    parser.add_argument("--most-ablated", type=int, default=96, help="test pairs of each ablation run")
    parser.add_argument("--folder", help="keep (and reuse) the data sets and the runs here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        result = run(options, Path(options.folder or scratch))
    if not options.json:
        for name, row in result.get("test", {}).items():
            print(f"{name:<20}" + "  ".join(f"{m} {v:.4g}" for m, v in row.items() if math.isfinite(v)))
        for system, won in result.get("beats", {}).items():
            print(f"{system}: not beaten:", [name for name, better in won.items() if not better])
    print(json.dumps(numbers(result)))


if __name__ == "__main__":
    main()
