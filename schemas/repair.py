"""Mending a data-set folder: a new manifest over what is intact, what is broken set aside, every loss said."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from .dataset import SELECTION
from .errors import UsageError
from .files import Files, as_files
from .finish import CONFIG, FUNNEL, publish, read_funnel, read_light
from .landmarks import LANDMARKS_MAY_LACK, landmark_schema
from .manifest import WORK, FileEntry, Manifest, put, read_manifest
from .pair import MAY_LACK, pair_schema
from .reject import REJECTS_MAY_LACK, reject_schema
from .remove import remove
from .selection import DEFAULTS, SelectionOptions, selection_options
from .shard import open_shard, read_table
from .takedown import TAKEDOWNS, read_takedowns
from .verify import QUARANTINE, file_problem, schema_problem, shard_problems
from .voice_tracks import voice_schema

_SCHEMAS: dict[str, Callable[[], pa.Schema]] = {
    "pairs": pair_schema,
    "rejects": reject_schema,
    "landmarks": landmark_schema,
    "voices": voice_schema,
}
_LATER: dict[str, tuple[str, ...]] = {
    "pairs": MAY_LACK,
    "rejects": REJECTS_MAY_LACK,
    "landmarks": LANDMARKS_MAY_LACK,
    "voices": (),
}


@dataclass
class Repair:
    """What :func:`repair` did: a line a person for everything that was set aside, lost or assumed."""

    lines: list[str] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    pairs: int = 0


def repair(where: str | Path | Files) -> Repair:
    """Rebuild the manifest, selection and card from the shards that are intact; broken ones go to ``_quarantine/``.

    A shard is intact when every page agrees with its checksum, every row passes the row checks, and, where a manifest
    names it, its hash agrees. Nothing is guessed: a broken shard's rows are lost until the run is repeated, and named
    where ``selection.parquet`` still tells them.

    Raises:
        UsageError: no pair shard at all, or intact shards that contradict each other.
    """
    files, out = as_files(where), Repair()
    manifest = _old_manifest(files, out)
    known = _selected_ids(files)
    options = _options(files, out)
    takedowns = read_takedowns(files)  # refuses a damaged list: a row could come back
    kept: list[FileEntry] = []
    seen: dict[str, str] = {}
    sizes: dict[str, tuple[int, str]] = {}
    for kind in ("pairs", "rejects", "landmarks", "voices"):
        for path in _candidates(files, kind, manifest):
            entry, problem = _examine(files, path, kind, manifest, seen, sizes)
            if entry is None:
                _set_aside(files, path, problem, out)
            else:
                kept.append(entry)
    if not any(entry.kind == "pairs" for entry in kept):
        raise UsageError(f"{files.root} has no intact pair shard: run 'duologue curate' again")
    for entry in manifest.files if manifest else ():
        if entry.kind in _SCHEMAS and not files.exists(entry.path) and entry.path not in out.quarantined:
            out.lines.append(f"{entry.path} is gone ({entry.rows} rows)")
    out.lost = sorted(known - set(seen))
    if out.lost:
        shown = ", ".join(out.lost[:5]) + (f" and {len(out.lost) - 5} more" if len(out.lost) > 5 else "")
        out.lines.append(f"{len(out.lost)} pair(s) lost: {shown}; run 'duologue curate' again to measure them")
    for path in (CONFIG, FUNNEL, TAKEDOWNS):
        if files.exists(path):
            kept.append(put(files, path, files.read_bytes(path)))
        elif manifest and manifest.entry(path):
            out.lines.append(f"{path} is gone")
    _without_damaged_funnel(files, kept, out)
    published = publish(files, _head(files, kept, manifest, out), options)
    out.pairs = published.rows("pairs")
    if takedowns and (back := remove(files, ()).pairs):
        out.lines.append(f"{len(back)} pair(s) that had been taken down were found and removed again")
        out.pairs -= len(back)
    if manifest is None and files.list(WORK):
        out.lines.append("the folder holds work of an unfinished run: 'duologue curate' into it completes it")
    return out


def _old_manifest(files: Files, out: Repair) -> Manifest | None:
    try:
        return read_manifest(files)
    except UsageError as error:
        out.lines.append(str(error))
        return None


def _selected_ids(files: Files) -> set[str]:
    try:
        return set(read_table(files.read_bytes(SELECTION), ["pair_id"])["pair_id"].to_pylist())
    except (OSError, pa.ArrowException, KeyError):
        return set()  # said by _options


def _options(files: Files, out: Repair) -> SelectionOptions:
    try:
        return selection_options(read_table(files.read_bytes(SELECTION)))
    except (OSError, pa.ArrowException, UsageError) as error:
        out.lines.append(f"{SELECTION} cannot be read ({type(error).__name__}): made again with the default thresholds")
        return DEFAULTS


def _candidates(files: Files, kind: str, manifest: Manifest | None) -> list[str]:
    """Parquet files of a kind on disk, those that the manifest names first."""
    named = {entry.path for entry in manifest.of_kind(kind)} if manifest else set()
    paths = [path for path in files.list(kind) if path.endswith(".parquet") and "/." not in path]
    return sorted(paths, key=lambda path: (path not in named, path))


def _examine(
    files: Files,
    path: str,
    kind: str,
    manifest: Manifest | None,
    seen: dict[str, str],
    sizes: dict[str, tuple[int, str]],
) -> tuple[FileEntry | None, str]:
    """The entry of an intact file, or None and what is wrong with it."""
    named = manifest.entry(path) if manifest else None
    if named is not None:
        problem = file_problem(files, named)
        if problem:
            return None, problem
    try:
        shard = open_shard(files, path, check=True)
        problem = schema_problem(shard, _SCHEMAS[kind](), _LATER[kind])
        rows = shard.metadata.num_rows
        if problem is None and kind != "pairs":
            shard.read(use_threads=False)
    except (OSError, pa.ArrowException) as error:
        return None, f"not a readable Parquet file: {' '.join(str(error).split())[:160]}"
    if problem:
        return None, problem
    entry = _entry(files, path, kind, rows)
    if kind == "pairs":
        mine, my_sizes = dict(seen), dict(sizes)
        first = next(shard_problems(files, entry, None, mine, my_sizes), None)
        if first is not None:
            return None, f"{first.pair_id} {first.text}".strip()
        seen |= mine
        sizes |= my_sizes
    return entry, ""


def _entry(files: Files, path: str, kind: str, rows: int) -> FileEntry:
    data = files.read_bytes(path)
    return FileEntry(path, kind, rows, len(data), hashlib.sha256(data).hexdigest())


def _set_aside(files: Files, path: str, problem: str, out: Repair) -> None:
    files.write_bytes_atomic(f"{QUARANTINE}/{path}", files.read_bytes(path))
    files.delete(path)
    out.quarantined.append(path)
    out.lines.append(f"{path} set aside: {problem}")


def _head(files: Files, kept: list[FileEntry], manifest: Manifest | None, out: Repair) -> Manifest:
    """A manifest of the kept files; configuration hash and version from the old one, or from the rows."""
    if manifest is not None:
        return Manifest(manifest.config_hash, manifest.code_version).with_files(kept)
    light = read_light(files, Manifest("", "").with_files(kept))
    values: list[str] = []
    for name in ("config_hash", "code_version"):
        counted = Counter(
            {one["values"]: one["counts"] for one in light[name].value_counts().to_pylist()}
        ).most_common()
        if len(counted) > 1:
            raise UsageError(f"the shards differ in {name} ({', '.join(value for value, _ in counted)}): keep one set")
        values.append(counted[0][0] if counted else "")
    out.lines.append("configuration hash and version were taken from the rows")
    return Manifest(values[0], values[1]).with_files(kept)


def _without_damaged_funnel(files: Files, kept: list[FileEntry], out: Repair) -> None:
    for entry in [entry for entry in kept if entry.path == FUNNEL]:
        try:
            read_funnel(files, Manifest("", "").with_files([entry]))
        except UsageError:
            kept.remove(entry)
            _set_aside(files, FUNNEL, "not a funnel", out)
