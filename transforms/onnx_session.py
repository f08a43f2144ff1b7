"""One ONNX network on one CPU thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..schemas.errors import UsageError


def open_session(path: Path, backend: str, needs: str = "onnxruntime") -> Any:
    """An ``onnxruntime.InferenceSession`` that takes one thread and prints nothing.

    Args:
        backend: names the backend in errors, e.g. "gaze backend 'onnx'". needs: the packages that it asks for.

    Raises:
        UsageError: onnxruntime is missing, or the file does not load.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError(f"{backend} needs {needs}: {error}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no narrower public base
        raise UsageError(f"{backend}: {path} does not load: {error}") from error
