"""The reject table: every stop with its reason, the same bytes whatever the order."""

from __future__ import annotations

from dataclasses import replace

import pytest
from duologue.schemas.records import REASONS, Reject
from duologue.schemas.reject import reject_schema, reject_table, table_to_rejects
from duologue.schemas.shard import read_table, table_bytes
from hypothesis import given
from hypothesis import strategies as st

_REJECTS = st.lists(
    st.builds(
        Reject,
        video_id=st.sampled_from(["", "a" * 64, "b" * 64]),
        uri=st.sampled_from(["x.mp4", "y.mp4"]),
        stage=st.sampled_from(["probe", "scan"]),
        reason=st.sampled_from(sorted(REASONS)),
        detail=st.text(max_size=5),
        start_s=st.floats(0, 10),
        end_s=st.floats(0, 10),
        shot_index=st.integers(-1, 3),
        source_id=st.sampled_from(["", "film"]),
    ),
    max_size=8,
)


@given(_REJECTS, st.randoms())
def test_round_trip_in_an_order_of_its_own(rejects: list[Reject], random: object) -> None:
    shuffled = list(rejects)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    data = table_bytes(reject_table(rejects))
    assert data == table_bytes(reject_table([*shuffled, *shuffled]))
    again = table_to_rejects(read_table(data))
    assert set(again) == set(rejects)
    assert len(again) == len(set(rejects))


def test_an_unknown_reason_is_refused() -> None:
    with pytest.raises(ValueError, match="bored"):
        reject_table([replace(Reject("", "x", "scan", "no_face"), reason="bored")])


def test_reasons_are_explained_in_the_schema() -> None:
    text = reject_schema().field("reason").metadata[b"description"].decode()
    assert all(f"{code} ({meaning})" in text for code, meaning in REASONS.items())
