"""Writing a data-set folder: shards, then everything that follows from them, the manifest last."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .backends import BackendCounts, count_backends
from .card import CARD_COLUMNS, card_text
from .croissant import croissant_text
from .dataset import SELECTION, Dataset, damaged, open_named
from .errors import UsageError
from .files import Files, as_files
from .manifest import FileEntry, Manifest, put, put_beside, write_manifest
from .pair import pair_schema
from .records import Reject
from .reject import reject_table
from .row import Pair, Row, pair_row
from .selection import DEFAULTS, SELECTION_COLUMNS, SelectionOptions, select
from .shard import shard_bytes, shard_count, shard_index, shard_name, table_bytes
from .takedown import TAKEDOWNS

_SUMMARY = tuple(dict.fromkeys((*SELECTION_COLUMNS, *CARD_COLUMNS, "source_uri", "config_hash", "code_version")))
CONFIG, FUNNEL, CARD, CROISSANT = "config.yaml", "funnel.json", "README.md", "croissant.json"


def write_pairs(
    where: str | Path | Files, pairs: Iterable[Pair | Row], *, shards: int | None = None
) -> list[FileEntry]:
    """Write pairs that fit in memory as shards; the bytes do not depend on their order.

    Args:
        shards: how many; None for as many as their number asks for.
    """
    files = as_files(where)
    rows = [pair_row(pair) if isinstance(pair, Pair) else pair for pair in pairs]
    rows.sort(key=lambda row: row["pair_id"])
    count = shard_count(len(rows)) if shards is None else shards
    return [
        write_shard(files, [row for row in rows if shard_index(row["pair_id"], count) == index], index, count)
        for index in range(count)
    ]


def write_shard(files: Files, rows: Iterable[Row], index: int, count: int) -> FileEntry:
    """Write one shard of rows that rise by pair_id; an empty one too: names depend on ``count`` alone."""
    data = shard_bytes(rows)
    return put_beside(files, shard_name(index, count), data, "pairs", _rows_of(data))


def _rows_of(data: bytes) -> int:
    return int(pq.ParquetFile(io.BytesIO(data)).metadata.num_rows)


def write_rejects(
    where: str | Path | Files, rejects: Iterable[Reject], index: int = 0, count: int = 1
) -> list[FileEntry]:
    """Write one shard of the reject table; all of it, where it has one."""
    table, name = reject_table(rejects), shard_name(index, count, "rejects")
    return [put_beside(as_files(where), name, table_bytes(table), "rejects", table.num_rows)]


def check_names_free(files: Files) -> None:
    """Raises UsageError where a folder that is no data set holds files under the names of one."""
    taken = [name for name in (CARD, CONFIG, FUNNEL, CROISSANT, SELECTION) if files.exists(name)]
    taken += [name for kind in ("pairs", "rejects", "landmarks", "voices") for name in files.list(kind)[:1]]
    if taken:
        raise UsageError(f"{files.root} is not a data set and holds {taken[0]}; give the data set a folder of its own")


def finish_dataset(
    where: str | Path | Files,
    pairs: Iterable[FileEntry],
    rejects: Iterable[FileEntry],
    *,
    config_hash: str,
    code_version: str,
    config_yaml: str,
    funnel: Mapping[str, Any],
    options: SelectionOptions = DEFAULTS,
    beside: Iterable[FileEntry] = (),
) -> Manifest:
    """Selection, configuration, funnel, card and Croissant description of written shards, then the manifest.

    Args:
        config_yaml: the resolved configuration. funnel: JSON-serialisable.
        beside: shards of ``landmarks/`` and ``voices/``.

    Raises:
        UsageError: the rows refer to different head models.
    """
    files = as_files(where)
    entries = [*pairs, *rejects, *beside]
    entries.append(put(files, CONFIG, config_yaml.encode()))
    entries.append(put(files, FUNNEL, (json.dumps(funnel, indent=1) + "\n").encode()))
    if files.exists(TAKEDOWNS):
        entries.append(put(files, TAKEDOWNS, files.read_bytes(TAKEDOWNS)))
    return publish(files, Manifest(config_hash, code_version).with_files(entries), options)


def publish(files: Files, manifest: Manifest, options: SelectionOptions) -> Manifest:
    """Make everything that follows from the shards of a manifest, and publish it."""
    light = read_light(files, manifest)
    models = sorted(light["head_model_id"].unique().to_pylist())
    if len(models) > 1:
        raise UsageError(f"one data set has one head model; these rows have {', '.join(models)}")
    selection = select(light, options)
    entries = [put(files, SELECTION, table_bytes(selection), "selection", selection.num_rows)]
    manifest = Manifest(manifest.config_hash, manifest.code_version, models[0] if models else "", manifest.files)
    manifest = manifest.with_files(entries, drop=(CARD, CROISSANT))
    funnel = read_funnel(files, manifest)
    entries = [
        put(files, CARD, card_text(manifest, light, selection, funnel, read_backends(files, manifest)).encode()),
        put(files, CROISSANT, croissant_text(manifest, light).encode()),
    ]
    manifest = manifest.with_files(entries)
    write_manifest(files, manifest)
    return manifest


def read_funnel(files: Files, manifest: Manifest) -> dict[str, dict[str, dict[str, float]]]:
    """stage -> outcome -> {"items", "hours"}; empty where the data set has none.

    Raises:
        UsageError: the file is gone, or not of that shape.
    """
    if manifest.entry(FUNNEL) is None:
        return {}
    try:
        tree = json.loads(files.read_bytes(FUNNEL))
        for outcomes in tree.values():
            for cell in outcomes.values():
                if not float(cell["items"]) >= 0 or not float(cell["hours"]) >= 0:
                    raise ValueError(f"counts of {cell}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{files.root}/{FUNNEL} is not a funnel ({type(error).__name__}): 'duologue repair' sets it aside"
        ) from error
    return dict(tree)


def read_light(files: Files, manifest: Manifest) -> pa.Table:
    """What selection, card and takedowns are made from, of every pair: no array, no sound.

    Raises:
        UsageError: a shard is gone, damaged or not of the size that the manifest says.
    """
    tables = list(_columns_of(files, manifest, _SUMMARY))
    if not tables:
        return pa.schema([pair_schema().field(name) for name in _SUMMARY]).empty_table()
    return pa.concat_tables(tables)


def read_backends(files: Files, manifest: Manifest) -> BackendCounts:
    """The models that worked on the pairs; raises as :func:`read_light`."""
    return count_backends(_columns_of(files, manifest, ("backends",)))


def _columns_of(files: Files, manifest: Manifest, columns: Sequence[str]) -> Iterator[pa.Table]:
    for entry in manifest.of_kind("pairs"):
        try:
            yield open_named(files, entry).read(columns=list(columns))
        except (OSError, pa.ArrowException) as error:
            raise damaged(files, entry, error) from error


def reselect(where: str | Path | Files, options: SelectionOptions) -> Manifest:
    """Apply other thresholds to a finished data set: no pixels, no arrays."""
    dataset = Dataset(where)
    return publish(dataset.files, dataset.manifest, options)
