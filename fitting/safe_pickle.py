"""Reading arrays out of pickles without running anything that the file asks for.

FLAME's original files are Python 2 pickles of numpy arrays, one scipy sparse matrix and chumpy objects. The unpickler
here
resolves only names on a short list: numpy's array reconstruction, scipy's sparse containers (as inert stubs),
chumpy's ``Ch`` (as a stub that keeps its state) and torch's tensor rebuild (landmark embeddings are sometimes saved
with it). Everything else, named in the error, is refused. Nothing on the list calls user-given code.
"""

from __future__ import annotations

import _codecs
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..schemas.errors import UsageError

_SIZE_LIMIT = 2 << 30  # bytes


class _Inert:
    """Stands for a foreign object: swallows construction, keeps its state."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class ChumpyStub(_Inert):
    """``chumpy.ch.Ch``: the array lies under ``x`` of its state."""


class SparseStub(_Inert):
    """``scipy.sparse`` csc or csr matrix: data, indices, indptr and shape lie in its state."""

    by_column = True


class SparseRowStub(SparseStub):
    by_column = False


class _TensorStub(_Inert):
    """A torch tensor pickled outside of ``torch.save``; its storage bytes are never decoded."""


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Python 2 byte strings, as protocol 2 writes them."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding}")
    return _codecs.latin_1_encode(text)[0]


def _reconstruct(subtype: Any, shape: Any, dtype: Any) -> npt.NDArray[Any]:
    """``numpy.core.multiarray._reconstruct``, for plain arrays only."""
    if subtype is not np.ndarray:
        raise pickle.UnpicklingError("array subtype")
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def _dtype(code: Any, align: bool = False, copy: bool = False) -> np.dtype[Any]:
    """``numpy.dtype``, from its type string only."""
    if not isinstance(code, str):
        raise pickle.UnpicklingError("dtype")
    return np.dtype(code)


def _scalar(dtype: Any, data: bytes = b"") -> Any:
    """``numpy.core.multiarray.scalar`` for numbers."""
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise pickle.UnpicklingError("scalar type")
    return np.frombuffer(data if isinstance(data, bytes) else data.encode("latin1"), dtype=dtype)[0]


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> npt.NDArray[Any]:
    """``numpy._core.numeric._frombuffer`` (protocol 5), for numbers."""
    if not isinstance(data, bytes | bytearray) or not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise pickle.UnpicklingError("array buffer")
    return np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if order == "F" else "C")


def _copy_reconstructor(cls: Any, base: Any, state: Any) -> Any:
    """``copyreg._reconstructor`` for the stubs, whose state follows."""
    if not (isinstance(cls, type) and issubclass(cls, _Inert)):
        raise pickle.UnpicklingError("object type")
    return cls()


def _allowed() -> dict[tuple[str, str], Any]:
    names: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): _dtype,
        ("_codecs", "encode"): _encode,
        ("copy_reg", "_reconstructor"): _copy_reconstructor,
        ("copyreg", "_reconstructor"): _copy_reconstructor,
        ("__builtin__", "object"): object,
        ("builtins", "object"): object,
        ("__builtin__", "set"): set,
        ("builtins", "set"): set,
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _TensorStub,
        ("torch._utils", "_rebuild_tensor"): _TensorStub,
    }
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        names[module, "_reconstruct"] = _reconstruct
        names[module, "scalar"] = _scalar
    for module in ("numpy.core.numeric", "numpy._core.numeric"):
        names[module, "_frombuffer"] = _frombuffer
    for module in ("chumpy.ch", "chumpy"):
        names[module, "Ch"] = ChumpyStub
    for kind, stub in (("csc", SparseStub), ("csr", SparseRowStub)):
        for module in (f"scipy.sparse.{kind}", f"scipy.sparse._{kind}"):
            names[module, f"{kind}_matrix"] = stub
    return names


class _Unpickler(pickle.Unpickler):
    allowed = _allowed()

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.allowed[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("the pickle asks for outside storage")


def load_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a pickled dict, by name; chumpy objects and sparse matrices become dense arrays, other values are
    left out.

    Raises:
        UsageError: naming what the file asked for, when that is not on the list of inert names, or why it is
            unreadable.
    """
    size = path.stat().st_size
    if size > _SIZE_LIMIT:
        raise UsageError(f"{path}: {size} bytes, larger than any head model")
    with path.open("rb") as file:
        try:
            content = _Unpickler(file, encoding="latin1").load()
        except pickle.UnpicklingError as error:
            raise UsageError(f"{path}: refused, {error}; only arrays are read from pickles") from None
        except (MemoryError, RecursionError):
            raise UsageError(f"{path}: refused, the pickle asks for more memory than a head model needs") from None
        except Exception as error:  # a broken pickle raises anything, from IndexError to UnicodeDecodeError
            raise UsageError(f"{path}: not a readable pickle ({type(error).__name__}: {error})") from None
    if isinstance(content, np.ndarray) and content.dtype == object and content.shape == ():
        content = content.item()
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected a pickled dict of arrays, found {type(content).__name__}")
    arrays: dict[str, npt.NDArray[Any]] = {}
    for key, value in content.items():
        array = _as_array(value)
        if array is not None:
            arrays[str(key)] = array
    return arrays


def _as_array(value: Any) -> npt.NDArray[Any] | None:
    if isinstance(value, ChumpyStub):
        return _as_array(value.state.get("x")) if isinstance(value.state, dict) else None
    if isinstance(value, SparseStub):
        return _dense(value)
    if isinstance(value, np.ndarray):
        return None if value.dtype.hasobject else value
    if isinstance(value, np.generic | int | float):
        return np.asarray(value)
    return None


def _dense(matrix: SparseStub) -> npt.NDArray[Any] | None:
    """A compressed sparse matrix from its parts, with every index checked."""
    state = matrix.state
    if isinstance(state, tuple):  # objects with __slots__ pickle (dict, slots)
        state = next((s for s in state if isinstance(s, dict)), None)
    if not isinstance(state, dict):
        return None
    try:
        rows, columns = (int(n) for n in (state["_shape"] if "_shape" in state else state["shape"]))
        data, indices, starts = (np.asarray(state[k]) for k in ("data", "indices", "indptr"))
        major, minor = (columns, rows) if matrix.by_column else (rows, columns)
        if rows * columns > 1 << 26 or len(starts) != major + 1 or len(data) != len(indices):
            return None
        line = np.repeat(np.arange(major), np.asarray(np.diff(starts.astype(np.int64)), dtype=np.int64))
        dense = np.zeros((major, minor))
        np.add.at(dense, (line, indices.astype(np.int64)), data)
    except (KeyError, TypeError, ValueError, IndexError):
        return None
    return dense.T if matrix.by_column else dense
