"""Lets torchaudio, and with it pyannote.audio, be imported beside a CPU-only torch.

The torchaudio wheel is linked against CUDA: with a CPU torch its import dies on a missing shared
library although nothing needed here is in it. The shim stands in for torchaudio's loader of that
library; on a machine with CUDA torch it does nothing. It also turns pyannote's telemetry off,
which is on by default in 4.x and is read at import.
"""

from __future__ import annotations

import importlib.util
import os
import pathlib
import sys
import types
from collections.abc import Callable
from typing import Any


def install() -> None:
    """Call before the first import of torchaudio or pyannote.audio. Calling it again is harmless."""
    os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
    import torch

    if "torchaudio" in sys.modules or torch.version.cuda:
        return
    spec = importlib.util.find_spec("torchaudio")
    if spec is None or spec.origin is None:
        return

    def unchanged(function: Callable[..., Any]) -> Callable[..., Any]:
        return function

    extension: Any = types.ModuleType("torchaudio._extension")
    extension.__path__ = [str(pathlib.Path(spec.origin).parent / "_extension")]
    extension._IS_TORCHAUDIO_EXT_AVAILABLE = extension._IS_ALIGN_AVAILABLE = False
    extension._check_cuda_version = lambda: None
    extension.fail_if_no_align = unchanged
    sys.modules["torchaudio._extension"] = extension
