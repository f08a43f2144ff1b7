"""``duologue dub``: synthetic dialogues from single-person rows, with exact masks, marked by origin ``dubbed``."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from .. import __version__
from ..fitting.canonical import EMBEDDED, load_embedded
from ..schemas.dataset import Dataset
from ..schemas.errors import BadInput, UsageError
from ..schemas.files import LocalFiles
from ..schemas.finish import check_names_free, finish_dataset, read_light, write_rejects, write_shard
from ..schemas.manifest import MANIFEST
from ..schemas.records import Reject
from ..schemas.row import Pair, pair_row
from ..schemas.selection import connected_components, selection_options, split_of
from ..schemas.shard import shard_count, shard_index
from ..transforms.dub import DubOptions, dub

GROUP = 4  # components (people with their videos) that are dubbed with one another


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.description = (
        "Make dialogues from the selected single-person rows of a data set (curate --people 1): two people are placed "
        "in one room, the floor passes between them, the side without it is muted. Who speaks is exact; there is no "
        "real interaction. People keep the split that they have in DIR, and nobody is in two."
    )
    parser.add_argument("dataset", metavar="DIR", help="a data set with single-person rows")
    parser.add_argument("--out", required=True, metavar="DIR2", help="a new folder")
    parser.add_argument("--per-clip", type=int, default=2, metavar="N", help="dialogues begun by each row (default 2)")
    parser.add_argument("--seed", type=int, default=0, help="of partners, turns and places")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Dub, and say what was left out."""
    if args.per_clip < 1 or args.seed < 0:
        raise UsageError("--per-clip must be at least 1, and --seed not negative")
    written, left = dub_dataset(args.dataset, args.out, per_clip=args.per_clip, seed=args.seed)
    if args.json:
        print(json.dumps({"written": written, "left_out": left, "out": str(args.out)}))
        return 0
    print(f"{written} dialogues written to {args.out}")
    for reason, count in sorted(left.items()):
        print(f"left out {count}: {reason}")
    return 0


def partners(groups: dict[str, list[tuple[str, str]]], per_clip: int, seed: int) -> Iterator[tuple[str, str, str]]:
    """(group, pair id, partner's pair id): each row with ``per_clip`` rows of other components of its group.

    Args:
        groups: group name -> (component, pair id) of its rows.
    """
    for group, members in sorted(groups.items()):
        rng = np.random.default_rng([seed, int(group[:8], 16) if _is_hex(group[:8]) else len(group)])
        for component, first in sorted(members):
            others = sorted(other for where, other in members if where != component)
            for k in rng.permutation(len(others))[:per_clip]:
                yield group, first, others[int(k)]


def _is_hex(text: str) -> bool:
    return bool(text) and all(c in "0123456789abcdef" for c in text)


def grouped(dataset: Dataset) -> dict[str, list[tuple[str, str]]]:
    """Selected single-person rows in groups of :data:`GROUP` components of one split; a group is named by its smallest
    component, whose name decides the split.

    Raises:
        UsageError: no single-person row, or fewer than two people.
    """
    light = read_light(dataset.files, dataset.manifest)
    options = selection_options(dataset.selection())
    chosen = set(dataset.ids())
    members: dict[str, list[str]] = {}
    columns = (light["pair_id"].to_pylist(), light["n_people"].to_pylist(), connected_components(light).to_pylist())
    for key, people, component in zip(*columns, strict=True):
        if people == 1 and key in chosen:
            members.setdefault(component, []).append(key)
    root = dataset.files.root
    if not members:
        raise UsageError(f"{root} has no selected single-person row; curate --people 1 makes them")
    out: dict[str, list[tuple[str, str]]] = {}
    for split in ("train", "val", "test"):
        names = sorted(name for name in members if split_of(name, options) == split)
        bounds = [*range(0, max(len(names) - 1, 1), GROUP), len(names)]
        if len(bounds) > 2 and bounds[-1] - bounds[-2] < 2:
            del bounds[-2]  # one person alone joins the group before
        for start, end in pairwise(bounds):
            part = names[start:end]
            if len(part) > 1:
                out[part[0]] = [(name, key) for name in part for key in members[name]]
    if not out:
        apart = len(members) > 1
        way = f"; put them into one: duologue select {root} --set val_share=0 --set test_share=0" if apart else ""
        raise UsageError(f"{root} has no split with two single people who are not one another: nobody to talk to{way}")
    return out


def dub_dataset(where: str, out: str, *, per_clip: int = 2, seed: int = 0) -> tuple[int, dict[str, int]]:
    """Write the dialogues of ``where`` to ``out``; returns how many, and what was left out by reason.

    Raises:
        UsageError: nothing to dub, or ``out`` holds a data set already, or files of something else under its names.
    """
    dataset = Dataset(where)
    files = LocalFiles(Path(out))
    if files.exists(MANIFEST):
        raise UsageError(f"{out} holds a data set already: choose another folder")
    check_names_free(files)
    groups = grouped(dataset)
    plan = list(partners(groups, per_clip, seed))
    options = DubOptions()
    facts = {"dub": asdict(options) | {"seed": seed, "per_clip": per_clip, "from": dataset.manifest.config_hash}}
    text = json.dumps(facts, indent=1) + "\n"  # JSON is YAML
    config_hash = hashlib.sha256(f"{__version__} {text}".encode()).hexdigest()[:24]
    names = _mode_names(dataset)
    # A dialogue's id is known once it is made: each is made once to learn the ids of those that can be,
    # and again shard by shard, so that memory holds one shard.
    made: list[tuple[str, tuple[str, str, str]]] = []
    rejects: list[Reject] = []
    hours = 0.0
    cache: dict[str, Pair] = {}

    def loaded(key: str) -> Pair:
        if key not in cache:
            if len(cache) > 512:
                cache.clear()
            cache[key] = dataset.pair(key)
        return cache[key]

    def dialogue(job: tuple[str, str, str]) -> Pair:
        group, first, second = job
        return dub(loaded(first), loaded(second), names, group, config_hash, __version__, seed, options)

    for job in plan:
        try:
            pair = dialogue(job)
            made.append((pair.pair_id, job))
            hours += pair.source.end_s / 3600
        except BadInput as bad:
            rejects.append(Reject(job[0], f"{job[1]} + {job[2]}", "dub", bad.reason, bad.detail))
    if not made:
        raise UsageError(f"none of {len(plan)} dialogues of {where} can be made; the first: {rejects[0].detail}")
    count = shard_count(len(made))
    entries = []
    for index in range(count):
        mine = sorted(item for item in made if shard_index(item[0], count) == index)
        entries.append(write_shard(files, (pair_row(dialogue(job)) for _, job in mine), index, count))
    left = dict(Counter(reject.reason for reject in rejects))
    selection = replace(selection_options(dataset.selection()), yaw_deg=180.0)
    funnel = {"dub": {"kept": {"items": len(made), "hours": hours},
                      **{reason: {"items": n, "hours": 0.0} for reason, n in left.items()}}}  # fmt: skip
    finish_dataset(
        files, entries, write_rejects(files, rejects), config_hash=config_hash, code_version=__version__,
        config_yaml=text, funnel=funnel, options=selection,
    )  # fmt: skip
    return len(made), left


def _mode_names(dataset: Dataset) -> tuple[str, ...]:
    """Names of the expression modes where the head model is an embedded one; other models' names do not tell mouths."""
    found = set(dataset.table(["head_model_sha256"])["head_model_sha256"].to_pylist())
    for name in EMBEDDED:
        model = load_embedded(name)
        if found == {model.sha256}:
            return model.expression_names
    return ()
