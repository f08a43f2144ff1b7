"""Writing the data set from finished rows: near-duplicates, shards by id, then everything else, the manifest last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import apache_beam as beam

from ..schemas.errors import UsageError
from ..schemas.finish import check_names_free, finish_dataset, write_rejects, write_shard
from ..schemas.landmarks import write_landmark_shard
from ..schemas.manifest import MANIFEST, WORK, FileEntry, read_manifest
from ..schemas.reject import REJECTS_PER_SHARD
from ..schemas.row import Row
from ..schemas.selection import SelectionOptions
from ..schemas.shard import shard_count, shard_index
from ..schemas.takedown import read_takedowns, reject_taken_down, row_taken_down
from ..schemas.voice_tracks import write_voice_shard
from ..transforms.audio_scores import same_audio
from ..transforms.stage import Tally
from ..transforms.storage import files_at
from ..transforms.work import WorkStore
from .funnel import build_funnel
from .plan import Plan
from .rows import landmark_row_from_bytes, row_from_bytes, voice_row_from_bytes
from .taken_down import DropTakenDown

MOST_EARLIER = 8  # rows of a band that another is held against; keeps a common jingle from costing n squared
SECOND = 1_000_000  # seconds are summed as whole microseconds: no order of adding changes the sum
Duplicate = tuple[str, str, float]  # pair_id, the earlier row it repeats, similarity 0..1


def candidates_in_band(group: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(later, earlier) pair ids that share a fingerprint band; each is held against the first few of the band only."""
    ids = sorted(set(group))
    for index, later in enumerate(ids):
        for earlier in ids[: min(index, MOST_EARLIER)]:
            yield later, earlier


def join_later(item: tuple[str, dict[str, Iterable[Any]]]) -> Iterator[tuple[str, tuple[str, tuple[int, ...]]]]:
    """Candidates keyed by the later row -> keyed by the earlier one, with the later row's fingerprint."""
    later, found = item
    for row in sorted(found["rows"], key=lambda row: row.file)[:1]:
        for earlier in sorted(set(found["candidates"])):
            yield earlier, (later, row.fingerprint)


def compare(item: tuple[str, dict[str, Iterable[Any]]]) -> Iterator[Duplicate]:
    """Candidates that repeat the earlier row's sound."""
    earlier, found = item
    for row in sorted(found["rows"], key=lambda row: row.file)[:1]:
        for later, fingerprint in sorted(set(found["candidates"])):
            similarity = same_audio(row.fingerprint, fingerprint)
            if similarity is not None:
                yield later, earlier, similarity


def first_duplicate(found: Iterable[Duplicate]) -> Duplicate:
    return min(found, key=lambda duplicate: (duplicate[1], -duplicate[2]))


class FindDuplicates(beam.PTransform):
    """Rows -> :data:`Duplicate`, at most one a row. Only ids meet in the bands; fingerprints join two by two."""

    def expand(self, rows: beam.PCollection) -> beam.PCollection:
        keyed = rows | "row key" >> beam.Map(lambda row: (row.pair_id, replace(row, bands=())))
        candidates = (
            rows
            | "bands" >> beam.FlatMap(lambda row: [(band, row.pair_id) for band in row.bands])
            | "by band" >> beam.GroupByKey()
            | "candidates" >> beam.FlatMap(lambda item: candidates_in_band(item[1]))
            | "once" >> beam.Distinct()
        )
        by_earlier = (
            {"rows": keyed, "candidates": candidates}
            | "meet later" >> beam.CoGroupByKey()
            | "join later" >> beam.FlatMap(join_later)
        )
        return (
            {"rows": keyed, "candidates": by_earlier}
            | "meet earlier" >> beam.CoGroupByKey()
            | "compare" >> beam.FlatMap(compare)
            | "by pair" >> beam.GroupBy(lambda duplicate: duplicate[0])
            | "first" >> beam.Map(lambda item: first_duplicate(item[1]))
        )


