"""The manual says what is there: links lead somewhere, verbs and options exist, Python blocks compile."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
from duologue.bench.accuracy_table import PAGE, RESULT, page_with
from duologue.cli import VERBS
from duologue.pipeline.config import load_config
from duologue.schemas.column_table import column_page
from duologue.schemas.errors import UsageError
from duologue.schemas.selection import DEFAULTS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:bench|pipeline|transforms|fitting|schemas|model|synthesis|viewer|docs)/[\w/]+\.\w+)`", page.read_text()
    )
    for name in named:
        assert (ROOT / name).exists(), f"{page.name} names {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_verbs_exist(page: Path) -> None:
    for verb in re.findall(r"(?:^|`|\n)duologue ([a-z]+)", page.read_text()):
        assert verb in VERBS, f"{page.name} says: duologue {verb}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_are_real_options(page: Path) -> None:
    for setting in re.findall(
        r"--set ((?:run|backends|scan|track|clips|decode|listen|bind|fit)\.[\w.]+)=", page.read_text()
    ):
        # A wrong value is a fault of its own kind; here only the option's name counts.
        with pytest.raises(UsageError) as caught:
            load_config("", [f"{setting}={{bad: value}}"])
        assert "unknown option" not in str(caught.value), f"{page.name}: {caught.value}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_compile(page: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        compile(block, page.name, "exec")


def test_the_accuracy_page_shows_the_kept_result() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page_with(page, json.loads(RESULT.read_text(encoding="utf-8"))) == page, "run bench/accuracy_table.py"


def test_the_pages_do_not_leave_the_project() -> None:
    for page in PAGES:
        text = page.read_text()
        assert "../shared" not in text
        assert not re.search(r"(?<![\w.])/(?:home|root|mnt)/", text), f"{page.name} names a path of one machine"


def test_the_columns_page_is_that_of_the_schemas() -> None:
    page = (ROOT / "docs" / "columns.md").read_text(encoding="utf-8")
    assert page == column_page(), "run python -m duologue.schemas.column_table > docs/columns.md"


def test_every_threshold_is_explained_with_its_default() -> None:
    page = (ROOT / "docs" / "dataset.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| (\S+) \| ", page, re.MULTILINE)
    told = {name: value for names, value in rows for name in re.findall(r"\w+", names)}
    assert told == {name: str(value).lower() for name, value in asdict(DEFAULTS).items()}
