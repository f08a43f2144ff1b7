"""Where a data set may be written."""

from __future__ import annotations

from pathlib import Path

import pytest
from duologue.pipeline.sink import check_writable
from duologue.schemas.errors import UsageError
from duologue.tests.dataset_factory import make_pairs, write_dataset


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
