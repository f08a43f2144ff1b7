from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from duologue.schemas.records import Reject, Video
from duologue.transforms.elements import HeardPiece, PieceDone, SoundChunk
from duologue.transforms.work import WorkStore, digest, pack, unpack

VIDEO = Video(
    video_id="0" * 64, uri="x.mp4", start_s=0.0, end_s=9.5, duration_s=9.5, width=64, height=48, rotation=0,
    mean_fps=25.0, variable_rate=False, video_offset_s=0.0, audio_offset_s=0.1, container="mp4", video_codec="h264",
    audio_codec="aac", size_bytes=10,
)  # fmt: skip


def test_arrays_come_back_and_their_bytes_do_not_depend_on_order() -> None:
    one = {"a": np.arange(6.0).reshape(2, 3), "b": np.array(["x", "yy"])}
    assert pack(one) == pack(dict(reversed(one.items())))
    back = unpack(pack(one))
    assert back["a"].tolist() == one["a"].tolist()
    assert back["b"].tolist() == ["x", "yy"]


def test_objects_are_refused() -> None:
    with pytest.raises(TypeError, match="Python objects"):
        pack({"a": np.array([object()])})


def test_a_name_promises_its_bytes(tmp_path: Path) -> None:
    work = WorkStore(str(tmp_path))
    name = work.put("scan", "k", b"hello", ".bin")
    assert work.get(name) == b"hello"
    (tmp_path / name).write_bytes(b"hellp")
    with pytest.raises(ValueError, match="damaged"):
        work.get(name)


def test_bytes_that_went_bad_are_written_again(tmp_path: Path) -> None:
    work = WorkStore(str(tmp_path))
    name = work.put("scan", "k", b"hello", ".bin")
    (tmp_path / name).write_bytes(b"hellp")
    assert work.put("scan", "k", b"hello", ".bin") == name
    assert work.get(name) == b"hello"


@pytest.mark.parametrize("gone", ["file", "sound"])
def test_a_piece_whose_file_is_gone_is_not_finished(tmp_path: Path, gone: str) -> None:
    work = WorkStore(str(tmp_path))
    names = {"file": work.put("listen", "k", b"arrays", ".npz"), "sound": work.put("listen", "k-000", b"s", ".flac")}
    heard = HeardPiece(VIDEO, 0, 0.0, 9.5, names["file"], (SoundChunk(0.0, 9.5, names["sound"]),))
    work.finish("listen", "k", [heard])
    kinds = {"HeardPiece": HeardPiece}
    assert work.finished("listen", "k", kinds) == [heard]
    (tmp_path / names[gone]).unlink()
    assert work.finished("listen", "k", kinds) is None


@pytest.mark.parametrize("text", ["", "[{", '[{"kind": "Elsewhere", "value": {}}]', '[{"kind": "Video", "value": {}}]'])
def test_a_damaged_record_is_no_promise(tmp_path: Path, text: str) -> None:
    work = WorkStore(str(tmp_path))
    work.finish("probe", "k", [])
    (tmp_path / "ledger/probe/k.json").write_text(text)
    assert work.finished("probe", "k", {"Video": Video}) is None


def test_the_ledger_gives_back_typed_outputs(tmp_path: Path) -> None:
    work = WorkStore(str(tmp_path))
    outputs = [
        PieceDone(VIDEO, 0, 0.0, 9.5, work.put("scan", "x", b"", ".npz")),
        Reject("v", "u", "scan", "no_face", 'it said "no"', 1.0, 2.0, 3),
    ]
    kinds = {"PieceDone": PieceDone, "Reject": Reject}
    assert work.finished("scan", "k", kinds) is None
    work.finish("scan", "k", outputs)
    assert work.finished("scan", "k", kinds) == outputs


def test_a_digest_stands_for_content() -> None:
    assert digest("a", VIDEO) == digest("a", VIDEO)
    assert digest("a", {"x": 1, "y": 2}) == digest("a", {"y": 2, "x": 1})
    assert digest("ab", "c") != digest("a", "bc")
    assert digest(os.fsdecode(b"caf\xe9")) != digest(os.fsdecode(b"caf\xe8"))  # names of files need not be UTF-8
