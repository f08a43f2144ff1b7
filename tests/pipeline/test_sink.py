"""Where a data set may be written, and what goes into it where two rows have one name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to
from duologue.pipeline.rows import row_bytes
from duologue.pipeline.sink import SumTallies, WriteRejects, WriteShard, check_writable, join_later
from duologue.schemas.errors import UsageError
from duologue.schemas.manifest import FileEntry
from duologue.schemas.records import Reject
from duologue.schemas.reject import table_to_rejects
from duologue.schemas.row import pair_row
from duologue.schemas.shard import read_table
from duologue.schemas.takedown import TAKEDOWNS, Takedown, takedown_bytes
from duologue.tests.dataset_factory import make_pairs, write_dataset
from duologue.transforms.elements import PairDone
from duologue.transforms.stage import Tally
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


def test_rejects_are_spread_over_shards_by_video_and_what_was_taken_down_stays_out(tmp_path: Path) -> None:
    (tmp_path / TAKEDOWNS).write_bytes(takedown_bytes([Takedown("source", "film")]))
    rejects = [Reject(f"{k:064x}", f"{k}.mp4", "scan", "no_face", shot_index=k) for k in range(40)]
    rejects += [
        Reject("", "gone.mp4", "probe", "unreadable"),
        Reject("f" * 64, "x", "scan", "no_face", source_id="film"),
    ]
    found: list[list[bytes]] = []

    def note(entries: list[FileEntry]) -> None:
        (tmp_path / "entries.txt").write_text("\n".join(f"{e.path} {e.rows}" for e in sorted(entries)))

    for order in (rejects, [*rejects[::-1], rejects[0]]):
        with beam.Pipeline() as pipeline:
            entries = pipeline | beam.Create(order) | WriteRejects(str(tmp_path), per_shard=15)
            entries | beam.combiners.ToList() | beam.Map(note)
        lines = (tmp_path / "entries.txt").read_text().split()
        names, rows = lines[::2], [int(text) for text in lines[1::2]]
        assert names == [f"rejects/rejects-{k:05d}-of-00003.parquet" for k in range(3)]
        assert sum(rows) == 41
        assert all(0 < count < 30 for count in rows)
        found.append([(tmp_path / name).read_bytes() for name in names])
    assert found[0] == found[1]
    shards = [table_to_rejects(read_table(data)) for data in found[0]]
    assert {reject for shard in shards for reject in shard} == {r for r in rejects if not r.source_id}


def test_tallies_are_summed_to_one_of_each_outcome() -> None:
    others = [Tally("fit", "fit_failed", 1, 4.0), Tally("score", "kept", 1, 0.0)]
    with beam.Pipeline() as pipeline:
        sums = pipeline | beam.Create([*others, *[Tally("fit", "kept", 2, 0.1)] * 30]) | SumTallies()
        assert_that(
            sums,
            equal_to(
                [Tally("fit", "kept", 60, 3.0), Tally("fit", "fit_failed", 1, 4.0), Tally("score", "kept", 1, 0.0)]
            ),
        )
