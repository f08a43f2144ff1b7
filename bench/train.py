"""Training steps a second, against the re-built DualTalk at equal batch and length in the same run.

    python bench/train.py [--batch 4] [--frames 200] [--widths 128 256] [--repeats 3] [--uncached] [--json]

A sample is one dyad of ``--frames`` frames: ours animates both people in one pass, DualTalk one a pass, so that a
sample is two of its passes (``ratio_per_pass`` counts one). Both have their audio features cached: ours the log-mel,
theirs wav2vec 2.0's 1024 numbers a frame of both voices. A step is forward, loss, backward, AdamW. With ``--uncached``
both also compute features (DualTalk fine-tunes two wav2vec2-large; batch 1, without an optimiser step, for memory).
Times are the process's CPU seconds on a CPU (one thread), wall seconds on a GPU; the fastest repeat counts.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import time
from collections.abc import Callable
from typing import Any

import torch
from duologue.model.audio_features import LogMel
from duologue.model.data import Batch
from duologue.model.dualtalk import DualTalk, dualtalk_loss
from duologue.model.losses import LossOptions, MotionLoss
from duologue.model.network import DualStream
from duologue.model.objective import Objective
from duologue.model.representation import statistics_of
from duologue.model.train_config import config_of
from torch import Tensor, nn

EXPRESSION = 50


def batch_of(size: int, frames: int, device: torch.device) -> Batch:
    """Noise with the shapes of a batch."""
    draw = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return 0.1 * torch.randn((size, 2, frames, *shape), generator=draw)

    side = torch.tensor([[-0.4, 0.0, 1.5], [0.4, 0.0, 1.5]])[None, :, None]
    yes = torch.ones(size, 2, frames, dtype=torch.bool)
    none = torch.zeros(size, dtype=torch.bool)
    return Batch(
        expression=noise(EXPRESSION), jaw=noise(3), neck=noise(3) * 0, rotation=noise(3), translation=noise(3) + side,
        eyes=noise(2, 3), gaze=noise(3), head_centre=noise(3) + side, speaking=(noise() > 0).float(),
        shape=torch.zeros(size, 2, 50), valid=yes, gaze_valid=yes,
        audio=0.1 * torch.randn(size, frames * 640, generator=draw), audio_valid=~none,
        frames=torch.full((size,), frames), starts=torch.zeros(size, dtype=torch.long), swapped=none, mirrored=none,
        mouth_only=none, pair_ids=("",) * size,
    ).to(device)  # fmt: skip


def ours(width: int, batch: Batch, device: torch.device) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """The network and its loss of cached features."""
    tree = {"out": "none", "stages": [{"steps": 1, "data": [{"path": "none"}]}]}
    config = config_of({**tree, "network": {"width": width, "condition": width}})
    statistics = statistics_of([batch.to("cpu")], "bench").to(device)
    model = DualStream(statistics.dims, LogMel.dims, config.network, config.audio).to(device)
    loss = MotionLoss(LossOptions(), statistics, [EXPRESSION, EXPRESSION + 1, EXPRESSION + 2])
    objective = Objective(model, loss, statistics, config)
    return model, lambda features: objective(batch, features, 0)["loss"]


def dualtalk(model: DualTalk, batch: Batch) -> tuple[list[nn.Parameter], Callable[[Tensor], Tensor]]:
    """Its trained parts after the audio encoders, and its loss of both people from cached features [B, 2, W, 1024]."""
    encoder = model.joint_encoder
    motion = torch.cat([batch.expression, batch.jaw, batch.rotation], -1)

    def of(features: Tensor) -> Tensor:
        total = features.new_zeros(())
        for person in (0, 1):
            own, partner = (encoder.audio_projection(features[:, p]) for p in (person, 1 - person))
            made = model.from_features(own, partner, encoder.blendshape_encoder(motion[:, 1 - person]))
            total = total + dualtalk_loss(made, motion[:, person])
        return total

    rest = [p for name, p in model.named_parameters() if "audio_encoder" not in name]
    return rest, of


def fastest(step: Callable[[], Any], repeats: int, device: torch.device) -> float:
    """Seconds of the fastest of ``repeats``, after one more to warm up."""
    times = []
    for _ in range(repeats + 1):
        if device.type == "cuda":
            torch.cuda.synchronize()
            start = time.perf_counter()
            step()
            torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        else:
            start = time.process_time()
            step()
            times.append(time.process_time() - start)
    return min(times[1:])


def stepper(
    parameters: list[nn.Parameter], loss: Callable[[Tensor], Tensor], features: Tensor, precision: str
) -> Callable[[], None]:
    """One optimiser step."""
    optimiser = torch.optim.AdamW(parameters, lr=1e-4)

    def step() -> None:
        with torch.autocast(features.device.type, torch.bfloat16, enabled=precision == "bf16"):
            value = loss(features)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        optimiser.step()

    return step


def measure(options: argparse.Namespace) -> dict[str, Any]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch = batch_of(options.batch, options.frames, device)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    out: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"cpu, 1 thread, {platform.machine()}",
        "torch": torch.__version__, "commit": commit.stdout.strip(), "batch": options.batch, "frames": options.frames,
        "precision": options.precision,
    }  # fmt: skip
    front = LogMel().to(device)
    with torch.device("meta"):
        theirs = DualTalk()
    for name, part in theirs.named_children():
        if name != "joint_encoder":
            part.to_empty(device=device)
    for part in (theirs.joint_encoder.audio_projection, theirs.joint_encoder.blendshape_encoder):
        part.to_empty(device=device)
    for parameter in theirs.parameters():
        if not parameter.is_meta:
            nn.init.normal_(parameter, std=0.02)
    rest, loss = dualtalk(theirs, batch)
    features = torch.randn(options.batch, 2, options.frames, 1024, device=device)
    base = fastest(stepper(rest, loss, features, options.precision), options.repeats, device)
    out["dualtalk_samples_per_s"] = options.batch / base
    out["dualtalk_parameters"] = sum(p.numel() for p in rest)
    for width in options.widths:
        model, mine = ours(width, batch, device)
        step = stepper(list(model.parameters()), mine, front(batch.audio), options.precision)
        seconds = fastest(step, options.repeats, device)
        out[f"width_{width}"] = {
            "parameters": sum(p.numel() for p in model.parameters()),
            "samples_per_s": options.batch / seconds,
            "ratio_vs_dualtalk": base / seconds,
            "ratio_per_pass": base / seconds / 2,
            "front_end_share": fastest(lambda: front(batch.audio), options.repeats, device) / seconds,
        }
    first = out[f"width_{options.widths[0]}"]
    out |= {"samples_per_s": first["samples_per_s"], "ratio_vs_dualtalk": first["ratio_vs_dualtalk"]}
    if options.uncached:
        out["uncached"] = uncached(options, batch, device, first)
    peak = (
        torch.cuda.max_memory_allocated()
        if device.type == "cuda"
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    return out | {"peak_mb": peak / 2**20}


def uncached(options: argparse.Namespace, batch: Batch, device: torch.device, first: dict[str, Any]) -> dict[str, Any]:
    """DualTalk with its two audio encoders trained, one dyad, forward and backward only."""
    one = batch_of(1, options.frames, device)
    model = DualTalk().to(device)
    motion = torch.cat([one.expression, one.jaw, one.rotation], -1)

    def step() -> None:
        for person in (0, 1):
            with torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bf16"):
                made = model(one.audio, one.audio, motion[:, 1 - person])
                loss = dualtalk_loss(made, motion[:, person])
            model.zero_grad(set_to_none=True)
            loss.backward()

    seconds = fastest(step, 1, device)
    mine = first["samples_per_s"] / (1 + first["front_end_share"])
    return {"dualtalk_samples_per_s": 1 / seconds, "samples_per_s": mine, "ratio": mine * seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--widths", type=int, nargs="+", default=[128, 256], help="of our network")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--uncached", action="store_true", help="also with features computed; needs 6 GB")
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
