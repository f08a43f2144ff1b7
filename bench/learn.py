"""Does the network learn a conversation? Trained on parameter-level synthetic pairs, scored on held-out people.

    python bench/learn.py [--pairs 500] [--steps 1500] [--seeds 0] [--ablate] [--folder DIR] [--json]

Every system is placed at the truth's first frame. The network is given mixed sound, speaking masks and the first-frame
layout ("audio" track); nearest_neighbour and copy_partner (as in ``evaluate``: the partner's true face and eyes at
one's own first place and turn) are given the partner's true motion. "swapped" is both people's whole true motion
exchanged, which leaves mutual gaze as it was and so is no contender for it. Figures are means over people and pairs of
the test split; of one sample and of the mean of eight. With ``--ablate``, shorter runs of each switch over several
seeds. CPU, one thread.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from duologue.fitting.gaze import looking_at_partner
from duologue.fitting.head_model import load_head_model
from duologue.fitting.rotations import exp_so3
from duologue.model.baselines import NearestNeighbour
from duologue.model.checkpoint import Trained, load_trained
from duologue.model.data import Batch, LoaderOptions, PairLoader
from duologue.model.dyad_metrics import (
    gaze_directions,
    gaze_error_deg,
    lip_modes,
    mutual_gaze_ap,
    parameter_errors,
    parts_of,
    space_errors,
)
from duologue.model.evaluate_pairs import as_partner
from duologue.model.metrics import residual_correlation
from duologue.model.representation import Scene, decode, encode, flip, part_slices, scene_of, to_six
from duologue.model.sample import sample_motion
from duologue.model.train import train
from duologue.model.train_config import config_of
from duologue.schemas.dataset import Dataset
from duologue.schemas.heads import HeadTrack
from duologue.schemas.row import Pair
from torch import Tensor

LIPS = lip_modes(load_head_model("canonical").expression_names)
SWITCHES: dict[str, dict[str, Any]] = {
    "full": {},
    "no_cross_attention": {"network": {"cross_attention": False}},
    "no_role_embedding": {"network": {"roles": False, "masks": False}},
    "no_gaze_loss": {"losses": {"gaze": 0.0}},
}
SHOWN = (
    "fd", "pfd", "sid_speaker", "sid_listener", "mse_full", "mse_lip", "mse_eye", "mse_rotation", "mse_translation",
    "rpcc", "gaze_deg", "distance_m", "position_m", "facing_deg", "mutual_gaze_ap",
)  # fmt: skip


def settings(data: Path, out: Path, steps: int, seed: int, switch: dict[str, Any]) -> dict[str, Any]:
    """A small network that a CPU trains in minutes."""
    tree: dict[str, Any] = {
        "out": str(out),
        "seed": seed,
        "stages": [{"steps": steps, "data": [{"path": str(data)}]}],
        "load": {"batch_size": 16, "window": 100},
        "audio": {"width": 32, "layers": 2, "cache": str(data.parent / "features")},
        "network": {"width": 32, "levels": 3, "blocks": 1, "heads": 4, "condition": 32},
        "optimiser": {"lr": 2e-3, "warmup": 50, "ema": 0.99},
        "diffusion": {"steps": 10, "guidance": 1.0},
        "log": {"every": 100, "save_every": 0, "validate_every": 0, "sample_every": 0, "tensorboard": False},
    }
    for section, options in switch.items():
        tree[section] = {**tree.get(section, {}), **options}
    return tree


def heads_of(raw: Tensor, scene: Scene, net: Trained, pair: Pair) -> tuple[HeadTrack, HeadTrack]:
    """[1, 2, T, D] raw numbers as head tracks, placed at the scene, with the truth's identity."""
    posed = decode(raw, scene)
    inward = exp_so3(posed["rotation"]) @ flip(raw) @ net.statistics.centre_offset
    posed["head_centre"] = posed["translation"] + inward
    out = []
    for index, truth in enumerate((pair.fitted.a, pair.fitted.b)):
        mine: dict[str, Any] = {name: value[0, index].numpy() for name, value in posed.items()}
        gaze = gaze_directions(mine["rotation"], mine["eyes"]).astype(np.float32)
        out.append(replace(truth, **mine, gaze=gaze, gaze_raw=gaze, valid=np.ones(len(gaze), bool)))
    return out[0], out[1]


