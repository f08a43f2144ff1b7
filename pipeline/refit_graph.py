"""A data set labelled again from its stored landmarks: the stage, and the Beam graph around it."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import apache_beam as beam

from ..fitting.dyad import relate
from ..fitting.fit import FitOptions
from ..schemas import landmarks, voice_tracks
from ..schemas.dataset import Dataset
from ..schemas.files import Files
from ..schemas.heads import FittedPair
from ..schemas.landmarks import tracks_from_row
from ..schemas.manifest import FileEntry
from ..schemas.pair import BY_NAME, Column, pair_id
from ..schemas.records import Backend, Reject
from ..schemas.reject import table_to_rejects
from ..schemas.row import Pair, Provenance, Row, pair_from_row, pair_row, table_to_rows
from ..schemas.shard import open_shard, read_table
from ..schemas.tracks import ClipTracks
from ..schemas.voice_tracks import voice_row
from ..transforms.fit import fit_pair, head_fitter
from ..transforms.score import clip_scores
from ..transforms.stage import FailureLimit, RunStage, Shared, StageOutputs, Subject, Tally
from ..transforms.storage import files_at
from ..transforms.work import WorkStore
from .chosen import Chosen
from .rows import row_bytes, voice_row_bytes
from .sink import Duplicate, Target, WriteRows
from .stages_heads import head_backend, put_landmarks
from .taken_down import DropTakenDown

_NUMBER = re.compile(r"-(\d{5})-of-\d{5}")


@dataclass(frozen=True)
class Shard:
    """One shard of the data set, pairs, landmarks and separated voices ("" where there is none), and their hashes."""

    pairs: str
    landmarks: str
    voices: str
    sha256: str


@dataclass(frozen=True)
class RefitTask:
    """One pair: where its row and its landmarks lie."""

    shard: Shard
    group: int
    pair_id: str
    video_id: str
    source_uri: str
    start_s: float
    end_s: float
    shot_index: int
    source_id: str


@dataclass(frozen=True)
class RefitDone:
    """A row that was made again in ``file``, what lies beside it in ``landmarks`` and ``voices``.

    ``old_*`` are ids of the source.
    """

    old_id: str
    pair_id: str
    start_s: float
    end_s: float
    file: str
    landmarks: str
    voices: str
    old_duplicate_of: str
    similarity: float


def shards_of(data: Dataset) -> tuple[Shard, ...]:
    """Pair shards with the shards of the same number that lie beside them."""
    kinds = ("landmarks", "voices")
    beside: dict[tuple[str, str], FileEntry] = {
        (kind, _number(entry)): entry for kind in kinds for entry in data.manifest.of_kind(kind)
    }
    out = []
    for entry in data.shards:
        others = [beside.get((kind, _number(entry))) for kind in kinds]
        measured, heard = ("" if other is None else other.path for other in others)
        hashes = "".join(one.sha256 for one in (entry, *others) if one is not None)
        out.append(Shard(entry.path, measured, heard, hashes))
    return tuple(out)


def _number(entry: FileEntry) -> str:
    found = _NUMBER.search(entry.path)
    return found.group(1) if found else entry.path


LIGHT = ("pair_id", "video_id", "source_uri", "start_s", "end_s", "shot_index", "source_id")


def groups_of(root: str, shard: Shard) -> Iterator[tuple[Shard, int]]:
    """The row groups of a shard's landmarks: what is read at a time. -1 stands for rows that have none."""
    if shard.landmarks:
        for index in range(open_shard(files_at(root), shard.landmarks).metadata.num_row_groups):
            yield shard, index
    yield shard, -1


def tasks_of(root: str, shard: Shard, group: int) -> Iterator[RefitTask | Reject]:
    """The pairs of one row group, in the order of their ids; for group -1 a reject for each pair without landmarks."""
    files = files_at(root)
    rows = {row["pair_id"]: row for row in open_shard(files, shard.pairs).read(columns=list(LIGHT)).to_pylist()}
    stored = open_shard(files, shard.landmarks) if shard.landmarks else None
    if group >= 0:
        assert stored is not None
        for key in stored.read_row_group(group, columns=["pair_id"])["pair_id"].to_pylist():
            if key in rows:
                yield RefitTask(shard, group, **rows[key])
        return
    known = set() if stored is None else set(stored.read(columns=["pair_id"])["pair_id"].to_pylist())
    for key in sorted(set(rows) - known):
        row = rows[key]
        yield Reject(
            row["video_id"], row["source_uri"], "refit", "landmarks_lost", "no landmarks are stored for this pair",
            row["start_s"], row["end_s"], row["shot_index"], row["source_id"],
        )  # fmt: skip


