"""A run worked out before it starts: what it is made with is known by content, and missing parts are told at once."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from duologue.fitting.load_head import ENVIRONMENT, load_head_model
from duologue.pipeline.chosen import Chosen
from duologue.pipeline.config import load_config
from duologue.pipeline.plan import Plan, make_plan
from duologue.pipeline.stages_heads import FitStage, head_backend
from duologue.schemas.errors import UsageError
from duologue.schemas.records import Backend
from duologue.transforms.active_speaker import LightAsd
from duologue.transforms.stage import Shared
from duologue.transforms.work import WorkStore, digest


def speaker_weights(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(LightAsd().state_dict(), path)
    return path


def plan_with(weights: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """As in a new process: the weights are read again."""
    kept = {key: value for key, value in Shared._objects.items() if key[1] != "active speaker"}
    monkeypatch.setattr(Shared, "_objects", kept)
    settings = ["backends.speaker=light-asd", f"backends.speaker_path={weights}"]
    return make_plan(load_config("", settings), str(out))


def stage_keys(plan: Plan, task: Any) -> tuple[str, str]:
    return plan.config_hash, digest(*plan.stages.evidence.identity(task))


def test_weights_count_by_content_not_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = speaker_weights(tmp_path / "here/asd.pt", 1)
    task = "the same clip"
    first = stage_keys(plan_with(here, tmp_path, monkeypatch), task)
    (tmp_path / "there").mkdir()
    there = Path(shutil.copy(here, tmp_path / "there/renamed.pt"))
    assert stage_keys(plan_with(there, tmp_path, monkeypatch), task) == first
    speaker_weights(here, 2)
    replaced = stage_keys(plan_with(here, tmp_path, monkeypatch), task)
    assert replaced[0] != first[0]
    assert replaced[1] != first[1]


def test_every_model_that_measures_is_told(tmp_path: Path) -> None:
    told = [model.stage for model in make_plan(load_config(""), str(tmp_path)).stages.score.backends]
    assert told == ["shots", "faces", "landmarks", "identity", "listen", "listen", "fit"]


def test_the_head_of_the_environment_is_written_down_for_the_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT, "second")
    plan = make_plan(load_config(""), str(tmp_path))
    monkeypatch.delenv(ENVIRONMENT)
    assert plan.stages.fit.head.path == "second"
    assert yaml.safe_load(plan.config_yaml)["backends"]["head_model"] == "second"
    assert plan.head_model == load_head_model("second").model_id


def test_a_worker_that_finds_another_head_gives_up(tmp_path: Path) -> None:
    """Its rows would name the head of the plan."""
    plan = make_plan(load_config(""), str(tmp_path))
    planned = plan.stages.fit
    assert isinstance(planned, FitStage)
    assert planned.head.models == (head_backend(load_head_model("canonical")),)
    other = replace(planned, head=replace(planned.head, path="second"))
    with pytest.raises(UsageError, match="holds other weights"):
        other.run(None, WorkStore(str(tmp_path)))  # type: ignore[arg-type]


def test_models_without_weights_are_known_by_name() -> None:
    cuts = Chosen("pyscenedetect", models=(Backend("shots", "pyscenedetect-0.6", "", "BSD"),))
    with pytest.raises(UsageError):
        cuts.check(Backend("shots", "pyscenedetect-0.7", "", "BSD"))
    cuts.check(Backend("shots", "pyscenedetect-0.6"))
    weights = Chosen("network", "a.onnx", (Backend("gaze", "onnx:a.onnx", "1" * 64),))
    weights.check(Backend("gaze", "onnx:b.onnx", "1" * 64))
