"""Every kind of damage is found and named; a sound data set has none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from duologue.schemas.check import row_problems
from duologue.schemas.errors import UsageError
from duologue.schemas.finish import finish_dataset, write_pairs
from duologue.schemas.manifest import FileEntry
from duologue.schemas.pair import pair_schema
from duologue.schemas.row import Row, pair_row, rows_to_table, table_to_rows
from duologue.schemas.shard import read_table, shard_index, table_bytes
from duologue.schemas.takedown import Takedown, takedown_bytes
from duologue.schemas.verify import schema_problem, verify
from duologue.tests.dataset_factory import CONFIG_HASH, make_pair, make_pairs, without_audio, write_dataset
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("shards", [1, 3])
def test_a_sound_data_set_has_no_problem(tmp_path: Path, shards: int) -> None:
    write_dataset(tmp_path, make_pairs(7, frames=40), shards=shards)
    report = verify(tmp_path)
    assert report.problems == []
    assert report.notes == []
    assert report.pairs == 7


@pytest.mark.parametrize("stage", ["sample", "score"])
def test_what_shows_a_data_set_is_no_stranger_in_it(tmp_path: Path, stage: str) -> None:
    write_dataset(tmp_path, make_pairs(2, frames=20), stage=stage)
    (tmp_path / "view/pairs").mkdir(parents=True)
    for name in ("view/index.html", "view/pairs/x.js", "report.html", "film.mp4", "notes.txt"):
        (tmp_path / name).write_text("x")
    (note,) = verify(tmp_path).notes
    strangers = ["notes.txt"] if stage == "sample" else ["film.mp4", "notes.txt"]  # no verb made that film
    assert note.endswith(f"ignored by readers: {', '.join(strangers)}")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 120), st.booleans())
def test_any_row_of_the_factory_is_sound(seed: int, frames: int, audio: bool) -> None:
    """Rounding to the steps of the schema breaks none of the checks."""
    assert (
        row_problems(next(table_to_rows(rows_to_table([pair_row(make_pair(seed, frames=frames, audio=audio))])))) == []
    )


def test_rows_without_sound_are_sound() -> None:
    assert row_problems(pair_row(without_audio(make_pair(1)))) == []


def scale(name: str, factor: float) -> Callable[[Row], None]:
    def change(row: Row) -> None:
        row[name] = row[name] * factor

    return change


def put(name: str, value: object, index: object = None) -> Callable[[Row], None]:
    def change(row: Row) -> None:
        if index is None:
            row[name] = value
        else:
            row[name] = row[name].copy()
            row[name][index] = value

    return change


def flip_validity(row: Row) -> None:
    row["a.valid"] = ~row["a.valid"]


def swap_people(row: Row) -> None:
    for name in [name for name in row if name.startswith("a.")]:
        row[name], row["b" + name[1:]] = row["b" + name[1:]], row[name]


def shut_eyes(row: Row, names: tuple[str, ...] = ("gaze", "gaze_raw", "gaze_sd")) -> None:
    for name in names:
        row[f"a.{name}"] = row[f"a.{name}"].copy()
        row[f"a.{name}"][:2] = np.nan


def test_gaze_is_unknown_while_the_eyes_are_shut() -> None:
    row = pair_row(make_pair(1))
    shut_eyes(row)
    assert row_problems(row) == []


DAMAGE: list[tuple[Callable[[Row], None], str]] = [
    (scale("a.gaze", 1.01), "a.gaze is not of unit length"),
    (scale("b.rotation", 10.0), "b.rotation turns by more than 180 degrees"),
    (scale("a.jaw", 50.0), "a.jaw turns by more than 90 degrees"),
    (scale("a.residual", -1.0), "a.residual is negative"),
    (scale("distance_m", 1.1), "distance_m is not the distance"),
    (scale("b.confidence", 2.0), "b.confidence leaves 0..1"),
    (put("a.rotation", np.nan, 0), "a.rotation is NaN in a valid frame"),
    (put("b.expression", np.inf, (0, 0)), "b.expression holds infinity"),
    (put("a.shape", np.nan, 0), "a.shape is not finite"),
    (lambda row: shut_eyes(row, ("gaze",)), "a.gaze, gaze_raw and gaze_sd are not known in the same frames"),
    (flip_validity, "a frame that is not valid"),
    (swap_people, "a begins to the right of b"),
    (put("mutual_gaze", 1.5, 0), "mutual_gaze leaves 0..1"),
    (put("camera_to_dyad", 2.0, (0, 0)), "camera_to_dyad is not a rigid transform"),
    (put("camera_to_dyad", 2.0, (0, 3)), "camera_to_dyad does not put the head centres"),
    (put("a.head_centre", -1.0, (0, 2)), "a.head_centre lies behind the camera"),
    (put("a.box", 1e5, (0, 0)), "a.box is empty"),
    (put("n_people", 1), "b is valid in a row of one person"),
    (put("n_people", 3), "n_people is 3"),
    (put("end_s", 0.5), "are not a clip"),
    (put("end_s", 9.0), "n_frames 75 does not fit"),
    (put("fps", -25.0), "fps is -25"),
    (put("scores.speech_share", 1.2), "scores.speech_share is 1.2, a share lies in 0..1"),
    (put("turns", [{"start_s": 0.0, "end_s": 2.0, "speaker": "v0", "face": "a"}]), "lies outside the clip"),
    (put("turns", [{"start_s": 2.0, "end_s": 3.0, "speaker": "v0", "face": "c"}]), "turn of face 'c'"),
    (put("audio", {"bytes": b"fLaC....", "path": None}), "audio: "),
    (put("audio", None), "speech without audio"),
    (put("head_model_tier", "best"), "head_model_tier is 'best'"),
    (put("focal_source", "guess"), "focal_source is 'guess'"),
    (put("pair_id", "0" * 31 + "g"), "is not 32 hex digits"),
    (put("a.gaze", np.zeros((74, 3), np.float32)), "a.gaze has shape [74, 3], expected [75, 3]"),
    (put("config_hash", "other"), "config_hash is 'other', the manifest says"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "words"), DAMAGE, ids=[words[:30] for _, words in DAMAGE])
def test_damaged_rows_are_named(tmp_path: Path, damage: Callable[[Row], None], words: str) -> None:
    rows = [pair_row(pair) for pair in make_pairs(2)]
    damage(rows[0])
    finish(tmp_path, write_pairs(tmp_path, rows))
    problems = verify(tmp_path).problems
    assert any(words in problem.text and problem.pair_id == rows[0]["pair_id"] for problem in problems), problems
    assert all(problem.pair_id != rows[1]["pair_id"] for problem in problems)


def finish(root: Path, entries: list[FileEntry]) -> None:
    finish_dataset(root, entries, [], config_hash=CONFIG_HASH, code_version="0.1.0", config_yaml="", funnel={})


def test_mixed_coefficient_counts_are_found(tmp_path: Path) -> None:
    rows = [pair_row(pair) for pair in make_pairs(8, frames=5)]
    other = [row for row in rows if shard_index(row["pair_id"], 2) == 1]
    for row in other:
        for who in "ab":
            row[f"{who}.expression"] = row[f"{who}.expression"][:, :5].copy()
    finish(tmp_path, write_pairs(tmp_path, rows, shards=2))
    texts = [problem.text for problem in verify(tmp_path).problems]
    assert len(texts) == len(other) > 0
    assert all(text.startswith("a.expression has 5 coefficients, ") for text in texts)
    with pytest.raises(ValueError, match="different shapes"):
        write_pairs(tmp_path, rows, shards=1)


def shard_of(root: Path) -> Path:
    return next((root / "pairs").glob("*.parquet"))


def truncate(root: Path) -> None:
    shard_of(root).write_bytes(shard_of(root).read_bytes()[:-10])


def flip_a_bit(root: Path) -> None:
    data = bytearray(shard_of(root).read_bytes())
    data[len(data) // 2] ^= 1
    shard_of(root).write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncate, "bytes, the manifest says"),
        (flip_a_bit, "sha256"),
        (lambda root: shard_of(root).unlink(), "the file is gone"),
        (lambda root: (root / "README.md").write_text("mine"), "the manifest says"),
    ],
    ids=["truncated", "bit", "gone", "card"],
)
def test_damaged_files_are_named(tmp_path: Path, damage: Callable[[Path], None], words: str) -> None:
    write_dataset(tmp_path)
    damage(tmp_path)
    problems = verify(tmp_path).problems
    assert len(problems) == 1
    assert words in problems[0].text


def change_entry(root: Path, path: str, data: bytes, **changes: object) -> None:
    """Replace a file and tell the manifest about it, so that only its content is wrong."""
    import hashlib

    (root / path).write_bytes(data)
    manifest = json.loads((root / "manifest.json").read_text())
    for entry in manifest["files"]:
        if entry["path"] == path:
            entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), **changes}
    (root / "manifest.json").write_text(json.dumps(manifest))


def test_foreign_and_missing_columns_are_named(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    name = shard_of(tmp_path).relative_to(tmp_path).as_posix()
    table = pq.read_table(shard_of(tmp_path)).drop_columns(["a.gaze"])
    change_entry(tmp_path, name, table_bytes(table))
    assert verify(tmp_path).problems[0].text == "columns missing: a.gaze"


def test_rows_of_the_wrong_shard_and_twice(tmp_path: Path) -> None:
    pairs = make_pairs(8, frames=5)
    entries = write_pairs(tmp_path, pairs, shards=2)
    finish(tmp_path, entries)
    assert verify(tmp_path).sound
    first, second = (tmp_path / entry.path for entry in entries)
    change_entry(tmp_path, entries[1].path, first.read_bytes(), rows=entries[0].rows)
    texts = {problem.text for problem in verify(tmp_path).problems}
    assert "belongs to another shard" in texts
    assert f"is also in {entries[0].path}" in texts
    assert second.exists()


def test_edited_selection_is_found(tmp_path: Path) -> None:
    write_dataset(tmp_path, make_pairs(10, frames=80))
    table = read_table((tmp_path / "selection.parquet").read_bytes())
    split = pa.array(["test", *table["split"].to_pylist()[1:]])
    forged = table.set_column(table.column_names.index("split"), table.schema.field("split"), split)
    if table["split"][0].as_py() == "test":
        pytest.fail("choose another row")
    change_entry(tmp_path, "selection.parquet", table_bytes(forged))
    assert [str(problem) for problem in verify(tmp_path).problems] == [
        "selection.parquet: split: not what its thresholds give",
        "selection.parquet: 1 component(s) lie in several splits",
    ]
    change_entry(tmp_path, "selection.parquet", table_bytes(table.slice(1)))
    assert "not the pairs of the shards" in verify(tmp_path).problems[0].text


def test_a_leak_is_found_and_foreign_thresholds_are_a_note(tmp_path: Path) -> None:
    write_dataset(tmp_path, make_pairs(4))
    table = read_table((tmp_path / "selection.parquet").read_bytes())
    meta = {**table.schema.metadata, b"duologue.selection": b'{"speech_share": 0.3}'}
    change_entry(tmp_path, "selection.parquet", table_bytes(table.replace_schema_metadata(meta)))
    report = verify(tmp_path)
    assert report.sound
    assert "another version" in report.notes[0]
    split = pa.array(["train", "val", "test", "train"])
    forged = table.replace_schema_metadata(meta).set_column(4, table.schema.field("split"), split)
    change_entry(tmp_path, "selection.parquet", table_bytes(forged))
    assert "lie in several splits" in verify(tmp_path).problems[0].text


def test_rows_that_were_taken_down_are_found(tmp_path: Path) -> None:
    pairs = write_dataset(tmp_path)
    (tmp_path / "takedowns.jsonl").write_bytes(takedown_bytes([Takedown("video", pairs[0].source.video_id)]))
    assert {problem.text for problem in verify(tmp_path).problems} == {"was taken down and is still a row"}


def test_stray_files_are_a_note(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    (tmp_path / "pairs/old.parquet").write_bytes(b"x")
    report = verify(tmp_path)
    assert report.sound
    assert "pairs/old.parquet" in report.notes[0]


def test_nothing_to_verify_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"manifest\.json"):
        verify(tmp_path)


def test_an_empty_data_set_is_sound(tmp_path: Path) -> None:
    write_dataset(tmp_path, [])
    report = verify(tmp_path)
    assert report.problems == []
    assert report.pairs == 0
    assert pq.read_schema(shard_of(tmp_path)).equals(pair_schema())


def test_a_shard_with_one_rotation_deviation_for_all_axes_is_sound() -> None:
    row = pair_row(make_pair())
    table = rows_to_table([row])
    for who in "ab":
        place = table.column_names.index(f"{who}.rotation_sd")
        older = pa.array([row[f"{who}.rotation_sd"][:, 0].tolist()], pa.list_(pa.float32()))
        table = table.set_column(place, pa.field(f"{who}.rotation_sd", older.type), older)
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(pair_schema().metadata), sink)
    assert schema_problem(pq.ParquetFile(pa.BufferReader(sink.getvalue())), pair_schema()) is None
