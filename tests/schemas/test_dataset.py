"""The reader trusts the manifest alone."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from duologue.schemas.dataset import Dataset, RowsById
from duologue.schemas.diff import diff
from duologue.schemas.errors import UsageError
from duologue.schemas.files import LocalFiles
from duologue.schemas.finish import reselect, write_pairs
from duologue.schemas.manifest import MANIFEST
from duologue.schemas.remove import remove
from duologue.schemas.repair import repair
from duologue.schemas.row import pair_from_row, table_to_rows
from duologue.schemas.selection import SelectionOptions
from duologue.schemas.takedown import Takedown
from duologue.schemas.verify import verify
from duologue.tests.dataset_factory import make_pairs, write_dataset


def test_pairs_come_back(tmp_path: Path) -> None:
    pairs = write_dataset(tmp_path, make_pairs(7), shards=3)
    dataset = Dataset(tmp_path)
    assert len(dataset) == 7
    assert {pair.pair_id for pair in dataset.pairs(selected=False)} == {pair.pair_id for pair in pairs}
    assert len(list(dataset.pairs())) == 6
    assert dataset.rejects()[0].reason == "one_face"
    one = dataset.pair(pairs[3].pair_id)
    assert one.source == pairs[3].source
    np.testing.assert_allclose(one.fitted.b.rotation, pairs[3].fitted.b.rotation, atol=2e-5)
    assert dataset.pair(pairs[3].pair_id[:10]).pair_id == pairs[3].pair_id


def test_splits_partition_the_selected(tmp_path: Path) -> None:
    write_dataset(tmp_path, make_pairs(24))
    reselect(tmp_path, SelectionOptions(val_share=0.3, test_share=0.3))
    dataset = Dataset(tmp_path)
    parts = [dataset.ids(split=split) for split in ("train", "val", "test")]
    assert all(parts)
    assert sorted(key for part in parts for key in part) == dataset.ids()
    assert len(dataset.ids()) == 20
    assert [pair.pair_id for pair in dataset.pairs(split="train")] == parts[0]


def test_only_what_the_manifest_names_is_read(tmp_path: Path) -> None:
    write_dataset(tmp_path, make_pairs(3))
    write_pairs(tmp_path / "other", make_pairs(9))
    stray = (tmp_path / "other/pairs/pairs-00000-of-00001.parquet").read_bytes()
    (tmp_path / "_work/rows").mkdir(parents=True)
    (tmp_path / "_work/rows/x.parquet").write_bytes(stray)
    (tmp_path / "pairs/pairs-00001-of-00002.parquet").write_bytes(stray)
    assert len(Dataset(tmp_path)) == 3
    assert len(list(Dataset(tmp_path).rows(["pair_id"]))) == 3


def test_projection_and_row_choice(tmp_path: Path) -> None:
    pairs = write_dataset(tmp_path, make_pairs(5, frames=10), shards=2)
    wanted = {pairs[1].pair_id, pairs[4].pair_id}
    rows = list(Dataset(tmp_path).rows(["a.gaze", "fps"], ids=wanted))
    assert {row["pair_id"] for row in rows} == wanted
    assert all(set(row) == {"pair_id", "a.gaze", "fps"} for row in rows)
    with pytest.raises(UsageError, match=r"no such column: a\.gase"):
        list(Dataset(tmp_path).rows(["a.gase"]))


def test_unknown_and_ambiguous_ids(tmp_path: Path) -> None:
    write_dataset(tmp_path, make_pairs(40, frames=2))
    dataset = Dataset(tmp_path)
    ids = dataset.ids(selected=False)
    with pytest.raises(UsageError, match="has no pair zz"):
        dataset.pair("zz")
    with pytest.raises(UsageError, match="pairs that begin with"):
        dataset.pair(next(k[0] for k in ids if sum(o[0] == k[0] for o in ids) > 1))


def test_without_manifest_nothing_is_read(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    (tmp_path / MANIFEST).unlink()
    with pytest.raises(UsageError, match=r"has no manifest\.json \(not a finished data set\)") as error:
        Dataset(tmp_path)
    assert "\n" not in str(error.value)
    (tmp_path / "_work").mkdir()
    (tmp_path / "_work/ledger").write_text("x")
    with pytest.raises(UsageError, match="unfinished run: start it again"):
        Dataset(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text[: len(text) // 2], "is damaged"),
        (
            lambda text: text.replace('"schema_version": 1', '"schema_version": 2'),
            "schema version 2; this software",
        ),
        (lambda text: text.replace('"format": "duologue"', '"format": "other"'), "is damaged"),
        (lambda text: text.replace('"path": "selection', '"path": "../selection'), "outside the folder"),
        (lambda text: "[]", "is damaged"),
    ],
)
def test_bad_manifest_is_one_line(tmp_path: Path, change: object, words: str) -> None:
    write_dataset(tmp_path, make_pairs(1, frames=2))
    path = tmp_path / MANIFEST
    path.write_text(change(path.read_text()))  # type: ignore[operator]
    with pytest.raises(UsageError, match=words) as error:
        Dataset(tmp_path)
    assert "\n" not in str(error.value)


def test_half_a_shard_is_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path, make_pairs(4))
    path = next((tmp_path / "pairs").glob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UsageError, match="duologue verify") as error:
        list(Dataset(tmp_path).pairs())
    assert "\n" not in str(error.value)


def test_manifest_is_the_same_twice(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_dataset(tmp_path / name, make_pairs(3, frames=4))
    trees = [
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("a", "b")
    ]
    assert trees[0] == trees[1]
    document = json.loads((tmp_path / "a" / MANIFEST).read_text())
    named = {entry["path"] for entry in document["files"]}
    assert named == {str(path) for path in trees[0]} - {MANIFEST}


def test_killed_writer_leaves_nothing_to_trust(tmp_path: Path) -> None:
    """SIGKILL in the middle of a write, before the rename: no file of that name, no manifest."""
    code = textwrap.dedent(
        f"""
        import os, signal
        from pathlib import Path
        from duologue.tests import dataset_factory
        from duologue.schemas import files
        real = os.replace
        def replace(old, new):
            if str(new).endswith("selection.parquet"):
                os.kill(os.getpid(), signal.SIGKILL)
            real(old, new)
        files.os.replace = replace
        dataset_factory.write_dataset(Path({str(tmp_path / "ds")!r}))
        """
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "ds/selection.parquet").exists()
    assert list((tmp_path / "ds/pairs").glob("*.parquet"))
    with pytest.raises(UsageError, match=r"no manifest\.json"):
        Dataset(tmp_path / "ds")


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = LocalFiles(tmp_path)
    files.write_bytes_atomic("x/y", b"old")

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("duologue.schemas.files.os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        files.write_bytes_atomic("x/y", b"new")
    monkeypatch.undo()
    assert files.read_bytes("x/y") == b"old"
    assert files.list() == ["x/y"]
    files.delete("x/y")
    files.delete("x/y")
    assert not files.exists("x/y")


class MemoryFiles:
    """A non-local place: a dict."""

    def __init__(self) -> None:
        self.root = "memory://bucket/ds"
        self.data: dict[str, bytes] = {}

    def read_bytes(self, name: str) -> bytes:
        if name not in self.data:
            raise FileNotFoundError(name)
        return self.data[name]

    def write_bytes_atomic(self, name: str, data: bytes) -> None:
        self.data[name] = data

    def exists(self, name: str) -> bool:
        return name in self.data

    def list(self, folder: str = "") -> list[str]:
        return sorted(name for name in self.data if not folder or name.startswith(folder + "/"))

    def delete(self, name: str) -> None:
        self.data.pop(name, None)


def test_a_remote_folder_works_the_same(tmp_path: Path) -> None:
    pairs = make_pairs(3, frames=4)
    remote = MemoryFiles()
    write_dataset(remote, pairs)  # type: ignore[arg-type]
    write_dataset(tmp_path, pairs)
    assert remote.data == {name: (tmp_path / name).read_bytes() for name in remote.data}
    assert len(list(Dataset(remote).pairs(selected=False))) == 3
    assert verify(remote).problems == []
    reselect(remote, SelectionOptions(min_duration_s=0.0))
    reselect(tmp_path, SelectionOptions(min_duration_s=0.0))
    assert diff(remote, tmp_path, scale=0).equal
    assert len(remove(remote, [Takedown("video", pairs[2].source.video_id)]).pairs) == 1
    remote.delete(MANIFEST)
    assert repair(remote).pairs == 2
    assert verify(remote).problems == []


def test_a_damaged_page_is_one_line(tmp_path: Path) -> None:
    write_dataset(tmp_path, make_pairs(3))
    path = next((tmp_path / "pairs").glob("*.parquet"))
    data = bytearray(path.read_bytes())
    columns = pq.ParquetFile(path).metadata.row_group(0)
    place = next(
        c for c in map(columns.column, range(columns.num_columns)) if c.path_in_schema.startswith("a.expression")
    )
    start = place.data_page_offset
    data[start : start + place.total_compressed_size] = b"\xff" * place.total_compressed_size
    path.write_bytes(data)
    with pytest.raises(UsageError, match="duologue verify") as error:
        list(Dataset(tmp_path).pairs())
    assert "\n" not in str(error.value)
    assert len(Dataset(tmp_path).table(["pair_id"])) == 3


def test_writing_anew_leaves_the_published_set_readable_until_its_manifest_is_replaced(tmp_path: Path) -> None:
    pairs = make_pairs(6)
    write_dataset(tmp_path, pairs[:4])
    before = {pair.pair_id for pair in Dataset(tmp_path).pairs(selected=False)}
    entries = write_pairs(tmp_path, pairs)  # killed here: no new manifest
    assert {pair.pair_id for pair in Dataset(tmp_path).pairs(selected=False)} == before
    assert verify(tmp_path).problems == []
    assert sum(entry.rows for entry in entries) == 6


def test_shards_from_before_a_score_was_added_read_as_not_measured(tmp_path: Path) -> None:
    now, before = tmp_path / "now", tmp_path / "before"
    for root in (now, before):
        write_dataset(root, make_pairs(4), shards=2)
    manifest = json.loads((before / MANIFEST).read_text())
    for entry in manifest["files"]:
        if entry["kind"] == "pairs":
            path = before / entry["path"]
            table = pq.read_table(path).drop_columns(["scores.laughter_share"])
            table = table.append_column("scores.camera_motion", pa.nulls(len(table), pa.float32()))  # never measured
            pq.write_table(table, path, row_group_size=1)
            data = path.read_bytes()
            entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (before / MANIFEST).write_text(json.dumps(manifest))
    dataset = Dataset(before)
    assert dataset.table(["scores.laughter_share", "pair_id"])["scores.laughter_share"].null_count == 4
    assert all(np.isnan(pair.scores["laughter_share"]) for pair in dataset.pairs(selected=False))
    assert verify(before).problems == []
    assert not diff(now, before).only_first
    first = next(dataset.pairs(selected=False)).source
    remove(before, [Takedown("video", first.video_id)])  # rewrites shards in the present schema
    assert verify(before).problems == []
    lacking = pq.read_table(now / next(e["path"] for e in manifest["files"] if e["kind"] == "pairs"))
    with pytest.raises(UsageError, match="written by another version"):
        pair_from_row(next(iter(table_to_rows(lacking.drop_columns(["scores.snr_db", "turns"])))))


def test_rows_by_id_read_each_group_once_in_stored_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = make_pairs(70, frames=80)
    write_dataset(tmp_path / "one", pairs, shards=1)
    write_dataset(tmp_path / "two", pairs, shards=1)
    found = RowsById(Dataset(tmp_path / "two"))
    read: list[int] = []
    original = pq.ParquetFile.read_row_group
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda self, i, **k: read.append(i) or original(self, i, **k))
    for row in Dataset(tmp_path / "one").rows(["pair_id"]):
        assert found(row["pair_id"])["pair_id"] == row["pair_id"]
    assert len(read) == 6  # three groups of each
    assert "nobody" not in found
