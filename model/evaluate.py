"""``duologue evaluate``: score anybody's predictions by a board's own protocol, with trivial baselines beside them."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..schemas.errors import UsageError
from ..schemas.tracks import Float32
from .baselines import NearestNeighbour, copy_partner, mean_pose, oracle_mean, zero
from .dualtalk_format import GROUPS, clip_names, file_stem, read_motion, split_name
from .metrics import SCALES, clip_metrics, mean_metrics, published

HELP = "score predictions by a board's protocol, beside trivial baselines"
GIVEN = {"partner-motion": "the partner's true motion and sound", "audio": "sound only"}
# Tables do not mix what systems are given. Where baselines stand: those given nothing are a floor for sound alone.
TRACKS = {
    "audio": ("sound only, or nothing", ("zero", "train_mean")),
    "partner-motion": ("the partner's true motion given", ("copy_partner", "nearest_neighbour")),
    "truth": ("the truth given: no method", ("oracle_mean",)),
}
_BASELINES = {
    "zero": "the neutral face",
    "oracle_mean": "the clip's own true mean frame, held (no method is given this)",
    "train_mean": "the mean frame of --train, held",
    "copy_partner": "the partner's true motion",
    "nearest_neighbour": "the answer of --train to the most similar partner motion",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.description = (
        "Score predictions beside trivial baselines. dualtalk: <clip>_speaker1/2.npy of [T, 56] (expression 50, jaw 3, "
        "head 3) or .npz with exp and pose, against a folder of true .npz files; measures are per clip, then averaged. "
        "duologue: two data sets with the same pair ids; errors by part, on the mesh, of gaze, distance and facing."
    )
    parser.add_argument("--protocol", choices=("dualtalk", "duologue"), required=True, help="whose measures")
    parser.add_argument("--truth", required=True, metavar="DIR", help="true npz files of both sides, or a data set")
    parser.add_argument("--predictions", metavar="DIR", help="npy or npz files, or a data set")
    parser.add_argument(
        "--checkpoint", metavar="CKPT", help="duologue: instead, one sample of this network for every pair of --split"
    )
    parser.add_argument(
        "--given", choices=tuple(GIVEN),
        help="what the model was given; written into the result (--checkpoint: what it is given, default audio)",
    )  # fmt: skip
    parser.add_argument(
        "--split", choices=("train", "val", "test"),
        help="duologue: only selected pairs of this split (default: all, with --checkpoint test)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the samples of --checkpoint")
    parser.add_argument(
        "--train", metavar="DIR", help="training npz, or a data set, for mean and nearest-neighbour baselines"
    )
    parser.add_argument("--head-model", metavar="PATH", help="duologue: the data sets' head model, for mesh measures")
    parser.add_argument("--no-baselines", action="store_true", help="only the predictions")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object; dualtalk: unscaled, and 'published'"
    )


@dataclass(frozen=True)
class Scored:
    """Means over predicted clips.

    Attributes:
        files: predicted files; a clip has two people.
        missing: true sides without a prediction, by file stem.
        means: unscaled, keys of :data:`.metrics.KEYS`.
        baselines: the same of each baseline.
    """

    files: int
    missing: tuple[str, ...]
    means: dict[str, float]
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)


def score_dualtalk(
    truth: str | Path, predictions: str | Path, *, baselines: bool = True, train: str | Path | None = None
) -> Scored:
    """DualTalk's protocol over two folders.

    Args:
        truth: npz files of both sides. predictions: npy or npz files named alike.
        train: a folder for the baselines that need one.

    Raises:
        UsageError: nothing predicted, a prediction without its truth or its partner's, one side predicted twice, or an
            unreadable file.
    """
    found = _by_stem(predictions, (".npy", ".npz"))
    true = _by_stem(truth, (".npz",))
    if not found:
        raise UsageError(f"{predictions} holds no <clip>_speaker1/2.npy or .npz")
    library = NearestNeighbour.of(_sides(train)) if baselines and train is not None else None
    tables: dict[str, list[dict[str, float]]] = {"": []}
    for stem in sorted(found):
        name = split_name(stem)
        assert name is not None
        partner_stem = file_stem(name[0], 3 - name[1])
        for needed in (stem, partner_stem):
            if needed not in true:
                raise UsageError(f"{found[stem].name} is predicted, but {truth} has no {needed}.npz")
        own, partner = read_motion(true[stem]), read_motion(true[partner_stem])
        predicted = read_motion(found[stem])
        if min(len(predicted), len(own), len(partner)) < 2:
            raise UsageError(f"{stem}: a clip of fewer than two frames cannot be scored")
        tables[""].append(clip_metrics(predicted, own, partner))
        if baselines:
            for key, motion in _baseline_motions(own, partner, library):
                tables.setdefault(key, []).append(clip_metrics(motion, own, partner))
    missing = tuple(stem for stem in sorted(true) if stem not in found)
    means = {key: mean_metrics(clips) for key, clips in tables.items()}
    return Scored(len(tables[""]), missing, means.pop(""), means)


def _baseline_motions(
    own: Float32, partner: Float32, library: NearestNeighbour | None
) -> Iterator[tuple[str, Float32]]:
    yield "zero", zero(own)
    yield "oracle_mean", oracle_mean(own)
    yield "copy_partner", copy_partner(partner, len(own))
    if library is not None:
        yield "train_mean", mean_pose(library.mean, len(own))
        yield "nearest_neighbour", library.predict(partner, len(own))[0]


def _by_stem(folder: str | Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    root = Path(folder)
    if not root.is_dir():
        raise UsageError(f"{folder} is not a folder")
    out: dict[str, Path] = {}
    for path in sorted(root.iterdir()):
        if path.suffix not in suffixes or split_name(path.stem) is None:
            continue
        if path.stem in out:
            raise UsageError(f"{folder} has both {out[path.stem].name} and {path.name}")
        out[path.stem] = path
    return out


def _sides(folder: str | Path) -> Iterator[tuple[Float32, Float32]]:
    """(own, partner) of every side of every clip that has both npz files."""
    true = _by_stem(folder, (".npz",))
    for name in clip_names(folder):
        stems = [file_stem(name, speaker) for speaker in (1, 2)]
        if all(stem in true for stem in stems):
            one, two = (read_motion(true[stem]) for stem in stems)
            yield one, two
            yield two, one


def run(args: argparse.Namespace) -> int:
    """Score and print."""
    if bool(args.predictions) == bool(args.checkpoint):
        raise UsageError("give --predictions DIR, or --checkpoint CKPT")
    if args.seed < 0:
        raise UsageError(f"--seed is {args.seed}; it must not be negative")
    if args.protocol == "duologue":
        return _run_pairs(args)
    if args.checkpoint or args.split:
        raise UsageError("--checkpoint and --split are of --protocol duologue")
    scored = score_dualtalk(args.truth, args.predictions, baselines=not args.no_baselines, train=args.train)
    if scored.missing:
        total = len(scored.missing) + scored.files
        print(
            f"{scored.files} of {total} true sides are predicted; the figures are of those alone "
            f"(missing: {', '.join(scored.missing[:3])}{', ...' if len(scored.missing) > 3 else ''})",
            file=sys.stderr,
        )
    if args.json:
        print(json.dumps(as_json(scored, args.given)))
        return 0
    print(f"DualTalk protocol, {scored.files} files, mean over files, published scales")
    print(f"given: {GIVEN[args.given] if args.given else 'not stated (--given)'}")
    print(table(scored, args.given))
    return 0


def as_json(scored: Scored, given: str | None) -> dict[str, object]:
    """The result as one object: unscaled means at the top, ``published`` with the board's scale factors."""
    return {
        "protocol": "dualtalk",
        "given": given,
        "files": scored.files,
        "missing": len(scored.missing),
        **scored.means,
        "published": published(scored.means),
        "baselines": {name: {**means, "published": published(means)} for name, means in scored.baselines.items()},
        "baselines_given": {name: track for track, names in by_track(scored.baselines) for name in names if track},
    }


