"""Find the one network of a kind in a folder of ONNX files, as InsightFace publishes its model packs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..schemas.errors import UsageError
from .onnx_session import open_session


def open_from_pack(path: str | Path, stage: str, kind: str, fits: Callable[[Any], bool]) -> tuple[Path, Any]:
    """The first network in ``path`` (a folder or one file) that fits, and its onnxruntime session on one CPU thread.

    Args:
        stage: names the backend in errors. kind: what is looked for, e.g. "detection".
        fits: whether a session's inputs and outputs are those of the kind.

    Raises:
        UsageError: onnxruntime is missing, there is no such network, or a file does not load.
    """
    files = [Path(path)] if Path(path).is_file() else sorted(Path(path).glob("*.onnx"))
    if not files:
        raise UsageError(f"{stage} backend 'insightface': no .onnx file in {path}")
    for file in files:
        session = open_session(file, f"{stage} backend 'insightface'", "insightface and onnxruntime")
        if fits(session):
            return file, session
    raise UsageError(f"{stage} backend 'insightface': no {kind} model among {[file.name for file in files]}")
