"""``make bench`` runs every script of ``bench/`` with ``--json`` and nothing else."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "bench").glob("*.py"))


def usage(script: Path) -> str:
    done = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, (script.name, done.stderr)
    return " ".join(done.stdout.partition("\n\n")[0].split())


def test_every_benchmark_takes_json_and_needs_no_argument() -> None:
    assert len(SCRIPTS) > 15
    with ThreadPoolExecutor(2) as pool:
        for script, text in zip(SCRIPTS, pool.map(usage, SCRIPTS), strict=True):
            needed = text.removeprefix(f"usage: {script.name}")
            while "[" in needed:  # the innermost brackets first
                before, _, rest = needed.rpartition("[")
                needed = before + rest.partition("]")[2]
            assert "[--json]" in text, script.name
            assert not needed.strip(), f"{script.name} needs {needed.strip()}"
