"""A run worked out before it starts: what it is made with is known by content, and missing parts are told at once."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from duologue.fitting.load_head import ENVIRONMENT, load_head_model
from duologue.pipeline.chosen import Chosen
from duologue.pipeline.config import load_config
from duologue.pipeline.plan import Plan, make_plan, with_thresholds
from duologue.pipeline.stages_heads import FitStage, head_backend
from duologue.schemas.errors import UsageError
from duologue.schemas.records import Backend
from duologue.transforms.active_speaker import LightAsd
from duologue.transforms.bind import people
from duologue.transforms.evidence import BindEvidence, _pack
from duologue.transforms.identify import AppearanceIdentifier, Identifier, InsightFaceIdentifier
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


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("decode.backend=ffmpeg", "ffmpeg program"),
        ("decode.backend=decord", "package decord"),
        ("fit.device=cuda", "0 such devices"),
        ("fit.device=cuda:0", "0 such devices"),
        ("fit.device=bogus", "cpu or cuda"),
    ],
)
def test_what_the_machine_lacks_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, says: str
) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "decord" else found(name))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UsageError, match=says):
        make_plan(load_config("", [setting]), str(tmp_path))
    if "bogus" not in setting:  # workers elsewhere may have it
        assert make_plan(load_config("", [setting]), str(tmp_path), workers_here=False).config_hash


def test_thresholds_are_the_identifier_s_unless_given() -> None:
    class Network(AppearanceIdentifier):
        threshold, between_shots = 0.35, 0.4

    found = with_thresholds(load_config(""), Network())
    assert (found.stitch.looks, found.bind.binding.same_person) == (0.35, 0.4)
    found = with_thresholds(load_config("", ["stitch.looks=0.5", "bind.binding.same_person=1.1"]), Network())
    assert (found.stitch.looks, found.bind.binding.same_person) == (0.5, 1.1)


def test_a_network_s_people_are_joined_across_shots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cosines of 0.5 to 0.9 of one person, of 0 of two, are those of recognition networks."""
    same, joined = [], []
    appearance = make_plan(load_config(""), str(tmp_path)).config.bind.binding
    network = with_thresholds(load_config(""), recognition()).bind.binding
    for cosine in (0.5, 0.7, 0.9):
        clips = [clip_with_looks(0, 1.0), clip_with_looks(1, cosine)]
        same.append(len(set(people(clips, appearance).values())))
        joined.append(len(set(people(clips, network).values())))
    assert joined == [2, 2, 2]
    assert same == [4, 4, 4]  # as colours of clothes these are strangers


def recognition() -> Identifier:
    who = InsightFaceIdentifier.__new__(InsightFaceIdentifier)
    who.threshold = who.between_shots = 0.35
    return who


def clip_with_looks(shot: int, cosine: float) -> BindEvidence:
    """Two people whose descriptors have a cosine with those of shot 0, and none with each other's."""
    looks = np.zeros((2, 64), np.float32)
    for person in (0, 1):
        looks[person, [person, 10 + person]] = cosine, math.sqrt(1 - cosine**2)
    names = [_pack(one) for one in looks]
    return BindEvidence("v", shot, 10.0 * shot, 10.0 * shot + 8, "p0", "p1", names[0], names[1], ())


def test_models_without_weights_are_known_by_name() -> None:
    cuts = Chosen("pyscenedetect", models=(Backend("shots", "pyscenedetect-0.6", "", "BSD"),))
    with pytest.raises(UsageError):
        cuts.check(Backend("shots", "pyscenedetect-0.7", "", "BSD"))
    cuts.check(Backend("shots", "pyscenedetect-0.6"))
    weights = Chosen("network", "a.onnx", (Backend("gaze", "onnx:a.onnx", "1" * 64),))
    weights.check(Backend("gaze", "onnx:b.onnx", "1" * 64))
