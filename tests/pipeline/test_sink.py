"""Where a data set may be written, and what goes into it where two rows have one name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from duologue.pipeline.rows import row_bytes
from duologue.pipeline.sink import WriteShard, check_writable, join_later
from duologue.schemas.errors import UsageError
from duologue.schemas.row import pair_row
from duologue.tests.dataset_factory import make_pairs, write_dataset
from duologue.transforms.elements import PairDone
from duologue.transforms.work import WorkStore


@pytest.mark.parametrize("name", ["README.md", "config.yaml", "pairs/mine.parquet"])
def test_a_folder_with_files_of_its_own_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match=f"is not a data set and holds {name}; give the data set a folder of its own"):
        check_writable(str(tmp_path))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [Path(name).name]


def test_a_manifest_of_something_else_is_seen_before_work_starts(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "web page"}')
    with pytest.raises(UsageError, match=r"manifest\.json"):
        check_writable(str(tmp_path))


def test_a_data_set_finished_or_begun_and_a_folder_of_videos_are_written_to(tmp_path: Path) -> None:
    write_dataset(tmp_path / "done", make_pairs(1), shards=1)
    check_writable(str(tmp_path / "done"))
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "film.mp4").write_bytes(b"x")
    check_writable(str(tmp_path / "videos"))
    (tmp_path / "videos" / "README.md").write_text("written by a run that was killed before its manifest")
    check_writable(str(tmp_path / "videos"))


def test_of_two_rows_of_one_name_the_order_of_arrival_does_not_choose(tmp_path: Path) -> None:
    (pair,) = make_pairs(1)
    work = WorkStore(str(tmp_path / "_work"))
    rows = []
    for text in ("one", "two"):
        file = work.put("score", pair.pair_id, row_bytes(pair_row(replace(pair, person_a=text))), ".arrow")
        rows.append(PairDone(pair.pair_id, "v", 0.0, 1.0, file, (), (len(rows),)))
    writer = WriteShard(str(tmp_path), work, landmarks=False, voices=False)
    both = [next(writer.process((0, {"rows": order, "duplicates": []}), 1)) for order in (rows, rows[::-1])]
    assert both[0].sha256 == both[1].sha256
    met = [list(join_later((pair.pair_id, {"rows": order, "candidates": ["e"]}))) for order in (rows, rows[::-1])]
    assert met[0] == met[1]
