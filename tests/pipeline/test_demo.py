"""``make demo`` beyond its work, which other tests do: how it ends."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest
from duologue.pipeline import demo
from duologue.schemas.errors import UsageError


class Left(Exception):
    """Stands for the end of the process."""


@pytest.fixture(autouse=True)
def leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(code: int) -> NoReturn:
        raise Left(code)

    monkeypatch.setattr(demo, "leave", leave)


@pytest.mark.parametrize("code", [0, 1])
def test_it_ends_as_the_installed_program_does(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(demo, "main", lambda: code)
    with pytest.raises(Left, match=str(code)):
        demo.program()


def test_what_cannot_be_done_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> int:
        raise UsageError("no such thing")

    monkeypatch.setattr(demo, "main", refuse)
    with pytest.raises(Left, match="2"):
        demo.program()
    assert capsys.readouterr().err == "make demo: no such thing\n"


def test_no_input_that_is_there_is_refused_before_any_work(tmp_path: Path) -> None:
    assert demo.main(["--input", str(tmp_path / "nowhere.mp4"), "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()
