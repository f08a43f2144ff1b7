"""Is a data-set folder what it says? Every file, every row, selection and splits."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from . import pair as schema
from .check import row_problems
from .dataset import SELECTION
from .errors import UsageError
from .files import Files, as_files
from .finish import FUNNEL, read_funnel, read_light
from .landmarks import LANDMARKS_MAY_LACK, landmark_schema
from .manifest import GENERATED, MANIFEST, PAGES, REPORT, WORK, FileEntry, Manifest, read_manifest
from .reject import REJECTS_MAY_LACK, reject_schema
from .row import table_to_rows
from .selection import select, selection_options
from .shard import open_shard, read_table, shard_index
from .takedown import TAKEN_BY, read_takedowns, row_taken_down
from .voice_tracks import voice_schema

QUARANTINE = "_quarantine"
_SHARD = re.compile(r"(?:pairs|landmarks|voices)/\w+-(\d{5})-of-(\d{5})(?:-[0-9a-f]{8})?\.parquet")


@dataclass(frozen=True)
class Problem:
    """One thing wrong. ``path`` is relative to the folder, ``pair_id`` empty where it concerns the whole file."""

    path: str
    text: str
    pair_id: str = ""

    def __str__(self) -> str:
        where = f"{self.path} {self.pair_id}" if self.pair_id else self.path
        return f"{where}: {self.text}"


@dataclass
class Report:
    """What :func:`verify` found: broken things, and things a person may want to know."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: int = 0
    pairs: int = 0

    @property
    def sound(self) -> bool:
        return not self.problems


def verify(where: str | Path | Files) -> Report:
    """Check a data-set folder completely; reads every byte once.

    Raises:
        UsageError: there is no manifest that can be read, so nothing to verify.
    """
    files = as_files(where)
    manifest = read_manifest(files)
    report = Report(files=len(manifest.files))
    intact = []
    for entry in manifest.files:
        damage = file_problem(files, entry)
        if damage is None:
            intact.append(entry)
        else:
            report.problems.append(Problem(entry.path, damage))
    seen: dict[str, str] = {}
    sizes: dict[str, tuple[int, str]] = {}
    for entry in intact:
        if entry.kind == "pairs":
            report.problems += shard_problems(files, entry, manifest, seen, sizes)
        elif entry.kind == "rejects":
            report.problems += _table_problems(files, entry, reject_schema(), REJECTS_MAY_LACK)
        elif entry.kind == "landmarks":
            report.problems += _table_problems(files, entry, landmark_schema(), LANDMARKS_MAY_LACK)
        elif entry.kind == "voices":
            report.problems += _table_problems(files, entry, voice_schema())
    report.pairs = len(seen)
    if len(intact) == len(manifest.files) and report.sound:
        report.problems += _selection_problems(files, manifest, report.notes)
        report.problems += _takedown_problems(files, manifest)
        report.problems += _funnel_problems(files, manifest)
    elif not all(entry in intact for entry in manifest.files if entry.kind in ("pairs", "selection")):
        report.notes.append("selection and splits were not checked: they need intact files")
    named = {entry.path for entry in manifest.files} | {MANIFEST}
    named |= {REPORT, *(GENERATED if report.sound and "sample" in read_funnel(files, manifest) else ())}
    beside = tuple(f"{folder}/" for folder in (WORK, QUARANTINE, PAGES))
    extra = [name for name in files.list() if name not in named and not name.startswith(beside)]
    if extra:
        shown = ", ".join(extra[:5]) + (f" and {len(extra) - 5} more" if len(extra) > 5 else "")
        report.notes.append(f"{len(extra)} file(s) that the manifest does not name, ignored by readers: {shown}")
    return report


def file_problem(files: Files, entry: FileEntry) -> str | None:
    """What is wrong with a file's existence, size or content; None for an intact one."""
    try:
        data = files.read_bytes(entry.path)
    except FileNotFoundError:
        return "the file is gone"
    except OSError as error:
        return f"cannot be read: {error}"
    if len(data) != entry.bytes:
        return f"{len(data)} bytes, the manifest says {entry.bytes}"
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        return "the content is not the one that the manifest's sha256 names"
    return None


def shard_problems(
    files: Files,
    entry: FileEntry,
    manifest: Manifest | None,
    seen: dict[str, str],
    sizes: dict[str, tuple[int, str]],
) -> Iterator[Problem]:
    """Everything wrong inside one pair shard.

    Args:
        manifest: None while one is being rebuilt.
        seen: pair_id -> path of the rows met so far; grows.
        sizes: S and E of the data set with the pair that set them; grows.
    """
    try:
        shard = open_shard(files, entry.path, check=True)
    except (OSError, pa.ArrowInvalid) as error:
        yield Problem(entry.path, f"not a readable Parquet file: {_line(error)}")
        return
    problem = schema_problem(shard, schema.pair_schema())
    if problem:
        yield Problem(entry.path, problem)
        return
    if shard.metadata.num_rows != entry.rows:
        yield Problem(entry.path, f"{shard.metadata.num_rows} rows, the manifest says {entry.rows}")
    place, last = _SHARD.fullmatch(entry.path), ""
    for group in range(shard.metadata.num_row_groups):
        try:
            rows = list(table_to_rows(shard.read_row_group(group, use_threads=False)))
        except (OSError, ValueError, pa.ArrowException) as error:
            yield Problem(entry.path, f"row group {group} cannot be read: {_line(error)}")
            continue
        for row in rows:
            key = row["pair_id"]
            found = row_problems(row)
            if key in seen:
                found.append(f"is also in {seen[key]}")
            if key <= last:
                found.append("rows do not rise by pair_id")
            if place and shard_index(key, int(place[2])) != int(place[1]):
                found.append("belongs to another shard")
            if manifest is not None:
                found += _of_manifest(row, manifest)
            for name, axis in (("a.shape", -1), ("a.expression", -1)):
                size, first = sizes.setdefault(name, (row[name].shape[axis], key))
                if row[name].shape[axis] != size:
                    found.append(f"{name} has {row[name].shape[axis]} coefficients, {first} has {size}")
            seen.setdefault(key, entry.path)
            last = key
            yield from (Problem(entry.path, text, key) for text in found)


