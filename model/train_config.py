"""One YAML (or JSON) file that says everything about a training run, and ``--set a.b=c`` over it."""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from ..schemas.errors import UsageError
from .audio_features import AudioOptions
from .diffusion import DiffusionOptions
from .layers import NetworkOptions
from .losses import LossOptions


def _at_least_zero(section: str, options: Any, *names: str) -> None:
    low = [name for name in names if getattr(options, name) < 0]
    if low:
        raise UsageError(f"{section}.{low[0]} is {getattr(options, low[0]):g}; it must not be negative")


@dataclass(frozen=True)
class SetOptions:
    """One data set. ``path``: its folder. ``weight``: how often a batch comes from it."""

    path: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise UsageError(f"config: the weight of {self.path} is {self.weight:g}; it must be positive")


@dataclass(frozen=True)
class StageOptions:
    """A part of the run.

    Attributes:
        steps: optimiser steps. data: the sets it draws from. Rows whose origin is "dubbed", and single-speaker rows,
            give mouth supervision only, so that a second stage needs nothing but such a set beside the first.
    """

    steps: int
    data: tuple[SetOptions, ...]


@dataclass(frozen=True)
class LoadOptions:
    """Attributes:
    batch_size: pairs a step and rank. window: frames. fps: of all rows. selected: only pairs that pass the
        thresholds. swap: exchange the people in half of the samples. mirror: reflect half of the scenes (needs
        ``head_model``). workers: decoding threads. pool_groups: row groups shuffled together.
    continues: share of windows that are trained as the middle of a conversation, their layout taken anywhere in
        them: what later windows of long sound are sampled as.
    """

    batch_size: int = 32
    window: int = 250
    fps: float = 25.0
    selected: bool = True
    swap: bool = True
    mirror: bool = False
    workers: int = 2
    pool_groups: int = 4
    continues: float = 0.3

    def __post_init__(self) -> None:
        if self.window < 2:
            raise UsageError(f"load.window is {self.window}; it must be at least 2 frames")
        low = [name for name in ("batch_size", "pool_groups") if getattr(self, name) < 1]
        if low:
            raise UsageError(f"load.{low[0]} must be positive")
        if not 0 <= self.continues <= 1:
            raise UsageError(f"load.continues is {self.continues:g}; it must lie in 0..1")


@dataclass(frozen=True)
class OptimiserOptions:
    """AdamW. ``warmup``: steps of linear growth, then a cosine to zero at the last step. ``clip``: largest gradient
    norm. ``ema``: decay of the averaged weights that are sampled from; it grows from 0 as (1 + step) / (10 + step)."""

    lr: float = 1e-4
    weight_decay: float = 0.01
    warmup: int = 1000
    clip: float = 1.0
    ema: float = 0.999

    def __post_init__(self) -> None:
        _at_least_zero("optimiser", self, "weight_decay", "warmup")
        for name in ("lr", "clip"):
            if not getattr(self, name) > 0:
                raise UsageError(f"optimiser.{name} is {getattr(self, name):g}; it must be positive")
        if not 0 <= self.ema < 1:
            raise UsageError(f"optimiser.ema is {self.ema:g}; it must lie in 0..1, below 1")


