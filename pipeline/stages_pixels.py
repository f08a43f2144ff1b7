"""The thin Beam parts of the stages that see pixels: probe, scan, shots, track, clips."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from apache_beam.io.filesystems import FileSystems

from ..schemas.errors import BadInput
from ..schemas.records import InputItem, Reject, Shot, Video
from ..schemas.takedown import Takedown, is_taken_down
from ..transforms import (
    appearance_gaze,
    clips,
    decode,
    detect_faces,
    enhance,
    face_mesh,
    identify,
    scan,
    scan_verdict,
    stitch,
    track,
)
from ..transforms.elements import ClipTask, PieceDone, PieceTask, Span, TrackDone, TrackTask
from ..transforms.probe import ProbeOptions, probe
from ..transforms.shots import WARM_UP_S, shot_detector
from ..transforms.stage import Shared, Subject, reject
from ..transforms.storage import LocalCopies, is_local, is_utf8, local_path
from ..transforms.work import WorkStore
from .chosen import Chosen

EPSILON_S = 1e-6
MOST_FPS = 240.0  # the scan looks at every frame of what people film


def local_copies() -> LocalCopies:
    return Shared.get("local copies", LocalCopies)


def video_subject(video: Video, start_s: float, end_s: float, shot_index: int = -1) -> Subject:
    return Subject(video.video_id, video.uri, start_s, end_s, shot_index, video.source_id)


@dataclass(frozen=True)
class ProbeStage:
    """InputItem -> Video."""

    options: ProbeOptions
    shortest_s: float
    takedowns: tuple[Takedown, ...]
    name: str = "probe"
    kinds: tuple[type, ...] = (Video,)

    def identity(self, element: InputItem) -> tuple[Any, ...]:
        return (
            element,
            file_stamp(element.uri),
            self.options,
            self.shortest_s,
            self.takedowns,
        )

    def subject(self, element: InputItem) -> Subject:
        start = element.start_s or 0.0
        return Subject("", element.uri, start, element.end_s or start, source_id=element.source_id)

    def run(self, element: InputItem, work: WorkStore) -> list[Any]:
        gone = is_taken_down(self.takedowns, source_id=element.source_id, source_uri=element.uri)
        try:
            if not is_utf8(element.uri):
                raise BadInput("unreadable", "its name is not UTF-8: rename it")  # no table could tell where it lies
            with local_copies().open(element.uri) as path:
                video = probe(path, element, self.options)
        except BadInput:
            if gone:
                return []
            raise
        if is_taken_down(self.takedowns, video_id=video.video_id):
            return []
        if gone:
            return [video]  # not for long: it takes other files of the same content with it
        seconds = video.end_s - video.start_s
        subject = video_subject(video, video.start_s, video.end_s)
        if seconds < self.shortest_s - EPSILON_S:
            return [reject(subject, self.name, "too_short", f"{seconds:.2f} s, {self.shortest_s:g} s are needed")]
        return [video]


def file_stamp(uri: str) -> str:
    """Size and time of change (or a store's checksum): notices, without reading it, that a file is another one."""
    try:
        if is_local(uri):
            found = local_path(uri).stat()
            return f"{found.st_size} {found.st_mtime_ns}"
        return str(FileSystems.checksum(uri))
    except Exception as error:
        # The stage itself says what is wrong with the file.
        return f"unknown: {type(error).__name__}"


def _order(video: Video) -> tuple[str | float, ...]:
    """By URI and source; of one file first what the user said of its camera, then by all else."""
    told = video.focal if video.focal is not None and video.focal.source == "user" else None
    camera = (0.0, 0.0) if told is None else (-told.px, told.log_sd)
    return video.uri, video.source_id, *camera, video.license, video.attribution


def same_content(videos: Iterable[Video], takedowns: Sequence[Takedown] = ()) -> list[Video]:
    """One video for each part of one content: several files with the same bytes keep the smallest URI.

    None where one of them lies under a source that was taken down.
    """
    best: dict[tuple[float, float], Video] = {}
    for video in sorted(videos, key=_order):
        if is_taken_down(takedowns, source_id=video.source_id, source_uri=video.uri):
            return []
        best.setdefault((video.start_s, video.end_s), video)
    return [best[key] for key in sorted(best)]


def scan_pieces(video: Video, piece_s: float) -> Iterator[PieceTask]:
    """The pieces of a video on a fixed grid of its clock, each with what the shot detector needs either side."""
    first, last = math.floor(video.start_s / piece_s + 1e-9), math.ceil(video.end_s / piece_s - 1e-9)
    for index in range(first, last):
        start, end = max(video.start_s, index * piece_s), min(video.end_s, (index + 1) * piece_s)
        lead, trail = max(video.start_s, start - WARM_UP_S), min(video.end_s, end + WARM_UP_S)
        yield PieceTask(video, index, start, end, lead, trail)


@dataclass(frozen=True)
class ScanStage:
    """PieceTask -> PieceDone: one cheap decode, cuts and a face count about twice a second."""

    options: scan.ScanOptions
    decode: decode.DecodeOptions
    detector: Chosen
    name: str = "scan"
    kinds: tuple[type, ...] = (PieceDone,)

    def identity(self, element: PieceTask) -> tuple[Any, ...]:
        return (element, self.options, self.decode, self.detector.identity)

    def subject(self, element: PieceTask) -> Subject:
        return video_subject(element.video, element.start_s, element.end_s)

    def run(self, element: PieceTask, work: WorkStore) -> list[Any]:
        video = element.video
        faces = Shared.get("face detector", detect_faces.face_detector, self.detector.name, self.detector.path)
        self.detector.check(faces.backend)
        with (
            local_copies().open(video.uri) as path,
            decode.read_frames(
                path,
                video,
                start_s=element.read_start_s,
                end_s=element.read_end_s,
                longest_side=scan.scan_longest_side(video, self.options),
                max_fps=MOST_FPS,
                options=self.decode,
            ) as frames,
        ):
            shots = shot_detector(self.options.shots)
            found = scan.scan_piece(frames, video, element.start_s, element.end_s, self.options, faces, shots)
        file = work.put_arrays(self.name, f"{video.video_id[:16]}-{element.index:06d}", found.to_arrays())
        return [PieceDone(video, element.index, element.start_s, element.end_s, file)]


@dataclass(frozen=True)
class ShotsStage:
    """All scanned pieces of a video -> Span of every shot with two prominent faces; the other shots are rejects.

    A silent video is turned away only here, so that one without two people says so: the scan is cheap, and whoever
    reads the rejects learns what ``--geometry-only`` would bring.
    """

    options: scan.ScanOptions
    need_audio: bool
    name: str = "shots"
    kinds: tuple[type, ...] = (Span,)

    def identity(self, element: tuple[PieceDone, ...]) -> tuple[Any, ...]:
        return ([piece.file for piece in element], element[0].video, self.options, self.need_audio)

    def subject(self, element: tuple[PieceDone, ...]) -> Subject:
        video = element[0].video
        return video_subject(video, video.start_s, video.end_s)

    def run(self, element: tuple[PieceDone, ...], work: WorkStore) -> list[Any]:
        video = element[0].video
        pieces = [scan.ScanPiece.from_arrays(work.get_arrays(piece.file)) for piece in element]
        outputs: list[Any] = []
        for found in scan_verdict.merge_scan(pieces, video, self.options):
            shot = found.shot
            verdict = scan_verdict.judge_shot(found, video, self.options)
            for part in verdict.dropped:
                subject = video_subject(video, part.start_s, part.end_s, shot.index)
                outputs.append(reject(subject, self.name, part.reason, part.detail))
            if self.need_audio and not video.has_audio:
                subjects = [video_subject(video, start, end, shot.index) for start, end in verdict.spans]
                outputs += [reject(subject, self.name, "no_audio", "no audio stream") for subject in subjects]
                continue
            scores = (finite(verdict.split_colour), finite(verdict.split_seam))
            outputs += [Span(video, shot.index, shot.start_s, shot.end_s, s, e, *scores) for s, e in verdict.spans]
        if not outputs:
            raise BadInput("unreadable", "no picture could be decoded")
        return outputs


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def track_pieces(span: Span, piece_s: float, warm_s: float) -> Iterator[TrackTask]:
    """A span's pieces on a fixed grid of the video clock, each with a warm-up inside the span's shot."""
    first, last = math.floor(span.start_s / piece_s + 1e-9), math.ceil(span.end_s / piece_s - 1e-9)
    for index in range(first, last):
        start, end = max(span.start_s, index * piece_s), min(span.end_s, (index + 1) * piece_s)
        yield TrackTask(span, index, start, end, max(span.start_s, start - warm_s))


@dataclass(frozen=True)
class TrackStage:
    """TrackTask -> TrackDone: the one full-resolution decode of a surviving span."""

    options: track.TrackOptions
    decode: decode.DecodeOptions
    detector: Chosen
    mesh: Chosen
    identifier: Chosen
    gaze: Chosen
    enhance: Chosen
    keep_crops: bool = False
    focal_px: float | None = None
    name: str = "track"
    kinds: tuple[type, ...] = (TrackDone,)

    def identity(self, element: TrackTask) -> tuple[Any, ...]:
        backends = (self.detector.identity, self.mesh.identity, self.identifier.identity)
        gaze = (self.gaze.identity, self.focal_px) if self.gaze.models else ()
        enhanced = (self.enhance.identity,) if self.enhance.models else ()
        return (element, self.options, self.decode, backends, self.keep_crops, *gaze, *enhanced)

    def subject(self, element: TrackTask) -> Subject:
        return video_subject(element.span.video, element.start_s, element.end_s, element.span.shot_index)

    def run(self, element: TrackTask, work: WorkStore) -> list[Any]:
        span, video = element.span, element.span.video
        detector, who = self.detector, self.identifier
        faces = Shared.get("face detector", detect_faces.face_detector, detector.name, detector.path, True)
        mesh = Shared.get("face mesh", face_mesh.FaceMesh)
        enhancer = Shared.get("enhancer", enhance.enhance_backend, self.enhance.name, self.enhance.path)
        identifier = Shared.get("identifier", identify.face_identifier, who.name, who.path)
        network = Shared.get("gaze", appearance_gaze.gaze_backend, self.gaze.name, self.gaze.path)
        detector.check(faces.backend)
        self.mesh.check(mesh.backend)
        who.check(identifier.backend)
        self.gaze.check(*(() if network is None else (network.backend,)))
        self.enhance.check(*(() if enhancer is None else (enhancer.backend,)))
        mesher = mesh if enhancer is None else enhance.EnhancedMesh(mesh, enhancer)
        look = None if network is None else partial(network.look, user_focal_px=self.focal_px, known=video.focal)
        with (
            local_copies().open(video.uri) as path,
            decode.read_frames(
                path,
                video,
                start_s=element.read_start_s,
                end_s=element.end_s,
                longest_side=None,
                max_fps=30.0,
                options=self.decode,
            ) as frames,
        ):
            kept = (element.start_s, element.end_s, self.keep_crops)
            piece = track.track_piece(frames, self.options, faces, mesher, identifier, *kept, look)
        key = f"{video.video_id[:16]}-{span.shot_index:05d}-{element.index:06d}"
        file = work.put_arrays(self.name, key, piece.to_arrays())
        summaries = stitch.summarise(piece, video.video_id, span.shot_index, element.index, file)
        texts = tuple(summary.to_json() for summary in summaries)
        return [TrackDone(span, element.index, element.start_s, element.end_s, file, texts)]


@dataclass(frozen=True)
class ClipsStage:
    """All tracked pieces of a shot -> ClipTask of every window with exactly two people; the others are rejects."""

    options: clips.ClipOptions
    stitch: stitch.StitchOptions
    name: str = "clips"
    kinds: tuple[type, ...] = (ClipTask,)

    def identity(self, element: tuple[TrackDone, ...]) -> tuple[Any, ...]:
        return ([piece.file for piece in element], [piece.span for piece in element], self.options, self.stitch)

    def subject(self, element: tuple[TrackDone, ...]) -> Subject:
        span = element[0].span
        return video_subject(span.video, span.shot_start_s, span.shot_end_s, span.shot_index)

    def run(self, element: tuple[TrackDone, ...], work: WorkStore) -> list[Any]:
        span = element[0].span
        summaries = [stitch.TrackletSummary.from_json(text) for piece in element for text in piece.summaries]
        spans = sorted({(piece.span.start_s, piece.span.end_s) for piece in element})
        shot = Shot(span.video.video_id, span.shot_index, span.shot_start_s, span.shot_end_s)
        persons = stitch.stitch(summaries, self.stitch)
        found, rejects = clips.choose_clips(persons, span.video, shot, spans, self.options)
        return [*(ClipTask(clip, span.split_colour, span.split_seam) for clip in found), *rejects]


__all__ = [
    "ClipsStage", "ProbeStage", "Reject", "ScanStage", "ShotsStage", "TrackStage", "local_copies", "same_content",
    "scan_pieces", "track_pieces",
]  # fmt: skip
