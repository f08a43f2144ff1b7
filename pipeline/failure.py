"""Why a Beam job failed, in one line; the traceback goes into its work folder."""

from __future__ import annotations

import re
import traceback

from ..schemas.errors import storage_fault, told_storage_fault
from ..transforms.work import WorkStore

_KNOWN = (
    r"\d+ of \d+ items broke in stage .*?(?= \[while running|$)",
    r"(?<=UsageError: ).*?(?= \[while running|$)",
)


def job_failure(error: Exception, work: WorkStore) -> str:
    """One line on why a job failed. Runners wrap a worker's exception in their own, with its traceback as text."""
    for pattern in _KNOWN:
        known = re.search(pattern, str(error), re.MULTILINE)
        if known is not None:
            return f"gave up: {known.group(0)}"
    text = str(error)
    log = _log(error, work)
    fault = storage_fault(error) or told_storage_fault(text)
    if fault is not None:
        return f"gave up: {fault}; mend that and run the same command again to go on{log}"
    damaged = re.search(r"work file \S+ is damaged; delete it and run again", text)
    why = damaged.group(0) if damaged else f"{type(error).__name__}: {(text.splitlines() or [''])[0]}"
    if not log:
        traceback.print_exception(error)  # the only place left
    return f"the job failed: {why}{log}"


def _log(error: Exception, work: WorkStore) -> str:
    """Write the traceback; returns where it lies, for the end of a line, or "" where storage does not take it."""
    try:
        work.files.write_bytes_atomic("error.log", "".join(traceback.format_exception(error)).encode())
    except OSError:
        return ""
    return f" (all of it: {work.root}/error.log)"
