"""The two ways work may stop: the user asked for something impossible, or one input is bad."""

from __future__ import annotations


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
