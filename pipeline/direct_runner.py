"""Beam's DirectRunner with several processes, whose workers are forked ready (``local_workers.py``)."""

from __future__ import annotations

from typing import Any

import grpc  # type: ignore[import-untyped]
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_fn_api_pb2_grpc, beam_provision_api_pb2, beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo, FnApiRunner
from apache_beam.runners.portability.fn_api_runner.worker_handlers import GrpcWorkerHandler, WorkerHandler
from apache_beam.runners.portability.local_job_service import BeamFnLoggingServicer
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.utils import thread_pool_executor
from google.protobuf import json_format  # type: ignore[import-untyped]

from .local_workers import start_worker

FORKED = "duologue:env:forked_worker:v1"
END_S = 30.0  # how long a worker that has nothing left to do may take to end
# Workers ping each of their channels every 20 s. A server that minds them drops the channel of a quiet hour's logs, and
# a worker whose log channel was made anew waits for ever when it is to end.
PINGS_WELCOME = [("grpc.http2.max_ping_strikes", 0), ("grpc.http2.min_ping_interval_without_data_ms", 10_000)]


class ForkingRunner(FnApiRunner):
    """What DirectRunner runs a batch job by; its worker processes are forked instead of started."""

    def __init__(self, options: PipelineOptions) -> None:
        encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
        super().__init__(
            provision_info=ExtendedProvisionInfo(beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded))
        )

    def run_via_runner_api(self, pipeline_proto: beam_runner_api_pb2.Pipeline, options: PipelineOptions) -> Any:
        for environment in pipeline_proto.components.environments.values():
            if environment.urn == python_urns.SUBPROCESS_SDK:
                environment.urn = FORKED
        return super().run_via_runner_api(pipeline_proto, options)


@WorkerHandler.register_environment(FORKED, bytes)
class _ForkedWorkerHandler(GrpcWorkerHandler):
    """One worker process, from Beam's side."""

    def __init__(self, payload: bytes, state: Any, provision_info: Any, grpc_server: Any) -> None:
        super().__init__(state, provision_info, grpc_server)

    def start_worker(self) -> None:
        self._logging = grpc.server(thread_pool_executor.shared_unbounded_instance(), options=PINGS_WELCOME)
        port = self._logging.add_insecure_port("[::]:0")
        beam_fn_api_pb2_grpc.add_BeamFnLoggingServicer_to_server(BeamFnLoggingServicer(), self._logging)
        self._logging.start()
        self._process = start_worker(
            {
                "CONTROL_API_SERVICE_DESCRIPTOR": _endpoint(self.control_address),
                "LOGGING_API_SERVICE_DESCRIPTOR": _endpoint(f"localhost:{port}"),
                "PIPELINE_OPTIONS": json_format.MessageToJson(self.provision_info.provision_info.pipeline_options),
                "WORKER_ID": self.worker_id,
            }
        )

    def stop_worker(self) -> None:
        self._process.join(END_S)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()
        self._logging.stop(0)


def _endpoint(address: str) -> str:
    """As protocol-buffer text, which is how a worker reads it."""
    return f'url: "{address}"'
