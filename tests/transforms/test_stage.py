"""The frame around every stage: ledger, rejects, tallies, giving up."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to
from duologue.schemas.errors import NO_ROOM, BadInput
from duologue.schemas.records import InputItem, Reject
from duologue.transforms.stage import FailureLimit, FailureWatch, RunStage, Shared, StageFn, Subject, TooManyFailures
from duologue.transforms.work import WorkStore

LIMIT = FailureLimit(share=0.5, least=3)


@dataclass(frozen=True)
class Doubling:
    """InputItem -> InputItem twice; "bad" is bad input, "broken" breaks, every run leaves a mark."""

    marks: str
    name: str = "double"
    kinds: tuple[type, ...] = (InputItem,)

    def identity(self, element: InputItem) -> tuple[Any, ...]:
        return (element,)

    def subject(self, element: InputItem) -> Subject:
        return Subject("v", element.uri, 0.0, 4.0)

    def run(self, element: InputItem, work: WorkStore) -> list[Any]:
        with Path(self.marks).open("a") as stream:
            stream.write(element.uri + "\n")
        if element.uri == "bad":
            raise BadInput("no_face", "nobody")
        if element.uri in ("fetch_failed", "decode_timeout", "decode_failed"):
            raise BadInput(element.uri, "today")
        if element.uri.startswith("broken"):
            raise RuntimeError("kaput\nin two lines")
        return [element, element]


def run(tmp_path: Path, names: list[str], want: list[str], reasons: list[tuple[str, str]]) -> list[str]:
    marks = tmp_path / "marks"
    marks.touch()
    before = len(marks.read_text().splitlines())
    with beam.Pipeline(options=PipelineOptions(["--runner=DirectRunner"])) as pipeline:
        items = pipeline | beam.Create([InputItem(name) for name in names])
        out = items | RunStage(Doubling(str(marks)), WorkStore(str(tmp_path / "work")), "1", LIMIT)
        assert_that(out.main | "uri" >> beam.Map(lambda item: item.uri), equal_to(want), "main")
        found = out.rejects | "why" >> beam.Map(lambda row: (row.reason, row.stage))
        assert_that(found, equal_to(reasons), "rejects")
        sums = out.tally | "sum" >> beam.Map(lambda tally: (tally.outcome, tally.items))
        assert_that(sums, equal_to([("kept", 2)] * (len(want) // 2) + [(r, 1) for r, _ in reasons]), "tally")
    return marks.read_text().splitlines()[before:]


def test_bad_input_is_a_row_and_the_rest_goes_on(tmp_path: Path) -> None:
    seen = run(tmp_path, ["x", "bad"], ["x", "x"], [("no_face", "double")])
    assert sorted(seen) == ["bad", "x"]


def test_what_is_finished_is_not_done_again_and_what_broke_is(tmp_path: Path) -> None:
    want = ["x", "x"]
    first = run(tmp_path, ["x", "bad", "broken"], want, [("no_face", "double"), ("stage_failed", "double")])
    assert first.count("broken") == 2  # tried twice
    again = run(tmp_path, ["x", "bad", "broken"], want, [("no_face", "double"), ("stage_failed", "double")])
    assert again == ["broken", "broken"]


def test_what_the_next_run_may_have_is_tried_again_and_a_verdict_on_the_file_is_not(tmp_path: Path) -> None:
    reasons = [(name, "double") for name in ("fetch_failed", "decode_timeout", "decode_failed")]
    first = run(tmp_path, [name for name, _ in reasons], [], reasons)
    assert first == ["fetch_failed", "fetch_failed", "decode_timeout", "decode_failed"]
    assert run(tmp_path, [name for name, _ in reasons], [], reasons) == first[:3]


def test_a_key_that_cannot_be_made_costs_its_element(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Odd(Doubling):
        def identity(self, element: InputItem) -> tuple[Any, ...]:
            return (float("nan"),)

    fn = StageFn(Odd(str(tmp_path / "marks")), WorkStore(str(tmp_path / "work")), "1", LIMIT)
    (row, _) = (tagged.value for tagged in fn.process(InputItem("x")))
    assert (row.reason, row.uri) == ("stage_failed", "x")


@pytest.mark.parametrize("number", NO_ROOM)
def test_a_full_disk_ends_the_job_and_makes_no_reject(number: int, tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Full(Doubling):
        def run(self, element: InputItem, work: WorkStore) -> list[Any]:
            raise OSError(number, os.strerror(number))

    fn = StageFn(Full(str(tmp_path / "marks")), WorkStore(str(tmp_path / "work")), "1", LIMIT)
    with pytest.raises(OSError, match=os.strerror(number)):
        list(fn.process(InputItem("x")))


def test_too_many_failures_stop_the_job_with_the_reasons_counted(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"TooManyFailures|items broke in stage double"):
        run(tmp_path, ["broken1", "broken2", "broken3"], [], [])


def test_the_watch_counts_reasons() -> None:
    watch = FailureWatch("fit", LIMIT)
    row = Reject("v", "u", "fit", "stage_failed", "ValueError: x")
    watch.note([row])
    watch.note(["fine"])
    watch.note([row])
    with pytest.raises(TooManyFailures, match=r"3 of 4 items broke in stage fit: 3 x ValueError: x"):
        watch.note([row])


def test_inputs_that_are_bad_do_not_stop_the_job() -> None:
    watch = FailureWatch("scan", LIMIT)
    for reason in ("decode_failed", "decode_timeout", "fetch_failed", "unreadable"):
        for _ in range(10):
            watch.note([Reject("v", "u", "scan", reason, "a broken download")])


def test_heavy_objects_are_built_once_per_process() -> None:
    built: list[int] = []

    def build(size: int) -> list[int]:
        built.append(size)
        return [size]

    assert Shared.get("test model", build, 3) is Shared.get("test model", build, 3)
    assert Shared.get("test model", build, 4) == [4]
    assert built == [3, 4]
