"""A file that the user named: whole or not at all, where a link leads, and into pipes and devices as they are."""

from __future__ import annotations

import os
from pathlib import Path

from ..schemas.errors import UsageError
from ..schemas.files import LocalFiles


def write_file(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``; folders are made.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)  # a name of its own (/dev/stdout) may have no real path
        else:
            target = Path(os.path.realpath(path))
            LocalFiles(target.parent).write_bytes_atomic(target.name, data)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
