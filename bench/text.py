"""Do generated clips hold the layout that their sentence asks for? Accuracy by layout codes, end to end.

    python bench/text.py [--sentences 120] [--checkpoint CKPT] [--folder DIR] [--json]

Sentences say one to three codes of a layout that exists, in wordings drawn from the vocabulary; every code is asked for
about equally often. Each goes through the whole of ``duologue sample``: rules, placement, network, then the codes of
the finished clip as ``relate`` finds them (facing is claimed only 3 degrees and more inside its bin). ``read``: the
rules understood the code. ``held``: the clip has it. ``in_bin``: the clip's scalar lies in its bin, margin or not.
Text reaches the first frame and, where it says so, how heads are turned over the clip (``--free``: only the first
frame). What happens later (how much people look, whether they come closer) is told to the network as numbers
(``--untold``: left to it), and is counted apart. Brackets are 95 % Wilson intervals. Without ``--checkpoint`` the
network of ``bench/learn.py`` is trained first (or taken from its ``--folder``).
"""

from __future__ import annotations

import argparse
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from duologue.bench.learn import learn, settings, stages_of
from duologue.bench.learning.data import MODEL, conversations
from duologue.bench.shared.report import machine, parser_of, tell
from duologue.fitting.dyad import relate
from duologue.fitting.layout import all_codes, codes_of, layout_from_codes, text
from duologue.fitting.scene_text import LATER, scene_from_text
from duologue.model.checkpoint import Trained, load_trained
from duologue.model.sample import Placement, generate
from duologue.schemas.dataset import Dataset
from duologue.schemas.heads import FittedPair
from duologue.synthesis.parameters import draw_layout

MOST_SAID = 3


def asked(count: int, seed: int = 0) -> list[tuple[str, ...]]:
    """``count`` sets of codes that one layout has together; the code they are built around goes round all codes."""
    rng = np.random.default_rng(seed)
    names = all_codes()
    out = []
    for index in range(count):
        wanted = names[index % len(names)]
        drawn: dict[str, float] = {}
        for _ in range(400):
            drawn = draw_layout(rng)
            if wanted in codes_of(drawn):
                break
        else:
            drawn = layout_from_codes((wanted,))
        others = [code for code in codes_of(drawn) if code.partition(":")[0] not in (*LATER, wanted.partition(":")[0])]
        more = rng.permutation(len(others))[: int(rng.integers(0, MOST_SAID))]
        out.append((wanted, *(others[int(k)] for k in more)))
    return out


def clip_codes(
    net: Trained, sentence: str, sound: np.ndarray, speaking: np.ndarray, seed: int, hold: bool, tell_later: bool
) -> dict[str, Any]:
    """Codes that the rules read, that the first frame's places are given, and that the generated clip has."""
    scene = scene_from_text(sentence)
    one, two = (
        Placement(
            scene.centre[k].astype(np.float32), scene.rotation[k].astype(np.float32), held=hold and scene.turned[k]
        )
        for k in (0, 1)
    )
    manner = scene.manner if tell_later else {}
    made = generate(net, sound, (one, two), speaking=speaking, manner=manner, seed=seed)
    fitted = FittedPair(
        np.arange(len(made.a.valid)) / made.fps, made.fps, 1920, 1080, 1500.0, "user", 0.0, MODEL.model_id,
        MODEL.sha256, MODEL.tier, exact(made.a), exact(made.b),
    )  # fmt: skip
    relation = relate(fitted)
    return {"read": scene.codes, "held": relation.codes, "in_bin": codes_of(relation.layout)}


def exact(head: Any) -> Any:
    """A generated head without uncertainty, as its written row has it."""
    zeros = np.zeros(len(head.valid), np.float32)
    return replace(
        head,
        rotation_sd=np.zeros((len(head.valid), 3), np.float32),
        translation_sd=zeros,
        gaze_sd=zeros,
        residual=zeros,
    )


def share(hits: list[bool]) -> dict[str, float | None]:
    """Share of hits with its 95 % Wilson interval; None where nothing was asked."""
    n, z = len(hits), 1.96
    if not n:
        return {"share": None, "low": None, "high": None, "asked": 0}
    p = sum(hits) / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return {"share": p, "low": (middle - half) / scale, "high": (middle + half) / scale, "asked": n}


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    exact_set = conversations(folder, options.pairs)
    checkpoint = options.checkpoint
    if not checkpoint:
        run = folder / f"main-{options.steps}"
        tree = settings(run, 0, {}, stages_of(options.steps, exact_set), folder / "features")
        learn(run, tree, exact_set, options.most, True)
        checkpoint = str(run)
    net = load_trained(checkpoint, "cpu")
    data = Dataset(exact_set)
    voices = [data.pair(key).voices for key in data.ids(split="test")[:24]]
    found: list[tuple[str, dict[str, Any]]] = []
    for index, codes in enumerate(asked(options.sentences)):
        sound = voices[index % len(voices)]
        masks = np.stack([sound.speaking_a, sound.speaking_b])
        sentence = text(codes, f"bench/{index}")
        got = clip_codes(net, sentence, sound.samples(), masks, index, not options.free, not options.untold)
        found += [(code, got) for code in codes]
    groups: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for code, got in found:
        groups.setdefault(code.partition(":")[0], []).append((code, got))
    first = [item for item in found if item[0].partition(":")[0] not in LATER]
    later = [item for item in found if item[0].partition(":")[0] in LATER]
    rows = {"first_frame": first, "later": later, **groups}
    table = {
        name: {kind: share([code in got[kind] for code, got in items]) for kind in ("read", "held", "in_bin")}
        for name, items in rows.items()
    }
    by_code = {code: share([code in got["held"] for other, got in found if other == code]) for code in all_codes()}
    return {
        **machine(torch.device("cpu")), "sentences": options.sentences,
        "facing_held": not options.free, "later_told": not options.untold,
        "codes_asked": len(found),
        "layout_accuracy": table["first_frame"]["held"]["share"], "groups": table, "held_by_code": by_code,
    }  # fmt: skip


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--sentences", type=int, default=120)
    parser.add_argument("--free", action="store_true", help="facing holds in the first frame only, not over the clip")
    parser.add_argument("--untold", action="store_true", help="what is said of later is not told to the network")
    parser.add_argument("--checkpoint", help="of a network of the embedded head")
    parser.add_argument("--pairs", type=int, default=2000, help="of the learning benchmark's set")
    parser.add_argument("--steps", type=int, default=3000, help="of its training")
    parser.add_argument("--most", type=int, default=48, help="test pairs that score it")
    parser.add_argument("--folder", help="of the learning benchmark")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        result = measure(options, Path(options.folder or scratch))
    tell(result, options.json)


if __name__ == "__main__":
    main()