def _of_manifest(row: dict[str, object], manifest: Manifest) -> Iterator[str]:
    for name in ("head_model_id", "config_hash"):
        if row[name] != getattr(manifest, name):
            yield f"{name} is {row[name]!r}, the manifest says {getattr(manifest, name)!r}"


def schema_problem(shard: pq.ParquetFile, expected: pa.Schema, may_lack: Sequence[str] = schema.MAY_LACK) -> str | None:
    """How a file's schema differs from the expected one; None where it does not."""
    actual = shard.schema_arrow
    later = [n for n in expected.names if n in may_lack and n not in actual.names]
    expected = pa.schema([field for field in expected if field.name not in later])
    actual = pa.schema([field for field in actual if field.name not in schema.ONCE], metadata=actual.metadata)
    for name, older in schema.ONE_FOR_ALL_AXES.items():
        if name in expected.names and name in actual.names and actual.field(name).type == older:
            expected = expected.set(expected.get_field_index(name), pa.field(name, older))
    if actual.equals(expected, check_metadata=False):
        version = (actual.metadata or {}).get(b"duologue.schema_version", b"none").decode()
        return None if version == str(schema.SCHEMA_VERSION) else f"schema version {version}"
    missing = [name for name in expected.names if name not in actual.names]
    extra = [name for name in actual.names if name not in expected.names]
    other = [n for n in expected.names if n in actual.names and actual.field(n).type != expected.field(n).type]
    parts = [("missing", missing), ("unknown", extra), ("of another type", other)]
    text = "; ".join(f"{label}: {', '.join(names)}" for label, names in parts if names)
    return f"columns {text}" if text else "columns in another order"


def _table_problems(
    files: Files, entry: FileEntry, expected: pa.Schema, may_lack: Sequence[str] = ()
) -> Iterator[Problem]:
    try:
        shard = open_shard(files, entry.path, check=True)
        problem = schema_problem(shard, expected, may_lack)
        rows = shard.metadata.num_rows
        if problem is None:
            for group in range(shard.metadata.num_row_groups):
                shard.read_row_group(group, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        yield Problem(entry.path, f"not a readable Parquet file: {_line(error)}")
        return
    if problem:
        yield Problem(entry.path, problem)
    if rows != entry.rows:
        yield Problem(entry.path, f"{rows} rows, the manifest says {entry.rows}")


def _selection_problems(files: Files, manifest: Manifest, notes: list[str]) -> Iterator[Problem]:
    if manifest.entry(SELECTION) is None:
        yield Problem(SELECTION, "the manifest names none")
        return
    try:
        stored = read_table(files.read_bytes(SELECTION))
        expected = select(read_light(files, manifest), selection_options(stored))
    except UsageError as error:
        yield Problem(SELECTION, str(error))
        return
    except pa.ArrowException as error:
        yield Problem(SELECTION, f"not a readable Parquet file: {_line(error)}")
        return
    if stored.column_names != expected.column_names:
        yield Problem(SELECTION, f"columns {', '.join(stored.column_names)}")
        return
    if stored["pair_id"].to_pylist() != expected["pair_id"].to_pylist():
        yield Problem(SELECTION, "its pairs are not the pairs of the shards")
        return
    names = expected.column_names
    if stored.schema.metadata != expected.schema.metadata:
        notes.append("the selection was made with thresholds of another version: only its components were checked")
        names = ["component"]
    wrong = [name for name in names if stored[name] != expected[name]]
    if wrong:
        yield Problem(SELECTION, f"{', '.join(wrong)}: not what its thresholds give")
    places = stored.group_by(["component", "split"]).aggregate([])
    leaking = places.num_rows - len(places["component"].unique())
    if leaking:
        yield Problem(SELECTION, f"{leaking} component(s) lie in several splits")


def _funnel_problems(files: Files, manifest: Manifest) -> Iterator[Problem]:
    try:
        read_funnel(files, manifest)
    except UsageError as error:
        yield Problem(FUNNEL, str(error))


def _takedown_problems(files: Files, manifest: Manifest) -> Iterator[Problem]:
    takedowns = read_takedowns(files)
    if not takedowns:
        return
    light = read_light(files, manifest).select(["pair_id", *TAKEN_BY])
    for batch in light.to_batches(max_chunksize=1024):
        for row in batch.to_pylist():
            if row_taken_down(takedowns, row):
                yield Problem("takedowns.jsonl", "was taken down and is still a row", row["pair_id"])


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
