"""UniLS's files: what is read and written, and everything that may be wrong with them."""

from __future__ import annotations

import builtins
import io
import json
from pathlib import Path

import lmdb
import numpy as np
import pytest
from duologue.model.unils_format import (
    DATABASE,
    PAIRS,
    Conversation,
    read_list,
    read_record,
    reading,
    record_bytes,
    write_list,
    writing,
)
from duologue.schemas.errors import BadInput, UsageError
from unils_factory import record, write_database, write_folder


def savez(**arrays: object) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def test_records_come_back(tmp_path: Path) -> None:
    given = {f"r{k}": record(k, frames=20, stop=15) for k in range(70)}  # over one commit
    with writing(tmp_path) as write:
        for name, one in given.items():
            write(name, one)
    with reading(tmp_path) as read:
        for name, one in given.items():
            back = read(name)
            for field in ("motion", "audio", "speech"):
                np.testing.assert_array_equal(getattr(back, field), getattr(one, field))
            assert (back.motion.dtype, back.audio.dtype, back.speech.dtype) == (np.float32, np.float32, bool)


def test_what_others_write_reads(tmp_path: Path) -> None:
    """Half precision, masks of any type, no sound; columns in the order of FLAME's joints."""
    motion = np.arange(3 * 112, dtype=np.float16).reshape(3, 112) / 8
    back = read_record(savez(motioncode=motion, audio=np.zeros(9, np.float64), speech_mask=np.array([0, 1, 1])))
    np.testing.assert_array_equal(back.motion, motion.astype(np.float32))
    np.testing.assert_array_equal(back.speech, [False, True, True])
    assert read_record(savez(motioncode=motion)).audio is None
    raw = np.load(io.BytesIO(record_bytes(back)))
    assert {name: (raw[name].dtype, raw[name].shape) for name in raw} == {
        "motioncode": (np.float32, (3, 112)), "audio": (np.float32, (9,)), "speech_mask": (np.float32, (3,))
    }  # fmt: skip


MOTION = np.zeros((5, 112), np.float32)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (savez(audio=np.zeros(5)), "has no motioncode"),
        (savez(motioncode=np.zeros((5, 108))), r"motioncode of shape \[5, 108\], expected \[T, 112\]"),
        (savez(motioncode=np.zeros((0, 112))), r"motioncode of shape \[0, 112\]"),
        (savez(motioncode=np.zeros((5, 112), int)), "motioncode of int64, expected floating-point"),
        (savez(motioncode=np.where(np.arange(112) == 7, np.nan, MOTION)), "NaN or infinity in motioncode"),
        (savez(motioncode=MOTION, audio=np.array([np.inf])), "NaN or infinity in audio"),
        (savez(motioncode=MOTION, audio=np.zeros((2, 9))), r"audio of shape \[2, 9\]"),
        (savez(motioncode=MOTION, audio=np.array([30000.0])), r"3e\+04 in audio, expected at most 100"),
        (savez(motioncode=MOTION, speech_mask=np.array([0, 2])), "speech_mask that leaves 0..1"),
        (savez(motioncode=MOTION, speech_mask=np.array([np.nan])), "speech_mask that leaves 0..1"),
        (savez(motioncode=MOTION, speech_mask=np.array(["a"])), "speech_mask of <U1"),
        (savez(motioncode=np.array([None])), "not an npz file of plain arrays: .*pickle"),
        (savez(motioncode=MOTION)[:900], "not an npz file"),
        (b"", "not an npz file"),
    ],
)
def test_bad_records_say_what_is_wrong(data: bytes, line: str, tmp_path: Path) -> None:
    write_database(tmp_path, {"bad": data, "good": record(0)})
    with reading(tmp_path) as read:
        with pytest.raises(BadInput, match=f"^unreadable: bad .*{line}"):
            read("bad")
        assert len(read("good").motion) == 100
        for name in ("none", "x" * 600):  # longer than a key may be
            with pytest.raises(BadInput, match=f"{name} is not in the database"):
                read(name)


