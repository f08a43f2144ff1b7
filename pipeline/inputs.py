"""What the user names on the command line, resolved to input items before any work starts.

A file, a folder (all media files below it, links followed), a glob (media files only where it ends in ``*``), or a
manifest (``.csv``, ``.jsonl``, ``.parquet``) with the columns ``uri`` (needed), ``source_id, start_s, end_s, license,
attribution, focal_px, focal_log_sd``; local or on any Beam filesystem.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, fields
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems

from ..schemas.errors import UsageError
from ..schemas.records import InputItem
from ..transforms.storage import files_at, is_local, is_utf8, join, local_path

MEDIA_SUFFIXES = (
    *(".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"),
    *(".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
MANIFEST_SUFFIXES = (".csv", ".jsonl", ".parquet")
CHUNK = 1000  # items per file of the resolved input list
COLUMNS = tuple(field.name for field in fields(InputItem))


def resolve_inputs(names: Iterable[str], note: Callable[[str], None] = lambda text: None) -> list[InputItem]:
    """Input items, sorted by URI and part.

    Args:
        note: is told, in one line, what of a manifest is not used.

    Raises:
        UsageError: a path is missing, a glob or folder is empty, or a manifest is malformed.
    """
    items: list[InputItem] = []
    for name in names:
        items.extend(_resolve(name, note))
    if not items:
        raise UsageError("no input given")
    return sorted(set(items), key=_order)


def _order(item: InputItem) -> tuple[str | float, ...]:
    """By URI and part; of one part first what says more of the camera, then by all else, so that no two are equal."""
    start, end = item.start_s or 0.0, item.end_s or math.inf
    camera = -(item.focal_px or 0.0), item.focal_log_sd or 0.0
    return item.uri, start, end, item.source_id, *camera, item.license, item.attribution


def _resolve(name: str, note: Callable[[str], None]) -> list[InputItem]:
    if name.lower().endswith(MANIFEST_SUFFIXES) and not any(mark in name for mark in "*?["):
        return read_manifest(name, note)
    if is_local(name):
        path = local_path(name)
        if path.is_dir():
            found = sorted(_media_below(path, note))
            if not found:
                raise UsageError(f"the folder {name} holds no media files")
            return [InputItem(uri) for uri in found]
        if path.is_file():
            return [InputItem(str(path))]
        if not any(mark in name for mark in "*?["):
            raise UsageError(f"no such file or folder: {name}")
    pattern = join(name, "**") if name.endswith("/") else name
    try:
        found = sorted(entry.path for entry in FileSystems.match([pattern])[0].metadata_list)
    except Exception as error:
        raise UsageError(f"cannot list {name}: {_cause(error)}") from error
    if pattern.endswith("*"):  # it names no kind of file: what lies beside the videos is not meant
        found = [path for path in found if path.lower().endswith(MEDIA_SUFFIXES)]
    if not found:
        raise UsageError(f"nothing matches {name}")
    return [InputItem(uri) for uri in found]


def _media_below(folder: Path, note: Callable[[str], None]) -> Iterator[str]:
    """Media files below a folder, then those that only its links lead to, each folder once.

    A link that leads nowhere is given as any file: its reject row says so. ``note`` is told of a folder that cannot be
    read, and of a link to above ``folder``, which would bring in what was not asked for.
    """
    above = {str(parent) for parent in Path(os.path.realpath(folder)).parents}
    seen: set[str] = set()
    unread: list[OSError] = []
    tops = [str(folder)]  # grows by the links found
    for top in tops:
        if os.path.realpath(top) in above:
            note(f"not looked into: {top}: a link to above {folder}")
            continue
        for place, folders, names in os.walk(top, onerror=unread.append):
            real = os.path.realpath(place)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders.sort()
            tops += [link for name in folders if os.path.islink(link := os.path.join(place, name))]
            for name in names:
                path = Path(place, name)
                if path.suffix.lower() in MEDIA_SUFFIXES and (path.is_file() or not path.exists()):
                    yield str(path)
    for error in unread:
        note(f"not looked into: {error.filename}: {error.strerror}")


def _cause(error: BaseException) -> BaseException:
    """What went wrong for the (one) name that was asked for; Beam's filesystems wrap it, more than once."""
    inner = [one for one in (getattr(error, "exception_details", None) or {}).values() if one is not error]
    return _cause(inner[0]) if inner and isinstance(inner[0], BaseException) else error


