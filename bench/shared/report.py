"""What every benchmark of the trainer says and how: on what machine, of what code, one JSON object as the last line."""

from __future__ import annotations

import argparse
import json
import math
import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch


def parser_of(text: str | None) -> argparse.ArgumentParser:
    """A parser of a script whose docstring is ``text``, with ``--json``."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="only the JSON line")
    return parser


def default_device() -> torch.device:
    """The GPU where there is one; a CPU benchmark runs on one thread."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    torch.set_num_threads(1)
    return torch.device("cpu")


def machine(device: torch.device) -> dict[str, Any]:
    """``device``, versions, and the commit that was measured (marked where files differ from it)."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude", "*"], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parent,
    )  # fmt: skip
    threads = f"{torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"
    return {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"cpu, {threads}, {platform.machine()}",
        "torch": torch.__version__,
        "commit": commit.stdout.strip(),
    }


def seconds_of(work: Callable[[], Any], repeats: int, device: torch.device) -> float:
    """The fastest of ``repeats``, after one to warm up: wall seconds on a GPU, the process's CPU seconds on a CPU."""
    times = []
    for _ in range(repeats + 1):
        if device.type == "cuda":
            torch.cuda.synchronize()
            start = time.perf_counter()
            work()
            torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        else:
            start = time.process_time()
            work()
            times.append(time.process_time() - start)
    return min(times[1:])


def tell(result: Mapping[str, Any], only_json: bool) -> None:
    """Print a result for people, then for machines."""
    if not only_json:
        for name, value in result.items():
            print(f"{name}: {value}")
    print(json.dumps(numbers(result), allow_nan=False))


def numbers(value: Any) -> Any:
    """The same with null in place of what JSON has no number for."""
    if isinstance(value, Mapping):
        return {name: numbers(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [numbers(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
