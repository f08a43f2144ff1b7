"""Pickles: arrays come out, nothing runs."""

from __future__ import annotations

import builtins
import pickle
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from duologue.fitting.safe_pickle import load_arrays
from duologue.schemas.errors import UsageError


class _Evil:
    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def test_nothing_runs(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    attacks = {
        "os": _Evil(__import__("os").system, f"touch {mark}"),
        "eval": _Evil(builtins.eval, f"open({str(mark)!r}, 'w')"),
        "popen": _Evil(subprocess.Popen, ["touch", str(mark)]),
        "getattr": _Evil(builtins.getattr, mark, "touch"),
        "numpy": _Evil(np.save, str(mark), np.zeros(1)),
        "load": _Evil(np.load, str(mark), None, True),
        "scipy": _Evil(scipy.sparse.load_npz, str(mark)),
    }
    for name, evil in attacks.items():
        path = tmp_path / f"{name}.pkl"
        path.write_bytes(pickle.dumps({"v_template": np.zeros(3), "x": evil}, protocol=2))
        with pytest.raises(UsageError, match="refused, the pickle asks for") as caught:
            load_arrays(path)
        assert "\n" not in str(caught.value)
        assert not list(tmp_path.glob("ran*"))


def test_the_refused_name_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(_Evil(subprocess.Popen, ["true"])))
    with pytest.raises(UsageError, match=r"subprocess\.Popen"):
        load_arrays(path)


def test_dotted_names_do_not_slip_through(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.")
    with pytest.raises(UsageError, match="refused"):
        load_arrays(path)


def test_arrays_of_every_kind_come_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    content = {
        "plain": rng.normal(size=(3, 4)),
        "fortran": np.asfortranarray(rng.normal(size=(3, 4))),
        "integers": np.arange(5, dtype=np.uint32),
        "column": scipy.sparse.csc_matrix(np.eye(4) * 2),
        "row": scipy.sparse.csr_matrix(np.triu(np.ones((3, 5)))),
        "number": 3.5,
        "text": "left out",
    }
    for protocol in range(6):
        path = tmp_path / f"{protocol}.pkl"
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        arrays = load_arrays(path)
        assert "text" not in arrays
        for name in ("plain", "fortran", "integers"):
            assert np.array_equal(arrays[name], content[name])
            assert arrays[name].dtype == content[name].dtype
        assert np.array_equal(arrays["column"], np.eye(4) * 2)
        assert np.array_equal(arrays["row"], np.triu(np.ones((3, 5))))


@pytest.mark.parametrize("data", [b"", b"garbage", pickle.dumps({"a": np.zeros(100)})[:-20], pickle.dumps([1, 2])])
def test_broken_files_say_so(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"not a readable pickle|refused|expected a pickled dict"):
        load_arrays(path)
