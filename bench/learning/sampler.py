"""What the sampler's settings do: validation pairs of ``bench/learn.py``, scored under each.

    python bench/learning/sampler.py --folder DIR [--pairs 4000] [--run main-12000] [--most 96] [--settings steps=10 …]

``DIR`` is the ``--folder`` of ``bench/learn.py``. Each setting changes options of ``diffusion``.
Figures are those of ``bench/learn.py``, of one sample and of the mean of eight; test pairs are not touched.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from duologue.bench.learning.data import conversations
from duologue.bench.learning.score import evaluate
from duologue.bench.shared.report import machine, parser_of
from duologue.model.checkpoint import Trained, load_trained

SETTINGS = (
    "slow_noise=1", "slow_noise=0.7", "slow_noise=0.5", "slow_noise=0", "steps=10", "steps=20", "steps=20,slow_noise=1",
    "guidance=2.5",
)  # fmt: skip


def changed(net: Trained, setting: str) -> Trained:
    """The network with other options of its sampler."""
    options: dict[str, Any] = {}
    for part in setting.split(","):
        name, _, value = part.partition("=")
        options[name] = int(value) if name == "steps" else float(value)
    config = net.config
    return replace(net, config=replace(config, diffusion=replace(config.diffusion, **options)))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    folder = Path(options.folder)
    data, net = conversations(folder, options.pairs), load_trained(folder / options.run, "cpu")
    out: dict[str, Any] = {**machine(torch.device("cpu")), "run": options.run, "most": options.most}
    for setting in options.settings:
        out[setting] = evaluate(data, changed(net, setting), options.most, False, "val").means()
    return out


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--pairs", type=int, default=4000)
    parser.add_argument("--run", default="main-12000")
    parser.add_argument("--most", type=int, default=96, help="validation pairs")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = measure(options)
    if not options.json:
        for setting in options.settings:
            row = result[setting]["sample"]
            print(f"{setting:<24}" + "  ".join(f"{name} {value:.4g}" for name, value in row.items()))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