def score(shown: tuple[HeadTrack, HeadTrack], pair: Pair) -> tuple[dict[str, float], np.ndarray]:
    """Measures of one pair, and its frames' mutual-gaze scores."""
    true = (pair.fitted.a, pair.fitted.b)
    people = []
    for index, speaking in enumerate((pair.voices.speaking_a, pair.voices.speaking_b)):
        got, wanted, partner = shown[index], true[index], true[1 - index]
        row = parameter_errors(got, wanted, partner, speaking, LIPS)
        row["gaze_deg"] = gaze_error_deg(got, wanted)
        keep = got.valid & wanted.valid & partner.valid
        x, y, z = (np.concatenate(list(parts_of(head).values()), 1)[keep] for head in (got, wanted, partner))
        row["rpcc"] = residual_correlation(x, y, z)
        people.append(row)
    means = {name: float(np.nanmean([person[name] for person in people])) for name in people[0]}
    a, b = shown
    angles = (
        looking_at_partner(a.gaze, a.head_centre, b.head_centre),
        looking_at_partner(b.gaze, b.head_centre, a.head_centre),
    )
    return means | vars(space_errors(shown, true)), -np.maximum(*angles)


def motions(data: Path, net: Trained, split: str) -> list[tuple[Batch, Scene, Tensor]]:
    """Whole clips of a split: batch of one, its scene, its normalised truth."""
    options = LoaderOptions(batch_size=1, split=split, shuffle=False, workers=1, drop_last=False, audio=split == "test")
    out = []
    for batch in PairLoader(data, options):
        scene = scene_of(batch)
        out.append((batch, scene, net.statistics.normalise(encode(batch, scene))))
    return out


def library(data: Path, net: Trained) -> NearestNeighbour:
    """Both people of every training clip without gaps."""
    sides = []
    for batch, _, x in motions(data, net, "train"):
        if batch.valid.float().mean() > 0.9:
            one, two = (torch.where(batch.valid[0, p, :, None], x[0, p], 0.0).numpy() for p in (0, 1))
            sides += [(one, two), (two, one)]
    return NearestNeighbour.of(sides)


def evaluate(data: Path, net: Trained, most: int, baselines: bool) -> dict[str, dict[str, float]]:
    """Means of every system over the test split."""
    near = library(data, net) if baselines else None
    tables: dict[str, list[dict[str, float]]] = {}
    ranks: dict[str, list[np.ndarray]] = {}
    labels = []
    where = part_slices(net.statistics.expression)
    dataset = Dataset(data)
    for batch, scene, x in motions(data, net, "test")[:most]:
        pair = dataset.pair(batch.pair_ids[0])
        eight = sample_motion(
            net.model, net.front(batch.audio).repeat(8, 1, 1), batch.speaking.repeat(8, 1, 1),
            scene.layout().repeat(8, 1, 1), seed=0, steps=net.config.diffusion.steps,
            guidance=net.config.diffusion.guidance, clip=net.config.diffusion.clip, window=net.config.load.window,
            overlap=50,
        )[0]  # fmt: skip
        restored = net.statistics.restore(eight)
        systems = {"sample": restored[:1], "mean_of_eight": restored.mean(0, keepdim=True)}
        if near is not None:
            known = torch.where(batch.valid[..., None], x, torch.zeros_like(x))
            zero = torch.zeros_like(restored[:1])
            zero[..., where["rotation"]] = to_six(scene.facing)[:, :, None]
            copied = known.flip(1)
            answer = torch.stack(
                [torch.from_numpy(near.predict(known[0, 1 - p].numpy(), known.shape[2])) for p in (0, 1)]
            )
            systems |= {
                "zero": zero,
                "mean": net.statistics.restore(torch.zeros_like(x)),
                "swapped": net.statistics.restore(copied),
                "nearest_neighbour": net.statistics.restore(answer[None]),
            }
        frames = int(batch.frames[0])
        labels.append(pair.relation.mutual_gaze)
        shown = {name: heads_of(raw[:, :, :frames], scene, net, pair) for name, raw in systems.items()}
        if near is not None:
            a, b = pair.fitted.a, pair.fitted.b
            shown["copy_partner"] = (as_partner(a, b), as_partner(b, a))
        for name, heads in shown.items():
            row, rank = score(heads, pair)
            tables.setdefault(name, []).append(row)
            ranks.setdefault(name, []).append(rank)
    out = {}
    for name, rows in tables.items():
        out[name] = {m: float(np.nanmean([row[m] for row in rows])) for m in SHOWN if m in rows[0]}
        out[name]["mutual_gaze_ap"] = mutual_gaze_ap(ranks[name], labels)
    return out