def read_manifest(uri: str, note: Callable[[str], None] = lambda text: None) -> list[InputItem]:
    """Rows of a manifest. Relative local paths are taken from the manifest's own folder.

    Args:
        note: is told of columns that are not used: a licence under another name would be lost in silence.

    Raises:
        UsageError: it cannot be read, has no ``uri`` column, or a value has the wrong type.
    """
    folder, _, base = uri.rpartition("/")
    try:
        data = files_at(folder or ".").read_bytes(base)
    except FileNotFoundError:
        raise UsageError(f"no such file or folder: {uri}") from None
    except OSError as error:
        raise UsageError(f"cannot read the manifest {uri}: {error}") from error
    try:
        columns, rows = _rows(uri, data)
    except (ValueError, OSError, pa.ArrowException, csv.Error) as error:
        raise UsageError(f"cannot read the manifest {uri}: {' '.join(str(error).split())}") from error
    items = [_item(uri, folder, line, row) for line, row in enumerate(rows, start=1)]
    if not items:
        raise UsageError(f"the manifest {uri} has no rows")
    unused = [str(name) for name in columns if name not in COLUMNS]
    if unused:
        note(f"not used of the manifest {uri}: {', '.join(unused)} (known columns: {', '.join(COLUMNS)})")
    return items


def _rows(uri: str, data: bytes) -> tuple[list[str], list[dict[str, object]]]:
    """Names of the columns, and the rows."""
    if uri.lower().endswith(".csv"):
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig")))
        rows: list[dict[str, object]] = [dict(row) for row in reader]
        return list(reader.fieldnames or ()), rows
    if uri.lower().endswith(".jsonl"):
        rows = [json.loads(line) for line in data.decode("utf-8").split("\n") if line.strip()]
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError("a line is not an object")
        return list(dict.fromkeys(name for row in rows for name in row)), rows
    table = pq.read_table(io.BytesIO(data))
    known = [name for name in table.column_names if name in COLUMNS]
    return table.column_names, table.select(known).to_pylist()


def _item(manifest: str, folder: str, line: int, row: dict[str, object]) -> InputItem:
    where = f"{manifest}, row {line}"
    uri = str(row.get("uri") or "").strip()
    if not uri:
        raise UsageError(f"{where}: no uri (known columns: {', '.join(COLUMNS)})")
    if is_local(uri) and not local_path(uri).is_absolute() and folder:
        uri = join(folder, uri)
    start, end = (_number(where, name, row.get(name)) for name in ("start_s", "end_s"))
    if start is not None and end is not None and end <= start:
        raise UsageError(f"{where}: end_s {end} is not after start_s {start}")
    focal, log_sd = (_number(where, name, row.get(name)) for name in ("focal_px", "focal_log_sd"))
    if focal == 0 or log_sd == 0:
        raise UsageError(f"{where}: {'focal_px' if focal == 0 else 'focal_log_sd'} must be positive")
    if log_sd is not None and focal is None:
        raise UsageError(f"{where}: focal_log_sd without a focal_px")
    text = {name: str(row.get(name) or "") for name in ("source_id", "license", "attribution")}
    for name, value in text.items():
        if not is_utf8(value):
            raise UsageError(f"{where}: {name} is not Unicode text: {value!r}")
    return InputItem(uri, start_s=start, end_s=end, focal_px=focal, focal_log_sd=log_sd, **text)


def _number(where: str, name: str, value: object) -> float | None:
    if value is None or value == "":
        return None
    try:
        number = float(str(value))
    except ValueError:
        raise UsageError(f"{where}: {name} is not a number: {value!r}") from None
    if not math.isfinite(number) or number < 0:
        raise UsageError(f"{where}: {name} must be finite and not negative: {value!r}")
    return number


def write_item_chunks(items: list[InputItem], work_root: str) -> list[str]:
    """Store the items in chunk files, so that the job graph stays small for any number of inputs; returns names."""
    files = files_at(work_root)
    names = []
    for index in range(0, len(items), CHUNK):
        name = f"inputs/{index // CHUNK:06d}.jsonl"
        lines = "".join(json.dumps(asdict(item), sort_keys=True) + "\n" for item in items[index : index + CHUNK])
        files.write_bytes_atomic(name, lines.encode())
        names.append(name)
    return names


class ReadItems(beam.PTransform):
    """The resolved items of :func:`write_item_chunks`, spread over the workers."""

    def __init__(self, names: list[str], work_root: str) -> None:
        super().__init__()
        self.names = names
        self.work_root = work_root

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        files = files_at(self.work_root)

        def read(name: str) -> Iterator[InputItem]:
            for line in files.read_bytes(name).decode().splitlines():
                yield InputItem(**json.loads(line))

        return begin | "chunks" >> beam.Create(self.names) | "read" >> beam.FlatMap(read) | beam.Reshuffle()
