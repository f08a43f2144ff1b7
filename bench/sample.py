"""Person-frames a second of generating ONE dyad: audio encoding, every sampler step and guidance included.

    python bench/sample.py [--seconds 10] [--steps 6] [--widths 128 256] [--compile] [--json]

Networks are untrained: the work does not depend on the weights. Times are CPU seconds on a CPU (one thread), wall
seconds on a GPU, from sound to head tracks; the fastest of three.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from duologue.bench.shared.report import default_device, machine, parser_of, seconds_of, tell
from duologue.model.audio_features import LogMel
from duologue.model.checkpoint import Trained
from duologue.model.network import DualStream
from duologue.model.representation import Statistics, dim_count
from duologue.model.sample import generate
from duologue.model.train_config import config_of

EXPRESSION = 50


def untrained(width: int, device: torch.device, compiled: bool) -> Trained:
    """A network of that width with unit statistics."""
    tree = {"out": "none", "stages": [{"steps": 1, "data": [{"path": "none"}]}]}
    config = config_of({**tree, "network": {"width": width, "condition": width}})
    dims = dim_count(EXPRESSION)
    statistics = Statistics(
        "bench", EXPRESSION, 50, torch.zeros(dims), torch.full((dims,), 0.1), torch.ones(dims),
        torch.ones(dims, dtype=torch.bool), torch.zeros(3), 1.0, 1,
    ).to(device)  # fmt: skip
    model = DualStream(dims, LogMel.dims, config.network, config.audio).to(device).eval()
    if compiled:
        model.compile()
    return Trained(model, LogMel().to(device), statistics, config, device, 0)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    device = default_device()
    sound = (0.1 * np.random.default_rng(0).normal(size=round(16_000 * options.seconds))).astype(np.float32)
    out: dict[str, Any] = {
        **machine(device), "seconds": options.seconds, "steps": options.steps, "compile": options.compile,
    }  # fmt: skip
    for width in options.widths:
        net = untrained(width, device, options.compile)
        for guidance in (2.5, 1.0):

            def work(net: Trained = net, guidance: float = guidance) -> int:
                made = generate(net, sound, steps=options.steps, guidance=guidance)  # ends on the CPU: synchronised
                return 2 * len(made.a.valid)

            out[f"width_{width}_guidance_{guidance:g}"] = work() / seconds_of(work, 3, device)
    out["person_frames_per_s"] = out[f"width_{options.widths[0]}_guidance_2.5"]
    return out


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--widths", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    tell(measure(options), options.json)


if __name__ == "__main__":
    main()
