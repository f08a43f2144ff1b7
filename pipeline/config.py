"""The configuration of a curation run: every stage's options in one tree, from YAML and ``--set a.b=c``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from ..fitting.fit import FitOptions
from ..schemas.errors import UsageError
from ..schemas.records import Backend
from ..schemas.selection import SelectionOptions
from ..schemas.shard import ROWS_PER_SHARD
from ..transforms.audio import AudioOptions
from ..transforms.clips import ClipOptions
from ..transforms.decode import DecodeOptions
from ..transforms.listen import ListenOptions
from ..transforms.probe import ProbeOptions
from ..transforms.scan import ScanOptions
from ..transforms.speaking import SpeakingOptions
from ..transforms.stitch import StitchOptions
from ..transforms.track import TrackOptions
from .bounds import check_bounds


@dataclass(frozen=True)
class BackendOptions:
    """Which model does which stage's work. A path names a folder or file with the weights.

    Attributes:
        faces: "mediapipe", or "insightface" with ``faces_path``.
        identity: "appearance" (no network), or "insightface" with ``identity_path``.
        turns: "silero" (silero-vad, Resemblyzer, clustering), or "pyannote" with ``turns_path`` (a folder or hub id).
        speaker: "lips" (speed of the lips), or "light-asd" with the weights' file in ``speaker_path``: crops of the
            mouths are then kept among the work files.
        separation: "none", or "pyannote" with ``separation_path`` (a SpeechSeparation pipeline's folder or hub id):
            each person's own sound is then written to ``voices/``.
        gaze: "geometric" (irises and fitted eyeballs), or "onnx" with the appearance model's file in ``gaze_path``.
        enhance: "none", or a super-resolution or restoration network that sees small faces before the landmark network
            does, its file in ``enhance_path``: "onnx" (pixel values 0 to 1) or "onnx-signed" (-1 to 1).
        head_model: "" for the canonical head, or the path of a FLAME, GNM, ICT-FaceKit or MediaPipe model.
    """

    faces: str = "mediapipe"
    faces_path: str = ""
    identity: str = "appearance"
    identity_path: str = ""
    turns: str = "silero"
    turns_path: str = ""
    speaker: str = "lips"
    speaker_path: str = ""
    separation: str = "none"
    separation_path: str = ""
    gaze: str = "geometric"
    gaze_path: str = ""
    enhance: str = "none"
    enhance_path: str = ""
    head_model: str = ""


@dataclass(frozen=True)
class RunOptions:
    """What the run is, besides how its stages measure.

    Attributes:
        geometry_only: keep videos without audio; speech is then neither listened to nor selected by.
        scan_piece_s, track_piece_s: lengths of the fixed grids on which videos are cut for the workers.
        track_warm_s: tracking starts this long before a piece and drops what it saw there.
        rows_per_shard: pairs in one Parquet file.
        landmarks: keep the measured tracks in ``landmarks/`` (about 1 MB for each 10 s pair), so that
            ``duologue refit`` can label the data set again with another head model, without pixels.
        max_failed_share: the job fails when more than this share of a stage's items broke (``stage_failed``).
        min_failed: but not for fewer broken items than this.
    """

    geometry_only: bool = False
    scan_piece_s: float = 300.0
    track_piece_s: float = 60.0
    track_warm_s: float = 1.0
    rows_per_shard: int = ROWS_PER_SHARD
    landmarks: bool = True
    max_failed_share: float = 0.2
    min_failed: int = 10


@dataclass(frozen=True)
class CurateConfig:
    """Every option of ``duologue curate``. Stages document their own."""

    run: RunOptions = field(default_factory=RunOptions)
    backends: BackendOptions = field(default_factory=BackendOptions)
    probe: ProbeOptions = field(default_factory=ProbeOptions)
    decode: DecodeOptions = field(default_factory=DecodeOptions)
    scan: ScanOptions = field(default_factory=ScanOptions)
    track: TrackOptions = field(default_factory=TrackOptions)
    stitch: StitchOptions = field(default_factory=StitchOptions)
    clips: ClipOptions = field(default_factory=ClipOptions)
    audio: AudioOptions = field(default_factory=AudioOptions)
    listen: ListenOptions = field(default_factory=ListenOptions)
    bind: SpeakingOptions = field(default_factory=SpeakingOptions)
    fit: FitOptions = field(default_factory=FitOptions)
    select: SelectionOptions = field(default_factory=SelectionOptions)


# What decides how the data set is stored, selected or computed, not what is measured.
BACKEND_NAMES = ("faces", "identity", "turns", "speaker", "separation", "gaze", "enhance")  # without their paths
NOT_MEASURING = {
    "select": None,
    "run": ("rows_per_shard", "landmarks", "max_failed_share", "min_failed"),
    "probe": None,
    "fit": ("batch_clips",),
}


def load_config(text: str = "", settings: Sequence[str] = ()) -> CurateConfig:
    """A configuration from YAML text and ``a.b=c`` settings (later ones win).

    Raises:
        UsageError: not YAML, an unknown option, or a value of the wrong type or out of bounds; one line that names it.
    """
    try:
        tree = yaml.safe_load(text) if text.strip() else {}
    except yaml.YAMLError as error:
        raise UsageError(f"the configuration is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise UsageError("the configuration must be a mapping of stages")
    for setting in settings:
        path, equals, value = setting.partition("=")
        if not equals or not path:
            raise UsageError(f"--set takes stage.option=value, not {setting!r}")
        _put(tree, path.strip(), value)
    _check_names(CurateConfig(), tree, "")
    adapter = TypeAdapter(CurateConfig)
    try:
        config: CurateConfig = adapter.validate_python(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "value_error":  # of a group, which says what is wrong with which option
            raise UsageError(f"option {where}: {first['ctx']['error']}") from error
        raise UsageError(f"option {where}: {first['msg']} (got {first['input']!r})") from error
    check_bounds(dict(_values(config)))
    if config.run.geometry_only:
        config = replace(config, select=replace(config.select, sound=False))
    return config


def _put(tree: dict[str, Any], path: str, text: str) -> None:
    *parents, last = path.split(".")
    node = tree
    for name in parents:
        below = node.setdefault(name, {})
        if not isinstance(below, dict):
            raise UsageError(f"--set {path}: {name} is not a group of options")
        node = below
    try:
        node[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        node[last] = text


def _check_names(example: Any, tree: Mapping[str, Any], path: str) -> None:
    known = {item.name for item in fields(example)}
    for name, value in tree.items():
        if name not in known:
            near = _near(f"{path}{name}")
            hint = f"did you mean {' or '.join(near)}?" if near else f"known here: {', '.join(sorted(known))}"
            raise UsageError(f"unknown option {path}{name}; {hint}")
        below = getattr(example, name)
        if is_dataclass(below):
            if not isinstance(value, Mapping):
                raise UsageError(f"option {path}{name} is a group: {path}{name}.<option>=value")
            _check_names(below, value, f"{path}{name}.")


def _near(path: str) -> list[str]:
    """Up to three options that ``path`` may mean: of that name in other groups, else spelled nearly so."""
    every = [name for name, _ in _values(CurateConfig())]
    same = [name for name in every if name.rpartition(".")[2] == path.rpartition(".")[2]]
    return (same or get_close_matches(path, every, n=3, cutoff=0.75))[:3]


def _values(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every option's name, such as ``clips.clip_s``, and value."""
    for item in fields(group):
        value = getattr(group, item.name)
        if is_dataclass(value):
            yield from _values(value, f"{path}{item.name}.")
        else:
            yield f"{path}{item.name}", value


def config_yaml(config: CurateConfig) -> str:
    """The resolved configuration, every option of it."""
    return str(yaml.safe_dump(json.loads(json.dumps(asdict(config))), sort_keys=False, allow_unicode=True))


def config_hash(config: CurateConfig, models: Iterable[Backend]) -> str:
    """16 hex digits of everything that decides what is measured: never thresholds of selection, never workers.

    Args:
        models: every model that does work on a row. What they hold counts, not where they lie.
    """
    tree = asdict(config)
    for group, names in NOT_MEASURING.items():
        if names is None:
            del tree[group]
        else:
            for name in names:
                del tree[group][name]
    tree["backends"] = {name: getattr(config.backends, name) for name in BACKEND_NAMES}
    tree["models"] = sorted({model.content for model in models})
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]


__all__ = ["BackendOptions", "CurateConfig", "RunOptions", "config_hash", "config_yaml", "load_config"]
