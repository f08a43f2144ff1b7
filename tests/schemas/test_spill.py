"""Rows in any order become the shards that rows in order become."""

from __future__ import annotations

from pathlib import Path

from dataset_factory import make_pairs
from duologue.schemas.files import LocalFiles
from duologue.schemas.finish import write_pairs
from duologue.schemas.row import pair_row
from duologue.schemas.spill import Spill


def test_shards_are_those_of_rows_in_memory(tmp_path: Path) -> None:
    pairs = make_pairs(9)
    expected = write_pairs(tmp_path / "a", pairs, shards=4)
    (tmp_path / "wait").mkdir()
    spill = Spill(tmp_path / "wait", 4)
    assert not spill
    assert all(spill.add(pair_row(pair)) for pair in reversed(pairs))
    assert not spill.add(pair_row(pairs[0]))  # came before
    assert len(spill) == 9
    assert spill.write(LocalFiles(tmp_path / "b")) == expected  # names, sizes, hashes
    assert list((tmp_path / "wait").iterdir()) == []


def test_rows_without_sound_and_of_one_shard(tmp_path: Path) -> None:
    pairs = make_pairs(3, audio=False)
    spill = Spill(tmp_path, 1)
    for pair in pairs:
        spill.add(pair_row(pair))
    assert spill.write(LocalFiles(tmp_path / "b")) == write_pairs(tmp_path / "a", pairs, shards=1)
