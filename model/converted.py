"""What conversions of any format share: folders, which pairs, what is assumed, and finishing a data set."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .. import __version__
from ..schemas.dataset import Dataset
from ..schemas.errors import BadInput, UsageError
from ..schemas.files import LocalFiles
from ..schemas.finish import finish_dataset, write_rejects
from ..schemas.records import Reject
from ..schemas.row import Pair, pair_row
from ..schemas.selection import DEFAULTS, SelectionOptions
from ..schemas.shard import shard_count
from ..schemas.spill import Spill
from . import nominal


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


def empty_folder(folder: str | Path) -> Path:
    """The path of a folder that is not there yet or empty.

    Raises:
        UsageError: it holds something.
    """
    root = Path(folder)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UsageError(f"{folder} is there already and not empty")
    return root


def config_text(source: str, title: str, head_model: str, more: Mapping[str, object] | None = None) -> str:
    """What an import assumes, as the data set's ``config.yaml``."""
    lines = {
        "source": source,
        "head_model": head_model,
        "place_sd_m": nominal.PLACE_SD_M,
        "rotation_sd": nominal.ROTATION_SD,
        "places": json.dumps({who: list(place) for who, place in nominal.PLACES.items()}),
        **(more or {}),
    }
    first = f"# imported from {title} files: labels taken as given, positions nominal, gaze unknown\nconvert:\n"
    return first + "".join(f"  {name}: {value}\n" for name, value in lines.items())


def config_hash(text: str) -> str:
    """Of :func:`config_text`."""
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass
class Import:
    """A data set in the making: rows are added in any order, what cannot be used is counted."""

    root: Path
    spill: Spill
    rejects: list[Reject] = field(default_factory=list)
    items: Counter[str] = field(default_factory=Counter)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    with_sound: bool = False

    def add(self, pair: Pair) -> None:
        """Keep a row; the same content under another name is a duplicate."""
        new = self.spill.add(pair_row(pair))
        self.count("kept" if new else "duplicate", pair.source.end_s - pair.source.start_s)
        self.with_sound |= pair.voices.audio is not None

    def reject(
        self, name: str, error: BadInput | UsageError, start_s: float = 0.0, end_s: float = 0.0, source_id: str = ""
    ) -> None:
        """Keep why a clip, or a part of one, is no row."""
        reason, detail = (error.reason, error.detail) if isinstance(error, BadInput) else ("unreadable", str(error))
        video_id = hashlib.sha256(name.encode()).hexdigest()
        self.rejects.append(Reject(video_id, name, "convert", reason, detail, start_s, end_s, source_id=source_id))
        self.count(reason, end_s - start_s)

    def count(self, reason: str, seconds: float) -> None:
        """One more item; what could not be read is of unknown length, 0."""
        self.items[reason] += 1
        self.seconds[reason] += seconds

    def finish(self, text: str, hash_: str, options: SelectionOptions = DEFAULTS) -> Converted:
        """Write the data set.

        Args:
            text: ``config.yaml``. hash_: of what decides rows.
        """
        files = LocalFiles(self.root)
        funnel = {reason: {"items": self.items[reason], "hours": self.seconds[reason] / 3600} for reason in self.items}
        finish_dataset(
            files,
            self.spill.write(files),
            write_rejects(files, self.rejects),
            config_hash=hash_,
            code_version=__version__,
            config_yaml=text,
            funnel={"convert": funnel},
            options=options,
        )
        left = {reason: count for reason, count in self.items.items() if reason != "kept"}
        return Converted(len(self.spill), left, tuple(f"{r.uri}: {r.detail}" for r in self.rejects[:5]))


@contextmanager
def importing(out: str | Path, most_rows: int) -> Iterator[Import]:
    """An import into a new or empty folder of at most ``most_rows`` rows, which wait on its own disk.

    Raises:
        UsageError: the folder is not empty.
    """
    root = empty_folder(out)
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".rows-", dir=root) as folder:
        yield Import(root, Spill(folder, shard_count(most_rows)))


def flame_pairs(
    dataset: str | Path, title: str, *, split: str | None, selected: bool, any_head_model: bool
) -> Iterator[Pair]:
    """The pairs of a data set to export in a format of FLAME's coefficients.

    Raises:
        UsageError: no data set, no pair chosen, or coefficients that are not FLAME's.
    """
    empty = True
    for pair in Dataset(dataset).pairs(selected=selected, split=split):
        tier = pair.fitted.head_model_tier
        if tier != "flame" and not any_head_model:
            raise UsageError(
                f"{dataset} holds coefficients of head model {pair.fitted.head_model_id} ({tier}); {title}'s are "
                "FLAME's: refit with FLAME, or --any-head-model to write them all the same"
            )
        empty = False
        yield pair
    if empty:
        raise UsageError(f"{dataset} has no {'selected ' if selected else ''}pair{f' in {split}' if split else ''}")
