"""What every benchmark prints last: one JSON object that any reader takes."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path

import pytest
import torch
from duologue.bench.shared.report import machine, tell


def test_what_was_not_measured_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    tell({"a": math.nan, "b": {"c": [1.5, math.inf]}, "d": "nan"}, only_json=True)
    last = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(last, parse_constant=pytest.fail) == {"a": None, "b": {"c": [1.5, None]}, "d": "nan"}


def test_the_commit_is_the_codes_wherever_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).resolve().parents[2]
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    if head.returncode:
        pytest.skip("not a git checkout")
    monkeypatch.chdir(tmp_path)
    told = machine(torch.device("cpu"))["commit"].removesuffix("-dirty")
    assert told
    assert head.stdout.startswith(told)
