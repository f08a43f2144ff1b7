"""The thin Beam parts of the stages that hear: listen, turns, evidence, bind."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..schemas.errors import UsageError
from ..schemas.records import Backend, Video
from ..transforms.active_speaker import FPS, ActiveSpeaker, clip_scores
from ..transforms.audio import AudioOptions, read_audio
from ..transforms.bind import bind_voices, binding_margin, people
from ..transforms.clips import ClipOptions, load_clip_tracks
from ..transforms.elements import BoundClip, ClipTask, Evidence, HeardPiece, PieceTask, TurnsDone
from ..transforms.evidence import ActiveScores, BindEvidence, BindOptions, bind_evidence, video_offset
from ..transforms.listen import ListenModels, ListenOptions, ListenPiece, cluster_turns, listen_grid, listen_piece
from ..transforms.pyannote_turns import PyannotePiece, PyannoteTurns, join_pieces
from ..transforms.separation import PyannoteSeparator
from ..transforms.sound import read_sound, store_sound, turns_from_bytes, turns_to_bytes
from ..transforms.stage import Shared, Subject
from ..transforms.work import WorkStore
from .chosen import Chosen
from .stages_pixels import local_copies, video_subject


def listen_pieces(video: Video, options: ListenOptions) -> Iterator[PieceTask]:
    """The pieces of a video's sound on the fixed grid of listening."""
    for index, span in enumerate(listen_grid(video.start_s, video.end_s, options)):
        yield PieceTask(video, index, span.start_s, span.end_s, span.read_start_s, span.read_end_s)


def listen_models() -> ListenModels:
    torch.set_num_threads(1)  # bytes must not depend on the machine's cores
    return ListenModels()


@dataclass(frozen=True)
class ListenStage:
    """PieceTask -> HeardPiece: the sound of a piece, where speech is, what its voices sound like."""

    options: ListenOptions
    audio: AudioOptions
    backend: Chosen
    name: str = "listen"
    kinds: tuple[type, ...] = (HeardPiece,)

    def identity(self, element: PieceTask) -> tuple[Any, ...]:
        return (element, self.options, self.audio, self.backend.identity)

    def subject(self, element: PieceTask) -> Subject:
        return video_subject(element.video, element.start_s, element.end_s)

    def run(self, element: PieceTask, work: WorkStore) -> list[Any]:
        video = element.video
        with local_copies().open(video.uri) as path:
            sound = read_audio(path, video, element.read_start_s, element.read_end_s, self.audio)
        keep = (element.start_s, element.end_s)
        if self.backend.name == "pyannote":
            diarize = Shared.get("pyannote", pyannote_turns, self.backend.path)
            self.backend.check(diarize.backend)
            arrays = diarize.piece(sound, element.read_start_s, keep).to_arrays()
        else:
            models = Shared.get("listen models", listen_models)
            self.backend.check(models.activity.backend, models.embedding.backend)
            arrays = listen_piece(sound, element.read_start_s, self.options, models, keep).to_arrays()
        key = f"{video.video_id[:16]}-{element.index:06d}"
        first = round((element.start_s - element.read_start_s) * 16000)
        own = sound[first : first + round((element.end_s - element.start_s) * 16000)]
        chunks = store_sound(work, self.name, key, own, element.start_s)
        file = work.put_arrays(self.name, key, arrays)
        return [HeardPiece(video, element.index, element.start_s, element.end_s, file, chunks)]


@dataclass(frozen=True)
class TurnsStage:
    """All heard pieces of a video -> TurnsDone: its voices, and when each speaks."""

    options: ListenOptions
    backend: str
    name: str = "turns"
    kinds: tuple[type, ...] = (TurnsDone,)

    def identity(self, element: tuple[HeardPiece, ...]) -> tuple[Any, ...]:
        return ([piece.file for piece in element], element[0].video, self.options, self.backend)

    def subject(self, element: tuple[HeardPiece, ...]) -> Subject:
        return video_subject(element[0].video, element[0].start_s, element[-1].end_s)

    def run(self, element: tuple[HeardPiece, ...], work: WorkStore) -> list[Any]:
        video, start, end = element[0].video, element[0].start_s, element[-1].end_s
        sound = tuple(chunk for piece in element for chunk in piece.sound)
        arrays = [work.get_arrays(piece.file) for piece in element]
        if self.backend == "pyannote":
            turns = join_pieces([PyannotePiece.from_arrays(piece) for piece in arrays])
        else:
            turns = cluster_turns([ListenPiece.from_arrays(piece) for piece in arrays], self.options, parts=True)
        key = f"{video.video_id[:16]}-{round(start * 1000):09d}"
        return [TurnsDone(video, start, end, work.put(self.name, key, turns_to_bytes(turns), ".json"), sound)]


