"""How fast listening is, how much memory it takes, and how often it is wrong.

    python bench/listen.py [--media DIR] [--hours H] [--json] [--out FILE]

Speed and memory are measured in a child process with one thread, on sound of the given length made by repeating a
dialogue; errors are pyannote's DiarizationErrorRate with overlap scored and the number of speakers not given:
``collar`` is pyannote's total width. The real recordings are looked for in ``--media``; without them a synthetic
dialogue (espeak-ng) is timed and their figures are null.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from duologue.schemas.records import Turn

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["PYANNOTE_METRICS_ENABLED"] = "0"

MEDIA = Path(__file__).resolve().parents[1].parent / "shared" / "media"
AMI = ("trn00", "trn04", "trn08")


def read(path: Path) -> np.ndarray:
    import soundfile

    audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    if rate != 16000:
        raise SystemExit(f"{path}: {rate} Hz, expected 16000")
    return np.ascontiguousarray(audio.mean(axis=1))


def synthetic() -> np.ndarray:
    """Half a minute of two espeak voices in turn."""
    from duologue.synthesis.voices import Voice, speak

    texts = ("Good morning, I wanted to ask you about the garden.", "Well, it is larger than we thought, you know.")
    lines = [(texts[i % 2], Voice(("en-us", "en+f4")[i % 2])) for i in range(8)]
    pause = np.zeros(6400, np.float32)
    return np.concatenate([part for u in speak(lines) for part in (u.samples.astype(np.float32), pause)])


def reference(path: Path, uri: str) -> list[tuple[float, float, str]]:
    rows = [line.split() for line in path.read_text().splitlines() if line.startswith("SPEAKER")]
    return [(float(r[3]), float(r[3]) + float(r[4]), r[7]) for r in rows if r[1] == uri]


def error(truth: list[tuple[float, float, str]], turns: list[Turn], end_s: float, collar: float) -> float:
    from pyannote.core import Annotation, Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate

    right, heard = Annotation(), Annotation()
    for i, (lo, hi, who) in enumerate(truth):
        right[Segment(lo, hi), i] = who
    for i, turn in enumerate(turns):
        heard[Segment(turn.start_s, turn.end_s), i] = turn.speaker
    metric = DiarizationErrorRate(collar=collar, skip_overlap=False)
    return round(float(metric(right, heard, uem=Timeline([Segment(0, end_s)]))), 4)


def speed(media: Path, hours: float) -> dict[str, float]:
    """Listen to ``hours`` of sound piece by piece, as the pipeline does: times and this process's memory."""
    import torch

    torch.set_num_threads(1)
    from duologue.transforms.listen import ListenModels, ListenOptions, cluster_turns, listen_grid, listen_piece

    sample = media / "dialogue_2spk.wav"
    loop = read(sample) if sample.is_file() else synthetic()
    options, models = ListenOptions(), ListenModels()
    listen_piece(loop[:160000], 0.0, options, models)  # warm up
    floor = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    total = hours * 3600
    began, pieces, first_peak = time.process_time(), [], 0
    for span in listen_grid(0.0, total, options):
        at = np.arange(round(span.read_start_s * 16000), round(span.read_end_s * 16000))
        pieces.append(
            listen_piece(loop[at % len(loop)], span.read_start_s, options, models, (span.start_s, span.end_s))
        )
        first_peak = first_peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    heard = time.process_time()
    turns = cluster_turns(pieces, options)
    done = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "realtime_per_core": round(total / (done - began), 1),
        "listen_s_per_hour": round((heard - began) / hours, 2),
        "cluster_s_per_hour": round((done - heard) / hours, 2),
        "hours": hours,
        "turns": len(turns),
        "voices": len({t.speaker for t in turns}),
        "peak_mb_of_a_piece": round((first_peak - floor) / 1024, 1),
        "peak_mb_per_hour": round(max(0, peak - first_peak) / 1024 / hours, 1),
        "peak_mb": round(peak / 1024, 1),
    }


def errors(media: Path) -> dict[str, float | None]:
    import torch

    torch.set_num_threads(1)
    from duologue.transforms.listen import ListenModels, ListenOptions, cluster_turns, listen_piece

    out: dict[str, float | None] = {"der_sample_collar": None, "der_sample": None}
    if not (media / "dialogue_2spk.wav").is_file():
        return out
    options, models = ListenOptions(), ListenModels()
    jobs = [("sample", media / "dialogue_2spk.wav", media / "dialogue_2spk.rttm", "sample")]
    jobs += [(f"ami_{n}", media / f"{n}.wav", media / "debug.train.rttm", n) for n in AMI]
    for name, wave, rttm, uri in jobs:
        audio = read(wave)[: 30 * 16000]
        turns = cluster_turns([listen_piece(audio, 0.0, options, models)], options)
        truth = reference(rttm, uri)
        out[f"der_{name}_collar"] = error(truth, turns, 30.0, 0.5)
        out[f"der_{name}"] = error(truth, turns, 30.0, 0.0)
        out[f"voices_{name}"], out[f"true_voices_{name}"] = len({t.speaker for t in turns}), len({t[2] for t in truth})
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=Path, default=MEDIA)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--json", action="store_true", help="only the last line: one JSON object")
    parser.add_argument("--out", type=Path, help="also write the object to this file")
    parser.add_argument("--speed-only", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.speed_only:
        print(json.dumps(speed(args.media, args.hours)))
        return
    command = [sys.executable, __file__, "--speed-only", "--media", str(args.media), "--hours", str(args.hours)]
    child = subprocess.run(command, check=True, capture_output=True, text=True)
    figures = {**json.loads(child.stdout.splitlines()[-1]), **errors(args.media)}
    if not args.json:
        for name, value in figures.items():
            print(f"{name:24s} {value}")
    line = json.dumps(figures)
    if args.out:
        args.out.write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
