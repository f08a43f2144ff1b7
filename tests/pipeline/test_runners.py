"""The same graph on other runners gives the same bytes: a job server with workers here, and with a pool of workers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import DirectOptions
from duologue.cli import main
from duologue.pipeline.config import CurateConfig
from duologue.pipeline.curate import dataflow_job
from duologue.pipeline.plan import make_plan
from duologue.pipeline.runners import beam_options, check_answers, new_pipeline
from duologue.schemas.errors import UsageError
from duologue.tests.pipeline.conftest import Run, published, start


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(module: str, *options: str, port: int, log: Path) -> Iterator[None]:
    """A Python module run as a server; yields once it accepts connections, and ends its whole process group."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    with log.open("wb") as stream:
        server = subprocess.Popen(
            [sys.executable, "-m", module, *options],
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            env={**os.environ, "PATH": path},
        )
    try:
        deadline, tick = time.monotonic() + 90, threading.Event()
        while True:
            assert server.poll() is None, log.read_text()
            with contextlib.suppress(OSError), socket.create_connection(("localhost", port), timeout=1):
                break
            assert time.monotonic() < deadline, f"{module} does not listen"
            tick.wait(0.05)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.fixture(scope="module")
def job_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port, folder = free_port(), tmp_path_factory.mktemp("jobs")
    options = ("-p", str(port), "--staging_dir", str(folder))
    with serving("apache_beam.runners.portability.local_job_service_main", *options, port=port, log=folder / "log"):
        yield f"localhost:{port}"


def run_portable(silent_run: Run, out: Path, endpoint: str, *options: str) -> None:
    log = out.with_suffix(".log")
    words = ["curate", *silent_run.options, "--out", str(out), "--quiet", "--runner", "PortableRunner", "--"]
    child = start(*words, f"--job_endpoint={endpoint}", *options, log=log)
    try:
        assert child.wait(timeout=240) == 0, log.read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    assert published(out) == published(silent_run.out)


def test_a_job_server_with_workers_in_the_submitter(silent_run: Run, job_server: str, tmp_path: Path) -> None:
    run_portable(silent_run, tmp_path / "loopback", job_server, "--environment_type=LOOPBACK")


def test_a_job_server_with_a_pool_of_workers(silent_run: Run, job_server: str, tmp_path: Path) -> None:
    port = free_port()
    pool = "apache_beam.runners.worker.worker_pool_main"
    with serving(pool, f"--service_port={port}", port=port, log=tmp_path / "pool.log"):
        options = ("--environment_type=EXTERNAL", f"--environment_config=localhost:{port}")
        run_portable(silent_run, tmp_path / "external", job_server, *options)


@pytest.mark.parametrize(("workers", "mode"), [(1, "in_memory"), (3, "multi_processing")])
def test_as_many_processes_as_asked_for(workers: int, mode: str) -> None:
    options = beam_options("DirectRunner", workers, []).view_as(DirectOptions)
    assert (options.direct_running_mode, options.direct_num_workers) == (mode, workers)


def test_a_job_server_must_be_named() -> None:
    with pytest.raises(UsageError, match="--job_endpoint"):
        beam_options("PortableRunner", 1, [])


def test_an_option_that_beam_does_not_know_is_named_and_a_job_server_may_know_more() -> None:
    with pytest.raises(UsageError, match="Beam knows no option --direct_workers"):
        beam_options("DirectRunner", 1, ["--direct_workers=3"])
    beam_options("PortableRunner", 1, ["--job_endpoint=localhost:1", "--parallelism_of_server=3"])


def test_a_job_server_that_is_not_there_is_named_at_once() -> None:
    with socket.socket() as taken:  # bound and not listening: nobody answers, and nobody else gets the port
        taken.bind(("localhost", 0))
        endpoint = f"localhost:{taken.getsockname()[1]}"
        with pytest.raises(UsageError, match=f"no job server answers at {endpoint}: "):
            new_pipeline(beam_options("PortableRunner", 1, [f"--job_endpoint={endpoint}"]))
    with pytest.raises(UsageError, match="--job_endpoint=server is not HOST:PORT"):
        new_pipeline(beam_options("PortableRunner", 1, ["--job_endpoint=server"]))


PLACE = ["--project=project-1", "--region=us-central1", "--temp_location=gs://bucket/tmp"]


def test_a_dataflow_job_is_built_offline(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["curate", "gs://bucket/*.mp4", "--out", "gs://bucket/set", "--runner", "DataflowRunner", "--dry-run"]
    assert main([*words, "--", *PLACE, "--sdk_container_image=registry/image:1"]) == 0
    said = capsys.readouterr().out
    job, images = said.splitlines()[-2:]
    assert int(job.split(":")[1].split()[0]) > 100  # transforms: the whole graph
    assert images == "# images: registry/image:1; resource hints: min_ram_bytes=4000000000"
    assert main([*words, "--json", "--", *PLACE, "--sdk_container_image=registry/image:1"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["dataflow"]["images"] == ["registry/image:1"]
    assert (told["remote_names"], told["config"]["clips"]["clip_s"]) == (1, 10.0)


def test_what_a_dataflow_job_lacks_is_a_usage_error() -> None:
    options = beam_options("DataflowRunner", 1, PLACE[2:], dry_run=True)
    with pytest.raises(UsageError, match=r"Missing required option: project\. .*region"):
        dataflow_job(make_plan(CurateConfig(), "gs://bucket/set", offline=True), options)


@pytest.mark.parametrize("endpoint", ["embed", "dns:///jobs.example:8099", "unix:/run/jobs"])
def test_servers_that_only_beam_or_grpc_can_find_are_left_to_them(endpoint: str) -> None:
    check_answers(endpoint)


def test_an_endpoint_without_a_port_is_refused() -> None:
    with pytest.raises(UsageError, match="is not HOST:PORT"):
        check_answers("jobs.example")
