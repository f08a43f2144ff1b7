from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.io.filesystem import BeamIOError
from duologue.pipeline.inputs import CHUNK, _cause, resolve_inputs, write_item_chunks
from duologue.schemas.errors import UsageError
from duologue.schemas.records import InputItem


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    for name in ("b.mp4", "a.MOV", "notes.txt", "deep/c.webm"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def test_a_folder_gives_its_media_files_sorted(folder: Path) -> None:
    names = [Path(item.uri).name for item in resolve_inputs([str(folder)])]
    assert names == ["a.MOV", "b.mp4", "c.webm"]


def test_a_folder_is_followed_through_links_once(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "d.mp4").write_bytes(b"x")
    (folder / "deep/up").symlink_to("..")
    (folder / "linked").symlink_to(other)
    (folder / "linked_again").symlink_to(other)
    (folder / "nowhere.mp4").symlink_to("gone.mp4")  # its reject row says that it is gone
    os.mkfifo(folder / "pipe.mp4")
    names = [str(Path(item.uri).relative_to(folder)) for item in resolve_inputs([str(folder)])]
    assert names == ["a.MOV", "b.mp4", "deep/c.webm", "linked/d.mp4", "nowhere.mp4"]


def test_a_link_renames_nothing_and_does_not_lead_above(folder: Path) -> None:
    """A link that sorts before the folder it leads to, and one to all that lies beside the folder asked for."""
    (folder / "in/b").mkdir(parents=True)
    (folder / "in/b/x.mp4").write_bytes(b"x")
    (folder / "in/a").symlink_to("b")
    (folder / "in/b/up").symlink_to("../..")
    (folder / "in/linked").symlink_to("../deep")
    notes: list[str] = []
    found = [item.uri for item in resolve_inputs([str(folder / "in")], notes.append)]
    assert found == [str(folder / "in/b/x.mp4"), str(folder / "in/linked/c.webm")]
    assert notes == [f"not looked into: {folder}/in/b/up: a link to above {folder}/in"]


def test_a_folder_that_cannot_be_read_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def locked(path: str) -> object:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    notes: list[str] = []
    assert len(resolve_inputs([str(folder)], notes.append)) == 2
    assert notes == [f"not looked into: {folder}/deep: Permission denied"]


def test_a_glob_gives_what_matches_and_a_file_itself_whatever_its_name(folder: Path) -> None:
    assert [Path(i.uri).name for i in resolve_inputs([str(folder / "*.mp4")])] == ["b.mp4"]
    assert [Path(i.uri).name for i in resolve_inputs([str(folder / "notes.txt")])] == ["notes.txt"]


def test_the_same_file_twice_is_one_item(folder: Path) -> None:
    assert len(resolve_inputs([str(folder / "b.mp4"), str(folder / "b.mp4")])) == 1


@pytest.mark.parametrize("name", ["missing.mp4", "*.avi", "empty/"])
def test_what_is_not_there_is_one_line(folder: Path, name: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(UsageError) as caught:
        resolve_inputs([str(folder / name)])
    assert "\n" not in str(caught.value)
    assert name.split(".")[0].strip("/*") in str(caught.value)


def test_manifests_of_all_three_kinds_agree(tmp_path: Path) -> None:
    row = {"uri": "clip.mp4", "source_id": "s", "start_s": 1.5, "end_s": 9.0, "license": "CC0", "attribution": "me"}
    row |= {"focal_px": 1200.0, "focal_log_sd": 0.15}
    (tmp_path / "m.csv").write_text(",".join(row) + "\n" + ",".join(str(v) for v in row.values()) + "\n")
    (tmp_path / "m.jsonl").write_text(json.dumps(row) + "\n")
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "m.parquet")
    found = [resolve_inputs([str(tmp_path / f"m.{kind}")]) for kind in ("csv", "jsonl", "parquet")]
    want = [InputItem(f"{tmp_path}/clip.mp4", "s", 1.5, 9.0, "CC0", "me", 1200.0, 0.15)]
    assert found == [want, want, want]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name\nx.mp4\n", "no uri"),
        ("uri,start_s\nx.mp4,soon\n", "start_s is not a number"),
        ("uri,start_s,end_s\nx.mp4,5,4\n", "not after start_s"),
        ("uri,start_s\nx.mp4,-1\n", "not negative"),
        ("uri,focal_px\nx.mp4,0\n", "focal_px must be positive"),
        ("uri,focal_log_sd\nx.mp4,0.1\n", "focal_log_sd without a focal_px"),
        ("uri\n", "no rows"),
    ],
)
def test_a_malformed_manifest_names_row_and_fault(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(UsageError, match=says):
        resolve_inputs([str(tmp_path / "m.csv")])


def test_only_line_feeds_end_a_line_of_a_manifest(tmp_path: Path) -> None:
    row = {"uri": "clip.mp4", "attribution": "one\u2028two\x85three"}
    (tmp_path / "m.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\r\n\n" + json.dumps({"uri": "b.mp4"}))
    found = resolve_inputs([str(tmp_path / "m.jsonl")])
    assert [item.attribution for item in found] == ["", row["attribution"]]


def test_a_manifest_with_damaged_pages_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    table = pa.Table.from_pylist([{"uri": f"clip{k}.mp4"} for k in range(50)])
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[40:60] = bytes(20)
    path.write_bytes(data)
    with pytest.raises(UsageError, match="cannot read the manifest") as caught:
        resolve_inputs([str(path)])
    assert "\n" not in str(caught.value)


def test_a_manifest_whose_texts_no_table_can_hold_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(json.dumps({"uri": "clip.mp4", "license": "\udce9"}))
    with pytest.raises(UsageError, match="row 1: license is not Unicode text"):
        resolve_inputs([str(tmp_path / "m.jsonl")])


def test_items_are_chunked_so_that_the_graph_stays_small(tmp_path: Path) -> None:
    items = [InputItem(f"{k:05d}.mp4") for k in range(CHUNK + 1)]
    names = write_item_chunks(items, str(tmp_path))
    assert len(names) == 2
    assert sum(len((tmp_path / name).read_text().splitlines()) for name in names) == len(items)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_column_under_another_name_is_not_lost_in_silence(tmp_path: Path, kind: str) -> None:
    rows = [{"uri": "a.mp4", "licence": "CC0-1.0", "source_id": "s"}, {"uri": "b.mp4", "licence": "", "source_id": ""}]
    path = tmp_path / f"list.{kind}"
    if kind == "csv":
        path.write_text("uri,licence,source_id\na.mp4,CC0-1.0,s\nb.mp4,,\n")
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    notes: list[str] = []
    items = resolve_inputs([str(path)], notes.append)
    assert [(Path(item.uri).name, item.source_id) for item in items] == [("a.mp4", "s"), ("b.mp4", "")]
    (note,) = notes
    assert note.startswith(f"not used of the manifest {path}: licence (known columns: uri,")


def test_why_a_store_cannot_be_listed_is_its_own_reason() -> None:
    inner = BeamIOError("exists() failed", {"s3://b/x": AssertionError("Missing boto3 requirement")})
    assert str(_cause(BeamIOError("Match failed", {"s3://b/x": inner}))) == "Missing boto3 requirement"
    plain = ValueError("no such scheme")
    assert _cause(plain) is plain


def test_of_one_part_named_twice_what_says_more_of_the_camera_comes_first(folder: Path) -> None:
    """In whatever order they are named, and whatever Python's hashes are."""
    media = sorted(path for path in folder.rglob("*.mp4"))[0]
    (folder / "m.csv").write_text(f"uri,focal_px\n{media},1400\n{media},1500\n")
    both = [
        resolve_inputs(names) for names in ([str(media), str(folder / "m.csv")], [str(folder / "m.csv"), str(media)])
    ]
    assert [item.focal_px for item in both[0]] == [1500.0, 1400.0, None]
    assert both[0] == both[1]