@lru_cache(maxsize=1)
def _read_group(root: str, shard: Shard, group: int) -> dict[str, tuple[Row, Row, Row | None]]:
    """Rows of pairs, landmarks and voices of one row group, by pair id. Tasks of a group come one after the other."""
    files = files_at(root)
    table = open_shard(files, shard.landmarks).read_row_group(group, use_threads=False)
    measured = {row["pair_id"]: row for row in table_to_rows(table, landmarks.BY_NAME)}
    pairs = _rows_of(files, shard.pairs, measured, BY_NAME)
    voices = _rows_of(files, shard.voices, measured, voice_tracks.BY_NAME) if shard.voices else {}
    return {key: (row, measured[key], voices.get(key)) for key, row in pairs.items()}


def _rows_of(files: Files, path: str, wanted: Container[str], columns: Mapping[str, Column]) -> dict[str, Row]:
    """The rows of a shard whose pair ids are wanted; row groups without any are not read."""
    out: dict[str, Row] = {}
    shard = open_shard(files, path)
    for index in range(shard.metadata.num_row_groups):
        keys = shard.read_row_group(index, columns=["pair_id"])["pair_id"].to_pylist()
        places = [position for position, key in enumerate(keys) if key in wanted]
        if places:
            table = shard.read_row_group(index, use_threads=False).take(places)
            out |= {row["pair_id"]: row for row in table_to_rows(table, columns)}
    return out


def refit_models(old: Iterable[Backend], head: Backend) -> tuple[Backend, ...]:
    """What a row made again comes from: another head, and no appearance network for gaze, which needs pixels."""
    kept = tuple(head if model.stage == "fit" else model for model in old if model.stage != "gaze")
    return kept if head in kept else (*kept, head)


def refitted(old: Pair, tracks: ClipTracks, fitted: FittedPair, provenance: Provenance) -> Pair:
    """The pair with another fit: everything that follows from the heads is new, what was heard and seen stays.

    Args:
        provenance: of the new row.

    Raises:
        BadInput: no frame shows both heads.
    """
    source = old.source
    identifier = pair_id(source.video_id, source.start_s, source.end_s, provenance.config_hash)
    relation = relate(fitted, seed=identifier)
    fresh = clip_scores(tracks, fitted, relation, {}, {})
    return replace(
        old,
        pair_id=identifier,
        fitted=fitted,
        relation=relation,
        scores={**old.scores, **fresh},
        provenance=provenance,
        duplicate_of="",
    )


@dataclass(frozen=True)
class RefitStage:
    """RefitTask -> RefitDone: one row made again from its landmarks."""

    root: str
    options: FitOptions
    head: Chosen
    voices: bool
    config_hash: str
    code_version: str
    name: str = "refit"
    kinds: tuple[type, ...] = (RefitDone,)

    def identity(self, element: RefitTask) -> tuple[Any, ...]:
        return (element, self.options, self.head.identity, self.voices, self.config_hash)

    def subject(self, element: RefitTask) -> Subject:
        return Subject(
            element.video_id, element.source_uri, element.start_s, element.end_s, element.shot_index, element.source_id
        )

    def run(self, element: RefitTask, work: WorkStore) -> list[Any]:
        fitter = Shared.get("head fitter", head_fitter, self.head.path, self.options)
        self.head.check(head_backend(fitter.head))
        row, measured, voices = _read_group(self.root, element.shard, element.group)[element.pair_id]
        old, tracks = pair_from_row(row), tracks_from_row(measured)
        backends = refit_models(old.provenance.backends, *self.head.models)
        provenance = Provenance(self.config_hash, self.code_version, backends)
        new = refitted(old, tracks, fit_pair(tracks, fitter), provenance)
        return [
            RefitDone(
                old_id=old.pair_id,
                pair_id=new.pair_id,
                start_s=element.start_s,
                end_s=element.end_s,
                file=work.put(self.name, new.pair_id, row_bytes(pair_row(new)), ".arrow"),
                landmarks=put_landmarks(new.pair_id, tracks, work),
                voices=put_voices(new, voices, work) if self.voices else "",
                old_duplicate_of=old.duplicate_of,
                similarity=old.scores["duplicate_similarity"] if old.duplicate_of else 0.0,
            )
        ]