class WriteShard(beam.DoFn):
    """Write one shard of pairs, and of their landmarks and separated voices: (index, rows) -> FileEntry each.

    A retry writes the same bytes under the same names.
    """

    def __init__(self, out: str, work: WorkStore, landmarks: bool, voices: bool) -> None:
        self.out = out
        self.work = work
        self.landmarks = landmarks
        self.voices = voices

    def process(self, item: tuple[int, dict[str, Iterable[Any]]], count: int) -> Iterator[FileEntry]:
        index, groups = item
        duplicates = {pair_id: (of, similarity) for pair_id, of, similarity in groups["duplicates"]}
        takedowns = read_takedowns(files_at(self.out))
        # Overlapping parts of one video may hold one clip twice; which comes last is up to the runner.
        named = {row.pair_id: row for row in sorted(groups["rows"], key=lambda row: row.file, reverse=True)}
        rows = [named[pair_id] for pair_id in sorted(named)]
        written: list[Any] = []

        def load() -> Iterator[Row]:
            for done in rows:
                row = row_from_bytes(self.work.get(done.file))
                if row_taken_down(takedowns, row):  # since the run began
                    continue
                if done.pair_id in duplicates:
                    row["duplicate_of"], row["scores.duplicate_similarity"] = duplicates[done.pair_id]
                written.append(done)
                yield row

        files = files_at(self.out)
        yield write_shard(files, load(), index, count)
        if self.landmarks:
            tracks = (landmark_row_from_bytes(self.work.get(done.landmarks)) for done in written)
            yield write_landmark_shard(files, tracks, index, count)
        if self.voices:
            parts = (voice_row_from_bytes(self.work.get(done.voices)) for done in written)
            yield write_voice_shard(files, parts, index, count)


class WriteRejects(beam.PTransform):
    """Rejects -> the FileEntry of each shard of ``rejects/``; what was taken down stays out."""

    def __init__(self, out: str, per_shard: int = REJECTS_PER_SHARD) -> None:
        super().__init__()
        self.out = out
        self.per_shard = per_shard

    def expand(self, rejects: beam.PCollection) -> beam.PCollection:
        out, per_shard = self.out, self.per_shard
        count = beam.pvalue.AsSingleton(
            rejects
            | "count" >> beam.combiners.Count.Globally()
            | "shards" >> beam.Map(lambda total: shard_count(total, per_shard))
        )
        every = (
            rejects.pipeline
            | "one" >> beam.Create([None])
            | "indices" >> beam.FlatMap(lambda _, n: [(index, None) for index in range(n)], n=count)
        )
        keyed = rejects | "to shard" >> beam.Map(
            lambda reject, n: (shard_index(reject.video_id or reject.uri, n), reject), n=count
        )

        def write(item: tuple[int, dict[str, Iterable[Any]]], n: int) -> list[FileEntry]:
            files = files_at(out)
            takedowns = read_takedowns(files)
            left = (reject for reject in item[1]["rejects"] if not reject_taken_down(takedowns, reject))
            return write_rejects(files, left, item[0], n)

        return (
            {"rejects": keyed, "every": every} | "meet" >> beam.CoGroupByKey() | "write" >> beam.FlatMap(write, count)
        )


class SumTallies(beam.PTransform):
    """Tallies -> one for each stage and outcome."""

    def expand(self, tallies: beam.PCollection) -> beam.PCollection:
        return (
            tallies
            | "of what" >> beam.Map(lambda t: ((t.stage, t.outcome), (t.items, round(t.seconds * SECOND))))
            | "sum" >> beam.CombinePerKey(beam.combiners.TupleCombineFn(sum, sum))
            | "as tally" >> beam.MapTuple(lambda what, sums: Tally(what[0], what[1], sums[0], sums[1] / SECOND))
        )


class Finish(beam.DoFn):
    """Selection, configuration, funnel, card, Croissant; then the manifest; then stale files of an earlier run go."""

    def __init__(
        self, out: str, config_hash: str, config_yaml: str, code_version: str, options: dict[str, Any]
    ) -> None:
        self.out = out
        self.config_hash = config_hash
        self.config_yaml = config_yaml
        self.code_version = code_version
        self.options = options

    def process(
        self, _: Any, shards: list[FileEntry], rejects: list[FileEntry], tallies: list[Tally]
    ) -> Iterator[FileEntry]:
        files = files_at(self.out)
        old = read_manifest(files).files if files.exists(MANIFEST) else ()
        pairs = sorted(entry for entry in shards if entry.kind == "pairs")
        manifest = finish_dataset(
            files,
            pairs,
            sorted(rejects),
            config_hash=self.config_hash,
            code_version=self.code_version,
            config_yaml=self.config_yaml,
            funnel=build_funnel(tallies),
            options=SelectionOptions(**self.options),
            beside=sorted(entry for entry in shards if entry.kind != "pairs"),
        )
        for stale in {entry.path for entry in old} - {entry.path for entry in manifest.files}:
            files.delete(stale)
        yield from manifest.files


