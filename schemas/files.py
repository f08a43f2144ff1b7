"""Where a data-set folder lives: a handful of whole-file operations below one root, local here, Beam's elsewhere."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Protocol


class Files(Protocol):
    """Whole files below one root folder; a file appears complete or not at all.

    Names are relative to ``root`` and use ``/``. ``root`` without ``://`` is a local path.
    """

    root: str

    def read_bytes(self, name: str) -> bytes:
        """Raises FileNotFoundError where there is no such file."""
        ...

    def write_bytes_atomic(self, name: str, data: bytes) -> None: ...

    def exists(self, name: str) -> bool: ...

    def list(self, folder: str = "") -> list[str]:
        """Names of all files below ``folder``, sorted; empty where there is no such folder."""
        ...

    def delete(self, name: str) -> None:
        """Deletes a file; no error where it is already gone."""
        ...


class LocalFiles:
    """:class:`Files` on a local disk. Writes go through a temporary file, fsync and rename."""

    def __init__(self, root: str | Path) -> None:
        self.root = str(root)
        self._root = Path(root)

    def read_bytes(self, name: str) -> bytes:
        return (self._root / name).read_bytes()

    def write_bytes_atomic(self, name: str, data: bytes) -> None:
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the rename itself survives a power cut
        finally:
            os.close(folder)

    def exists(self, name: str) -> bool:
        return (self._root / name).is_file()

    def list(self, folder: str = "") -> list[str]:
        start = self._root / folder
        return sorted(path.relative_to(self._root).as_posix() for path in start.rglob("*") if path.is_file())

    def delete(self, name: str) -> None:
        (self._root / name).unlink(missing_ok=True)


def as_files(where: str | Path | Files) -> Files:
    """A folder path becomes :class:`LocalFiles`; anything that already is a :class:`Files` passes through."""
    return LocalFiles(where) if isinstance(where, (str, Path)) else where
