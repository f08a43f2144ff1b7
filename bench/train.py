"""Training steps a second, against the re-built DualTalk at equal batch and length in the same run.

    python bench/train.py [--batch 4] [--frames 200] [--widths 64 96 128 256] [--repeats 3] [--uncached] [--json]

A sample is one dyad of ``--frames`` frames: ours animates both people in one pass, DualTalk one a pass, so that a
sample is two of its passes (``ratio_per_pass`` counts one). Both have their audio features cached: ours the log-mel,
theirs wav2vec 2.0's 1024 numbers a frame of both voices. A step is forward, loss, backward, fused AdamW, for both. With
``--uncached`` both also compute features (DualTalk fine-tunes two wav2vec2-large; batch 1, without an optimiser step,
for memory). Times are CPU seconds of the process on a CPU (one thread), wall seconds on a GPU; the fastest counts.

``gflops`` of a step are counted by torch's flop counter (matrix products, convolutions, attention);
``share_of_peak`` is their rate over that of a large matrix product of the same precision on the same device.
``loader_wait_share`` is of a run of ``duologue train`` on a written set, sound decoded and log-mel computed in its
thread: the share of the steps' time in which the next batch was not ready.
``activations_mb`` is what the backward pass keeps, ``state_mb`` weights, gradients and AdamW's two moments; ``peak_mb``
is of the whole process (of the GPU, there).
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from duologue.bench.load import write
from duologue.bench.shared.report import default_device, machine, parser_of, seconds_of, tell
from duologue.model.audio_features import LogMel
from duologue.model.data import Batch
from duologue.model.dualtalk import DualTalk, dualtalk_loss
from duologue.model.losses import LossOptions, MotionLoss
from duologue.model.network import DualStream
from duologue.model.objective import Objective
from duologue.model.representation import statistics_of
from duologue.model.train import train
from duologue.model.train_config import config_of
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

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


def peak_flops(device: torch.device, precision: str, repeats: int) -> float:
    """Operations a second of a square matrix product, what the device can do in that precision."""
    size = 8192 if device.type == "cuda" else 1024
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    one = torch.randn(size, size, device=device, dtype=kind)
    return 2 * size**3 / seconds_of(lambda: one @ one, 3 * repeats, device)


def kept_mb(loss: Callable[[], Tensor]) -> float:
    """Memory that a loss keeps for its backward pass, each tensor's storage once."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value = loss()
    del value
    return sum(storages.values()) / 2**20


def cost(
    parameters: list[nn.Parameter], loss: Callable[[Tensor], Tensor], features: Tensor, peak: float, options: Any
) -> dict[str, Any]:
    """What a training step of one network takes."""
    step = stepper(parameters, loss, features, options.precision)
    seconds = seconds_of(step, options.repeats, features.device)
    with FlopCounterMode(display=False) as counter:
        step()
    flops = counter.get_total_flops()
    size = sum(p.numel() for p in parameters)
    return {
        "parameters": size,
        "samples_per_s": options.batch / seconds,
        "gflops": flops / 1e9,
        "share_of_peak": flops / seconds / peak,
        "activations_mb": kept_mb(lambda: loss(features)),
        "state_mb": 16 * size / 2**20,
    }


def stepper(
    parameters: list[nn.Parameter], loss: Callable[[Tensor], Tensor], features: Tensor, precision: str
) -> Callable[[], None]:
    """One optimiser step."""
    optimiser = torch.optim.AdamW(parameters, lr=1e-4, fused=True)

    def step() -> None:
        with torch.autocast(features.device.type, torch.bfloat16, enabled=precision == "bf16"):
            value = loss(features)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        optimiser.step()

    return step


def theirs(device: torch.device) -> DualTalk:
    """DualTalk without its audio encoders, weights drawn at random: speed does not depend on them."""
    with torch.device("meta"):
        model = DualTalk()
    for name, part in model.named_children():
        if name != "joint_encoder":
            part.to_empty(device=device)
    for part in (model.joint_encoder.audio_projection, model.joint_encoder.blendshape_encoder):
        part.to_empty(device=device)
    for parameter in model.parameters():
        if not parameter.is_meta:
            nn.init.normal_(parameter, std=0.02)
    return model


def measure(options: argparse.Namespace) -> dict[str, Any]:
    device = default_device()
    batch = batch_of(options.batch, options.frames, device)
    peak = peak_flops(device, options.precision, options.repeats)
    out: dict[str, Any] = {
        **machine(device), "batch": options.batch, "frames": options.frames, "precision": options.precision,
        "peak_gflops": peak / 1e9,
    }  # fmt: skip
    front = LogMel().to(device)
    rest, loss = dualtalk(theirs(device), batch)
    features = torch.randn(options.batch, 2, options.frames, 1024, device=device)
    base = out["dualtalk"] = cost(rest, loss, features, peak, options)
    for width in options.widths:
        model, mine = ours(width, batch, device)
        row = cost(list(model.parameters()), mine, front(batch.audio), peak, options)
        seconds = options.batch / row["samples_per_s"]
        row["ratio_vs_dualtalk"] = row["samples_per_s"] / base["samples_per_s"]
        row["ratio_per_pass"] = row["ratio_vs_dualtalk"] / 2
        row["ratio_of_gflops"] = base["gflops"] / row["gflops"]
        row["front_end_share"] = seconds_of(lambda: front(batch.audio), options.repeats, device) / seconds
        out[f"width_{width}"] = row
    first = out[f"width_{options.headline}"]
    out |= {name: first[name] for name in ("samples_per_s", "ratio_vs_dualtalk", "share_of_peak")}
    out |= loader_wait(options, device)
    if options.uncached:
        out["uncached"] = uncached(options, device, first)
    if device.type == "cuda":
        return out | {"peak_mb": torch.cuda.max_memory_allocated() / 2**20}
    return out | {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10}


def loader_wait(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """A short training run from shards: how long its steps wait for data."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root / "set", 8 * options.batch)
        tree = {
            "out": str(root / "run"), "stages": [{"steps": 12, "data": [{"path": str(root / "set")}]}],
            "device": device.type, "precision": options.precision,
            "network": {"width": options.headline, "condition": options.headline},
            "load": {"batch_size": options.batch, "window": options.frames, "selected": False},
            "log": {"tensorboard": False, "validate_every": 0, "sample_every": 0, "save_every": 0},
        }  # fmt: skip
        done = train(config_of(tree))
    return {"loader_wait_share": done["loader_wait_share"]}


def uncached(options: argparse.Namespace, device: torch.device, first: dict[str, Any]) -> dict[str, Any]:
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

    seconds = seconds_of(step, 1, device)
    mine = first["samples_per_s"] / (1 + first["front_end_share"])
    return {"dualtalk_samples_per_s": 1 / seconds, "samples_per_s": mine, "ratio": mine * seconds}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 96, 128, 256], help="of our network")
    parser.add_argument("--headline", type=int, default=128, help="width whose figures stand first")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--uncached", action="store_true", help="also with features computed; needs 6 GB")
    options = parser.parse_args()
    if options.headline not in options.widths:
        parser.error(f"--headline {options.headline} is none of --widths")
    tell(measure(options), options.json)


if __name__ == "__main__":
    main()
