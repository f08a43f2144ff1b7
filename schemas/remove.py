"""Taking rows out for good: shards rewritten without them, the takedown remembered before anything else."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from . import landmarks, voice_tracks
from . import pair as schema
from .dataset import SELECTION, Dataset, damaged, open_named
from .errors import UsageError
from .files import Files
from .finish import publish, read_funnel
from .manifest import GENERATED, PAGES, REPORT, WORK, FileEntry, put
from .records import Reject
from .reject import reject_table, table_to_rejects
from .row import Row, table_to_rows
from .selection import DEFAULTS, selection_options
from .shard import ROWS_PER_GROUP, open_shard, read_table, shard_bytes, table_bytes
from .takedown import (
    TAKEDOWNS,
    TAKEN_BY,
    Takedown,
    is_taken_down,
    read_takedowns,
    reject_taken_down,
    row_taken_down,
    takedown_bytes,
)
from .verify import QUARANTINE

_REWRITTEN = re.compile(r"(-[0-9a-f]{8})?\.parquet$")


@dataclass(frozen=True)
class Removal:
    """What :func:`remove` took out: pair ids, and how many rejects, rewritten shards and intermediate files."""

    pairs: tuple[str, ...]
    rejects: int
    shards: int
    work_files: int


def remove(where: str | Path | Files, takedowns: Iterable[Takedown]) -> Removal:
    """Take down videos, sources or people, and everything taken down before that is still there.

    The takedown is written down first, so that no later run brings a row back even if this one is killed. Rewritten
    shards get new names; readers see the old data set until the manifest is replaced, and the old files go last. Shards
    set aside (``_quarantine/``), shards that no manifest names and the viewer's pages (``view/``, ``report.html``) and
    films may hold the same people: they are deleted whole. So are work files (``_work/``), which cost hours, unless
    neither a row, nor a reject, nor a record among them speaks of what is taken down: a mistyped id. What speaks of it
    goes last, so that a removal that is killed is finished by the next.
    """
    dataset = Dataset(where)
    files, manifest = dataset.files, dataset.manifest
    named = {*takedowns, *read_takedowns(files)}
    if not named:
        raise UsageError("nothing to remove: name a --video, --source or --person")
    light = dataset.table(["pair_id", *TAKEN_BY]).to_pylist()
    wanted = tuple(sorted(named | _videos_of(named, light, dataset.reject_shards())))
    entries = [put(files, TAKEDOWNS, takedown_bytes(wanted))]
    options = DEFAULTS if manifest.entry(SELECTION) is None else selection_options(dataset.selection())
    gone = {row["pair_id"] for row in light if row_taken_down(wanted, row)}
    rejects = sum(reject_taken_down(wanted, reject) for shard in dataset.reject_shards() for reject in shard)
    work = files.list(WORK)
    if gone or rejects or _spoken_of(files, work, wanted):
        for name in _evidence_last(work, wanted):  # before rows go: a removal that is killed here finds them again
            files.delete(name)
    else:
        work = []
    old: list[str] = []
    for entry in manifest.files:
        replacement = _without(files, entry, gone, wanted)
        if replacement is not None:
            entries.append(replacement)
            old.append(entry.path)
    generated = GENERATED if "sample" in read_funnel(files, manifest) else ()
    published = {entry.path for entry in publish(files, manifest.with_files(entries, drop=old), options).files}
    shown = [*files.list(QUARANTINE), *files.list(PAGES)]
    shown += [name for name in (REPORT, *generated) if files.exists(name)]
    shards = [path for folder in ("pairs", "rejects", "landmarks", "voices") for path in files.list(folder)]
    for path in (*shown, *shards):
        if path not in published:
            files.delete(path)
    return Removal(tuple(sorted(gone)), rejects, len(old), len(work) + len(shown))


def _spoken_of(files: Files, work: Iterable[str], takedowns: Iterable[Takedown]) -> bool:
    """Whether a record names what is taken down, or a work file is named after it.

    What was asked for and what was found in the containers holds nobody: every run writes it, also of what is down.
    File names hold 16 digits of a video id only: they count where no record knows another video that begins so.
    """
    held = [name for name in work if not name.startswith((f"{WORK}/inputs/", f"{WORK}/ledger/probe/"))]
    takedowns = tuple(takedowns)
    texts = [json.dumps(entry.id)[: -1 if entry.kind == "video" else None] for entry in takedowns]
    named = {start for start in _video_starts(takedowns) if any(start in name for name in held)}
    for name in held:
        if name.endswith(".json"):
            record = files.read_bytes(name).decode(errors="replace")
            if any(text in record for text in texts):
                return True
            named -= {start for start in named if re.search(f'"{re.escape(start)}[0-9a-f]', record)}
    return bool(named)


def _video_starts(takedowns: Iterable[Takedown]) -> set[str]:
    """As much of the videos' ids as names of work files hold."""
    return {entry.id[:16] for entry in takedowns if entry.kind == "video"}


