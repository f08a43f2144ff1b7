"""``manifest.json``: the one list of files that a reader trusts, written last and atomically."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from .errors import UsageError
from .files import Files
from .pair import SCHEMA_VERSION

MANIFEST = "manifest.json"
FORMAT = "duologue"
WORK = "_work"  # intermediate files of a run; readers ignore it
# What viewers write beside a data set, of its people but no part of it.
PAGES, REPORT = "view", "report.html"
GENERATED = ("scene.glb", "film.mp4")  # beside a row that `sample` made; elsewhere they may be anybody's


@dataclass(frozen=True, order=True)
class FileEntry:
    """One file of the data set.

    Attributes:
        path: relative to the root, ``/`` between parts.
        kind: "pairs", "rejects", "landmarks", "voices", "selection" or "other".
        rows: rows of a table, 0 for other files.
        bytes: size.
        sha256: of the content, hex.
    """

    path: str
    kind: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a data set consists of. Holds no time of day and no host: the same data give the same bytes.

    Attributes:
        config_hash: of the measuring configuration.
        code_version: of the software that wrote the folder.
        head_model_id: the one head model of all rows ("" while there are no rows).
        files: every file but the manifest.
    """

    config_hash: str
    code_version: str
    head_model_id: str = ""
    files: tuple[FileEntry, ...] = field(default=())
    schema_version: int = SCHEMA_VERSION

    def of_kind(self, kind: str) -> tuple[FileEntry, ...]:
        return tuple(entry for entry in self.files if entry.kind == kind)

    def rows(self, kind: str) -> int:
        return sum(entry.rows for entry in self.of_kind(kind))

    def entry(self, path: str) -> FileEntry | None:
        return next((entry for entry in self.files if entry.path == path), None)

    def with_files(self, entries: Iterable[FileEntry], drop: Iterable[str] = ()) -> Manifest:
        """The manifest with entries added or replaced by path, and the paths in ``drop`` gone."""
        gone = set(drop)
        merged = {entry.path: entry for entry in (*self.files, *entries) if entry.path not in gone}
        return Manifest(
            self.config_hash, self.code_version, self.head_model_id, tuple(sorted(merged.values())), self.schema_version
        )


def put(files: Files, path: str, data: bytes, kind: str = "other", rows: int = 0) -> FileEntry:
    """Write a file and return its entry. Nothing trusts it until a manifest names it."""
    files.write_bytes_atomic(path, data)
    return FileEntry(path, kind, rows, len(data), hashlib.sha256(data).hexdigest())


def put_beside(files: Files, path: str, data: bytes, kind: str, rows: int) -> FileEntry:
    """:func:`put` that leaves a published file of other content alone: the new one gets its hash into its name.

    A data set that is being written anew stays readable until its manifest is replaced.
    """
    if files.exists(MANIFEST):
        old = read_manifest(files).entry(path)
        digest = hashlib.sha256(data).hexdigest()
        if old is not None and old.sha256 != digest:
            stem, dot, suffix = path.rpartition(".")
            path = f"{stem}-{digest[:8]}{dot}{suffix}"
    return put(files, path, data, kind, rows)


def manifest_bytes(manifest: Manifest) -> bytes:
    """Canonical JSON: keys in a fixed order, files by path."""
    counts = {kind: manifest.rows(kind) for kind in ("pairs", "rejects")}
    document: dict[str, Any] = {
        "format": FORMAT,
        "schema_version": manifest.schema_version,
        "code_version": manifest.code_version,
        "config_hash": manifest.config_hash,
        "head_model_id": manifest.head_model_id,
        "rows": counts,
        "files": [asdict(entry) for entry in sorted(manifest.files)],
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def write_manifest(files: Files, manifest: Manifest) -> None:
    """Publish the data set: from here on readers see exactly these files."""
    paths = [entry.path for entry in manifest.files]
    if len(set(paths)) != len(paths):
        raise ValueError("a path is named twice")
    files.write_bytes_atomic(MANIFEST, manifest_bytes(manifest))


def read_manifest(files: Files) -> Manifest:
    """The manifest of a data-set folder.

    Raises:
        UsageError: none there, or not one that this version can read; one line for a person.
    """
    try:
        data = files.read_bytes(MANIFEST)
    except (FileNotFoundError, NotADirectoryError) as error:
        hint = "an unfinished run: start it again to finish it" if files.list(WORK) else "not a finished data set"
        raise UsageError(f"{files.root} has no {MANIFEST} ({hint})") from error
    try:
        document = json.loads(data)
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']!r}")
        version = int(document["schema_version"])
        entries = tuple(FileEntry(**entry) for entry in document["files"])
        manifest = Manifest(
            str(document["config_hash"]),
            str(document["code_version"]),
            str(document["head_model_id"]),
            entries,
            version,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{files.root}/{MANIFEST} is damaged ({error}); 'duologue repair' rebuilds it") from error
    if version != SCHEMA_VERSION:
        raise UsageError(f"{files.root} has schema version {version}; this software reads version {SCHEMA_VERSION}")
    for entry in entries:
        if entry.path.startswith("/") or ".." in entry.path.split("/"):
            raise UsageError(f"{files.root}/{MANIFEST} names a file outside the folder: {entry.path}")
    return manifest