def by_track(baselines: Iterable[str], given: str | None = None) -> list[tuple[str, list[str]]]:
    """Systems by what they are given, keys of :data:`TRACKS`; the predictions last in their own track, or alone and
    first, in a track "", where it is not stated."""
    have = set(baselines)
    out = [] if given else [("", ["predictions"])]
    for track, (_, names) in TRACKS.items():
        mine = [name for name in names if name in have] + (["predictions"] if track == given else [])
        if mine:
            out.append((track, mine))
    return out


def _track_title(track: str) -> str:
    return TRACKS[track][0] if track else "not stated"


def table(scored: Scored, given: str | None = None) -> str:
    """Lines for a person: one table a group, a row a system under what it is given, published scales."""
    systems = {"predictions": published(scored.means)}
    systems |= {name: published(means) for name, means in scored.baselines.items()}
    tracks = by_track(scored.baselines, given)
    width = 2 + max(len(name) for name in (*systems, *(_track_title(track) for track, _ in tracks)))
    lines = []
    for group in GROUPS:
        lines.append(f"{group:<{width}}" + "".join(f"{measure:>12}" for measure in SCALES))
        for track, names in tracks:
            lines.append(_track_title(track))
            for name in names:
                figures = (round(systems[name][f"{measure}_{group}"], 2) + 0.0 for measure in SCALES)  # no minus zero
                lines.append(f"  {name:<{width - 2}}" + "".join(f"{figure:12.2f}" for figure in figures))
        lines.append("")
    lines += [f"{name}: {_BASELINES[name]}" for name in sorted(scored.baselines)]
    return "\n".join(lines)


