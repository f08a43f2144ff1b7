"""The data-set card (``README.md``): what the rows are, how they came about, how to open them, what to beware of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from .backends import BackendCounts
from .manifest import Manifest
from .pair import CONVENTIONS
from .selection import selection_options, summary

# What people look at first, with the unit as shown.
_SHOWN_SCORES = (
    ("face_scale_a", "face scale of a, px per 63 mm"),
    ("yaw95_a", "95th percentile of |yaw| of a, deg"),
    ("residual_a", "fit residual of a, fraction of face scale"),
    ("speech_share", "share of the clip with speech"),
    ("bound_share", "share of the speech bound to a face"),
    ("snr_db", "speech-to-noise ratio, dB"),
    ("mutual_gaze_share", "share of mutual gaze"),
)


CARD_COLUMNS = (
    "video_id", "start_s", "end_s", "license", "attribution", "head_model_id", "head_model_tier",
    *(f"scores.{name}" for name, _ in _SHOWN_SCORES),
)  # fmt: skip


def card_text(
    manifest: Manifest, light: pa.Table, selection: pa.Table, funnel: Mapping[str, Any], backends: BackendCounts
) -> str:
    """The card of a data set.

    Args:
        light: :data:`CARD_COLUMNS` (and more) of every pair.
        backends: the models that worked on them.
        funnel: stage -> outcome -> {"items", "hours"}; empty where unknown.
    """
    counts = summary(selection)
    hours = float(np.sum(light["end_s"].to_numpy() - light["start_s"].to_numpy())) / 3600
    licenses = _values(light, "license")
    head = manifest.head_model_id or "none"
    parts = [
        _front_matter(manifest),
        "# Two-person conversations: paired 3D head motion with audio\n",
        f"{_number(light.num_rows, 'clip')} ({_duration(hours)}) of two people talking, "
        f"from {_number(len(_values(light, 'video_id')), 'video')}. "
        "Each row holds both heads in one metric camera frame, their gaze, who speaks when, the mixed audio, and "
        "how sure every value is. Rows hold no face pixels.\n",
        _table(
            ("", ""),
            [
                ("pairs", str(counts["pairs"])),
                ("selected", str(counts["selected"])),
                ("rejects", str(manifest.rows("rejects"))),
                ("head model", f"{head} (tier {', '.join(_values(light, 'head_model_tier')) or 'none'})"),
                ("schema version", str(manifest.schema_version)),
                ("written by", f"duologue {manifest.code_version}, configuration {manifest.config_hash or 'unknown'}"),
            ],
        ),
        "## Open it\n",
        _OPENING,
        "Only what `manifest.json` names belongs to the data set; `duologue verify` checks all of it.\n",
        "## Selection and splits\n",
        "Every measured clip is a row; `selection.parquet` says which pass these thresholds, the first one that a row "
        "fails, and its split. Pairs that share a video, a source, a person or a near-duplicate are in one split.\n",
        _table(("threshold", "value"), [(k, str(v)) for k, v in vars(selection_options(selection)).items()]),
        _counts_table("split (selected pairs)", counts["splits"]),
        _counts_table("first failing threshold", counts["reasons"]),
        "## Scores\n",
        _score_table(light),
        _funnel(funnel),
        "## Conventions\n",
        re.sub(r"\n(?=[A-Z]\w*\. )", "\n\n", CONVENTIONS) + "\n",
        "Unit, frame and shape of every column are in the Parquet field metadata "
        "(`pyarrow.parquet.read_schema(path).field(name).metadata`).\n",
        "## Where it comes from\n",
        _counts_table(
            "licence of the source",
            {found["values"] or "not stated": found["counts"] for found in light["license"].value_counts().to_pylist()},
        ),
        _attributions(light),
        "## What measured it\n",
        _backends(backends),
        "## Limits\n",
        _LIMITS,
        "" if licenses else "No row states a licence: check the sources before sharing.\n",
        "Takedowns: `duologue remove DIR --video ID | --source ID | --person ID` rewrites the shards and "
        "remembers it.\n",
    ]
    return "\n".join(part for part in parts if part)


_OPENING = """```python
import pyarrow.dataset as ds; table = ds.dataset("pairs/").to_table(columns=["pair_id", "a.rotation"])
import duckdb; duckdb.sql('select pair_id, "scores.snr_db" from \\'pairs/*.parquet\\'')
import polars as pl; frame = pl.read_parquet("pairs/*.parquet", columns=["pair_id", "scores.snr_db"])
from datasets import load_dataset; rows = load_dataset("parquet", data_files="pairs/*.parquet", split="train")
from duologue.schemas.dataset import Dataset; pairs = Dataset(".").pairs(split="train")
```
"""

_LIMITS = """Labels are measured by software, not by people. Depth and head size share an ambiguity that landmarks
cannot remove: `scale_log_sd` and `focal_log_sd` state it. Each frame carries `valid`, `confidence`, `residual` and
standard deviations; use them. With a head model of tier canonical, head pose, position, gaze, blinks and mouth opening
are meaningful, identity and lip detail are not. Voices and motion are personal data of the people shown: respect their
rights and the licences of the sources.
"""


def _front_matter(manifest: Manifest) -> str:
    lines = ["---", "pretty_name: Two-person conversations", "license: other", "task_categories:", "- other", "tags:"]
    lines += ["- audio", "- 3d", "- talking-head", "- conversation", "- gaze", "configs:"]
    for kind in ("pairs", "rejects", "selection"):
        paths = [entry.path for entry in manifest.of_kind(kind) if entry.rows]
        if not paths:
            continue
        lines += [f"- config_name: {kind}"]
        lines += ["  default: true"] if kind == "pairs" else []
        lines += [
            "  data_files:",
            "  - split: everything",
            "    path:",
            *(f"    - {json.dumps(path)}" for path in paths),
        ]
    return "\n".join([*lines, "---", ""])


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _duration(hours: float) -> str:
    """Hours, minutes or seconds, whichever reads best."""
    seconds = hours * 3600
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{hours:.1f} h"


def _values(light: pa.Table, name: str) -> list[str]:
    return sorted(value for value in light[name].unique().to_pylist() if value)


def _table(head: tuple[str, ...], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows), ""])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _counts_table(name: str, counts: object) -> str:
    assert isinstance(counts, Mapping)
    rows = [(str(key), str(value)) for key, value in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    return _table((name, "pairs"), rows) if rows else ""


def _score_table(light: pa.Table) -> str:
    rows = []
    for name, text in _SHOWN_SCORES:
        values = np.asarray(light[f"scores.{name}"].to_numpy(), dtype=np.float64)
        known = values[np.isfinite(values)]
        if known.size:
            low, middle, high = np.percentile(known, [5, 50, 95])
            rows.append((f"`{name}`", text, f"{low:.3g}", f"{middle:.3g}", f"{high:.3g}", str(known.size)))
    return _table(("score", "meaning", "5 %", "median", "95 %", "measured"), rows) if rows else ""


def _funnel(funnel: Mapping[str, Any]) -> str:
    if not funnel:
        return ""
    rows = [
        (stage, outcome, str(int(cell["items"])), f"{cell['hours']:.3f}")
        for stage, outcomes in funnel.items()
        for outcome, cell in outcomes.items()
    ]
    return "## Funnel\n\nWhat each stage kept, and what it stopped and why.\n\n" + _table(
        ("stage", "outcome", "items", "hours"), rows
    )


def _attributions(light: pa.Table) -> str:
    found = _values(light, "attribution")
    shown = [f"- {_cell(text)}" for text in found[:50]]
    more = [f"- and {len(found) - 50} more, in the `attribution` column"] if len(found) > 50 else []
    return "\n".join([*shown, *more, ""]) if found else ""


def _backends(found: BackendCounts) -> str:
    rows = [(stage, name, (sha[:12] or "none"), license or "not stated") for stage, name, sha, license in sorted(found)]
    return _table(("stage", "model", "weights sha256", "licence"), rows) if rows else "No model is recorded.\n"
