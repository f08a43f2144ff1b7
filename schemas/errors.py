"""The ways work may stop: the user asked for something impossible, one input is bad, the machine refuses storage."""

from __future__ import annotations

import errno
import os
import re

# Errors of storage that whoever runs the program can mend, and no code: a full, read-only, locked or broken disk.
_REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG}


class UsageError(Exception):
    """The command cannot be carried out as asked. The CLI prints its one line and exits with 2."""


class BadInput(Exception):
    """One video, shot or clip is unusable. It costs one reject row, never the job.

    Args:
        reason: one of the codes in :data:`duologue.schemas.records.REASONS`.
        detail: what decided, one line for a person.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = " ".join(detail.split())[:500]

    def __reduce__(self) -> tuple[type[BadInput], tuple[str, str]]:
        return (BadInput, (self.reason, self.detail))


def storage_fault(error: BaseException) -> str | None:
    """What storage refused, in one line, or None where ``error`` is something else.

    An exception that another one caused, or that a runner carries as text (``OSError: [Errno 28] ...``), counts.
    """
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, OSError) and chain.errno in _REFUSED:
            return _refusal(chain.errno, chain.filename)
        chain = chain.__cause__
    told = re.search(r"\[Errno (\d+)\][^\n:\[]*(?:: '([^'\n]*)')?", str(error))
    if told is not None and int(told.group(1)) in _REFUSED:
        return _refusal(int(told.group(1)), told.group(2))
    return None


def _refusal(number: int, name: object) -> str:
    where = f"{os.fsdecode(name)}: " if isinstance(name, (str, bytes)) and name else ""
    return where + os.strerror(number)