_WIDE = 18


def _shown(measure: str, value: float) -> str:
    """SID is a logarithm of counts and 1e-6, Frechet distances hold errors of matrix roots: their zeros are -1e-6."""
    nothing = measure.startswith(("fd", "pfd", "sid")) and abs(value) < 2e-6
    return f"{0.0 if nothing else value:.5g}"


def _run_pairs(args: argparse.Namespace) -> int:
    from ..fitting.head_model import HeadModel
    from ..fitting.load_head import load_head_model
    from ..schemas.dataset import Dataset
    from .evaluate_pairs import BASELINES, score_pairs

    train = Dataset(args.train) if args.train else None
    truth = Dataset(args.truth)
    labelled = truth.manifest.head_model_id
    split = args.split or ("test" if args.checkpoint else None)
    ids = truth.ids(split=split) if split else truth.ids(selected=False)
    if not ids:
        raise UsageError(f"{args.truth} has no {f'selected pair in {split}' if split else 'pairs'}")
    predictions: Any = Dataset(args.predictions) if args.predictions else None
    if args.checkpoint:
        from .answers import network_answers
        from .checkpoint import load_trained

        args.given = args.given or "audio"
        net = load_trained(args.checkpoint)
        if net.statistics.head_model_id != labelled:
            raise UsageError(
                f"{args.checkpoint} is of head model {net.statistics.head_model_id}, {args.truth} is labelled with "
                f"{labelled}"
            )
        predictions = network_answers(net, partner_motion=args.given == "partner-motion", seed=args.seed)
    head: HeadModel | None = load_head_model(args.head_model)
    if head is not None and head.model_id != labelled:
        if args.head_model:
            raise UsageError(f"{args.head_model} is {head.model_id}, {args.truth} is labelled with {labelled}")
        print(f"no mesh measures: give --head-model for {labelled}", file=sys.stderr)
        head = None
    means, baselines, count = score_pairs(
        truth, predictions, head, baselines=not args.no_baselines, train=train, ids=ids
    )
    missing = len(ids) - count
    if missing:
        print(f"{count} of {len(ids)} true pairs are predicted; the figures are of those alone", file=sys.stderr)
    if args.json:
        known = [{k: v if math.isfinite(v) else None for k, v in row.items()} for row in (means, *baselines.values())]
        rest = dict(zip(baselines, known[1:], strict=True))
        out = {"protocol": "duologue", "given": args.given, "pairs": count, "missing": missing, **known[0]}
        out["baselines_given"] = {name: track for track, names in by_track(baselines) for name in names if track}
        print(json.dumps({**out, "baselines": rest}))
        return 0
    given = GIVEN[args.given] if args.given else "not stated (--given)"
    print(f"{count} pairs, mean over people and pairs; predictions are given: {given}")
    tracks = by_track(baselines, args.given)
    systems = {**baselines, "predictions": means}
    blocks = [(names, max(_WIDE * len(names), 1 + len(_track_title(track)))) for track, names in tracks]
    titles = (f" |{' ' + _track_title(track):<{wide}}" for (track, _), (_, wide) in zip(tracks, blocks, strict=True))
    label = max(map(len, means))
    print((" " * label + "".join(titles)).rstrip())
    for line in ("", *means):
        cells = ""
        for names, wide in blocks:
            mine = (_shown(line, systems[name][line]) if line else name for name in names)
            cells += " |" + "".join(f"{cell:>{_WIDE}}" for cell in mine).ljust(wide)
        print(f"{line:<{label}}{cells.rstrip()}")
    for name in baselines:
        print(f"{name}: {BASELINES[name]}")
    return 0
