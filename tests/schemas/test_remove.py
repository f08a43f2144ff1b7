"""What is taken down is gone from every file, and stays gone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from duologue.schemas import remove as remove_module
from duologue.schemas.dataset import Dataset
from duologue.schemas.errors import UsageError
from duologue.schemas.files import LocalFiles
from duologue.schemas.manifest import put, write_manifest
from duologue.schemas.records import Reject
from duologue.schemas.remove import remove
from duologue.schemas.row import Pair
from duologue.schemas.shard import table_bytes
from duologue.schemas.takedown import Takedown, is_taken_down, read_takedowns, takedown_bytes
from duologue.schemas.verify import verify
from duologue.tests.dataset_factory import make_pairs, write_dataset
from hypothesis import given
from hypothesis import strategies as st


def people(pairs: list[Pair]) -> list[Pair]:
    """Rows 0 and 5 share person p1."""
    out = [replace(pair, person_a=f"p{index + 10}") for index, pair in enumerate(pairs)]
    out[0], out[5] = replace(out[0], person_b="p1"), replace(out[5], person_a="p1")
    return out


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, list[Pair]]:
    pairs = people(make_pairs(8, frames=20))
    write_dataset(tmp_path, pairs, shards=3)
    return tmp_path, pairs


Written = tuple[Path, list[Pair]]


@pytest.mark.parametrize("kind", ["video", "short video", "source", "person"])
def test_rows_go_everywhere(written: Written, kind: str) -> None:
    root, pairs = written
    takedown, gone = {
        "video": (Takedown("video", pairs[2].source.video_id), pairs[2:4]),
        "short video": (Takedown("video", pairs[2].source.video_id[:60]), None),
        "source": (Takedown("source", pairs[4].source.source_uri), pairs[4:6]),
        "person": (Takedown("person", "p1"), [pairs[0], pairs[5]]),
    }[kind]
    if gone is None:
        gone = [pair for pair in pairs if pair.source.video_id.startswith(takedown.id)]
    (root / "_work/rows").mkdir(parents=True)
    (root / "_work/rows/x.arrow").write_bytes(b"somebody")
    (root / "view/pairs").mkdir(parents=True)
    (root / "view/pairs/x.js").write_text("somebody")
    (root / "report.html").write_text("somebody")
    result = remove(root, [takedown])
    assert set(result.pairs) == {pair.pair_id for pair in gone}
    assert result.work_files == 3
    assert not any("somebody" in path.read_text(errors="ignore") for path in root.rglob("*") if path.is_file())
    left = {pair.pair_id for pair in Dataset(root).pairs(selected=False)}
    assert left == {pair.pair_id for pair in pairs} - set(result.pairs)
    report = verify(root)
    assert report.problems == []
    assert report.notes == []  # no old file is left
    everything = b"".join(path.read_bytes() for path in root.rglob("*.parquet"))
    for pair in gone:
        assert pair.pair_id.encode() not in everything
    videos = {pair.source.video_id for pair in gone} if kind == "source" else set()
    assert set(read_takedowns(LocalFiles(root))) == {takedown, *(Takedown("video", video) for video in videos)}


def test_untouched_shards_keep_their_bytes(written: Written) -> None:
    root, pairs = written
    before = {path.name: path.read_bytes() for path in (root / "pairs").iterdir()}
    remove(root, [Takedown("person", "p1")])
    after = {path.name: path.read_bytes() for path in (root / "pairs").iterdir()}
    same = set(before) & set(after)
    assert same
    assert all(before[name] == after[name] for name in same)
    assert all("-" in name and len(name) > len("pairs-00000-of-00003.parquet") for name in set(after) - same)
    assert pairs


def test_remaining_rows_are_the_same_rows(written: Written) -> None:
    root, _ = written
    before = {row["pair_id"]: row for row in Dataset(root).rows()}
    remove(root, [Takedown("person", "p1")])
    for row in Dataset(root).rows():
        old = before[row["pair_id"]]
        assert all((value == old[name]).all() if hasattr(value, "shape") and value.dtype == bool else True
                   for name, value in row.items())  # fmt: skip
        assert row["audio"] == old["audio"]
        assert row["a.expression"].tobytes() == old["a.expression"].tobytes()


def test_removing_twice_and_one_after_the_other(written: Written) -> None:
    root, pairs = written
    remove(root, [Takedown("person", "p1")])
    tree = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert remove(root, [Takedown("person", "p1")]).pairs == ()
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == tree
    remove(root, [Takedown("video", pairs[6].source.video_id)])
    assert len(read_takedowns(LocalFiles(root))) == 2
    assert verify(root).sound


def test_a_killed_removal_is_finished_by_the_next(written: Written) -> None:
    """The takedown is on disk first: a removal without names carries it out."""
    root, pairs = written
    (root / "takedowns.jsonl").write_bytes(takedown_bytes([Takedown("person", "p1")]))
    assert set(remove(root, []).pairs) == {pairs[0].pair_id, pairs[5].pair_id}
    assert verify(root).sound


def test_no_copy_is_left_behind(written: Written) -> None:
    """An old shard that a killed removal left, and one that a repair set aside, hold the same people."""
    root, pairs = written
    shard = sorted((root / "pairs").iterdir())[0]
    for copy in (root / "pairs/pairs-00000-of-00009.parquet", root / "_quarantine/pairs/old.parquet"):
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(shard.read_bytes())
    remove(root, [Takedown("video", pairs[0].source.video_id)])
    assert verify(root).notes == []
    assert not list((root / "_quarantine").rglob("*.parquet"))


@pytest.mark.parametrize("stage", ["sample", "score"])
def test_films_and_pages_go_and_other_files_stay(tmp_path: Path, stage: str) -> None:
    pairs = make_pairs(2, frames=20)
    write_dataset(tmp_path, pairs, stage=stage)
    shown = ["report.html", "view/index.html", "view/pairs/x.js"]
    generated = ["scene.glb", "film.mp4"]  # of somebody else, where no row was generated
    for name in (*shown, *generated, "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("of these people")
    remove(tmp_path, [Takedown("video", pairs[0].source.video_id)])
    assert not [name for name in shown if (tmp_path / name).exists()]
    assert [name for name in generated if (tmp_path / name).exists()] == ([] if stage == "sample" else generated)
    assert (tmp_path / "notes.txt").read_text() == "of these people"


@pytest.mark.parametrize(
    ("takedown", "spoken_of"),
    [
        (Takedown("video", "e" * 64), True),
        (Takedown("person", "eeeeeeeeeeeeeeee-p1"), True),
        (Takedown("source", "the \u00e9 film"), True),
        (Takedown("video", "d" * 64), False),
        (Takedown("video", "e" * 40), True),
        (Takedown("video", "e" * 16 + "d" * 48), False),  # the file is named after the video that a record knows
        (Takedown("video", "c" * 64), True),  # known by a file's name alone
        (Takedown("person", "p99"), False),
        (Takedown("person", "eeeeeeeeeeeeeeee-p"), False),
        (Takedown("source", "the"), False),
        (Takedown("source", "only asked for"), False),
    ],
)
def test_a_mistyped_id_costs_no_work(written: Written, takedown: Takedown, spoken_of: bool) -> None:
    """Hours of it: it goes where a row, a reject or a record of it names what is taken down."""
    root, _ = written
    record = {"video_id": "e" * 64, "person_a": "eeeeeeeeeeeeeeee-p1", "source_id": "the \u00e9 film"}
    texts = {"ledger/fit/x.json": record, "inputs/000000.jsonl": {"source_id": "only asked for"}}
    texts["ledger/probe/x.json"] = texts["inputs/000000.jsonl"]
    texts |= {f"track/{digit * 16}-000000-{digit * 16}.npz": {} for digit in "ce"}
    for name, value in texts.items():
        (root / "_work" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "_work" / name).write_text(json.dumps(value))
    assert remove(root, [takedown]).pairs == ()
    assert (root / "_work/ledger/fit/x.json").exists() is not spoken_of
    assert (root / "_work/inputs/000000.jsonl").exists() is not spoken_of
    assert takedown in read_takedowns(LocalFiles(root))


def test_work_goes_before_the_rows_that_tell_it_must(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """A removal killed before the manifest finds the rows again, and so the rest of the work."""
    root, _ = written
    (root / "_work/score").mkdir(parents=True)
    (root / "_work/score/x.arrow").write_bytes(b"somebody")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(remove_module, "publish", killed)
    with pytest.raises(KeyboardInterrupt):
        remove(root, [Takedown("person", "p1")])
    assert not (root / "_work/score/x.arrow").exists()
    assert len(Dataset(root)) == 8


class Killed(LocalFiles):
    """Files of a process that dies after so many deletions."""

    def __init__(self, root: Path, deletions: int) -> None:
        super().__init__(root)
        self.left = deletions

    def delete(self, name: str) -> None:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        super().delete(name)


@pytest.mark.parametrize("deletions", [1, 2, 3])
@pytest.mark.parametrize("recorded", [True, False])
def test_work_that_no_row_tells_of_goes_even_if_a_removal_is_killed(
    written: Written, deletions: int, recorded: bool
) -> None:
    root, _ = written
    texts = dict.fromkeys((f"cut/{'e' * 16}-000000-{'0' * 16}.npz", "score/x.arrow", "track/x.npz"), "somebody")
    texts["ledger/fit/x.json"] = json.dumps([{"video_id": "e" * 64} if recorded else {}])
    for name, text in texts.items():
        (root / "_work" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "_work" / name).write_text(text)
    with pytest.raises(KeyboardInterrupt):
        remove(Killed(root, deletions), [Takedown("video", "e" * 64)])
    remove(root, [])
    of_nobody = set() if recorded else {"_work/ledger/fit/x.json"}
    assert set(LocalFiles(root).list("_work")) <= of_nobody


def test_a_list_that_is_no_text_is_a_usage_error(written: Written) -> None:
    root, _ = written
    (root / "takedowns.jsonl").write_bytes(b'{"kind": "video", "id": "\xff"}\n')
    with pytest.raises(UsageError, match="line 1 cannot be read"):
        remove(root, [])


def test_a_repeat_of_a_removed_row_stands_alone(tmp_path: Path) -> None:
    pairs = make_pairs(6, frames=80)
    pairs[4] = replace(pairs[4], duplicate_of=pairs[0].pair_id, scores={**pairs[3].scores, "duplicate_similarity": 1.0})
    write_dataset(tmp_path, pairs, shards=6)
    assert pairs[4].pair_id not in Dataset(tmp_path).ids()
    remove(tmp_path, [Takedown("video", pairs[0].source.video_id)])
    assert pairs[4].pair_id in Dataset(tmp_path).ids()
    assert Dataset(tmp_path).pair(pairs[4].pair_id).duplicate_of == ""


def test_rejects_of_a_video_go(written: Written) -> None:
    root, _ = written
    assert remove(root, [Takedown("video", "f" * 64)]).rejects == 1
    assert Dataset(root).rejects() == []
    assert verify(root).sound


def test_the_content_of_a_source_goes_whatever_it_is_called(tmp_path: Path) -> None:
    """By id or address, rows or rejects: the same bytes must not come back under another name."""
    pairs = make_pairs(4, frames=20)
    pairs[0] = replace(pairs[0], source=replace(pairs[0].source, source_id="film", source_uri="elsewhere.mp4"))
    rejects = [
        Reject("e" * 64, "x.mp4", "scan", "no_face", source_id="film"),
        Reject("e" * 64, "copy of x.mp4", "scan", "no_face"),
        Reject("", "broken.mp4", "probe", "unreadable", source_id="film"),
        Reject("d" * 64, "y.mp4", "scan", "no_face", source_id="other"),
    ]
    write_dataset(tmp_path, pairs, rejects=rejects)
    assert set(remove(tmp_path, [Takedown("source", "film")]).pairs) == {pair.pair_id for pair in pairs[:2]}
    assert [reject.video_id for reject in Dataset(tmp_path).rejects()] == ["d" * 64]
    remembered = {entry.id for entry in read_takedowns(LocalFiles(tmp_path)) if entry.kind == "video"}
    assert remembered == {pairs[0].source.video_id, "e" * 64}
    assert verify(tmp_path).sound


def test_a_reject_table_without_sources_is_sound(tmp_path: Path) -> None:
    write_dataset(tmp_path, make_pairs(2, frames=20))
    manifest = Dataset(tmp_path).manifest
    (entry,) = manifest.of_kind("rejects")
    older = pq.read_table(tmp_path / entry.path).drop_columns(["source_id"])
    files = LocalFiles(tmp_path)
    write_manifest(files, manifest.with_files([put(files, entry.path, table_bytes(older), "rejects", older.num_rows)]))
    assert verify(tmp_path).problems == []
    assert [reject.source_id for reject in Dataset(tmp_path).rejects()] == [""]


def test_thresholds_in_use_stay(written: Written) -> None:
    from duologue.schemas.finish import reselect
    from duologue.schemas.selection import SelectionOptions, selection_options

    root, _ = written
    reselect(root, SelectionOptions(min_duration_s=0.5))
    remove(root, [Takedown("person", "p1")])
    assert selection_options(Dataset(root).selection()).min_duration_s == 0.5


def test_bad_takedowns_are_usage_errors(written: Written) -> None:
    root, _ = written
    for kind, text in (("video", "abc"), ("video", ""), ("shot", "x" * 20)):
        with pytest.raises(UsageError):
            Takedown(kind, text)
    with pytest.raises(UsageError, match="nothing to remove"):
        remove(root, [])


_NAME = st.text("abc", max_size=3)


@given(
    _NAME,
    _NAME,
    _NAME,
    st.lists(_NAME, max_size=2),
    st.sampled_from(["source", "person"]),
    st.text("abc", min_size=1, max_size=3),
)
def test_is_taken_down(video: str, source: str, uri: str, persons: list[str], kind: str, name: str) -> None:
    got = is_taken_down([Takedown(kind, name)], video_id=video, source_id=source, source_uri=uri, persons=persons)
    assert got == (name in (source, uri) if kind == "source" else name in persons)


def test_unknown_people_are_nobody() -> None:
    assert not is_taken_down([Takedown("person", "p1")], persons=("", ""))
    assert not is_taken_down([Takedown("video", "f" * 64)], video_id="")
