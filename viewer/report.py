"""``duologue report``: one static page about a data set: funnel, scores against thresholds, rejects, splits."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..schemas.backends import BackendCounts, count_backends
from ..schemas.dataset import Dataset
from ..schemas.errors import UsageError
from ..schemas.files import LocalFiles
from ..schemas.finish import read_funnel
from ..schemas.pair import SCORES
from ..schemas.records import REASONS
from ..schemas.selection import SPLITS, SelectionOptions, selection_options, threshold_names
from .charts import bar, escaped, figure, histogram, table
from .page_data import SOUND_THRESHOLDS, THRESHOLDS
from .reject_groups import EXAMPLES, RejectGroup, group_rejects
from .view import STATIC, files_of
from .write import write_file

SOURCES = 50  # shown; the rest is counted
COLUMNS = (
    "pair_id", "video_id", "source_uri", "source_id", "license", "origin", "n_people", "start_s", "end_s",
    "a.person_id", "b.person_id", "layout.codes", "head_model_id", "head_model_tier", "code_version",
    "config_hash", *(f"scores.{name}" for name in SCORES),
)  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """What a report is made of.

    Attributes:
        pairs: :data:`COLUMNS` of every pair, by pair_id. selection: by pair_id, None where none was made.
        options: the thresholds of ``selection``.
        backends: the models that worked on the pairs.
        viewable: ids that the viewer page beside the report shows.
    """

    name: str
    root: str
    pairs: pa.Table
    selection: pa.Table | None
    options: SelectionOptions | None
    rejects: tuple[RejectGroup, ...]
    funnel: Mapping[str, Mapping[str, Mapping[str, float]]]
    backends: BackendCounts
    viewable: frozenset[str] = frozenset()

    @property
    def hours(self) -> npt.NDArray[np.float64]:
        """[N] of each pair."""
        return np.asarray(self.pairs["end_s"].to_numpy() - self.pairs["start_s"].to_numpy(), np.float64) / 3600

    @property
    def selected(self) -> npt.NDArray[np.bool_]:
        """[N] True where selected; all False without a selection."""
        if self.selection is None:
            return np.zeros(self.pairs.num_rows, dtype=bool)
        return np.array(self.selection["selected"].to_pylist(), dtype=bool)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.description = (
        "Write one page about a data set: what each stage kept and stopped, scores against their thresholds, "
        "rejects with examples, splits, layouts, licences. It needs no server and no network."
    )
    parser.add_argument("dataset", metavar="DIR", help="a data-set folder")
    parser.add_argument("--out", metavar="PAGE", help="the file to write (DIR/report.html)")
    parser.add_argument("--json", action="store_true", help="print one JSON object with the counts")


def run(args: argparse.Namespace) -> int:
    """Write the report and say where it is."""
    files = files_of(args.dataset)
    if args.out is None and not isinstance(files, LocalFiles):
        raise UsageError(f"{args.dataset} is not on this machine: say with --out where the report goes")
    out = Path(args.out) if args.out else Path(args.dataset.removeprefix("file://")) / "report.html"
    facts = read_facts(Dataset(files), out.parent)
    write_file(out, report_html(facts).encode())
    if args.json:
        print(json.dumps({"page": str(out), **counts(facts)}))
    else:
        print(f"open {out}")
    return 0


def read_facts(dataset: Dataset, folder: Path) -> Facts:
    """Everything that the report shows; arrays and sound are not read.

    Args:
        folder: of the report; a viewer page in ``folder/view`` is linked.
    """
    made = dataset.manifest.entry("selection.parquet") is not None
    selection = dataset.selection().sort_by("pair_id") if made else None
    pairs = dataset.table(COLUMNS).sort_by("pair_id")
    if selection is not None and not selection["pair_id"].equals(pairs["pair_id"]):
        root = dataset.files.root
        raise UsageError(f"{root}: selection.parquet is not of its pairs: 'duologue select {root}' makes it again")
    return Facts(
        name=Path(dataset.files.root).name,
        root=dataset.files.root,
        pairs=pairs,
        selection=selection,
        options=None if selection is None else selection_options(selection),
        rejects=group_rejects(dataset.reject_shards()),
        funnel=read_funnel(dataset.files, dataset.manifest),
        backends=count_backends(dataset.groups(["backends"])),
        viewable=frozenset(path.stem for path in (folder / "view" / "pairs").glob("*.js")),
    )


def counts(facts: Facts) -> dict[str, Any]:
    """The figures at the head of the page."""
    stopped: Counter[str] = Counter()
    for group in facts.rejects:
        stopped[group.reason] += group.count
    return {
        "pairs": facts.pairs.num_rows,
        "hours": round(float(facts.hours.sum()), 6),
        "selected": int(facts.selected.sum()),
        "selected_hours": round(float(facts.hours[facts.selected].sum()), 6),
        "videos": len(facts.pairs["video_id"].unique()),
        "rejects": sum(group.count for group in facts.rejects),
        "rejects_by_reason": dict(sorted(stopped.items())),
    }


def report_html(facts: Facts) -> str:
    """The whole page."""
    style = (STATIC / "report.css").read_text(encoding="utf-8")
    sections = (
        ("Funnel", _funnel(facts)),
        ("Selection", _selection(facts)),
        ("Scores", _scores(facts)),
        ("Rejects", _rejects(facts)),
        ("Splits", _splits(facts)),
        ("Layouts", _layouts(facts)),
        ("Sources and models", _sources(facts)),
    )
    links = "".join(f'<a href="#{_anchor(title)}">{title}</a>' for title, _ in sections)
    body = "".join(f'<section id="{_anchor(title)}"><h2>{title}</h2>{text}</section>' for title, text in sections)
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escaped(facts.name)} · duologue report</title><style>{style}</style></head><body>"
        f"<header><h1>{escaped(facts.name)}</h1><p>{escaped(facts.root)}</p><nav>{links}</nav></header>"
        f"{_tiles(facts)}{body}</body></html>\n"
    )


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def duration(hours: float) -> str:
    """Hours, minutes or seconds, whichever reads best."""
    seconds = hours * 3600
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{hours:.1f} h"


def _tiles(facts: Facts) -> str:
    found = counts(facts)
    share = found["selected"] / found["pairs"] if found["pairs"] else 0.0
    reasons = len(found["rejects_by_reason"])
    tiles = [
        ("pairs", f"{found['pairs']:,}", duration(found["hours"])),
        ("selected", f"{found['selected']:,}", f"{figure(share, 'share')}, {duration(found['selected_hours'])}")
        if facts.selection is not None
        else ("selected", "–", "no selection was made"),
        ("videos with a pair", f"{found['videos']:,}", ""),
        ("rejects", f"{found['rejects']:,}", f"{reasons} reason{'' if reasons == 1 else 's'}"),
    ]
    return '<div class="tiles">' + "".join(
        f"<div><span>{escaped(name)}</span><b>{escaped(value)}</b><span>{escaped(note)}&nbsp;</span></div>"
        for name, value, note in tiles
    ) + "</div>"  # fmt: skip


def _funnel(facts: Facts) -> str:
    if not facts.funnel:
        return '<p class="none">The data set has no funnel.</p>'
    top = max((cell["hours"] for outcomes in facts.funnel.values() for cell in outcomes.values()), default=0.0)
    rows = []
    for stage, outcomes in facts.funnel.items():
        kept = outcomes.get("kept", {"items": 0, "hours": 0.0})
        lost = [
            f'<span class="chip" title="{escaped(REASONS.get(reason, reason))}">{escaped(reason)} '
            f"<b>{int(cell['items'])}</b>, {duration(cell['hours'])}</span>"
            for reason, cell in outcomes.items()
            if reason != "kept"
        ]
        width = bar(kept["hours"] / top if top else 0.0)
        rows.append([escaped(stage), f"{int(kept['items']):,}", duration(kept["hours"]), width, " ".join(lost) or "–"])
    return f'<div class="wide">{table(["stage", "kept", "time kept", "", "stopped here"], rows, kind="funnel")}</div>'


def _selection(facts: Facts) -> str:
    if facts.selection is None or facts.options is None:
        return '<p class="none">No selection was made.</p>'
    failing = facts.selection["failing"].to_pylist()
    ids = facts.selection["pair_id"].to_pylist()
    total = max(len(failing), 1)
    fails = Counter(dict.fromkeys(threshold_names(facts.options), 0))
    fails.update(name for row in failing for name in row)
    alone = Counter(row[0] for row in failing if len(row) == 1)
    first = Counter(row[0] for row in failing if row)
    values = vars(facts.options)
    rows = []
    for name, count in sorted(fails.items(), key=lambda item: -item[1]):  # those that nobody fails as they are applied
        examples = [pair for pair, row in zip(ids, failing, strict=True) if row and row[0] == name][:EXAMPLES]
        rows.append([
            escaped(name), escaped(_option(values.get(name, ""))), str(count), bar(count / total, "bad"),
            str(first[name]), str(alone[name]), ", ".join(_pair_link(facts, pair) for pair in examples),
        ])  # fmt: skip
    note = '<p class="note">"Only this" counts the pairs that would be gained by lifting this threshold alone.</p>'
    heads = ["threshold", "value", "fail it", "", "first reason", "only this", "examples"]
    return f'<div class="wide">{table(heads, rows)}</div>{note}'


def _option(value: object) -> str:
    """A threshold as ``select --set`` takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _pair_link(facts: Facts, pair: str) -> str:
    short = f"<code>{escaped(pair[:12])}</code>"
    return f'<a href="view/index.html#pair={escaped(pair)}">{short}</a>' if pair in facts.viewable else short


