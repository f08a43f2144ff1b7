"""``duologue convert``: data sets to and from the format of DualTalk."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..schemas.dataset import Dataset
from ..schemas.errors import BadInput, UsageError
from ..schemas.files import LocalFiles
from ..schemas.finish import finish_dataset, write_rejects, write_shard
from ..schemas.manifest import MANIFEST, FileEntry
from ..schemas.records import Reject
from ..schemas.row import pair_row
from ..schemas.shard import shard_count, shard_index
from . import dualtalk_convert
from .dualtalk_convert import clip_to_pair, pair_to_clip
from .dualtalk_format import clip_names, read_clip, write_clip

HELP = "data sets to and from DualTalk's npz and wav"


def configure(parser: argparse.ArgumentParser, more_targets: tuple[str, ...] = ()) -> None:
    """Declare the verb's arguments; ``more_targets`` are formats that the caller writes itself."""
    parser.description = (
        "Convert a folder of DualTalk's <clip>_speaker1/2.npz and .wav to a data set (--from dualtalk), or selected "
        "pairs of a data set to such a folder (--to dualtalk). DualTalk has no positions and no gaze: importing leaves "
        "gaze unknown and places heads nominally; exporting drops both."
    )
    parser.add_argument("input", metavar="DIR", help="what to convert")
    parser.add_argument("--out", required=True, metavar="DIR2", help="a new or empty folder")
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--from", dest="source", choices=("dualtalk",), help="DIR is in this format")
    way.add_argument(
        "--to", dest="target", choices=("dualtalk", *more_targets), help="DIR is a data set; write this format"
    )
    parser.add_argument("--license", default="", metavar="TEXT", help="importing: kept on every row")
    parser.add_argument("--split", choices=("train", "val", "test"), help="exporting: only this split")
    parser.add_argument("--all", action="store_true", help="exporting: pairs that are not selected too")
    parser.add_argument(
        "--any-head-model",
        action="store_true",
        help="exporting: write coefficients that are not FLAME's as they are; other software will misread them",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


@dataclass(frozen=True)
class Converted:
    """What a conversion did.

    Attributes:
        written: pairs or clips.
        left_out: by reason code.
        details: of the first few left out.
    """

    written: int
    left_out: dict[str, int]
    details: tuple[str, ...]


def run(args: argparse.Namespace) -> int:
    """Convert and say what was left out."""
    if args.source:
        done = from_dualtalk(args.input, args.out, license_text=args.license)
        what = "pairs"
    else:
        done = to_dualtalk(
            args.input, args.out, split=args.split, selected=not args.all, any_head_model=args.any_head_model
        )
        what = "clips"
    if args.json:
        print(json.dumps({"written": done.written, "left_out": done.left_out, "out": str(args.out)}))
        return 0
    print(f"{done.written} {what} written to {args.out}")
    for reason, count in sorted(done.left_out.items()):
        print(f"left out {count}: {reason}")
    for detail in done.details:
        print(f"  {detail}")
    return 0


def _empty(folder: str | Path) -> Path:
    root = Path(folder)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UsageError(f"{folder} is there already and not empty")
    return root


def from_dualtalk(folder: str | Path, out: str | Path, *, license_text: str = "") -> Converted:
    """A data set of a DualTalk folder. Unreadable clips become rejects; a clip with one npz a single-person row.

    Raises:
        UsageError: nothing to convert, nothing convertible, or ``out`` is not empty.
    """
    names = clip_names(folder)
    root = _empty(out)
    config_hash = _config_hash()
    rows: list[tuple[str, str]] = []  # pair id, clip
    hours: dict[str, float] = {}
    rejects: list[Reject] = []
    options: dict[str, Any] = {"config_hash": config_hash, "code_version": __version__, "license_text": license_text}
    for name in names:
        try:
            pair = clip_to_pair(read_clip(folder, name), **options)
            rows.append((pair.pair_id, name))
            hours[pair.pair_id] = pair.source.end_s / 3600
        except (BadInput, UsageError) as error:
            reason = error.reason if isinstance(error, BadInput) else "unreadable"
            detail = error.detail if isinstance(error, BadInput) else str(error)
            video_id = hashlib.sha256(name.encode()).hexdigest()
            rejects.append(Reject(video_id, name, "convert", reason, detail))
    if not rows:
        raise UsageError(f"none of {len(names)} clips can be converted; the first: {rejects[0].detail}")
    repeated = [key for key, count in Counter(key for key, _ in rows).items() if count > 1]
    rows = sorted(dict(rows).items())  # the same content under two names is one row
    files = LocalFiles(root)
    shards = shard_count(len(rows))
    entries: list[FileEntry] = []
    for index in range(shards):  # clips are read again, one shard in memory at a time
        mine = [name for key, name in rows if shard_index(key, shards) == index]
        made = (pair_row(clip_to_pair(read_clip(folder, name), **options)) for name in mine)
        entries.append(write_shard(files, made, index, shards))
    left = Counter(reject.reason for reject in rejects)
    if repeated:
        left["duplicate"] = len(names) - len(rejects) - len(rows)
    funnel = {reason: {"items": count, "hours": 0.0} for reason, count in left.items()}  # unread, so of unknown length
    funnel["kept"] = {"items": len(rows), "hours": sum(hours[key] for key, _ in rows)}
    finish_dataset(
        files, entries, write_rejects(files, rejects), config_hash=config_hash, code_version=__version__,
        config_yaml=_config_text(), funnel={"convert": funnel},
    )  # fmt: skip
    assert files.exists(MANIFEST)
    return Converted(len(rows), dict(left), tuple(f"{r.uri}: {r.detail}" for r in rejects[:5]))


def _config_text() -> str:
    """What an import assumes, as the data set's ``config.yaml``."""
    return (
        "# imported from DualTalk files: labels taken as given, positions nominal, gaze unknown\n"
        "convert:\n"
        "  source: dualtalk\n"
        f"  head_model: {dualtalk_convert.HEAD_MODEL}\n"
        f"  place_sd_m: {dualtalk_convert.PLACE_SD_M}\n"
        f"  rotation_sd: {dualtalk_convert.ROTATION_SD}\n"
        f"  places: {json.dumps({who: list(place) for who, place in dualtalk_convert.PLACES.items()})}\n"
    )


def _config_hash() -> str:
    return hashlib.sha256(_config_text().encode()).hexdigest()[:24]


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
    data = Dataset(dataset)
    root = _empty(out)
    written, left, details = 0, Counter[str](), []
    for pair in data.pairs(selected=selected, split=split):
        tier = pair.fitted.head_model_tier
        if tier != "flame" and not any_head_model:
            raise UsageError(
                f"{dataset} holds coefficients of head model {pair.fitted.head_model_id} ({tier}); DualTalk's are "
                "FLAME's: refit with FLAME, or --any-head-model to write them all the same"
            )
        try:
            write_clip(root, pair_to_clip(pair))
            written += 1
        except BadInput as error:
            left[error.reason] += 1
            details.append(error.detail)
    if not written and not left:
        raise UsageError(f"{dataset} has no {'selected ' if selected else ''}pair{f' in {split}' if split else ''}")
    return Converted(written, dict(left), tuple(details[:5]))
