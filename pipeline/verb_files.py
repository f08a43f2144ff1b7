"""The folder that a data-set verb works on: a local path, or any URI that Beam's filesystems know."""

from __future__ import annotations

from pathlib import Path

from ..schemas.errors import UsageError
from ..schemas.files import Files, LocalFiles


def files_of(where: str) -> Files:
    """The data-set folder as :class:`Files`.

    Raises:
        UsageError: a local folder that does not exist.
    """
    if "://" in where and not where.startswith("file://"):
        from ..transforms.storage import files_at

        return files_at(where)
    path = Path(where.removeprefix("file://"))
    if not path.is_dir():
        raise UsageError(f"{where} is not a folder")
    return LocalFiles(path)
