"""``duologue view``: a static page where pairs play, opened straight from disk; and overlay videos."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..fitting.head_model import HeadModel
from ..fitting.load_head import load_head_model
from ..schemas.dataset import Dataset
from ..schemas.errors import UsageError
from ..schemas.files import Files, LocalFiles
from ..schemas.manifest import MANIFEST, read_manifest
from ..schemas.pair import PAIR_ID
from ..schemas.row import Pair
from ..schemas.selection import selection_options
from .compact import LARGEST, Basis, compact_modes
from .page_data import Json, as_json, as_script, model_data, page_facts, pair_data
from .write import write_file

STATIC = Path(__file__).parent / "static"
SCRIPTS = ("pose.js", "scene.js", "timeline.js", "ink.js", "details.js", "app.js")
LIMIT = 100
MADE = "<script>App.start("  # tells a page of ours


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.description = (
        "Write a folder with a page where pairs play as two animated heads with gaze, sound, turns and scores. "
        "It needs no server and no network: open index.html. It holds parameters and sound, no pixels."
    )
    parser.add_argument("dataset", metavar="DIR", help="a data-set folder")
    parser.add_argument("--pair", action="append", default=[], metavar="ID", help="only this pair; may be repeated")
    parser.add_argument("--limit", type=int, default=LIMIT, help=f"pairs on the page without --pair ({LIMIT})")
    parser.add_argument("--out", metavar="PAGE_DIR", help="where to write it (DIR/view)")
    parser.add_argument("--head-model", metavar="PATH", help="the head model that the rows refer to")
    parser.add_argument("--video", action="store_true", help="also PAIR.mp4: the measurements over the source video")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Write the page (and videos) and say where it is."""
    files = files_of(args.dataset)
    if args.limit < 1:
        raise UsageError(f"--limit {args.limit}: at least 1")
    if args.out is None and not isinstance(files, LocalFiles):
        raise UsageError(f"{args.dataset} is not on this machine: say with --out where the page goes")
    out = Path(args.out) if args.out else Path(args.dataset.removeprefix("file://")) / "view"
    dataset = Dataset(files)
    ids = chosen_ids(dataset, args.pair, args.limit)
    if args.video:
        check_sources(dataset, ids)
    model = load_head_model(args.head_model)
    page = write_page(dataset, ids, out, model)
    videos = [write_video(pair, out, model) for pair in _pairs(dataset, ids)] if args.video else []
    if args.json:
        print(json.dumps({"page": str(page), "pairs": len(ids), "videos": [str(path) for path in videos]}))
        return 0
    note = "" if len(ids) == len(dataset) else f" ({len(ids)} of {len(dataset)} pairs; --pair and --limit choose)"
    print(f"open {page}{note}")
    for path in videos:
        print(f"     {path}")
    return 0


def files_of(where: str) -> Files:
    """A local folder or any URI that the pipeline's filesystems know.

    Raises:
        UsageError: a local folder that does not exist.
    """
    if "://" in where and not where.startswith("file://"):
        from ..transforms.storage import files_at

        found: Files = files_at(where)
        return found
    path = Path(where.removeprefix("file://"))
    if not path.is_dir():
        raise UsageError(f"{where} is not a folder")
    return LocalFiles(path)


def chosen_ids(dataset: Dataset, wanted: list[str], limit: int) -> list[str]:
    """Full ids: the wanted ones, or selected pairs first, then the others, up to ``limit``; each part by id.

    Raises:
        UsageError: a wanted pair that is not there.
    """
    if wanted:
        return list(dict.fromkeys(dataset.pair(text).pair_id for text in wanted))
    every = dataset.ids(selected=False)
    selected = set(dataset.ids()) if _verdicts(dataset) else set()
    return sorted(every, key=lambda pair_id: (pair_id not in selected, pair_id))[:limit]


def check_sources(dataset: Dataset, ids: list[str]) -> None:
    """Before any work: videos can be drawn only over sources that are here.

    Raises:
        UsageError: a source is not a file on this machine.
    """
    for row in dataset.rows(("source_uri",), ids):
        if not Path(row["source_uri"]).is_file():
            raise UsageError(f"--video: the source of pair {row['pair_id']} is not here: {row['source_uri']}")