def put_voices(pair: Pair, old: Row | None, work: WorkStore) -> str:
    """The work file with the pair's row of ``voices/``, as it was but for the pair's new id; null where it is lost."""
    old, source = old or {}, pair.source
    a, b = ((old.get(f"{who}.audio") or {}).get("bytes") for who in "ab")
    row = voice_row(pair.pair_id, source.video_id, source.start_s, source.end_s, a, b, old.get("residual_share"))
    return work.put("voices", pair.pair_id, voice_row_bytes(row), ".arrow")


@dataclass(frozen=True)
class RefitPlan:
    """Everything the graph needs.

    Attributes:
        root: the data set that is read. shards: its shards. rejects: its reject tables.
        before: its funnel, as tallies. seconds: of all its clips, for the progress line.
        target: what is written where. stage: the work.
        note: what the head model cannot do and what is lost without pixels, "" where nothing is.
    """

    root: str
    shards: tuple[Shard, ...]
    rejects: tuple[str, ...]
    before: tuple[Tally, ...]
    seconds: float
    target: Target
    stage: RefitStage
    head_model: str
    note: str
    limit: FailureLimit


def build_refit(root: beam.Pipeline, plan: RefitPlan) -> beam.PCollection:
    """Add the whole refit to a pipeline; returns the entries of the manifest it writes."""
    found = (
        root
        | "shards" >> beam.Create(list(plan.shards))
        | "groups" >> beam.FlatMap(lambda shard, at: groups_of(at, shard), at=plan.root)
        | "spread groups" >> beam.Reshuffle()
        | "pairs" >> beam.FlatMap(lambda item, at: tasks_of(at, *item), at=plan.root)
    )
    tasks = found | "with landmarks" >> beam.Filter(lambda item: isinstance(item, RefitTask))
    without = found | "without" >> beam.Filter(lambda item: isinstance(item, Reject))
    out: StageOutputs = tasks | "refit" >> RunStage(
        plan.stage, plan.target.work, plan.target.code_version, plan.limit, min_ram="4GB"
    )
    rows = out.main | "allowed" >> beam.ParDo(DropTakenDown(plan.target.out, plan.target.work))
    earlier = (
        root
        | "reject tables" >> beam.Create(list(plan.rejects))
        | "read rejects" >> beam.FlatMap(lambda path, at: table_to_rejects(read_table(files_at(at).read_bytes(path))),
                                         at=plan.root)
    )  # fmt: skip
    rejects = (earlier, without, out.rejects) | "all rejects" >> beam.Flatten()
    tallies = (
        root | "earlier funnel" >> beam.Create(list(plan.before)),
        without | "count without" >> beam.Map(lambda r: Tally(r.stage, r.reason, 1, r.end_s - r.start_s)),
        out.tally,
    ) | "all tallies" >> beam.Flatten()
    return (rows, rows | RenameDuplicates(), rejects, tallies) | "write" >> WriteRows(plan.target)


class RenameDuplicates(beam.PTransform):
    """RefitDone -> :data:`Duplicate` with new ids, where the row that is repeated was made again too."""

    def expand(self, rows: beam.PCollection) -> beam.PCollection:
        named = rows | "new id" >> beam.Map(lambda row: (row.old_id, row.pair_id))
        meant = (
            rows
            | "repeats" >> beam.Filter(lambda row: row.old_duplicate_of)
            | "of" >> beam.Map(lambda row: (row.old_duplicate_of, (row.pair_id, row.similarity)))
        )
        return (
            {"named": named, "meant": meant}
            | "meet duplicates" >> beam.CoGroupByKey()
            | "rename" >> beam.FlatMap(lambda item: _renamed(item[1]))
        )


def _renamed(found: dict[str, Iterable[Any]]) -> Iterator[Duplicate]:
    for of in sorted(set(found["named"]))[:1]:
        for later, similarity in sorted(set(found["meant"])):
            yield later, of, similarity
