"""``duologue doctor``: every backend that curation can be given is in its table, and every default can run here."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from duologue.cli import main
from duologue.pipeline.config import BackendOptions
from duologue.pipeline.doctor import findings
from duologue.pipeline.runners import RUNNERS

STAGE = {"head_model": "head model"}  # of an option, where its name is another


def test_every_choice_of_backend_has_a_row_and_the_default_one_can_run() -> None:
    rows = findings()
    for field in fields(BackendOptions):
        if field.name.endswith("_path"):
            continue
        mine = [row for row in rows if row.stage == STAGE.get(field.name, field.name)]
        assert mine, field.name
        usual = [row for row in mine if row.default]
        assert len(usual) == (field.default != "none"), field.name
        assert all(row.ready for row in usual)
        assert all(row.name.startswith(str(field.default)) for row in usual if field.default)
        assert any(not row.default for row in mine), field.name
    named = {row.name for row in rows if row.stage == "runner"}
    assert named == set(RUNNERS) - {"FlinkRunner", "SparkRunner"}  # those two go by way of PortableRunner


def test_the_answer_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["ready"]
    assert {"stage", "name", "default", "ready", "license", "note"} == set(said["backends"][0])
