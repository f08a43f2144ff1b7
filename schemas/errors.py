"""The ways work may stop: the user asked for something impossible, one input is bad, the machine refuses storage."""

from __future__ import annotations

import errno
import os
import re

# Storage takes no more, of anything: a run cannot go on, where each of its items would become a reject.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
# Sockets and schedulers refuse in these words too: they are storage's where a file is named.
_OF_A_FILE = (errno.EACCES, errno.EPERM, errno.EIO)
_TOLD = re.compile(r"""\[Errno (\d+)\][^\n:\[]*(?:: ('[^'\n]*'|"[^"\n]*"))?""")


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

    An exception that another one caused, or that was being handled when another came, counts.
    """
    chain: BaseException | None = error
    while chain is not None:
        fault = _refusal(chain.errno, chain.filename) if isinstance(chain, OSError) else None
        if fault is not None:
            return fault
        chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)
    return None


def told_storage_fault(text: str) -> str | None:
    """The last refusal of storage in a text that a runner carries (``OSError: [Errno 28] ...: 'name'``), or None."""
    faults = [_refusal(int(told[1]), (told[2] or "")[1:-1]) for told in _TOLD.finditer(text)]
    return next((fault for fault in reversed(faults) if fault is not None), None)


def _refusal(number: int | None, name: object) -> str | None:
    where = f"{os.fsdecode(name)}: " if isinstance(name, (str, bytes)) and name else ""
    if number in (*NO_ROOM, errno.EFBIG) or (where and number in _OF_A_FILE):
        return where + os.strerror(number)
    return None
