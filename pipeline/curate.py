"""``duologue curate``: videos in, Parquet pairs out, on the laptop or on any Beam runner.

Its command line is in ``curate_verb.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import yaml
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2

from ..schemas.dataset import Dataset
from ..schemas.errors import UsageError
from ..schemas.finish import FUNNEL
from ..schemas.records import InputItem
from ..schemas.selection import summary
from ..transforms.storage import files_at, is_local, local_path
from .config import CurateConfig, load_config
from .failure import job_failure
from .funnel import STAGES, funnel_text
from .graph import build
from .inputs import resolve_inputs, write_item_chunks
from .plan import Plan, make_plan
from .progress import progress_line
from .runners import beam_options, new_pipeline
from .sink import check_writable


def run(args: argparse.Namespace) -> int:
    settings = list(args.settings)
    if args.geometry_only:
        settings += ["run.geometry_only=true"]
    if args.people == 1:
        settings += ["scan.people=1", "clips.people=1"]
    if args.head_model:
        settings.append(f"backends.head_model={json.dumps(args.head_model)}")
    config = load_config(_read_config(args.config), settings)
    options = beam_options(args.runner, args.workers, args.beam_args, args.dry_run)
    if args.dry_run:
        return _dry_run(config, args, options)
    items = resolve_inputs(args.inputs, _note)
    plan = make_plan(config, args.out, workers_here=args.runner == "DirectRunner")
    check_writable(args.out)
    if plan.head_model_note and not args.quiet:
        print(f"note: {plan.head_model_note}", file=sys.stderr)
    started = time.monotonic()
    with quiet_libraries(), _progress(plan, args.quiet):
        try:
            state = curate(plan, items, options)
        except UsageError:
            raise
        except Exception as error:
            print(f"duologue curate: {job_failure(error, plan.work)}", file=sys.stderr)
            return 1
    if state != "DONE":
        print(f"duologue curate: the Beam job ended as {state}; run the same command again to go on", file=sys.stderr)
        return 1
    report(plan, time.monotonic() - started, as_json=args.json, quiet=args.quiet)
    return 0


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def curate(plan: Plan, items: Sequence[InputItem], options: PipelineOptions) -> str:
    """Run the graph to its end; returns Beam's state, "DONE" when the data set was published."""
    pipeline = new_pipeline(options)
    chunks = write_item_chunks(list(items), plan.work.root)
    build(pipeline, plan, chunks)
    result = pipeline.run()
    return str(result.wait_until_finish())


def report(plan: Plan, seconds: float, *, as_json: bool = False, quiet: bool = False) -> None:
    """Print the funnel, where the shards are, and the command that shows them."""
    data = Dataset(files_at(plan.out))
    funnel = json.loads(data.files.read_bytes(FUNNEL))
    selected = len(data.ids(selected=True))
    if as_json:
        print(json.dumps({"out": plan.out, "pairs": len(data), "selected": selected, "funnel": funnel}))
        return
    if quiet:
        return
    print(funnel_text(funnel))
    print(f"\n{len(data)} pairs ({selected} selected) in {seconds:.0f} s")
    reasons = summary(data.selection())["reasons"]
    if isinstance(reasons, dict) and reasons:
        first = ", ".join(f"{name} {count}" for name, count in reasons.items())
        print(f"not selected, by first failing threshold: {first}  (other thresholds: duologue select {plan.out})")
    print(f"shards: {plan.out}/pairs/*.parquet  (head model: {plan.head_model})")
    seen = f"see them: duologue view {plan.out}" if len(data) else f"see why: duologue report {plan.out}"
    print(seen)


def _dry_run(config: CurateConfig, args: argparse.Namespace, options: PipelineOptions) -> int:
    """Print what would run. Remote inputs and outputs are not looked at: a dry run needs no credentials."""
    local = [name for name in args.inputs if is_local(name)]
    items = resolve_inputs(local, _note) if local else []
    plan = make_plan(config, args.out, offline=not is_local(args.out), workers_here=args.runner == "DirectRunner")
    facts = {
        "out": args.out, "local_inputs": len(items), "remote_names": len(args.inputs) - len(local),
        "runner": args.runner, "config_hash": plan.config_hash, "head_model": plan.head_model, "stages": list(STAGES),
    }  # fmt: skip
    if args.runner == "DataflowRunner":
        job = dataflow_job(plan, options)
        facts["dataflow"] = {
            "transforms": len(job.components.transforms), "images": job_images(job), "resource_hints": job_hints(job),
        }  # fmt: skip
    if args.json:
        print(json.dumps(facts | {"config": yaml.safe_load(plan.config_yaml)}))
        return 0
    print(plan.config_yaml, end="")
    print(f"# {facts['local_inputs']} local inputs and {facts['remote_names']} remote names -> {args.out}")
    print(f"# runner {args.runner}; config {plan.config_hash}; head model {plan.head_model}")
    print(f"# stages: {' -> '.join(STAGES)}")
    if args.runner == "DataflowRunner":
        print(f"# Dataflow job built offline: {len(job.components.transforms)} transforms")
        print(f"# images: {', '.join(job_images(job))}; resource hints: {', '.join(job_hints(job))}")
    return 0


def dataflow_job(plan: Plan, options: PipelineOptions) -> beam_runner_api_pb2.Pipeline:
    """The Dataflow job as it would be submitted, built without credentials or network."""
    pipeline = new_pipeline(options)
    build(pipeline, plan, ["inputs/000000.jsonl"])
    with quiet_libraries():
        result = pipeline.run()
    return cast(beam_runner_api_pb2.Pipeline, result.job.proto_pipeline)


def job_images(job: beam_runner_api_pb2.Pipeline) -> list[str]:
    """Container images that the job's workers start from."""
    return sorted(
        {
            beam_runner_api_pb2.DockerPayload.FromString(environment.payload).container_image
            for environment in job.components.environments.values()
            if environment.urn == "beam:env:docker:v1"
        }
    )


def job_hints(job: beam_runner_api_pb2.Pipeline) -> list[str]:
    """Resource hints of the job's environments, e.g. ``min_ram_bytes=4000000000``."""
    return sorted(
        {
            f"{urn.split(':')[-2]}={value.decode()}"
            for environment in job.components.environments.values()
            for urn, value in environment.resource_hints.items()
        }
    )


def _read_config(name: str | None) -> str:
    if not name:
        return ""
    folder, _, base = name.rpartition("/")
    try:
        return files_at(folder or ".").read_bytes(base).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the configuration {name}: {error}") from error


@contextlib.contextmanager
def _progress(plan: Plan, quiet: bool) -> Iterator[None]:
    if quiet or not is_local(plan.work.root):
        yield
        return
    folder: Path = local_path(plan.work.root) / "progress"
    folder.mkdir(parents=True, exist_ok=True)
    with progress_line(folder):
        yield


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep libraries' chatter off the terminal, here and in worker processes; warnings of ours stay."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
    # A failing stage is told in one line by whoever runs the job; its runner would print the traceback first.
    noisy = {"apache_beam": logging.ERROR, "apache_beam.runners": logging.CRITICAL, "root": logging.ERROR}
    noisy["google"] = logging.ERROR
    before = {name: logging.getLogger(name).level for name in noisy}
    for name, level in noisy.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