def beats(table: dict[str, dict[str, float]]) -> dict[str, bool]:
    """The bars, one by one, of a single sample."""
    mine, out = table["sample"], {}
    for name in ("zero", "mean"):
        for measure in ("fd", "pfd", "sid_speaker", "sid_listener"):
            better = mine[measure] > table[name][measure] if "sid" in measure else mine[measure] < table[name][measure]
            out[f"{measure} against {name}"] = better
    for name in ("copy_partner", "nearest_neighbour"):
        for measure in ("mse_lip", "rpcc", "mutual_gaze_ap", "distance_m", "position_m", "facing_deg"):
            higher = measure == "mutual_gaze_ap"
            better = mine[measure] > table[name][measure] if higher else mine[measure] < table[name][measure]
            out[f"{measure} against {name}"] = better
    return out


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    data = folder / "set"
    if not (data / "manifest.json").exists():
        subprocess.run(
            ["duologue", "synthesize", "--parameters", str(options.pairs), "--seed", "3", "--out", str(data)],
            check=True,
        )
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    out: dict[str, Any] = {
        "pairs": len(Dataset(data)), "steps": options.steps, "cores": 1, "machine": platform.machine(),
        "torch": torch.__version__, "commit": commit.stdout.strip(), "given": "audio, masks, first-frame layout",
    }  # fmt: skip

    def learn(name: str, steps: int, seed: int) -> tuple[Trained, dict[str, Any]]:
        run_to = folder / f"{name}-{steps}-{seed}"
        cpu = time.process_time()
        done = train(config_of(settings(data, run_to, steps, seed, SWITCHES[name])))
        return load_trained(run_to, "cpu"), done | {"cpu_minutes": (time.process_time() - cpu) / 60}

    if options.steps:
        net, done = learn("full", options.steps, 0)
        out["training"] = {key: done[key] for key in ("parameters", "loss", "cpu_minutes")}
        out["test"] = evaluate(data, net, options.most, True)
        out["beats"] = beats(out["test"])
    if options.ablate:
        rows: dict[str, dict[str, list[float]]] = {}
        for name in SWITCHES:
            for seed in range(options.seeds):
                net, _ = learn(name, options.ablate, seed)
                for measure, value in evaluate(data, net, options.most, False)["sample"].items():
                    rows.setdefault(name, {}).setdefault(measure, []).append(value)
        out["ablation_steps"], out["ablation_seeds"] = options.ablate, options.seeds
        out["ablation"] = {
            name: {
                m: {"mean": float(np.mean(v)), "sd": float(np.std(v, ddof=1)) if len(v) > 1 else 0.0}
                for m, v in row.items()
            }
            for name, row in rows.items()
        }
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--steps", type=int, default=1500, help="of the run that is compared with baselines; 0: none")
    parser.add_argument("--ablate", type=int, default=0, metavar="STEPS", help="of each ablation run")
    parser.add_argument("--seeds", type=int, default=3, help="of each ablation run")
    parser.add_argument("--most", type=int, default=24, help="test pairs")
    parser.add_argument("--folder", help="keep (and reuse) the data set and the runs here")
    parser.add_argument("--json", action="store_true", help="only the JSON line")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        result = run(options, Path(options.folder or scratch))
    if not options.json:
        for name, row in result.get("test", {}).items():
            print(f"{name:<20}" + "  ".join(f"{m} {v:.4g}" for m, v in row.items() if math.isfinite(v)))
        print("not beaten:", [name for name, won in result.get("beats", {}).items() if not won])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