@dataclass(frozen=True)
class EvidenceStage:
    """ClipTask -> Evidence: how well each voice goes with each face in one clip."""

    clips: ClipOptions
    options: BindOptions
    speaker: Chosen
    name: str = "evidence"
    kinds: tuple[type, ...] = (Evidence,)

    def identity(self, element: ClipTask) -> tuple[Any, ...]:
        return (element, self.clips, self.options, self.speaker.identity)

    def subject(self, element: ClipTask) -> Subject:
        clip = element.clip
        return video_subject(clip.video, clip.start_s, clip.end_s, clip.shot_index)

    def run(self, element: ClipTask, work: WorkStore) -> list[Any]:
        tracks = load_clip_tracks(element.clip, work.get_arrays, self.clips)
        if element.turns is None:
            sound, turns = np.zeros(0, np.float32), []
        else:
            sound = read_sound(work, element.turns.sound, element.start_s, element.end_s)
            turns = turns_from_bytes(work.get(element.turns.file))
        scores, file = None, ""
        if self.speaker.name == "light-asd" and element.turns is not None:
            network = Shared.get("active speaker", active_speaker, self.speaker.path)
            self.speaker.check(network.backend)
            times = np.arange(element.start_s, element.end_s, 1.0 / FPS)
            odds = [clip_scores(t, tracks.times, sound, element.start_s, times, network) for t in (tracks.a, tracks.b)]
            scores = ActiveScores(times, *odds)
            clip = element.clip
            key = f"{clip.video.video_id[:16]}-{clip.shot_index:05d}-{round(clip.start_s * 1000):09d}"
            file = work.put_arrays(self.name, key, scores.to_arrays())
        found = bind_evidence(tracks, sound, element.start_s, turns, self.options, scores)
        return [Evidence(element, element.start_s, element.end_s, found.to_json(), file)]


@dataclass(frozen=True)
class BindStage:
    """The evidence of all clips of a video -> BoundClip of each: which voice is whose, who is who across shots."""

    options: BindOptions
    name: str = "bind"
    kinds: tuple[type, ...] = (BoundClip,)

    def identity(self, element: tuple[Evidence, ...]) -> tuple[Any, ...]:
        return (element, self.options)

    def subject(self, element: tuple[Evidence, ...]) -> Subject:
        video = element[0].task.clip.video
        return video_subject(video, video.start_s, video.end_s)

    def run(self, element: tuple[Evidence, ...], work: WorkStore) -> list[Any]:
        found = [BindEvidence.from_json(clip.evidence) for clip in element]
        person = people(found, self.options)
        video = element[0].task.clip.video.video_id
        outputs: list[Any] = []
        bound = bind_voices(found, self.options)
        offset = video_offset(found, bound, self.options)
        for clip, evidence, faces in zip(element, found, bound, strict=True):
            a, b = (f"{video[:16]}-p{person[evidence.shot_index, t]}" for t in (evidence.track_a, evidence.track_b))
            faces_of = tuple(sorted(faces.items()))
            b = b if evidence.track_b else ""
            margin = binding_margin(evidence, faces, offset, self.options)
            known = None if math.isnan(margin) else margin
            outputs.append(BoundClip(clip.task, clip.start_s, clip.end_s, faces_of, a, b, *offset, clip.active, known))
        return outputs


def pyannote_turns(path: str) -> PyannoteTurns:
    torch.set_num_threads(1)  # bytes must not depend on the machine's cores
    return PyannoteTurns(path)


def active_speaker(path: str) -> ActiveSpeaker:
    torch.set_num_threads(1)  # bytes must not depend on the machine's cores
    return ActiveSpeaker(path)


def speaker_backend(name: str, path: str) -> tuple[Backend, ...]:
    """The network that sees who speaks, opened once to be sure of it; none for lip speed.

    Raises:
        UsageError: an unknown name, or weights that cannot be loaded.
    """
    if name == "lips":
        return ()
    if name == "light-asd":
        return (Shared.get("active speaker", active_speaker, path).backend,)
    raise UsageError(f"unknown speaker backend {name!r}; choose lips or light-asd")


def separation_backend(name: str, path: str) -> tuple[Backend, ...]:
    """The pipeline that takes voices apart, opened once to be sure of it; none by default.

    Raises:
        UsageError: an unknown name, or a pipeline that cannot be loaded or does not separate.
    """
    if name == "none":
        return ()
    if name == "pyannote":
        return (Shared.get("separator", separator, path).backend,)
    raise UsageError(f"unknown separation backend {name!r}; choose none or pyannote")


def separator(path: str) -> PyannoteSeparator:
    torch.set_num_threads(1)  # bytes must not depend on the machine's cores
    return PyannoteSeparator(path)


def turns_backend(name: str, path: str) -> tuple[Backend, ...]:
    """The models that hear, opened once to be sure of them.

    Raises:
        UsageError: an unknown name, or a pipeline that cannot be loaded.
    """
    if name == "silero":
        models = Shared.get("listen models", listen_models)
        return (models.activity.backend, models.embedding.backend)
    if name == "pyannote":
        return (Shared.get("pyannote", pyannote_turns, path).backend,)
    raise UsageError(f"unknown turns backend {name!r}; choose silero or pyannote")
