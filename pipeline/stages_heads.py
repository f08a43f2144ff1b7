"""The thin Beam parts of the stages on small arrays: fit, and the row with its relation and scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..fitting.dyad import relate
from ..fitting.fit import FitOptions
from ..fitting.head_model import HeadModel
from ..fitting.reduced import ReducedModel
from ..schemas.audio import encode_audio
from ..schemas.heads import FittedPair
from ..schemas.landmarks import landmark_row, rounded
from ..schemas.pair import SAMPLE_RATE, pair_id
from ..schemas.records import Backend
from ..schemas.row import Pair, Provenance, Source, Voices, pair_row
from ..schemas.tracks import ClipTracks
from ..schemas.voice_tracks import voice_row
from ..transforms.audio_scores import fingerprint, fingerprint_bands, sound_scores
from ..transforms.clips import ClipOptions, load_clip_tracks
from ..transforms.elements import BoundClip, ClipTask, FittedClip, PairDone
from ..transforms.evidence import ActiveScores
from ..transforms.fit import fit_pair, fitted_from_arrays, fitted_to_arrays, head_fitter
from ..transforms.score import clip_scores
from ..transforms.separation import CONTEXT_S, person_tracks
from ..transforms.sound import read_sound, turns_from_bytes
from ..transforms.speaking import SpeakingOptions, shift_turns, speaking_masks, sync_shift
from ..transforms.stage import Shared, Subject
from ..transforms.work import WorkStore
from .chosen import Chosen
from .rows import landmark_row_bytes, row_bytes, voice_row_bytes
from .stages_pixels import video_subject
from .stages_sound import separator


def clip_subject(task: ClipTask) -> Subject:
    clip = task.clip
    return video_subject(clip.video, clip.start_s, clip.end_s, clip.shot_index)


def clip_key(task: ClipTask) -> str:
    clip = task.clip
    return f"{clip.video.video_id[:16]}-{clip.shot_index:05d}-{round(clip.start_s * 1000):09d}"


def clip_tracks(task: ClipTask, options: ClipOptions, work: WorkStore) -> ClipTracks:
    """The measured tracks of a clip, rounded as ``landmarks/`` stores them."""
    return rounded(load_clip_tracks(task.clip, work.get_arrays, options))


def head_backend(head: HeadModel | ReducedModel) -> Backend:
    return Backend("fit", head.model_id, head.sha256, head.license)


@dataclass(frozen=True)
class FitStage:
    """BoundClip -> FittedClip: both heads in one metric camera, and where they look."""

    clips: ClipOptions
    options: FitOptions
    head: Chosen
    name: str = "fit"
    kinds: tuple[type, ...] = (FittedClip,)

    def identity(self, element: BoundClip) -> tuple[Any, ...]:
        return (element, self.clips, self.options, self.head.identity[1:])  # the whole of it: the output carries it on

    def subject(self, element: BoundClip) -> Subject:
        return clip_subject(element.task)

    def run(self, element: BoundClip, work: WorkStore) -> list[Any]:
        fitter = Shared.get("head fitter", head_fitter, self.head.path, self.options)
        self.head.check(head_backend(fitter.head))
        fitted = fit_pair(clip_tracks(element.task, self.clips, work), fitter)
        file = work.put_arrays(self.name, clip_key(element.task), fitted_to_arrays(fitted))
        return [FittedClip(element, element.start_s, element.end_s, file)]


@dataclass(frozen=True)
class ScoreStage:
    """FittedClip -> PairDone: how the two stand to each other, who speaks, every score, the finished row."""

    clips: ClipOptions
    bind: SpeakingOptions
    config_hash: str
    code_version: str
    backends: tuple[Backend, ...]
    separation: Chosen
    keep_landmarks: bool = True
    name: str = "score"
    kinds: tuple[type, ...] = (PairDone,)

    def identity(self, element: FittedClip) -> tuple[Any, ...]:
        known = (element, self.clips, self.bind, self.config_hash, self.backends, self.keep_landmarks)
        return (*known, self.separation.identity)

    def subject(self, element: FittedClip) -> Subject:
        return clip_subject(element.bound.task)

    def run(self, element: FittedClip, work: WorkStore) -> list[Any]:
        task = element.bound.task
        clip, video = task.clip, task.clip.video
        tracks = clip_tracks(task, self.clips, work)
        fitted = fitted_from_arrays(work.get_arrays(element.file))
        identifier = pair_id(video.video_id, clip.start_s, clip.end_s, self.config_hash)
        relation = relate(fitted, seed=identifier)
        voices, sound, prints = self._voices(element.bound, tracks, fitted, work)
        split = {"split_colour": task.split_colour, "split_seam": task.split_seam}
        known = {name: value for name, value in split.items() if value is not None}
        pair = Pair(
            pair_id=identifier,
            source=Source(
                video.video_id, video.uri, clip.start_s, clip.end_s, clip.shot_index, video.source_id, video.license,
                video.attribution, n_people=2 if clip.b else 1,
            ),
            fitted=fitted,
            relation=relation,
            voices=voices,
            scores=clip_scores(tracks, fitted, relation, sound, known),
            provenance=Provenance(self.config_hash, self.code_version, self.backends),
            person_a=element.bound.person_a,
            person_b=element.bound.person_b,
        )  # fmt: skip
        file = work.put(self.name, identifier, row_bytes(pair_row(pair)), ".arrow")
        bands = tuple(fingerprint_bands(prints))
        kept = put_landmarks(identifier, tracks, work) if self.keep_landmarks else ""
        parts = self._separated(pair, element.bound, work) if self.separation.models else ""
        return [PairDone(identifier, video.video_id, clip.start_s, clip.end_s, file, bands, prints, kept, parts)]

    def _separated(self, pair: Pair, bound: BoundClip, work: WorkStore) -> str:
        """The work file with the pair's row of ``voices/``; both tracks are null in an unheard clip."""
        voices, source = pair.voices, pair.source
        tracks = None
        if voices.audio is not None and bound.task.turns is not None:
            mixture = voices.samples()
            first = sync_shift((bound.offset_s, bound.offset_confidence), self.bind) + bound.start_s - CONTEXT_S
            last = first + len(mixture) / SAMPLE_RATE + 2 * CONTEXT_S
            around = read_sound(work, bound.task.turns.sound, first, last)
            separate = Shared.get("separator", separator, self.separation.path)
            self.separation.check(separate.backend)
            found = separate(around)
            at = round(CONTEXT_S * SAMPLE_RATE)
            found = found[:, at : at + len(mixture)]
            tracks = person_tracks(mixture, found, voices.speaking_a, voices.speaking_b, pair.fitted.fps)
        a, b = (None if t is None else encode_audio(t) for t in ((tracks.a, tracks.b) if tracks else (None, None)))
        left = tracks.residual_share if tracks else None
        row = voice_row(pair.pair_id, source.video_id, source.start_s, source.end_s, a, b, left)
        return work.put("voices", pair.pair_id, voice_row_bytes(row), ".arrow")

    def _voices(
        self, bound: BoundClip, tracks: ClipTracks, fitted: FittedPair, work: WorkStore
    ) -> tuple[Voices, dict[str, float], tuple[int, ...]]:
        """Who speaks in the clip, the scores of its sound, its fingerprint; nothing for an unheard clip."""
        heard = bound.task.turns
        if heard is None:
            unknown = np.full(len(fitted.times), np.nan, np.float32)
            return Voices((), unknown, unknown), {}, ()
        start, end = bound.start_s, bound.end_s
        shift = sync_shift((bound.offset_s, bound.offset_confidence), self.bind)
        sound = read_sound(work, heard.sound, start + shift, end + shift)
        turns = shift_turns(turns_from_bytes(work.get(heard.file)), shift)
        left = (bound.offset_s - shift, bound.offset_confidence)
        active = ActiveScores.from_arrays(work.get_arrays(bound.active)) if bound.active else None
        found = speaking_masks(tracks, sound, start, turns, dict(bound.faces), fitted.times, self.bind, left, active)
        scores = sound_scores(sound, start, turns)
        scores |= found.scores()
        if bound.margin is not None:
            scores["binding_margin"] = bound.margin
        voices = Voices(
            found.turns, found.speaking_a, found.speaking_b, found.voice_a, found.voice_b, encode_audio(sound)
        )
        return voices, scores, fingerprint(sound)


def put_landmarks(identifier: str, tracks: ClipTracks, work: WorkStore) -> str:
    """The work file with the pair's row of ``landmarks/``."""
    return work.put("landmarks", identifier, landmark_row_bytes(landmark_row(identifier, tracks)), ".arrow")