def _scores(facts: Facts) -> str:
    """One histogram per score; scores of a and b pooled."""
    ordered = sorted(_score_names(), key=lambda names: (names[0] not in THRESHOLDS,))
    cards = [(names, _score_card(facts, names)) for names in ordered]
    empty = [_title(names) for names, card in cards if card is None]
    note = f'<p class="note">Measured in no pair: {escaped(", ".join(empty))}.</p>' if empty else ""
    return '<div class="cards">' + "".join(card for _, card in cards if card is not None) + "</div>" + note


def _title(names: tuple[str, ...]) -> str:
    """A score's name in words; its unit stands beside it."""
    return (
        names[0].removesuffix("_a") if len(names) == 2 else names[0].removesuffix("_db").removesuffix("_s")
    ).replace("_", " ")


def _score_values(facts: Facts, names: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """Values of a score, NaN where not measured; of a score per person, a's and then b's of rows that have one."""
    alone = np.asarray(facts.pairs["n_people"].to_numpy()) == 1
    columns = [facts.pairs[f"scores.{name}"].to_numpy(zero_copy_only=False).astype(np.float64) for name in names]
    if len(columns) == 2:
        columns[1] = columns[1][~alone]
    return np.concatenate(columns)


def _score_names() -> list[tuple[str, ...]]:
    out: list[tuple[str, ...]] = []
    for name in SCORES:
        if name.endswith("_b") and f"{name[:-2]}_a" in SCORES:
            continue
        other = f"{name[:-2]}_b"
        out.append((name, other) if name.endswith("_a") and other in SCORES else (name,))
    return out


def _score_card(facts: Facts, names: tuple[str, ...]) -> str | None:
    unit, meaning = SCORES[names[0]]
    values = _score_values(facts, names)
    finite = np.isfinite(values)
    known = values[finite]
    if not len(known):
        return None
    limits, fails = _limits(facts, names, values)
    fails = fails[finite]
    words = [f"median {figure(float(np.median(known)), unit)}"]
    if limits:
        words.append(f"{int(fails.sum())} of {len(known)} fail")
    if len(known) < len(values):
        words.append(f"{len(values) - len(known)} not measured")
    told = unit if unit and unit != "share" else ""
    both = "a and b: " if len(names) == 2 else ""
    meaning = meaning.removesuffix(" of a").replace("person a was", "the person was")
    chart = histogram(known, fails=fails, limits=limits, unit=unit, label=f"{_title(names)}, {', '.join(words)}")
    return (
        f'<figure title="{escaped(both + meaning)}"><figcaption><b>{escaped(_title(names))}</b> '
        f"<span>{escaped(told)}</span></figcaption>{chart}<p>{escaped(', '.join(words))}</p></figure>"
    )


def _limits(
    facts: Facts, names: tuple[str, ...], values: npt.NDArray[np.float64]
) -> tuple[list[float], npt.NDArray[np.bool_]]:
    """Threshold lines of a score, and which values fail them.

    Of a score per person, each value meets the limit by itself; of a clip's, the selection says which pairs fail (an
    offset that cannot be told does not). Yaws are held to the limit where their bound was not measured.
    """
    nothing = np.zeros(len(values), dtype=bool)
    judged, read = ~nothing, names[0]
    if read == "yaw95_a":
        read, judged = "yaw_bound_a", np.isnan(_score_values(facts, ("yaw_bound_a", "yaw_bound_b")))
    if facts.options is None or facts.selection is None or read not in THRESHOLDS or not judged.any():
        return [], nothing
    option, side = THRESHOLDS[read]
    if not facts.options.sound and option in SOUND_THRESHOLDS:
        return [], nothing
    limit = float(getattr(facts.options, option))
    lines = [-limit, limit] if side == "abs<=" else [limit]
    if len(names) == 1:
        return lines, np.array([option in row for row in facts.selection["failing"].to_pylist()], dtype=bool)
    return lines, judged & (values < limit - 1e-6 if side == ">=" else values > limit + 1e-6)


def _rejects(facts: Facts) -> str:
    rows = []
    for group in facts.rejects:
        examples = "".join(
            f"<li><code>{escaped(reject.uri)}</code> {reject.start_s:.2f}–{reject.end_s:.2f} s: "
            f"{escaped(reject.detail)}"
            for reject in group.examples
        )
        more = group.count - len(group.examples)
        rest, why = f"<li>and {more} more" if more else "", REASONS.get(group.reason, "")
        rows.append([
            f"<b>{escaped(group.reason)}</b><br><small>{escaped(why)}</small>", escaped(group.stage),
            str(group.count), duration(group.hours), f"<ul>{examples}{rest}</ul>",
        ])  # fmt: skip
    return f'<div class="wide">{table(["reason", "stage", "count", "time", "examples"], rows, kind="rejects")}</div>'


def _splits(facts: Facts) -> str:
    if facts.selection is None:
        return '<p class="none">No selection was made.</p>'
    split = np.array(facts.selection["split"].to_pylist(), dtype=object)
    component = facts.selection["component"].to_pylist()
    hours, selected = facts.hours, facts.selected
    rows = []
    for name in SPLITS:
        inside = split == name
        chosen = inside & selected
        parts = {component[k] for k in np.flatnonzero(inside)}
        share = float(chosen.sum()) / max(int(selected.sum()), 1)
        rows.append([
            name, str(int(inside.sum())), str(int(chosen.sum())), duration(float(hours[chosen].sum())), bar(share),
            str(len(parts)),
        ])  # fmt: skip
    note = (
        '<p class="note">Pairs that share a video, a source, a person or a near-duplicate form one component and lie '
        "in one split.</p>"
    )
    return table(["split", "pairs", "selected", "time selected", "", "components"], rows) + note


def _layouts(facts: Facts) -> str:
    groups: dict[str, Counter[str]] = {}
    for codes in facts.pairs["layout.codes"].to_pylist():
        for code in codes:
            name, _, value = code.partition(":")
            groups.setdefault(name, Counter())[value] += 1
    total = max(facts.pairs.num_rows, 1)
    cards = []
    for name in sorted(groups):
        rows = [
            [escaped(value.replace("_", " ")), str(count), bar(count / total)]
            for value, count in sorted(groups[name].items(), key=lambda item: (-item[1], item[0]))
        ]
        title = escaped(name.replace("_", " "))
        cards.append(f"<figure><figcaption><b>{title}</b></figcaption>{table(['', 'pairs', ''], rows)}</figure>")
    return (
        '<div class="cards">' + "".join(cards) + "</div>" if cards else '<p class="none">No pair has layout codes.</p>'
    )


def _sources(facts: Facts) -> str:
    pairs, hours = facts.pairs, facts.hours
    origin: dict[tuple[str, str, str], list[float]] = {}
    names = (pairs["source_id"].to_pylist(), pairs["license"].to_pylist(), pairs["origin"].to_pylist())
    for k, key in enumerate(zip(*names, strict=True)):
        origin.setdefault(key, []).append(float(hours[k]))
    rows = [
        [
            escaped(source or "not given"),
            escaped(licence or "not given"),
            escaped(kind),
            str(len(found)),
            duration(sum(found)),
        ]
        for (source, licence, kind), found in sorted(origin.items(), key=lambda item: (-len(item[1]), item[0]))[
            :SOURCES
        ]
    ]
    left = f'<p class="note">And {len(origin) - SOURCES} more.</p>' if len(origin) > SOURCES else ""
    models = Counter(zip(pairs["head_model_id"].to_pylist(), pairs["head_model_tier"].to_pylist(), strict=True))
    work = [
        ["head model", f"{escaped(model)} ({escaped(tier)})", "", "", str(count)]
        for (model, tier), count in sorted(models.items())
    ] + [
        [
            escaped(stage),
            escaped(name),
            escaped(licence or "not stated"),
            f"<code>{escaped(weights[:12])}</code>",
            str(n),
        ]
        for (stage, name, weights, licence), n in sorted(facts.backends.items())
    ]
    return (
        table(["source", "licence", "origin", "pairs", "time"], rows)
        + left
        + "<h3>Measured with</h3>"
        + table(["stage", "model", "licence", "weights", "pairs"], work)
    )
