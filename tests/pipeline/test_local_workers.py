"""Workers of this machine: what they need is imported once, beside the main process, while the graph is built."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_command_line_of_curate_imports_nothing_large() -> None:
    code = (
        "import sys, duologue.cli, duologue.pipeline.curate_verb\n"
        "print(sorted({'apache_beam', 'torch', 'numpy', 'pyarrow', 'yaml'} & set(sys.modules)))\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"


def test_workers_are_forked_from_one_process_and_fail_loudly(tmp_path: Path) -> None:
    """Without an endpoint to serve, Beam's harness ends with an error, in each of two children of one parent."""
    log = tmp_path / "log.txt"
    code = (
        "import os, sys\n"
        "os.dup2(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), 2)\n"
        "from duologue.pipeline.local_workers import start_worker\n"
        "workers = [start_worker({'PIPELINE_OPTIONS': '{}'}) for _ in range(2)]\n"
        "parents = [open(f'/proc/{w.pid}/stat').read().rpartition(')')[2].split()[1] for w in workers]\n"
        "for worker in workers:\n"
        "    worker.join()\n"
        "print(len(set(parents)), str(os.getpid()) in parents, [worker.exitcode for worker in workers])\n"
    )
    said = subprocess.run([sys.executable, "-c", code, str(log)], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "1 False [1, 1]", log.read_text()
    assert log.read_text().count("KeyError: 'CONTROL_API_SERVICE_DESCRIPTOR'") == 2


def test_workers_that_nobody_asked_for_end_with_their_process() -> None:
    code = (
        "from duologue.pipeline import local_workers\n"
        "local_workers.start_importing(2)\n"
        "local_workers._forking[0].join()\n"
        "print(*[process.pid for process, _ in local_workers._waiting])\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    pids = [int(word) for word in said.stdout.split()]
    assert len(set(pids)) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert said.stderr == ""
