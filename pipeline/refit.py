"""``duologue refit``: label a data set again with another head model, from its stored landmarks, without pixels.

Its command line is in ``refit_verb.py``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import __version__
from ..fitting.load_head import load_head_model
from ..schemas.dataset import Dataset
from ..schemas.errors import UsageError
from ..schemas.finish import CONFIG, FUNNEL
from ..schemas.manifest import MANIFEST, read_manifest
from ..schemas.records import Backend
from ..schemas.selection import DEFAULTS, SelectionOptions, selection_options
from ..schemas.takedown import TAKEDOWNS, read_takedowns, takedown_bytes
from ..transforms.stage import FailureLimit, Tally
from ..transforms.storage import files_at, is_local, join, local_path
from ..transforms.work import WorkStore
from .chosen import Chosen
from .config import config_hash, config_yaml, load_config
from .curate import quiet_libraries
from .failure import job_failure
from .progress import progress_line
from .refit_graph import RefitPlan, RefitStage, build_refit, refit_models, shards_of
from .runners import beam_options, new_pipeline
from .sink import Target, check_writable
from .stages_heads import head_backend
from .verb_files import files_of


def run(args: argparse.Namespace) -> int:
    """Refit, publish, and say what came out."""
    options = beam_options(args.runner, args.workers, getattr(args, "beam_args", ()))
    plan = make_refit_plan(args.dataset, args.head_model, args.out)
    if plan.note and not args.quiet:
        print(f"note: {plan.note}", file=sys.stderr)
    started = time.monotonic()
    folder = _progress_folder(plan)
    with quiet_libraries():
        pipeline = new_pipeline(options)
        build_refit(pipeline, plan)
        try:
            if folder is None or args.quiet:
                state = str(pipeline.run().wait_until_finish())
            else:
                with progress_line(folder, found={"refit": plan.seconds}):
                    state = str(pipeline.run().wait_until_finish())
        except UsageError:
            raise
        except Exception as error:
            print(f"duologue refit: {job_failure(error, plan.target.work)}", file=sys.stderr)
            return 1
    if state != "DONE":
        print(f"duologue refit: the Beam job ended as {state}; run the same command again to go on", file=sys.stderr)
        return 1
    _report(plan, time.monotonic() - started, as_json=args.json, quiet=args.quiet)
    return 0


def make_refit_plan(where: str, head_model: str, out: str | None = None) -> RefitPlan:
    """Check everything that can be checked before work starts.

    Raises:
        UsageError: DIR is no data set or holds no landmarks, the head model cannot be read, or DIR2 is something else.
    """
    data = Dataset(files_of(where))
    if len(data) and not data.manifest.rows("landmarks"):
        raise UsageError(
            f"{where} holds no landmarks to refit from: curate with --set run.landmarks=true keeps them (the default)"
        )
    # Before anything is loaded from it: a worker elsewhere must open the same file.
    path = str(Path(head_model).resolve()) if is_local(head_model) and Path(head_model).exists() else head_model
    head = load_head_model(path)
    config = load_config(
        data.files.read_bytes(CONFIG).decode() if data.manifest.entry(CONFIG) else "",
        [f"backends.head_model={json.dumps(path)}", "backends.gaze=geometric", "backends.gaze_path=''"],
    )
    before = _models(data)
    model = Chosen("head model", path, (head_backend(head),))
    digest = config_hash(config, refit_models(before, *model.models))
    notes = [*head.notes, *(f"gaze of {one.name} needs pixels: it is read off the irises" for one in before
                            if one.stage == "gaze")]  # fmt: skip
    voices = bool(data.manifest.of_kind("voices"))
    target = out or f"{where.rstrip('/')}-{re.sub(r'[^A-Za-z0-9._-]+', '-', head.model_id)}"
    _check_target(where, target, digest)
    _take_over_takedowns(data, target)
    run = config.run
    funnel = json.loads(data.files.read_bytes(FUNNEL)) if data.manifest.entry(FUNNEL) else {}
    work = WorkStore(join(target, "_work"))
    root = data.files.root
    clips = data.table(["start_s", "end_s"]).to_pydict()
    return RefitPlan(
        root=root,
        shards=shards_of(data),
        rejects=tuple(entry.path for entry in data.manifest.of_kind("rejects")),
        before=tuple(_tallies(funnel)),
        seconds=float(sum(clips["end_s"]) - sum(clips["start_s"])),
        target=Target(
            target, work, run.rows_per_shard, digest, config_yaml(config), __version__, _thresholds(data),
            landmarks=True, voices=voices,
        ),
        stage=RefitStage(root, config.fit, model, voices, digest, __version__),
        head_model=head.model_id,
        note="; ".join(notes),
        limit=FailureLimit(run.max_failed_share, run.min_failed),
    )  # fmt: skip


def _models(data: Dataset) -> tuple[Backend, ...]:
    """The models that made the rows: one run made them all."""
    first = next(data.rows(["backends"]), None)
    return () if first is None else tuple(Backend(**model) for model in first["backends"])


def _check_target(where: str, out: str, digest: str) -> None:
    """Raises UsageError where writing ``out`` would damage anything that is there."""
    if _resolved(where) == _resolved(out):
        raise UsageError(f"--out {out} is the data set itself; refit writes a new one")
    files = files_at(out)
    if files.exists(MANIFEST) and read_manifest(files).config_hash != digest:
        raise UsageError(f"{out} holds another data set; name a folder of its own with --out")
    check_writable(out)


def _resolved(where: str) -> str:
    return str(local_path(where).resolve()) if is_local(where) else where.rstrip("/")


def _take_over_takedowns(data: Dataset, out: str) -> None:
    """What was taken down from either folder must not come back in the new one."""
    files = files_at(out)
    entries = (*read_takedowns(data.files), *read_takedowns(files))
    if entries:
        files.write_bytes_atomic(TAKEDOWNS, takedown_bytes(entries))


def _thresholds(data: Dataset) -> SelectionOptions:
    try:
        return selection_options(data.selection())
    except UsageError:
        return DEFAULTS


def _tallies(funnel: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[Tally]:
    return [
        Tally(stage, outcome, int(cell["items"]), 3600 * float(cell["hours"]))
        for stage, outcomes in funnel.items()
        if stage != "refit"  # of an earlier refit; this one is counted anew
        for outcome, cell in outcomes.items()
    ]


def _progress_folder(plan: RefitPlan) -> Path | None:
    root = plan.target.work.root
    if not is_local(root):
        return None
    folder = local_path(root) / "progress"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _report(plan: RefitPlan, seconds: float, *, as_json: bool, quiet: bool) -> None:
    data = Dataset(files_at(plan.target.out))
    lost = json.loads(data.files.read_bytes(FUNNEL)).get("refit", {})
    lost = {reason: int(cell["items"]) for reason, cell in lost.items() if reason != "kept"}
    selected = len(data.ids(selected=True))
    if as_json:
        print(json.dumps({"out": plan.target.out, "pairs": len(data), "selected": selected, "lost": lost}))
    elif not quiet:
        what = ", ".join(f"{count} {reason}" for reason, count in lost.items())
        print(
            f"{len(data)} pairs ({selected} selected) in {seconds:.0f} s" + (f"; not refitted: {what}" if what else "")
        )
        print(f"shards: {plan.target.out}/pairs/*.parquet  (head model: {plan.head_model})")
