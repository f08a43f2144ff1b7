"""Rejects by stage and reason, with a few examples of each; as many as there are rejects are never held."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from ..schemas.records import Reject

EXAMPLES = 5


@dataclass(frozen=True)
class RejectGroup:
    """What one stage stopped for one reason.

    Attributes:
        hours: of all of them. examples: the first :data:`EXAMPLES` by URI and time.
    """

    stage: str
    reason: str
    count: int
    hours: float
    examples: tuple[Reject, ...]


def group_rejects(shards: Iterable[list[Reject]]) -> tuple[RejectGroup, ...]:
    """Groups of the rejects of all shards, the largest first."""
    groups: dict[tuple[str, str], RejectGroup] = {}
    for shard in shards:
        found: dict[tuple[str, str], list[Reject]] = {}
        for reject in shard:
            found.setdefault((reject.stage, reject.reason), []).append(reject)
        for key, rejects in found.items():
            old = groups.get(key, RejectGroup(*key, 0, 0.0, ()))
            shown = heapq.nsmallest(
                EXAMPLES, [*old.examples, *rejects], key=lambda reject: (reject.uri, reject.start_s)
            )
            hours = old.hours + sum(reject.end_s - reject.start_s for reject in rejects) / 3600
            groups[key] = RejectGroup(*key, old.count + len(rejects), hours, tuple(shown))
    return tuple(sorted(groups.values(), key=lambda group: (-group.count, group.stage, group.reason)))
