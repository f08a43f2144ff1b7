"""Person-frames a second of generating ONE dyad: audio encoding, every sampler step and guidance included.

    python bench/sample.py [--seconds 10] [--steps 10] [--widths 128 256] [--compile] [--json]

Networks are untrained: the work does not depend on the weights. Times are CPU seconds on a CPU (one thread), wall
seconds on a GPU, from sound to head tracks; the fastest of three.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
from typing import Any

import numpy as np
import torch
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
        "bench", EXPRESSION, 50, torch.zeros(dims), torch.full((dims,), 0.1), torch.ones(dims, dtype=torch.bool),
        torch.zeros(3), 1.0, 1,
    ).to(device)  # fmt: skip
    model = DualStream(dims, LogMel.dims, config.network, config.audio).to(device).eval()
    if compiled:
        model.compile()
    return Trained(model, LogMel().to(device), statistics, config, device, 0)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    sound = (0.1 * np.random.default_rng(0).normal(size=round(16_000 * options.seconds))).astype(np.float32)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    out: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"cpu, 1 thread, {platform.machine()}",
        "torch": torch.__version__, "commit": commit.stdout.strip(), "seconds": options.seconds,
        "steps": options.steps, "compile": options.compile,
    }  # fmt: skip
    for width in options.widths:
        net = untrained(width, device, options.compile)
        for guidance in (2.5, 1.0):
            times = []
            for _ in range(4):
                start = clock()
                made = generate(net, sound, steps=options.steps, guidance=guidance)  # ends on the CPU: synchronised
                times.append(clock() - start)
            rate = 2 * len(made.a.valid) / min(times[1:])
            out[f"width_{width}_guidance_{guidance:g}"] = rate
    out["person_frames_per_s"] = out[f"width_{options.widths[0]}_guidance_2.5"]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--widths", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--json", action="store_true", help="only the JSON line")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = measure(options)
    if not options.json:
        for name, value in result.items():
            print(f"{name}: {value}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
