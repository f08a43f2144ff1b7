"""Are the people of rendered conversations people? Faces apart to a face recognizer, voices to a speaker embedding.

    python bench/identities.py --recognizer mobilefacenet.ckpt --json

Faces: every identity at small random poses, aligned by five true points to the usual 112 x 96 crop, described by
MobileFaceNet (Chen et al. 2018, table 1; weights by path). Voices: the sentences of the small talk in every voice
that the accuracy suite uses, described by the embedded speaker embedding in windows of 1.6 s; the two voices of each
conversation are held against each other. Equal error rate: pairs of one identity against pairs of two, by cosine.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from duologue.bench.shared.report import default_device, machine, parser_of, tell
from duologue.bench.synthesis import CAMERA, HEIGHT, WIDTH, posed
from duologue.pipeline.accuracy.suite import load_suite
from duologue.synthesis.identities import NAMES
from duologue.synthesis.rasterize import Canvas, composite
from duologue.synthesis.room import Room
from duologue.synthesis.script import TOPICS
from duologue.synthesis.voices import Voice, speak
from duologue.transforms.voice_embedding import VoiceEmbedding
from torch import nn

FOCAL = 1100.0
POINTS = ((33, 133), (362, 263), (1,), (61,), (291,))  # FaceMesh: the eyes in the picture's order, nose tip, mouth
CROP = np.array(
    [[30.2946, 51.6963], [65.5318, 51.5014], [48.0252, 71.7366], [33.5493, 92.3655], [62.7299, 92.2041]], np.float32
)
BLOCKS = (
    (2, 64, 5, 2),
    (4, 128, 1, 2),
    (2, 128, 6, 1),
    (4, 128, 1, 2),
    (2, 128, 2, 1),
)  # expansion, width, count, step


class Unit(nn.Module):
    """Convolution, batch normalisation, and a PReLU unless ``linear``; named as in the published weights."""

    def __init__(self, ins: int, outs: int, size: Any, step: int = 1, pad: int = 0, depth: bool = False,
                 linear: bool = False) -> None:  # fmt: skip
        super().__init__()
        self.conv = nn.Conv2d(ins, outs, size, step, pad, groups=ins if depth else 1, bias=False)
        self.bn = nn.BatchNorm2d(outs)
        self.prelu: nn.Module = nn.Identity() if linear else nn.PReLU(outs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.prelu(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    def __init__(self, ins: int, outs: int, step: int, expansion: int) -> None:
        super().__init__()
        wide = ins * expansion
        self.same = step == 1 and ins == outs
        self.conv = nn.Sequential(
            nn.Conv2d(ins, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.PReLU(wide),
            nn.Conv2d(wide, wide, 3, step, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.PReLU(wide),
            nn.Conv2d(wide, outs, 1, bias=False), nn.BatchNorm2d(outs),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x) if self.same else self.conv(x)


class MobileFaceNet(nn.Module):
    """[N, 3, 112, 96] in -1..1 to [N, 128]."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.conv1 = Unit(3, 64, 3, 2, 1)
        self.dw_conv1 = Unit(64, 64, 3, 1, 1, depth=True)
        blocks, ins = [], 64
        for expansion, width, count, step in BLOCKS:
            for k in range(count):
                blocks.append(Bottleneck(ins, width, step if k == 0 else 1, expansion))
                ins = width
        self.blocks = nn.Sequential(*blocks)
        self.conv2 = Unit(128, 512, 1)
        self.linear7 = Unit(512, 512, (7, 6), depth=True, linear=True)
        self.linear1 = Unit(512, 128, 1, linear=True)
        self.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["net_state_dict"])
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.dw_conv1(self.conv1(x)))
        return self.linear1(self.linear7(self.conv2(x))).flatten(1)


def equal_error_rate(same: np.ndarray, other: np.ndarray) -> float:
    """Where as many pairs of one are missed as pairs of two are taken for one."""
    limits = np.unique(np.concatenate([same, other]))
    missed = np.array([(same < limit).mean() for limit in limits])
    taken = np.array([(other >= limit).mean() for limit in limits])
    k = int(np.argmin(np.abs(missed - taken)))
    return float((missed[k] + taken[k]) / 2)


