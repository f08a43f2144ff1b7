"""Any number of finished rows as they wait for the sink: a few synthetic conversations, told again under other ids.

Rows are 3 s long (the shortest that selection takes), so that bytes weigh little beside what grows with their number.
Three rows lie in a video; one video in twenty shows somebody who is in others too; one row in fifty repeats an earlier
one's sound; one in twenty begins with a jingle that all of those share, a band of near-duplicate look-up that grows
with the data set.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from duologue.pipeline.rows import row_bytes
from duologue.schemas import pair as schema
from duologue.schemas.audio import decode_audio, encode_audio
from duologue.schemas.dataset import Dataset
from duologue.schemas.records import REASONS, Reject
from duologue.schemas.row import Row
from duologue.synthesis.parameters import ParameterOptions, write_parameters
from duologue.transforms.audio_scores import FingerprintOptions, fingerprint_bands
from duologue.transforms.elements import PairDone
from duologue.transforms.stage import Tally
from duologue.transforms.work import WorkStore

SECONDS, FPS = 3.0, 25
FRAMES = round(SECONDS * FPS)
PER_VIDEO = 3
REJECTS_PER_PAIR, TALLIES_PER_PAIR = 3, 12  # a sitcom scene of which half is kept gives 1 and 12
CONFIG = "scale"


def templates(folder: Path, count: int = 12) -> list[Row]:
    """``count`` different rows of :data:`FRAMES` frames, cut from synthetic conversations."""
    write_parameters(folder, ParameterOptions(count))
    return [_shortened(row) for row in Dataset(folder).rows()]


def _shortened(row: Row) -> Row:
    out = dict(row)
    for name, value in row.items():
        column = schema.BY_NAME.get(name)
        if column is not None and column.shape and column.shape[0] == "T":
            out[name] = value[:FRAMES]
    samples = decode_audio(row["audio"]["bytes"])[: round(SECONDS * schema.SAMPLE_RATE)]
    begin = row["start_s"]
    turns = [turn for turn in row["turns"] if turn["start_s"] < begin + SECONDS]
    out["turns"] = [
        turn | {"start_s": turn["start_s"] - begin, "end_s": min(turn["end_s"] - begin, SECONDS)} for turn in turns
    ]
    out["audio"] = {"bytes": encode_audio(samples), "path": row["audio"]["path"]}
    out |= {"n_frames": FRAMES, "config_hash": CONFIG, "duplicate_of": "", "origin": "curated"}
    return out


def row_of(number: int, made: list[Row]) -> tuple[Row, tuple[int, ...]]:
    """Row ``number`` and the fingerprint of its sound; both depend on the number alone."""
    rng = np.random.default_rng([number, 5])
    video, part = divmod(number, PER_VIDEO)
    video_id, start = hashlib.sha256(f"video {video}".encode()).hexdigest(), part * SECONDS
    row = dict(made[number % len(made)])
    guest = f"guest {video % 9973 // 3}" if video % 20 == 0 else f"{video_id[:16]}-p0"
    row |= {
        "pair_id": schema.pair_id(video_id, start, start + SECONDS, CONFIG),
        "video_id": video_id,
        "source_uri": f"videos/{video:08d}.mp4",
        "source_id": "",
        "license": "CC-BY-4.0",
        "attribution": f"channel {video % 40}",
        "start_s": start,
        "end_s": start + SECONDS,
        "turns": [t | {"start_s": t["start_s"] + start, "end_s": t["end_s"] + start} for t in row["turns"]],
        "a.person_id": hashlib.sha256(guest.encode()).hexdigest()[:32],
        "b.person_id": hashlib.sha256(f"{video_id}-p1".encode()).hexdigest()[:32],
        "scores.snr_db": float(rng.normal(15, 8)),
    }
    source = int(rng.integers(number)) if number and number % 50 == 0 else number
    options = FingerprintOptions()
    values = np.random.default_rng([source, 6]).integers(0, 2**32, options.hashes)
    if number % 20 == 7:
        values[: options.hashes // options.bands] = 1
    return row, tuple(int(value) for value in values)


def store_rows(first: int, last: int, made: list[Row], work: WorkStore) -> Iterator[PairDone]:
    """Write rows ``first`` to ``last`` as work files; yields what the score stage tells of each."""
    for number in range(first, last):
        row, fingerprint = row_of(number, made)
        yield PairDone(
            row["pair_id"], row["video_id"], row["start_s"], row["end_s"],
            work.put("score", row["pair_id"], row_bytes(row), ".arrow"),
            tuple(fingerprint_bands(fingerprint)), fingerprint,
        )  # fmt: skip


def rejects_of(number: int) -> list[Reject]:
    """What was stopped for each row that was kept."""
    reasons = sorted(REASONS)
    out = []
    for k in range(REJECTS_PER_PAIR):
        video, reason = f"no-{number:08d}-{k}", reasons[(number + k) % len(reasons)]
        key = hashlib.sha256(video.encode()).hexdigest()
        out.append(Reject(key, f"videos/{video}.mp4", "shots", reason, "4.1 s of the span", 0.0, k + 1.0, k))
    return out


def tallies_of(_: int) -> list[Tally]:
    """The funnel's counts of one row."""
    return [Tally("scan", "kept", 1, SECONDS)] * TALLIES_PER_PAIR


def write_done(path: Path, done: Iterator[PairDone]) -> None:
    """One JSON line a row."""
    with path.open("w") as stream:
        for row in done:
            stream.write(json.dumps(asdict(row)) + "\n")


def read_done(path: str, first: int, last: int) -> Iterator[PairDone]:
    """Lines ``first`` to ``last`` of :func:`write_done`."""
    with Path(path).open() as stream:
        for number, line in enumerate(stream):
            if first <= number < last:
                values: dict[str, Any] = json.loads(line)
                yield PairDone(
                    **values | {"bands": tuple(values["bands"]), "fingerprint": tuple(values["fingerprint"])}
                )
            elif number >= last:
                return
