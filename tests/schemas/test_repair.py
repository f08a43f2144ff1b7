"""Repair keeps what is intact, sets aside what is not, and names every loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from duologue.schemas.dataset import Dataset
from duologue.schemas.errors import UsageError
from duologue.schemas.repair import repair
from duologue.schemas.row import Pair
from duologue.schemas.shard import shard_index, shard_name
from duologue.schemas.takedown import Takedown, takedown_bytes
from duologue.schemas.verify import verify
from duologue.tests.dataset_factory import make_pairs, write_dataset

FIRST = shard_name(0, 3)


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, list[Pair]]:
    return tmp_path, write_dataset(tmp_path, make_pairs(9), shards=3)


Written = tuple[Path, list[Pair]]


def ids_of_first(pairs: list[Pair]) -> list[str]:
    return sorted(pair.pair_id for pair in pairs if shard_index(pair.pair_id, 3) == 0)


def test_an_intact_data_set_stays_as_it_is(written: Written) -> None:
    root, _ = written
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    result = repair(root)
    assert result.lines == []
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("keep_manifest", [True, False], ids=["manifest", "no manifest"])
@pytest.mark.parametrize("damage", [truncate, flip])
def test_a_broken_shard_is_set_aside(written: Written, damage: Callable[[Path], None], keep_manifest: bool) -> None:
    root, pairs = written
    damage(root / FIRST)
    if not keep_manifest:
        (root / "manifest.json").unlink()
    result = repair(root)
    assert result.quarantined == [FIRST]
    assert result.lost == ids_of_first(pairs)
    assert any("pair(s) lost" in line and result.lost[0] in line for line in result.lines)
    assert (root / "_quarantine" / FIRST).exists()
    assert not (root / FIRST).exists()
    assert verify(root).sound
    left = {pair.pair_id for pair in pairs} - set(result.lost)
    assert {pair.pair_id for pair in Dataset(root).pairs(selected=False)} == left


def test_a_missing_shard_is_said(written: Written) -> None:
    root, pairs = written
    (root / FIRST).unlink()
    result = repair(root)
    assert result.lost == ids_of_first(pairs)
    assert any(line.startswith(f"{FIRST} is gone") for line in result.lines)
    assert verify(root).sound


def test_a_lost_manifest_is_built_again_the_same(written: Written) -> None:
    root, _ = written
    before = (root / "manifest.json").read_bytes()
    (root / "manifest.json").write_text("{")
    result = repair(root)
    assert any("is damaged" in line for line in result.lines)
    assert (root / "manifest.json").read_bytes() == before


def test_shards_of_an_earlier_count_do_not_double_rows(written: Written) -> None:
    root, pairs = written
    write_dataset(root, make_pairs(9), shards=2)  # the shards of three stay on disk, unnamed
    (root / "manifest.json").unlink()
    result = repair(root)
    assert result.pairs == len(pairs)
    assert len(result.quarantined) == 3
    assert verify(root).sound


def test_takedowns_survive_a_repair(written: Written) -> None:
    root, pairs = written
    video = pairs[0].source.video_id
    (root / "takedowns.jsonl").write_bytes(takedown_bytes([Takedown("video", video)]))
    (root / "manifest.json").unlink()
    result = repair(root)
    assert any("removed again" in line for line in result.lines)
    assert all(pair.source.video_id != video for pair in Dataset(root).pairs(selected=False))
    assert verify(root).sound


def test_a_damaged_takedown_list_stops_the_repair(written: Written) -> None:
    root, _ = written
    (root / "takedowns.jsonl").write_text("{broken")
    with pytest.raises(UsageError, match=r"takedowns\.jsonl line 1"):
        repair(root)


def test_nothing_to_repair(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no intact pair shard"):
        repair(tmp_path)


def test_lost_selection_is_made_again_and_said(written: Written) -> None:
    root, _ = written
    before = (root / "selection.parquet").read_bytes()
    (root / "selection.parquet").write_bytes(b"PAR1 no")
    result = repair(root)
    assert any("default thresholds" in line for line in result.lines)
    assert (root / "selection.parquet").read_bytes() == before
