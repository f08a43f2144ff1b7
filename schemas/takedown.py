"""Takedowns: videos, sources and people that must leave a data set and never come back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import UsageError
from .files import Files
from .records import Reject

TAKEDOWNS = "takedowns.jsonl"
KINDS = ("video", "source", "person")
TAKEN_BY = ("video_id", "source_id", "source_uri", "a.person_id", "b.person_id")


@dataclass(frozen=True, order=True)
class Takedown:
    """What was taken down: a video id (or the beginning of one, 16 digits or more), a source id or URI, a person id."""

    kind: str
    id: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS or not self.id:
            raise UsageError(f"a takedown names a {', '.join(KINDS[:-1])} or {KINDS[-1]} by its id")
        if self.kind == "video" and len(self.id) < 16:
            raise UsageError(f"video id {self.id!r} is too short to be sure of: give at least 16 digits")


def read_takedowns(files: Files) -> tuple[Takedown, ...]:
    """Everything taken down so far; empty where nothing was.

    Raises:
        UsageError: a line cannot be read. Nothing may be written then: a row could come back.
    """
    if not files.exists(TAKEDOWNS):
        return ()
    out = []
    for number, line in enumerate(files.read_bytes(TAKEDOWNS).splitlines(), 1):
        try:
            entry = json.loads(line.decode())
            out.append(Takedown(str(entry["kind"]), str(entry["id"])))
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{files.root}/{TAKEDOWNS} line {number} cannot be read: {error}") from error
    return tuple(sorted(set(out)))


def row_taken_down(takedowns: Iterable[Takedown], row: Mapping[str, Any]) -> bool:
    """Whether a pair's row (columns :data:`TAKEN_BY` are enough) must not be written."""
    known = {name: row[name] for name in ("video_id", "source_id", "source_uri")}
    return is_taken_down(takedowns, **known, persons=(row["a.person_id"], row["b.person_id"]))


def reject_taken_down(takedowns: Iterable[Takedown], reject: Reject) -> bool:
    """Whether a reject names what was taken down."""
    known = {"video_id": reject.video_id, "source_id": reject.source_id, "source_uri": reject.uri}
    return is_taken_down(takedowns, **known)


def takedown_bytes(takedowns: Iterable[Takedown]) -> bytes:
    """``takedowns.jsonl``: one JSON object a line, sorted."""
    lines = [json.dumps({"kind": entry.kind, "id": entry.id}) for entry in sorted(set(takedowns))]
    return "".join(line + "\n" for line in lines).encode()


def is_taken_down(
    takedowns: Iterable[Takedown],
    *,
    video_id: str = "",
    source_id: str = "",
    source_uri: str = "",
    persons: Iterable[str] = (),
) -> bool:
    """Whether a video, or a pair of these people, must not be written.

    Ask before work starts (video, source) and again before a row is written (people are known only then).
    """
    people = {person for person in persons if person}
    for entry in takedowns:
        if entry.kind == "video" and video_id.startswith(entry.id):
            return True
        if entry.kind == "source" and entry.id in (source_id, source_uri):
            return True
        if entry.kind == "person" and entry.id in people:
            return True
    return False
