"""Npz files of others: plain arrays or one line."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from duologue.model import npz
from duologue.model.npz import npz_bytes, read_arrays


def test_arrays_come_back_and_bytes_repeat() -> None:
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([True, False])}
    data = npz_bytes(arrays)
    assert npz_bytes(arrays) == data
    back = read_arrays(io.BytesIO(data), ("a",), ("b", "c"))
    assert list(back) == ["a", "b"]
    for name, array in back.items():
        np.testing.assert_array_equal(array, arrays[name])
        assert array.dtype == arrays[name].dtype


class Boom:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("a pickle was read",))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.savez(stream, a=np.array([Boom()], dtype=object))
    plain = io.BytesIO()
    np.save(plain, np.array([Boom()], dtype=object))
    for data in (stream.getvalue(), plain.getvalue(), pickle.dumps(Boom())):
        with pytest.raises(ValueError, match=r"^is not an npz file of plain arrays: .*pickle"):
            read_arrays(io.BytesIO(data), ("a",))


def test_damage_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    good = npz_bytes({"a": np.arange(1000.0)})
    array = io.BytesIO()
    np.save(array, np.arange(5.0))
    liar = io.BytesIO()
    with zipfile.ZipFile(liar, "w") as out:
        huge = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }".ljust(117) + b"\n"
        out.writestr("a.npy", b"\x93NUMPY\x01\x00" + len(huge).to_bytes(2, "little") + huge)
    flipped = bytearray(good)
    flipped[500] ^= 1
    bad = {"empty": b"", "text": b"no", "npy": array.getvalue(), "cut": good[:4000], "liar": liar.getvalue()}
    for name, data in {**bad, "flipped": bytes(flipped)}.items():
        with pytest.raises(ValueError, match=r"^is not an npz file") as caught:
            read_arrays(io.BytesIO(data), ("a",))
        assert "\n" not in str(caught.value), name
    with pytest.raises(ValueError, match=r"^has no b$"):
        read_arrays(io.BytesIO(good), ("a", "b"))
    monkeypatch.setattr(npz, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match="a is larger than"):
        read_arrays(io.BytesIO(good), ("a",))
