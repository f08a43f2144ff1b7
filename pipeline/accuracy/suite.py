"""The suite: which conversations are filmed, under which conditions, and the films themselves."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from ...schemas.errors import UsageError
from ...synthesis.scenario import Scenario, scenario_of
from ...synthesis.truth import FORMAT, Truth, read_truth

SUITE = Path(__file__).with_name("suite.yaml")
VIDEO = "conversation.mp4"


@dataclass(frozen=True)
class Conversation:
    """One film of the suite.

    Attributes:
        condition: "clean" or "hard". labels: conditions that its frames are listed under ("blur", "noise", ...).
        quick: in the quick suite too.
    """

    name: str
    condition: str
    labels: tuple[str, ...]
    quick: bool
    scenario: Scenario

    @property
    def digest(self) -> str:
        """Stands for what is filmed, and for the format of its truth."""
        return hashlib.sha256(json.dumps([FORMAT, asdict(self.scenario)], sort_keys=True).encode()).hexdigest()[:16]


def load_suite(name: str = "full", path: Path = SUITE) -> tuple[Conversation, ...]:
    """The conversations of the "full" or the "quick" suite.

    Raises:
        UsageError: the file is not a suite.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        shared, entries = tree.get("defaults", {}), tree["conversations"]
        found = tuple(
            Conversation(
                str(entry["name"]),
                str(entry["condition"]),
                tuple(map(str, entry.get("labels", ()))),
                bool(entry.get("quick", False)),
                scenario_of({**shared, **entry.get("scenario", {})}, str(entry["name"])),
            )
            for entry in entries
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: not a suite of conversations ({type(error).__name__}: {error})") from None
    if len({one.name for one in found}) != len(found):
        raise UsageError(f"{path}: two conversations have one name")
    if any(one.condition not in ("clean", "hard") for one in found):
        raise UsageError(f"{path}: a condition is clean or hard")
    return found if name == "full" else tuple(one for one in found if one.quick)


def film(one: Conversation, folder: Path) -> None:
    """Render one conversation into ``folder``, unless it is there already."""
    from ...synthesis.render import render_conversation  # MediaPipe and numba load only to film

    stamp = folder / "scenario.sha256"
    if stamp.exists() and stamp.read_text() == one.digest and (folder / VIDEO).exists():
        return
    render_conversation(one.scenario, folder)
    stamp.write_text(one.digest)


def film_all(suite: Sequence[Conversation], folder: Path, workers: int, said: Callable[[str], None]) -> None:
    """Render what is not yet there, ``workers`` at a time."""
    if workers <= 1:
        for one in suite:
            film(one, folder / one.name)
            said(one.name)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(film, one, folder / one.name): one.name for one in suite}
        for done in as_completed(waiting):
            done.result()
            said(waiting[done])


def truth_of(one: Conversation, folder: Path) -> Truth:
    return read_truth(folder / one.name)
