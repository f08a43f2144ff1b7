"""A curation run worked out before it starts: resolved configuration, stages, where work and results go."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .. import __version__
from ..fitting.load_head import chosen_head, load_head_model
from ..schemas.takedown import Takedown, read_takedowns
from ..transforms.appearance_gaze import gaze_backend
from ..transforms.decode import check_decoder, for_scan
from ..transforms.detect_faces import face_detector
from ..transforms.enhance import enhance_backend
from ..transforms.face_mesh import mesh_backend
from ..transforms.fit import check_device
from ..transforms.identify import Identifier, face_identifier
from ..transforms.shots import shot_detector
from ..transforms.stage import FailureLimit, Shared, Stage
from ..transforms.storage import files_at, join
from ..transforms.work import WorkStore
from .chosen import Chosen
from .config import CurateConfig, config_hash, config_yaml
from .stages_heads import FitStage, ScoreStage, head_backend
from .stages_pixels import ClipsStage, ProbeStage, ScanStage, ShotsStage, TrackStage
from .stages_sound import (
    BindStage,
    EvidenceStage,
    ListenStage,
    TurnsStage,
    separation_backend,
    speaker_backend,
    turns_backend,
)


@dataclass(frozen=True)
class Stages:
    probe: Stage
    scan: Stage
    shots: Stage
    track: Stage
    clips: Stage
    listen: Stage
    turns: Stage
    evidence: Stage
    bind: Stage
    fit: Stage
    score: Stage


@dataclass(frozen=True)
class Plan:
    """Everything the graph needs.

    Attributes:
        out: the data-set folder. work: its ``_work`` folder.
        config_hash: of what is measured and with which head model.
        head_model: id of the head model; head_model_note: what it cannot do, "" for a statistical model.
    """

    out: str
    config: CurateConfig
    work: WorkStore
    code_version: str
    config_hash: str
    config_yaml: str
    head_model: str
    head_model_note: str
    takedowns: tuple[Takedown, ...]
    stages: Stages

    @property
    def failure_limit(self) -> FailureLimit:
        return FailureLimit(self.config.run.max_failed_share, self.config.run.min_failed)


def with_thresholds(config: CurateConfig, identifier: Identifier) -> CurateConfig:
    """The identifier's own thresholds where the user gave none: networks' cosines are not those of colours."""
    stitch, binding = config.stitch, config.bind.binding
    if stitch.looks is None:
        stitch = replace(stitch, looks=identifier.threshold)
    if binding.same_person is None:
        binding = replace(binding, same_person=identifier.between_shots)
    return replace(config, stitch=stitch, bind=replace(config.bind, binding=binding))


def make_plan(config: CurateConfig, out: str, *, offline: bool = False, workers_here: bool = True) -> Plan:
    """Resolve a run; every named backend is opened once here, so that a missing one stops it before any work.

    Args:
        offline: do not look at ``out`` (a dry run must not need credentials for a remote folder).
        workers_here: workers run on this machine, so that it must have the decoder and the device.

    Raises:
        UsageError: a backend, head model or takedown list that cannot be used; one line.
    """
    if workers_here:
        check_decoder(config.decode)
        check_device(config.fit.device)
    # Workers elsewhere have another environment: which head it names is decided here.
    backends = replace(config.backends, head_model=chosen_head(config.backends.head_model))
    config = replace(config, backends=backends)
    detector = Shared.get("face detector", face_detector, backends.faces, backends.faces_path).backend
    faces = Chosen(backends.faces, backends.faces_path, (detector,))
    mesh = Chosen("mediapipe", models=(mesh_backend(),))
    identifier = Shared.get("identifier", face_identifier, backends.identity, backends.identity_path)
    who = Chosen(backends.identity, backends.identity_path, (identifier.backend,))
    config = with_thresholds(config, identifier)
    voices = Chosen(backends.turns, backends.turns_path, turns_backend(backends.turns, backends.turns_path))
    speaker = Chosen(backends.speaker, backends.speaker_path, speaker_backend(backends.speaker, backends.speaker_path))
    parts = Chosen(
        backends.separation, backends.separation_path,
        separation_backend(backends.separation, backends.separation_path),
    )  # fmt: skip
    appearance = Shared.get("gaze", gaze_backend, backends.gaze, backends.gaze_path)
    gaze = Chosen(backends.gaze, backends.gaze_path, () if appearance is None else (appearance.backend,))
    enhancer = Shared.get("enhancer", enhance_backend, backends.enhance, backends.enhance_path)
    enhance = Chosen(backends.enhance, backends.enhance_path, () if enhancer is None else (enhancer.backend,))
    head = load_head_model(backends.head_model)
    model = Chosen("head model", backends.head_model, (head_backend(head),))
    run, fit = config.run, config.fit
    takedowns = () if offline else read_takedowns(files_at(out))
    every = (faces, mesh, who, voices, speaker, parts, gaze, enhance, model)
    models = (shot_detector(config.scan.shots).backend, *(one for chosen in every for one in chosen.models))
    digest = config_hash(config, models)
    stages = Stages(
        probe=ProbeStage(config.probe, shortest_s=config.clips.shortest_s, takedowns=takedowns),
        scan=ScanStage(config.scan, for_scan(config.decode), faces),
        shots=ShotsStage(config.scan, need_audio=not run.geometry_only),
        track=TrackStage(
            config.track, config.decode, faces, mesh, who, gaze, enhance,
            keep_crops=bool(speaker.models), focal_px=fit.focal_px,
        ),
        clips=ClipsStage(config.clips, config.stitch),
        listen=ListenStage(config.listen, config.audio, voices),
        turns=TurnsStage(config.listen, backends.turns),
        evidence=EvidenceStage(config.clips, config.bind.binding, speaker),
        bind=BindStage(config.bind.binding),
        fit=FitStage(config.clips, fit, model),
        score=ScoreStage(
            config.clips, config.bind, config_hash=digest, code_version=__version__,
            backends=models, separation=parts, keep_landmarks=run.landmarks,
        ),
    )  # fmt: skip
    work = WorkStore(join(out, "_work"))
    note = "; ".join(head.notes)
    return Plan(out, config, work, __version__, digest, config_yaml(config), head.model_id, note, takedowns, stages)