def _evidence_last(work: Iterable[str], takedowns: Iterable[Takedown]) -> list[str]:
    """Work files in the order in which they go: first what tells nothing, then what a name tells, then records."""
    starts = _video_starts(takedowns)
    return sorted(work, key=lambda name: (name.endswith(".json"), any(start in name for start in starts), name))


def _videos_of(takedowns: Iterable[Takedown], light: Iterable[Row], rejects: Iterable[list[Reject]]) -> set[Takedown]:
    """The videos that lie under a source taken down: the same content must not come back under another name."""
    sources = [entry for entry in takedowns if entry.kind == "source"]
    if not sources:
        return set()
    known = {(row["video_id"], row["source_id"], row["source_uri"]) for row in light}
    known |= {(reject.video_id, reject.source_id, reject.uri) for shard in rejects for reject in shard}
    return {
        Takedown("video", video)
        for video, source, uri in known
        if video and is_taken_down(sources, source_id=source, source_uri=uri)
    }


def _without(files: Files, entry: FileEntry, gone: set[str], takedowns: Sequence[Takedown]) -> FileEntry | None:
    """The rewritten file, or None where it holds nothing that must go."""
    if entry.kind == "rejects":
        try:
            rejects = table_to_rejects(read_table(files.read_bytes(entry.path)))
        except (OSError, pa.ArrowException) as error:
            raise damaged(files, entry, error) from error
        kept = [reject for reject in rejects if not reject_taken_down(takedowns, reject)]
        if len(kept) == len(rejects):
            return None
        return _put_renamed(files, entry, table_bytes(reject_table(kept)), len(kept))
    columns = {"pairs": schema.COLUMNS, "landmarks": landmarks.COLUMNS, "voices": voice_tracks.COLUMNS}.get(entry.kind)
    if columns is None:
        return None
    names = ["pair_id", "duplicate_of"] if entry.kind == "pairs" else ["pair_id"]
    keys = open_named(files, entry).read(columns=names).to_pylist()
    left = sum(key["pair_id"] not in gone for key in keys)
    if left == len(keys) and not any(key.get("duplicate_of") in gone for key in keys):
        return None
    makes = {"pairs": schema.pair_schema, "landmarks": landmarks.landmark_schema, "voices": voice_tracks.voice_schema}
    arrow = makes[entry.kind]()
    per_group = landmarks.ROWS_PER_GROUP if entry.kind == "landmarks" else ROWS_PER_GROUP
    rows = shard_rows(files, entry.path, {column.name: column for column in columns}, gone)
    if entry.kind == "landmarks":
        rows = (dict.fromkeys(landmarks.LANDMARKS_MAY_LACK) | row for row in rows)
    return _put_renamed(files, entry, shard_bytes(rows, columns, arrow, per_group), left)


def shard_rows(files: Files, path: str, columns: Mapping[str, schema.Column], gone: set[str]) -> Iterator[Row]:
    """Rows of a shard without those in ``gone``; a removed duplicate's name goes from the rows that repeat it."""
    shard = open_shard(files, path)
    for group in range(shard.metadata.num_row_groups):
        for row in table_to_rows(shard.read_row_group(group, use_threads=False), columns):
            if row["pair_id"] in gone:
                continue
            if row.get("duplicate_of") in gone:
                row |= {"duplicate_of": "", "scores.duplicate_similarity": None}
            yield row


def _put_renamed(files: Files, entry: FileEntry, data: bytes, rows: int) -> FileEntry:
    tag = hashlib.sha256(data).hexdigest()[:8]
    return put(files, _REWRITTEN.sub(f"-{tag}.parquet", entry.path), data, entry.kind, rows)
