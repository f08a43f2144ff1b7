"""A worker process of this machine: what it imports before it is forked, and what it does then."""

from __future__ import annotations

import grpc  # type: ignore[import-untyped]
import scipy.ndimage
import scipy.optimize
import scipy.signal  # noqa: F401 - by stages, when they need it
import torch  # noqa: F401
from apache_beam.runners.worker import sdk_worker, sdk_worker_main

from ..transforms import decode_process, face_mesh
from ..transforms.quiet import load_mediapipe
from ..transforms.stage import Shared
from . import graph, refit_graph, sink  # noqa: F401 - what stages and elements are made of

load_mediapipe()


def warm() -> None:
    """Open what every curation needs."""
    decode_process.warm()
    Shared.get("face mesh", face_mesh.FaceMesh)


def serve() -> None:
    """Be a Beam worker, as the environment says, until the job ends."""
    # Beam prints the traceback of what failed in each worker; the main process has it too, and says one line.
    sdk_worker.print = lambda *_, **__: None
    try:
        sdk_worker_main.main([])
    except grpc.RpcError:  # the main process is gone, or going, and says why
        raise SystemExit(1) from None
    finally:
        decode_process.close()
