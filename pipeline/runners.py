"""Which Beam runner runs the graph, named explicitly, and what of it works here."""

from __future__ import annotations

import importlib.util
import re
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..schemas.errors import UsageError

if TYPE_CHECKING:  # seconds of imports
    from apache_beam import Pipeline
    from apache_beam.options.pipeline_options import PipelineOptions

# Runners the project tests. Flink and Spark go through PortableRunner and a job server of the user's.
RUNNERS = ("DirectRunner", "PortableRunner", "FlinkRunner", "SparkRunner", "DataflowRunner")

_BUCKET = re.compile(r"gs://[a-z0-9][-_.a-z0-9]+[a-z0-9]/")


def beam_options(runner: str, workers: int, extra: Sequence[str], dry_run: bool = False) -> PipelineOptions:
    """Pipeline options of a run.

    Args:
        workers: processes of the DirectRunner; other runners scale by their own options (after ``--``).
        extra: options for Beam as given after ``--``.

    Raises:
        UsageError: an unknown runner, or one whose packages or endpoint are missing.
    """
    if runner not in RUNNERS:
        raise UsageError(f"unknown runner {runner!r}; one of {', '.join(RUNNERS)}")
    if workers < 1:
        raise UsageError(f"--workers must be at least 1, not {workers}")
    flags = [f"--runner={runner}", *extra]
    if runner == "DirectRunner":
        mode = "in_memory" if workers == 1 else "multi_processing"
        flags += [f"--direct_running_mode={mode}", f"--direct_num_workers={workers}"]
    if runner == "PortableRunner" and not any(flag.startswith("--job_endpoint") for flag in extra):
        # Without an endpoint Beam waits for a job server that never comes.
        raise UsageError("PortableRunner needs the job server: -- --job_endpoint=HOST:PORT")
    if runner == "DataflowRunner":
        if importlib.util.find_spec("apitools") is None or importlib.util.find_spec("google.auth") is None:
            raise UsageError("DataflowRunner needs the Google client packages of requirements/lock.txt")
        places = [flag for flag in extra if flag.startswith(("--temp_location=", "--staging_location="))]
        wrong = [flag for flag in places if not _BUCKET.match(flag.partition("=")[2])]
        if wrong:
            raise UsageError(f"{wrong[0]} is no Google Cloud Storage folder (gs://BUCKET/FOLDER)")
        if dry_run:
            if not places:  # Beam would ask the network for a bucket
                raise UsageError("a Dataflow dry run needs -- --temp_location=gs://BUCKET/FOLDER")
            flags += ["--dry_run=True", "--no_auth"]
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    options = PipelineOptions(flags)
    if runner in ("DirectRunner", "DataflowRunner"):  # a job server may know more options than Beam here does
        every = options.get_all_options(retain_unknown_options=True)
        unknown = sorted(set(every) - set(options.get_all_options()))
        if unknown:
            raise UsageError(f"Beam knows no option --{unknown[0]}")
    FileSystems.set_options(options)  # inputs are listed before the pipeline is built, with the same credentials
    return options


def check_answers(endpoint: str, timeout_s: float = 10.0) -> None:
    """Raises UsageError where nobody listens at HOST:PORT; Beam would try for five minutes and not say what."""
    if endpoint == "embed" or "//" in endpoint or endpoint.startswith("unix:"):
        return  # Beam's own server, or a gRPC target that only gRPC resolves
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"--job_endpoint={endpoint} is not HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout_s).close()
    except OSError as error:
        raise UsageError(f"no job server answers at {endpoint}: {error.strerror or error}") from error


def new_pipeline(options: PipelineOptions) -> Pipeline:
    """An empty pipeline.

    Raises:
        UsageError: the runner misses an option.
    """
    from apache_beam import Pipeline
    from apache_beam.options.pipeline_options import DirectOptions, PortableOptions, StandardOptions

    several = options.view_as(DirectOptions).direct_running_mode == "multi_processing"
    if several and options.view_as(StandardOptions).runner == "DirectRunner":
        from .direct_runner import ForkingRunner

        return Pipeline(runner=ForkingRunner(options), options=options)
    if options.view_as(StandardOptions).runner == "PortableRunner":
        check_answers(str(options.view_as(PortableOptions).job_endpoint))
    try:
        return Pipeline(options=options)
    except ValueError as error:
        raise UsageError(" ".join(str(error).split())) from error
