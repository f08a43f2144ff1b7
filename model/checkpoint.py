"""A checkpoint: one file, written whole or not at all, read weights-only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..schemas.errors import UsageError
from .audio_features import FrontEnd, front_end
from .network import DualStream
from .representation import Statistics
from .train_config import TrainConfig, config_of

VERSION = 4  # of what a checkpoint's numbers mean; 3: manners are told; 4: statistics know how quickly numbers change
NEEDED = {"config", "statistics", "model", "ema", "optimiser", "step", "stage", "loaders"}
LAST = "last.pt"


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write beside, then rename: a kill leaves the earlier checkpoint.

    Raises:
        OSError: the disk is full, or refuses; nothing is left of the new checkpoint then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.half")  # one name: what a kill leaves is written over
    try:
        with open(half, "wb") as stream:
            torch.save({"version": VERSION, **state}, stream)
        os.replace(half, path)
    except RuntimeError as error:  # torch's own, which does not say what the file said
        raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None
    finally:
        half.unlink(missing_ok=True)


def read(path: str | Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """A checkpoint's state.

    Raises:
        UsageError: no such file, or not a checkpoint of this program.
    """
    where = Path(path) / LAST if Path(path).is_dir() else Path(path)
    try:
        state = torch.load(where, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise UsageError(f"no checkpoint {where}") from error
    except OSError as error:
        raise UsageError(f"checkpoint {where} cannot be read: {error.strerror}") from error
    except Exception as error:  # torch raises whatever zipfile, pickle and its own reader raise
        raise UsageError(f"{where} is not a checkpoint, or was cut short") from error
    if not isinstance(state, dict) or state.get("version") != VERSION or not state.keys() >= NEEDED:
        raise UsageError(f"{where} is not a checkpoint of this version of the trainer")
    return state


def config_in(state: Mapping[str, Any], path: str | Path) -> TrainConfig:
    """The configuration that a checkpoint was trained with.

    Raises:
        UsageError: it has options that this version does not know, or values that it does not take.
    """
    try:
        return config_of(state["config"])
    except UsageError as error:
        raise UsageError(f"{path} is of another version of the trainer: {error}") from error


def plain(config: TrainConfig) -> dict[str, Any]:
    """A configuration as the plain values that a weights-only reader accepts."""
    return asdict(config)


def check_same_model(state: Mapping[str, Any], config: TrainConfig, path: Path) -> None:
    """Raises UsageError, naming the first difference, where a checkpoint is of another network."""
    stored, wanted = config_in(state, path).model_part(), config.model_part()
    for section, options in wanted.items():
        for name, value in options.items():
            if stored[section][name] != value:
                raise UsageError(
                    f"{path} was trained with {section}.{name} = {stored[section][name]!r}, the configuration says "
                    f"{value!r}: use another out folder"
                )


def check_same_encoder(state: Mapping[str, Any], front: FrontEnd, path: str | Path) -> None:
    """Raises UsageError where the audio encoder's weights are not those that a checkpoint was trained with."""
    if state.get("encoder", front.digest) != front.digest:  # checkpoints of before do not say
        raise UsageError(f"{path} was trained with other weights of the audio encoder than {front.key}'s")


@dataclass(frozen=True)
class Trained:
    """A network ready to sample from.

    Attributes:
        model: the averaged weights, in eval mode. front: turns sound into its features.
    """

    model: DualStream
    front: FrontEnd
    statistics: Statistics
    config: TrainConfig
    device: torch.device
    step: int


def fill(module: torch.nn.Module, state: Mapping[str, Any], path: str | Path) -> None:
    """Load a module's tensors; raises UsageError where they are not the configuration's."""
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise UsageError(f"{path}: weights and configuration disagree") from error


def device_of(name: str) -> torch.device:
    """The device that a name means; "auto" takes cuda where there is one.

    Raises:
        UsageError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {name!r}: {' '.join(str(error).split())[:100]}") from error
    return device


def load_trained(path: str | Path, device: str = "auto") -> Trained:
    """The averaged network of a checkpoint file, or of a run's folder.

    Args:
        device: "auto" takes cuda where there is one.

    Raises:
        UsageError: no such checkpoint or device, or an audio encoder that is not there.
    """
    where = device_of(device)
    state = read(path)
    config = config_in(state, path)
    statistics = Statistics.of_state(state["statistics"]).to(where)
    front = front_end(config.audio, config.load.fps).to(where)
    check_same_encoder(state, front, path)
    model = DualStream(statistics.dims, front.dims, config.network, config.audio).to(where)
    fill(model, state["ema"], path)
    return Trained(model.eval().requires_grad_(False), front, statistics, config, where, int(state["step"]))
