"""MediaPipe imported, and its graphs started, without the lines of native logging that mean nothing to a user."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

_HARMLESS = re.compile(
    rb"AttributeError: 'MessageFactory' object has no attribute 'GetPrototype'"
    rb"|WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR"
    rb"|INFO: Created TensorFlow Lite XNNPACK delegate for CPU\."
    rb"|I\d{4} .*gl_context.*"
    rb"|W\d{4} .*landmark_projection_calculator\.cc:\d+\] Using NORM_RECT without IMAGE_DIMENSIONS.*"
    rb"|W\d{4} .*inference_feedback_manager\.cc:\d+\] Feedback manager requires a model with a single signature.*"
)


@contextmanager
def without_noise() -> Iterator[None]:
    """Holds back what is written to file descriptor 2, drops the lines known to be harmless, passes the rest on.

    Native libraries write past ``sys.stderr``, so the descriptor itself is turned aside, for the whole process: keep
    the body short.
    """
    sys.stderr.flush()
    try:
        terminal = os.dup(2)
    except OSError:  # no standard error at all
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            held.seek(0)
            rest = b"".join(line for line in held if not _HARMLESS.fullmatch(line.strip()))
            if rest:
                os.write(terminal, rest)
            os.close(terminal)


def _bare_package(name: str) -> ModuleType:
    """MediaPipe's package, whose parts load when they are asked for.

    Its own ``__init__`` imports every solution, with them matplotlib, and the tasks: a third of a worker's start.

    Raises:
        ImportError: it is not installed.
    """
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ImportError(f"no package {name!r}")
    package = importlib.util.module_from_spec(spec)
    parts = {"solutions": "python.solutions", "tasks": "tasks.python"}

    def part(attribute: str) -> Any:
        if attribute in parts:
            return importlib.import_module(f"{name}.{parts[attribute]}")
        if attribute.startswith("__"):
            raise AttributeError(f"module {name!r} has no attribute {attribute!r}")
        return getattr(importlib.import_module(f"{name}.python"), attribute)

    package.__getattr__ = part  # type: ignore[method-assign]
    sys.modules[name] = package
    return package


@lru_cache(maxsize=1)
def load_mediapipe() -> Any:
    """The ``mediapipe`` package, ready to find the models in its own wheel.

    Raises:
        ImportError: it is not installed, or cannot be loaded.
    """
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with without_noise():
        mediapipe = sys.modules.get("mediapipe") or _bare_package("mediapipe")
        resource_util = importlib.import_module("mediapipe.python._framework_bindings.resource_util")
    resource_util.set_resource_dir(str(Path(mediapipe.__path__[0]).parent))
    return mediapipe