def write_page(dataset: Dataset, ids: list[str], out: Path, model: HeadModel | None) -> Path:
    """Write ``index.html``, ``model.js`` and ``pairs/ID.js``; pages of pairs that are no longer listed go.

    Returns:
        The page to open.

    Raises:
        UsageError: the folder holds another page, or cannot be written.
    """
    folder = out / "pairs"
    try:
        page = out / "index.html"
        if _is_dataset(out):
            raise UsageError(f"{out} is a data set: give the page a folder of its own with --out")
        if page.is_file() and MADE not in page.read_text(encoding="utf-8", errors="replace"):
            raise UsageError(f"{page} is another page: say with --out where this one goes")
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.js"):
            if old.stem not in ids and PAIR_ID.fullmatch(old.stem):
                old.unlink()
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror}") from error
    verdicts = _verdicts(dataset)
    entries: list[Json] = []
    basis = None if model is None else _basis(dataset, ids, model)
    used = False
    for pair in _pairs(dataset, ids):
        fits = model is not None and model.sha256 == pair.fitted.head_model_sha256
        used |= fits
        verdict = verdicts.get(pair.pair_id)
        data = pair_data(pair, model if fits else None, verdict, basis)
        write_file(folder / f"{pair.pair_id}.js", as_script("App.pair", data).encode())
        entries.append(_entry(pair, verdict))
    entries.sort(key=lambda entry: (entry["uri"], entry["start"], entry["id"]))
    options = selection_options(dataset.selection()) if verdicts else None
    facts = {
        **page_facts(options),
        "dataset": dataset.files.root,
        "total": len(dataset),
        "pairs": entries,
        "model": used,
        "model_note": "Plain shapes, no expression: the row refers to another head model. Give it with --head-model.",
    }  # fmt: skip
    if used and model is not None:
        write_file(out / "model.js", as_script("App.model", model_data(model, basis)).encode())
    else:
        (out / "model.js").unlink(missing_ok=True)
    write_file(page, page_html(Path(dataset.files.root).name, facts).encode())
    return page


def _is_dataset(folder: Path) -> bool:
    """Whether its manifest is one of ours, or shards (of a run that is not finished) lie where pages would."""
    if any((folder / "pairs").glob("*.parquet")):
        return True
    try:
        return (folder / MANIFEST).is_file() and bool(read_manifest(LocalFiles(folder)))
    except UsageError:
        return False


def _basis(dataset: Dataset, ids: list[str], model: HeadModel) -> Basis | None:
    """Fewer modes for a head model whose own would make a heavy page; None where they fit."""
    if model.expression_dirs.size <= LARGEST:
        return None
    names = ("head_model_sha256", "a.expression", "b.expression")
    rows = [row for row in dataset.rows(names, ids) if row["head_model_sha256"] == model.sha256]
    if not rows:
        return None
    return compact_modes(model.expression_dirs, np.concatenate([row[name] for row in rows for name in names[1:]]))


def page_html(name: str, facts: Json) -> str:
    """The page itself, with its scripts and style inside."""
    parts = {
        "title": f"{_escaped(name)} · duologue",
        "style": (STATIC / "view.css").read_text(encoding="utf-8"),
        "script": "\n".join((STATIC / script).read_text(encoding="utf-8") for script in SCRIPTS),
        "data": as_json(facts),
    }
    text = (STATIC / "view.html").read_text(encoding="utf-8")
    pieces = text.replace("}}", "{{").split("{{")  # plain text at even places, names at odd ones
    return "".join(parts[piece] if place % 2 else piece for place, piece in enumerate(pieces))


def write_video(pair: Pair, out: Path, model: HeadModel | None) -> Path:
    """``PAIR.mp4``: the measurements drawn over the source.

    Raises:
        UsageError: the source is not the one that was measured.
    """
    from .overlay import write_overlay

    fits = model is not None and model.sha256 == pair.fitted.head_model_sha256
    path = out / f"{pair.pair_id}.mp4"
    write_overlay(pair, pair.source.source_uri, path, model if fits else None)
    return path


def _pairs(dataset: Dataset, ids: list[str]) -> Iterable[Pair]:
    """The pairs of these ids, in order of shard and row, read once."""
    from ..schemas.row import pair_from_row

    for row in dataset.rows(ids=ids):
        yield pair_from_row(row)


def _verdicts(dataset: Dataset) -> dict[str, Any]:
    """pair_id -> its row of the selection; empty where nothing was selected yet."""
    if dataset.manifest.entry("selection.parquet") is None:
        return {}
    names = ("selected", "reason", "failing", "split")
    return {row["pair_id"]: {name: row[name] for name in names} for row in dataset.selection().to_pylist()}


def _entry(pair: Pair, verdict: Any) -> Json:
    source = pair.source
    return {
        "id": pair.pair_id, "uri": source.source_uri, "name": _short(source.source_uri), "start": source.start_s,
        "end": source.end_s, "selected": None if verdict is None else verdict["selected"],
        "reason": "" if verdict is None else verdict["reason"], "split": "" if verdict is None else verdict["split"],
    }  # fmt: skip


def _short(uri: str) -> str:
    """A file's name; what was made without one says where it comes from."""
    return uri if uri.startswith("synthetic:") else Path(uri).name or uri


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
