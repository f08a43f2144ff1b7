"""``duologue convert``: data sets to and from the formats of DualTalk and UniLS."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from .. import __version__
from ..schemas.dataset import Dataset
from ..schemas.errors import BadInput, UsageError
from ..schemas.selection import DEFAULTS, SPLITS
from . import dualtalk_convert, unils_convert, unils_format
from .converted import Converted, config_hash, config_text, empty_folder, flame_pairs, importing
from .dualtalk_convert import clip_to_pair, pair_to_clip
from .dualtalk_format import clip_names, read_clip, write_clip
from .unils_convert import LONGEST_S, SHORTEST_S, read_talk, records_of, row_of, windows
from .unils_format import FPS, Conversation, read_list

FORMATS = ("dualtalk", "unils")


def configure(parser: argparse.ArgumentParser, more_targets: tuple[str, ...] = ()) -> None:
    """Declare the verb's arguments; ``more_targets`` are formats that the caller writes itself."""
    parser.description = (
        "Convert a folder of DualTalk's <clip>_speaker1/2.npz and .wav (--from dualtalk), or of UniLS's data_lmdb and "
        "JSON list (--from unils), to a data set, or selected pairs of a data set to such a folder (--to). Neither "
        "format has positions or gaze: importing leaves gaze unknown and places heads nominally; exporting drops both."
    )
    parser.add_argument("input", metavar="DIR", help="what to convert")
    parser.add_argument("--out", required=True, metavar="DIR2", help="a new or empty folder")
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--from", dest="source", choices=FORMATS, help="DIR is in this format")
    way.add_argument("--to", dest="target", choices=(*FORMATS, *more_targets), help="DIR is a data set")
    parser.add_argument("--license", default="", metavar="TEXT", help="importing: kept on every row")
    parser.add_argument(
        "--split",
        choices=SPLITS,
        help="exporting: only this split; --from unils: which of its lists to import, all of it into this split",
    )
    parser.add_argument("--all", action="store_true", help="exporting: pairs that are not selected too")
    parser.add_argument(
        "--any-head-model",
        action="store_true",
        help="exporting: write coefficients that are not FLAME's as they are; other software will misread them",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Convert and say what was left out.

    Raises:
        UsageError: options that do not go together, and whatever the conversion raises.
    """
    what = "clips" if args.target == "dualtalk" else "pairs"
    export: dict[str, Any] = {
        "split": args.split, "selected": not args.all, "any_head_model": args.any_head_model
    }  # fmt: skip
    if args.source == "unils":
        if not args.split:
            raise UsageError("--from unils imports one of the set's own splits: give --split train, val or test")
        done = from_unils(args.input, args.out, split=args.split, license_text=args.license)
    elif args.source == "dualtalk":
        if args.split:
            raise UsageError("DualTalk's folders name no split: --split does not go with --from dualtalk")
        done = from_dualtalk(args.input, args.out, license_text=args.license)
    else:
        done = (to_dualtalk if args.target == "dualtalk" else to_unils)(args.input, args.out, **export)
    if args.json:
        print(json.dumps({"written": done.written, "left_out": done.left_out, "out": str(args.out)}))
        return 0
    print(f"{done.written} {what} written to {args.out}")
    for reason, count in sorted(done.left_out.items()):
        print(f"left out {count}: {reason}")
    for detail in done.details:
        print(f"  {detail}")
    return 0


def from_dualtalk(folder: str | Path, out: str | Path, *, license_text: str = "") -> Converted:
    """A data set of a DualTalk folder. Unreadable clips become rejects; a clip with one npz a single-person row.

    Raises:
        UsageError: nothing to convert, nothing convertible, or ``out`` is not empty.
    """
    names = clip_names(folder)
    text = config_text("dualtalk", "DualTalk", dualtalk_convert.HEAD_MODEL)
    made = {"config_hash": config_hash(text), "code_version": __version__, "license_text": license_text}
    with importing(out, len(names)) as new:
        for name in names:
            try:
                new.add(clip_to_pair(read_clip(folder, name), **made))
            except (BadInput, UsageError) as error:
                new.reject(name, error)
        if not new.spill:
            raise UsageError(f"none of {len(names)} clips can be converted; the first: {new.rejects[0].detail}")
        return new.finish(text, made["config_hash"])


def to_dualtalk(
    dataset: str | Path,
    out: str | Path,
    *,
    split: str | None = None,
    selected: bool = True,
    any_head_model: bool = False,
) -> Converted:
    """A DualTalk folder of a data set's pairs, files named by pair id.

    Raises:
        UsageError: no data set, no pair chosen, coefficients that are not FLAME's, or ``out`` is not empty.
    """
    root = empty_folder(out)
    written, left, details = 0, Counter[str](), []
    for pair in flame_pairs(dataset, "DualTalk", split=split, selected=selected, any_head_model=any_head_model):
        try:
            write_clip(root, pair_to_clip(pair))
            written += 1
        except BadInput as error:
            left[error.reason] += 1
            details.append(error.detail)
    return Converted(written, dict(left), tuple(details[:5]))


def from_unils(where: str | Path, out: str | Path, *, split: str, license_text: str = "") -> Converted:
    """A data set of one split of a UniLS folder, every row in that split, in rows of ten seconds.

    Conversations that cannot be read become rejects; rests under three seconds are left out and counted. Where no
    record has sound, selection does not ask for any.

    Raises:
        UsageError: nothing to convert, nothing convertible, or ``out`` is not empty.
    """
    root, talks, bad = read_list(where, split)
    text = config_text("unils", "UniLS", unils_convert.HEAD_MODEL, {"longest_s": LONGEST_S, "shortest_s": SHORTEST_S})
    made = {"config_hash": config_hash(text), "code_version": __version__, "license_text": license_text}
    most = sum(1 for talk in talks for _ in windows(talk.frames))
    with importing(out, most) as new, unils_format.reading(root) as read:
        for name, reason in bad.items():
            new.reject(name, BadInput("unreadable", reason), source_id=name)
        for one in talks:
            try:
                talk = read_talk(one, read)
            except BadInput as error:
                new.reject(one.name, error, source_id=one.name)
                continue
            for first, end in windows(talk.frames):
                if end - first < SHORTEST_S * FPS:
                    new.count("too_short", (end - first) / FPS)
                    continue
                try:
                    new.add(row_of(talk, first, end, **made))
                except BadInput as error:
                    new.reject(one.name, error, first / FPS, end / FPS, one.name)
        if not new.spill:
            why = f"; the first: {new.rejects[0].detail}" if new.rejects else ""
            raise UsageError(f"none of {len(talks) + len(bad)} conversations can be converted{why}")
        options = replace(
            DEFAULTS, sound=new.with_sound, val_share=float(split == "val"), test_share=float(split == "test")
        )
        return new.finish(text + f"  split: {split}\n", made["config_hash"], options)


def to_unils(
    dataset: str | Path,
    out: str | Path,
    *,
    split: str | None = None,
    selected: bool = True,
    any_head_model: bool = False,
) -> Converted:
    """A UniLS folder of a data set's pairs: records named by pair id and side, listed by our splits.

    Raises:
        UsageError: no data set, no pair chosen, coefficients that are not FLAME's, or ``out`` is not empty.
    """
    root = empty_folder(out)
    table = Dataset(dataset).selection()
    splits = dict(zip(table["pair_id"].to_pylist(), table["split"].to_pylist(), strict=True))
    lists: dict[str, list[Conversation]] = {name: [] for name in SPLITS}
    left, details = Counter[str](), []
    pairs = flame_pairs(dataset, "UniLS", split=split, selected=selected, any_head_model=any_head_model)
    first = next(pairs)  # refused, if at all, before anything is written
    with unils_format.writing(root) as write:
        for pair in chain((first,), pairs):
            try:
                records = records_of(pair)
            except BadInput as error:
                left[error.reason] += 1
                details.append(error.detail)
                continue
            keys = (f"{pair.pair_id}_a", f"{pair.pair_id}_b")
            for key, record in zip(keys, records, strict=True):
                write(key, record)
            lists[splits[pair.pair_id]].append(Conversation(pair.pair_id, keys, len(records[0].motion)))
    unils_format.write_list(root, lists)
    return Converted(sum(map(len, lists.values())), dict(left), tuple(details[:5]))