@dataclass(frozen=True)
class LogOptions:
    """Steps between scalars, checkpoints, validation and plots of samples (0: never); validation batches; plots and
    curves also go to TensorBoard where ``tensorboard`` is set."""

    every: int = 50
    save_every: int = 1000
    validate_every: int = 1000
    sample_every: int = 5000
    validation_batches: int = 4
    tensorboard: bool = True

    def __post_init__(self) -> None:
        _at_least_zero("log", self, "every", "save_every", "validate_every", "sample_every", "validation_batches")


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
        out: folder of checkpoints, curves and the resolved configuration.
        stages: one after the other. seed: of everything random.
        head_model: mesh of the data sets' head model, for mouth modes by name, mirroring and the lip term; "" takes the
            embedded one where the data sets use it, and none otherwise.
        device: "auto" (cuda where there is one), "cpu" or "cuda". precision: "fp32" or "bf16" (autocast).
        compile: torch.compile the network.
    """

    out: str
    stages: tuple[StageOptions, ...]
    seed: int = 0
    head_model: str = ""
    device: str = "auto"
    precision: str = "fp32"
    compile: bool = False
    load: LoadOptions = field(default_factory=LoadOptions)
    audio: AudioOptions = field(default_factory=AudioOptions)
    network: NetworkOptions = field(default_factory=NetworkOptions)
    diffusion: DiffusionOptions = field(default_factory=DiffusionOptions)
    losses: LossOptions = field(default_factory=LossOptions)
    optimiser: OptimiserOptions = field(default_factory=OptimiserOptions)
    log: LogOptions = field(default_factory=LogOptions)

    def __post_init__(self) -> None:
        _at_least_zero("losses", self.losses, *(f.name for f in fields(self.losses)))
        if not self.stages or any(stage.steps < 1 or not stage.data for stage in self.stages):
            raise UsageError("config: stages must be a list of stages, each with positive steps and some data")
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"config: seed is {self.seed}; it must lie in 0..2^63")
        for name, allowed in (("device", ("auto", "cpu", "cuda")), ("precision", ("fp32", "bf16"))):
            if getattr(self, name) not in allowed:
                raise UsageError(f"config: {name} is {getattr(self, name)!r}; it must be one of {', '.join(allowed)}")

    @property
    def steps(self) -> int:
        """Of all stages."""
        return sum(stage.steps for stage in self.stages)

    def model_part(self) -> dict[str, Any]:
        """What decides the shape and meaning of a checkpoint's tensors."""
        audio = {key: value for key, value in asdict(self.audio).items() if key != "cache"}
        return {"network": asdict(self.network), "audio": audio}


def load_config(path: str | Path, settings: Sequence[str] = ()) -> TrainConfig:
    """Read a configuration.

    Args:
        settings: ``a.b=c``; list items by number (``stages.0.steps=100``); values are YAML.

    Raises:
        UsageError: unreadable, not YAML, an unknown option or a value of the wrong type; one line that names it.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"config {path} cannot be read ({error})") from error
    tree = _parse(text, f"config {path}")
    for setting in settings:
        where, equals, value = setting.partition("=")
        if not equals or not where:
            raise UsageError(f"--set takes a.b=value, not {setting!r}")
        _put(tree, where.split("."), _parse(value, f"--set {setting}"), setting)
    return config_of(tree)


def config_of(tree: Any) -> TrainConfig:
    """A configuration from plain values (of YAML, or of a checkpoint).

    Raises:
        UsageError: as :func:`load_config`.
    """
    config: TrainConfig = _build(TrainConfig, tree, "config")
    return config


def _parse(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        import yaml
    except ImportError as error:
        raise UsageError(f"{what}: YAML needs pyyaml (pip install pyyaml), or write it as JSON") from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{what} is not YAML: {' '.join(str(error).split())[:160]}") from error


def _put(tree: Any, path: list[str], value: Any, setting: str) -> None:
    for name in path[:-1]:
        try:
            tree = tree[int(name)] if isinstance(tree, list) else tree.setdefault(name, {})
        except (ValueError, IndexError, AttributeError) as error:
            raise UsageError(f"--set {setting}: there is no {name}") from error
    try:
        tree[int(path[-1]) if isinstance(tree, list) else path[-1]] = value
    except (ValueError, IndexError, TypeError) as error:
        raise UsageError(f"--set {setting}: there is no {path[-1]}") from error


def _build(kind: Any, value: Any, where: str) -> Any:
    """A typed value from what YAML gave."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _build(next(a for a in arguments if a is not type(None)), value, where)
    if is_dataclass(kind):
        if not isinstance(value, dict):
            raise UsageError(f"{where} must be a mapping of options")
        hints = typing.get_type_hints(kind)
        unknown = sorted(set(map(str, value)) - set(hints))
        if unknown:
            raise UsageError(f"{where} has no option {unknown[0]}; it has {', '.join(hints)}")
        needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
        missing = [name for name in needed if name not in value]
        if missing:
            raise UsageError(f"{where} needs {', '.join(missing)}")
        return kind(**{key: _build(hints[key], item, f"{where}.{key}") for key, item in value.items()})  # type: ignore[operator]
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise UsageError(f"{where} must be a list")
        return tuple(_build(arguments[0], item, f"{where}.{k}") for k, item in enumerate(value))
    if kind is float and isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            number = float(value)  # YAML 1.1 reads 1e-4 as text
        except (ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise UsageError(f"{where} must be a number, not {value!r}")
        return number
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UsageError(f"{where} must be of type {kind.__name__}, not {value!r}")
    return value