def test_bad_databases_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_database(tmp_path, {f"r{k}": record(k) for k in range(5)})
    data = (tmp_path / DATABASE / "data.mdb").read_bytes()
    for cut, line in ((len(data) // 2, "truncated"), (10, "LMDB"), (0, "LMDB")):
        (tmp_path / DATABASE / "data.mdb").write_bytes(data[:cut])
        with pytest.raises(UsageError, match=line), reading(tmp_path):
            pass
    (tmp_path / DATABASE / "data.mdb").write_bytes(b"no database, but long enough for its first page" * 300)
    with pytest.raises(UsageError, match="not an LMDB"), reading(tmp_path):
        pass
    real = builtins.__import__

    def absent(name: str, *rest: object, **more: object) -> object:
        if name == "lmdb":
            raise ModuleNotFoundError(name=name)
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UsageError, match="pip install lmdb"), reading(tmp_path):
        pass
    with pytest.raises(UsageError, match="pip install lmdb"), writing(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists()


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duologue.model.unils_format._MAP_BYTES", 2**16)
    with pytest.raises(UsageError, match="cannot be written"), writing(tmp_path) as write:
        write("r", record(0))


def test_lists_of_both_kinds(tmp_path: Path) -> None:
    write_database(tmp_path, {})
    with pytest.raises(UsageError, match="no JSON list"):
        read_list(tmp_path, "train")
    lines: dict[str, object] = {
        "one": ["a/b/left.npz", "right", 90], "short": ["left", 90], "text": "no", "words": ["a", "b", "90"],
        "none": ["a", "b", 0], "truth": ["a", "b", True], "vast": ["a", "b", 10**12], "nameless": ["a/..", "/", 9],
        "half\ud800": ["a", "\udfff", 9],
    }  # fmt: skip
    (tmp_path / PAIRS).write_text(json.dumps({"train": lines, "val": [["solo", 80], ["solo", 80, 80], 3]}))
    root, found, bad = read_list(tmp_path, "train")
    assert root == tmp_path
    assert found == [Conversation("one", ("left.npz", "right"), 90), Conversation("half?", ("a", "?"), 9)]
    assert list(bad) == ["short", "text", "words", "none", "truth", "vast", "nameless"]
    assert bad["short"] == 'the list says ["left", 90], expected 2 name(s) and a number of frames'
    _, found, bad = read_list(tmp_path / PAIRS, "val")
    assert found == [Conversation("solo", ("solo",), 80)]
    assert list(bad) == ["val[1]", "val[2]"]
    with pytest.raises(UsageError, match="no list 'test'"):
        read_list(tmp_path, "test")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UsageError, match="2 JSON lists: name one"):
        read_list(tmp_path, "train")
    for text in ("[1]", '{"train": 3}', "{"):
        (tmp_path / "other.json").write_text(text)
        with pytest.raises(UsageError, match=r"other\.json"):
            read_list(tmp_path / "other.json", "train")
    for folder in (tmp_path / "none", tmp_path / DATABASE):
        with pytest.raises(UsageError, match="holds no data_lmdb"):
            read_list(folder, "train")


def test_written_lists_read(tmp_path: Path) -> None:
    write_folder(tmp_path, {}, {})
    lists = {"val": [Conversation("p", ("p_a", "p_b"), 75)]}
    write_list(tmp_path, lists)
    assert read_list(tmp_path, "val")[1] == lists["val"]
    assert read_list(tmp_path, "train") == (tmp_path, [], {})


def test_the_database_opens_elsewhere(tmp_path: Path) -> None:
    """As other software opens it: no lock, npz by key."""
    with writing(tmp_path) as write:
        write("r", record(3))
    with lmdb.open(str(tmp_path / DATABASE), readonly=True, lock=False) as environment, environment.begin() as reader:
        raw = np.load(io.BytesIO(reader.get(b"r")))
        np.testing.assert_array_equal(raw["motioncode"], record(3).motion)