def apart(vectors: dict[str, np.ndarray], title: str, meet: Iterable[tuple[str, str]] | None = None) -> dict[str, Any]:
    """Cosines within and between names, the equal error rate, and the two names that are most alike.

    Args:
        meet: the pairs of names that are to be told apart; all where None.
    """
    unit = {name: v / np.linalg.norm(v, axis=1, keepdims=True) for name, v in vectors.items()}
    same = np.concatenate([(v @ v.T)[np.triu_indices(len(v), 1)] for v in unit.values()])
    pairs = {(a, b): (unit[a] @ unit[b].T).ravel() for a, b in meet or combinations(unit, 2)}
    other = np.concatenate(list(pairs.values()))
    alike = max(pairs, key=lambda pair: float(np.mean(pairs[pair])))
    worst = max(
        equal_error_rate(
            np.concatenate([(unit[n] @ unit[n].T)[np.triu_indices(len(unit[n]), 1)] for n in pair]), pairs[pair]
        )
        for pair in pairs
    )
    return {
        f"{title}_eer": round(equal_error_rate(same, other), 4),
        f"{title}_eer_worst_pair": round(worst, 4),
        f"{title}_same_cosine": round(float(np.mean(same)), 3),
        f"{title}_other_cosine": round(float(np.mean(other)), 3),
        f"{title}_most_alike": [*alike, round(float(np.mean(pairs[alike])), 3)],
        f"{title}_vectors": sum(len(v) for v in vectors.values()),
    }


def faces(path: Path, each: int) -> dict[str, Any]:
    network, out = MobileFaceNet(path), {}
    rng = np.random.default_rng(11)
    for name in NAMES:
        actor = posed(name, rng.uniform(-30, 30, each), rng)
        room = Room(5).background(CAMERA, WIDTH, HEIGHT, FOCAL)
        crops = []
        for t in range(each):
            lower, upper = Canvas(WIDTH, HEIGHT, 1), Canvas(WIDTH, HEIGHT, 2)
            image = room.copy()
            actor.draw(lower, upper, t, CAMERA, FOCAL)
            composite(lower, image)
            composite(upper, image)
            marks = actor.landmarks(t, CAMERA, FOCAL, WIDTH, HEIGHT)[:, :2]
            five = np.array([marks[list(group)].mean(0) for group in POINTS], np.float32)
            matrix, _ = cv2.estimateAffinePartial2D(five, CROP, method=cv2.LMEDS)
            crops.append(cv2.warpAffine(image, matrix, (96, 112)))
        batch = torch.from_numpy((np.stack(crops).astype(np.float32) - 127.5) / 128.0).permute(0, 3, 1, 2)
        with torch.inference_mode():
            out[name] = network(batch).numpy()
    return apart(out, "faces")


def voices(lines: int) -> dict[str, Any]:
    conversations = [one.scenario.people for one in load_suite()]
    used = sorted({(p.voice, p.rate, p.pitch) for people in conversations for p in people})
    texts = [text for topic in TOPICS for text in topic][:lines]
    embedding, out = VoiceEmbedding(), {}
    for voice in used:
        said = speak([(text, Voice(*voice)) for text in texts])
        vectors = []
        for one in said:
            level = one.samples / max(float(np.sqrt(np.mean(one.samples**2))), 1e-6) * 0.05
            mel = embedding.mel(level.astype(np.float32))
            starts = np.arange(0, max(len(mel) - 160, 1), 80)
            vectors.append(embedding(mel, starts, (160,))[:, 0])
        out["/".join(map(str, voice))] = np.concatenate(vectors)
    names = [["/".join(map(str, (p.voice, p.rate, p.pitch))) for p in people] for people in conversations]
    meet = {(min(pair), max(pair)) for pair in names}
    return {"voices": len(used), "voice_pairs": len(meet), **apart(out, "voices", sorted(meet))}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--recognizer", type=Path, help="MobileFaceNet weights; without them only voices are measured")
    parser.add_argument("--each", type=int, default=16, help="pictures of each identity")
    parser.add_argument("--lines", type=int, default=8, help="sentences of each voice")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    result: dict[str, Any] = voices(options.lines)
    if options.recognizer:
        result |= {"identities": len(NAMES), **faces(options.recognizer, options.each)}
    result |= machine(default_device())
    tell(result, options.json)


if __name__ == "__main__":
    main()