@dataclass(frozen=True)
class Target:
    """What a run writes, and with which provenance.

    Attributes:
        out: the data-set folder. select: thresholds of the selection it is published with.
        landmarks, voices: every row has its landmarks, its separated voices, and they are written beside it.
    """

    out: str
    work: WorkStore
    rows_per_shard: int
    config_hash: str
    config_yaml: str
    code_version: str
    select: SelectionOptions
    landmarks: bool
    voices: bool = False


def target_of(plan: Plan) -> Target:
    """What a curation run writes."""
    run = plan.config.run
    return Target(
        plan.out, plan.work, run.rows_per_shard, plan.config_hash, plan.config_yaml, plan.code_version,
        plan.config.select, run.landmarks, plan.config.backends.separation != "none",
    )  # fmt: skip


class WriteDataset(beam.PTransform):
    """Rows, rejects and tallies of the whole run -> a published data set."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.target = target

    def expand(self, inputs: tuple[beam.PCollection, beam.PCollection, beam.PCollection]) -> beam.PCollection:
        rows, rejects, tallies = inputs
        rows |= "allowed" >> beam.ParDo(DropTakenDown(self.target.out, self.target.work))
        duplicates = rows | FindDuplicates()
        light = rows | "without sound keys" >> beam.Map(lambda row: replace(row, bands=(), fingerprint=()))
        return (light, duplicates, rejects, tallies) | WriteRows(self.target)


class WriteRows(beam.PTransform):
    """(rows, their :data:`Duplicate`, rejects, tallies) -> a published data set."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.target = target

    def expand(self, inputs: tuple[beam.PCollection, ...]) -> beam.PCollection:
        rows, duplicates, rejects, tallies = inputs
        target = self.target
        per_shard = target.rows_per_shard
        count = beam.pvalue.AsSingleton(
            rows
            | "count" >> beam.combiners.Count.Globally()
            | "shards" >> beam.Map(lambda total: shard_count(total, per_shard))
        )
        # Every shard is written, also an empty one, so that names depend on the count alone.
        indices = rows.pipeline | "one" >> beam.Create([None])
        empty = indices | "indices" >> beam.FlatMap(lambda _, n: [(index, None) for index in range(n)], n=count)
        keyed = rows | "to shard" >> beam.Map(lambda row, n: (shard_index(row.pair_id, n), row), n=count)
        meant = duplicates | "dup to shard" >> beam.Map(lambda found, n: (shard_index(found[0], n), found), n=count)
        shards = (
            {"rows": keyed, "duplicates": meant, "every": empty}
            | "meet" >> beam.CoGroupByKey()
            | "write" >> beam.ParDo(WriteShard(target.out, target.work, target.landmarks, target.voices), count)
        )
        finish = Finish(target.out, target.config_hash, target.config_yaml, target.code_version, asdict(target.select))
        return (
            rows.pipeline
            | "finish" >> beam.Create([None])
            | beam.ParDo(
                finish,
                beam.pvalue.AsList(shards),
                beam.pvalue.AsList(rejects | "rejects" >> WriteRejects(target.out)),
                beam.pvalue.AsList(tallies | "funnel" >> SumTallies()),
            )
        )


def check_writable(out: str) -> None:
    """Mark ``out`` as a folder of ours.

    Raises:
        UsageError: it cannot be written, or holds files under names of a data set and is not one, finished or begun.
    """
    files = files_at(out)
    mark = f"{WORK}/.duologue"
    try:
        if files.exists(MANIFEST):
            read_manifest(files)
        elif not files.exists(mark):
            check_names_free(files)
        files.write_bytes_atomic(mark, b"")
    except OSError as error:
        raise UsageError(f"cannot write to {out}: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"cannot write to {out}: {error}") from error
