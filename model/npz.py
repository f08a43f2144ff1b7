"""Npz files: others' read without pickles and within a size, ours written without time stamps."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

MAX_BYTES = 2**30  # of one array; five hours of sound, more of motion


def read_arrays(
    source: str | Path | io.BytesIO, names: Sequence[str], may_lack: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """The named arrays of an npz; others are not looked at.

    Args:
        names: that must be there. may_lack: that need not be.

    Raises:
        ValueError: no npz, an array that is missing, damaged, pickled or too large; one line that goes on after the
            file's name.
    """
    out: dict[str, np.ndarray] = {}
    try:
        with np.load(source, allow_pickle=False) as archive:
            for name in (*names, *may_lack):
                if name in archive:
                    if archive.zip.getinfo(f"{name}.npy").file_size > MAX_BYTES:
                        raise ValueError(f"{name} is larger than {MAX_BYTES >> 20} MiB")
                    out[name] = archive[name]
    except (
        OSError, ValueError, EOFError, KeyError, AttributeError, TypeError, MemoryError, SyntaxError, RuntimeError,
        zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        raise ValueError(f"is not an npz file of plain arrays: {' '.join(str(error).split())[:160]}") from error
    missing = [name for name in names if name not in out]
    if missing:
        raise ValueError(f"has no {missing[0]}")
    return out


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """An uncompressed npz; the same arrays give the same bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as out:
        for name, array in arrays.items():
            part = io.BytesIO()
            np.lib.format.write_array(part, np.ascontiguousarray(array), allow_pickle=False)
            out.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), part.getvalue())
    return stream.getvalue()
