"""How fast listening is, how much memory it takes, and how often it is wrong.

    python bench/listen.py [--media DIR] [--hours H] [--json] [--out FILE]

Speed and memory are measured in a child process with one thread, on sound of the given length made by repeating a
dialogue; errors are pyannote's DiarizationErrorRate with overlap scored and the number of speakers not given:
``collar`` is pyannote's total width. ``mix_K`` are half minutes of K espeak voices with short turns, some of them over
each other, at 20 dB; ``music_*`` are of chords, pads, a melody, a band and drums made here, alone and under two voices;
``laughter_*`` of 1 to 30 synthetic people, and of two real audiences, whose seconds were read off the spectrogram.
The real recordings are looked for in ``--media``; without them a synthetic
dialogue (espeak-ng) is timed and their figures are null.
"""

from __future__ import annotations

import argparse
import json
import os
import re
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
VOICES = (
    "en+f3", "en-gb-x-rp+m2", "en-us+m4", "en-gb-scotland+f1",
    "en-us+m1", "en-gb-x-rp+m8", "en-gb-scotland+f5", "en-us+klatt4",
)  # fmt: skip
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


def speed(media: Path, hours: float, float32: bool = False) -> dict[str, float]:
    """Listen to ``hours`` of sound piece by piece, as the pipeline does: times and this process's memory.

    Args:
        float32: embed voices as processors do that cannot multiply bfloat16.
    """
    import torch

    torch.set_num_threads(1)
    from duologue.transforms.listen import ListenModels, ListenOptions, cluster_turns, listen_grid, listen_piece

    sample = media / "dialogue_2spk.wav"
    loop = read(sample) if sample.is_file() else synthetic()
    from duologue.transforms.voice_embedding import VoiceEmbedding

    options = ListenOptions()
    models = ListenModels(embedding=VoiceEmbedding(bfloat16=False)) if float32 else ListenModels()
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
        "load_average": round(os.getloadavg()[0], 1),  # others on the same cores cost processor time too
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


def mixture(seed: int, count: int, seconds: float = 30.0) -> tuple[np.ndarray, list[tuple[float, float, str]]]:
    """Sound [n] and truth of ``count`` voices that take short turns in any order, up to 0.35 s over each other."""
    from duologue.synthesis.script import TOPICS, Line, speech_segments
    from duologue.synthesis.voices import Voice, speak

    rng = np.random.default_rng([seed, count, 11])
    voices = [Voice(str(n), int(rng.integers(150, 185)), int(rng.integers(30, 70))) for n in rng.permutation(VOICES)]
    parts = [p.strip() + "." for t in TOPICS for s in t for p in re.split("[.?,]", s) if len(p.strip()) > 8]
    rng.shuffle(parts)
    who = [int(rng.integers(count))]
    while len(who) < 24:
        who.append(int(rng.choice([x for x in range(count) if x != who[-1] or count == 1])))
    lines, at = [], 0.4
    for speaker, said in zip(who, speak([(t, voices[w]) for t, w in zip(parts, who, strict=False)]), strict=True):
        if at + said.duration_s > seconds - 0.2:
            break
        lines.append(Line(speaker, at, said, "turn"))
        at += said.duration_s + float(rng.uniform(-0.35, 0.8))
    audio = np.zeros(round(seconds * 16000), np.float32)
    for line in lines:
        lo = round(line.start_s * 16000)
        audio[lo : lo + len(line.utterance.samples)] += line.utterance.samples * 10 ** (rng.uniform(-3, 3) / 20)
    level = float(np.sqrt(np.mean(audio[audio != 0] ** 2)))
    audio += rng.normal(0, level / 10, len(audio)).astype(np.float32)
    truth = [(s, e, f"s{w}") for w in range(count) for s, e in speech_segments(tuple(lines), w)]
    return audio, truth


def play(kind: str, seed: int, seconds: float = 10.0) -> np.ndarray:
    """[n] music of unit RMS: "chords" struck, a "pad" held for four beats, a "melody", "drums", or a "band" of all."""
    rng = np.random.default_rng([seed, 13])
    out = np.zeros(round(seconds * 16000))
    beat, root = 60 / rng.uniform(70, 140), rng.choice([110, 130.8, 146.8, 164.8, 196, 220])
    scale = (0, 2, 4, 5, 7, 9, 11)

    def put(at: float, sound: np.ndarray) -> None:
        lo = round(at * 16000)
        out[lo : lo + len(sound)] += sound[: max(0, len(out) - lo)]

    def note(hertz: float, length: float, decay: float, vibrato: float = 0.0) -> np.ndarray:
        age = np.arange(round(length * 16000)) / 16000
        phase = 2 * np.pi * hertz * age + vibrato * 0.001 * hertz * np.sin(2 * np.pi * 5.5 * age)
        partials = [np.sin(k * phase) / k**1.3 for k in range(1, 8) if k * hertz < 7500]
        edge = np.minimum(age / 0.01, 1) * np.minimum((age[-1] - age) / 0.03, 1)
        return np.asarray(0.3 * edge * np.exp(-decay * age) * sum(partials))

    for number in range(int(seconds / beat) + 1):
        at, every = number * beat, 4 if kind == "pad" else 1
        if kind in ("chords", "pad", "band") and number % every == 0:
            first = int(rng.choice([0, 3, 4, 5]))
            for step in (first, first + 2, first + 4):
                semitones = scale[step % 7] + 12 * (step // 7)
                put(at, note(root * 2 ** (semitones / 12), beat * every, 0.2 if kind == "pad" else 3.0))
        if kind in ("melody", "band"):
            for half in (0.0, 0.5):
                hertz = root * 4 * 2 ** (rng.choice(scale) / 12)
                put(at + half * beat, note(hertz, beat * 0.5 * rng.choice([1, 2]), 1.5, 1.0))
        if kind in ("drums", "band"):
            put(at, rng.normal(0, 0.6, 3000) * np.exp(-np.arange(3000) / 500))
            put(at + beat / 2, rng.normal(0, 0.3, 1500) * np.exp(-np.arange(1500) / 200))
    return (out / np.sqrt(np.mean(out**2))).astype(np.float32)


def many_voices(seed: int, each: int = 10) -> dict[str, float]:
    from duologue.transforms.listen import ListenModels, ListenOptions, cluster_turns, listen_piece

    options, models, out = ListenOptions(), ListenModels(), {}
    for count in (1, 2, 3, 4):
        wrong, right = [], []
        for number in range(seed, seed + each):
            audio, truth = mixture(number, count)
            turns = cluster_turns([listen_piece(audio, 0.0, options, models)], options)
            wrong.append(error(truth, turns, 30.0, 0.5))
            right.append(len({t.speaker for t in turns}) == count)
        out[f"der_mix_{count}_collar"] = round(float(np.mean(wrong)), 4)
        out[f"voices_right_mix_{count}"] = round(float(np.mean(right)), 2)
    return out


def music(media: Path, seed: int, each: int = 6) -> dict[str, float | None]:
    """Share of the time called music, where there is music (recall) and where there is none (false)."""
    from duologue.transforms.music import music_share

    talk = [mixture(number, 2, 10.0)[0] for number in range(seed, seed + each)]
    out: dict[str, float | None] = {"music_false_espeak": round(float(np.mean([music_share(t) for t in talk])), 4)}
    for kind in ("chords", "pad", "band", "melody", "drums"):
        tunes = [play(kind, number) for number in range(seed, seed + each)]
        out[f"music_recall_{kind}"] = round(
            float(np.mean([music_share((0.1 * tune).astype(np.float32)) for tune in tunes])), 3
        )
        for snr in (0, 5, 10):
            gains = [float(np.sqrt(np.mean(t**2))) * 10 ** (-snr / 20) for t in talk]
            mixed = [t + g * tune for t, g, tune in zip(talk, gains, tunes, strict=True)]
            out[f"music_recall_{kind}_{snr}db"] = round(
                float(np.mean([music_share(m.astype(np.float32)) for m in mixed])), 3
            )
    real = [*sorted(media.glob("*.wav")), *sorted(media.glob("dualtalk_demo/*.wav"))]
    out["music_false_real_speech"] = round(float(np.mean([music_share(read(p)) for p in real])), 4) if real else None
    out["real_speech_s"] = round(sum(len(read(p)) for p in real) / 16000, 1)
    return out


# Laughter of real audiences, seconds: the first was used to choose the thresholds, the second was not.
AUDIENCES = {
    "tuned": ("two_sitcom_cuts.mp4", ((4.45, 7.85), (16.65, 21.6))),
    "held_out": ("one_face_talkshow_guest.mp4", ((2.0, 2.7), (8.35, 10.0))),
}


def laughing(media: Path, seed: int, each: int = 6) -> dict[str, float | None]:
    """Share of the laughter that is found (recall), and of other time that is taken for it (false)."""
    from duologue.synthesis.beds import LAUGH_S
    from duologue.synthesis.beds import laughter as crowd
    from duologue.synthesis.beds import music as bed
    from duologue.transforms.laughter import laughter, laughter_share

    def share(found: np.ndarray, parts: tuple[tuple[float, float], ...]) -> tuple[float, float]:
        times = (np.arange(len(found)) + 1.6) / 100
        true = np.any([(times >= lo) & (times < hi) for lo, hi in parts], axis=0)
        return round(float(found[true].mean()), 3), round(float(found[~true].mean()), 3)

    talk = [mixture(number, 2, 10.0)[0] for number in range(seed, seed + each)]
    noises = [np.random.default_rng(number).normal(0, 0.03, len(talk[0])) for number in range(each)]
    tunes = [0.1 * play(kind, seed) for kind in ("chords", "pad", "melody", "drums", "band")]
    tunes += [0.1 * bed(10.0, seed + number) for number in range(each)]
    out: dict[str, float | None] = {
        f"laughter_false_{name}": round(float(np.mean([laughter_share(x.astype(np.float32)) for x in sounds])), 4)
        for name, sounds in (("espeak", talk), ("noise", noises), ("music", tunes))
    }
    for people in (1, 3, 8, 14, 30):
        for snr in (None, 0, 10):
            figures = []
            for number, line in enumerate(talk):
                sound = line.astype(np.float64) if snr is not None else noises[number] * 0.03
                level = 0.05 if snr is None else float(np.sqrt(np.mean(line**2))) * 10 ** (-snr / 20)
                laugh = crowd(seed, number, people)
                sound[4 * 16000 : 4 * 16000 + len(laugh)] += level * laugh
                figures.append(share(laughter(sound.astype(np.float32)), ((4.0, 4.0 + LAUGH_S),)))
            name = f"laughter_recall_{people}" + ("" if snr is None else f"_{snr}db")
            out[name] = round(float(np.mean([recall for recall, _ in figures])), 3)
    real = [read(p) for p in (*sorted(media.glob("*.wav")), *sorted(media.glob("dualtalk_demo/*.wav")))]
    cut = [x[at : at + 160000] for x in real for at in range(0, len(x) - 32000, 160000)]
    out["laughter_false_real_speech"] = round(float(np.mean([laughter_share(x) for x in cut])), 4) if cut else None
    for name, (file, parts) in AUDIENCES.items():
        found = laughter(sound_of(media / file)) if (media / file).is_file() else None
        recall, false = (None, None) if found is None else share(found, parts)
        out[f"laughter_recall_{name}"], out[f"laughter_false_{name}"] = recall, false
    return out


def sound_of(video: Path) -> np.ndarray:
    """[n] 16 kHz mono of a video, as the product reads it."""
    from duologue.schemas.records import InputItem
    from duologue.transforms.audio import read_audio
    from duologue.transforms.probe import probe

    found = probe(str(video), InputItem(str(video)))
    return read_audio(str(video), found, found.start_s, found.end_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=Path, default=MEDIA)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=500, help="first seed of the mixtures and the music")
    parser.add_argument("--json", action="store_true", help="only the last line: one JSON object")
    parser.add_argument("--out", type=Path, help="also write the object to this file")
    parser.add_argument("--speed-only", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--float32", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.speed_only:
        print(json.dumps(speed(args.media, args.hours, args.float32)))
        return
    command = [sys.executable, __file__, "--speed-only", "--media", str(args.media), "--hours", str(args.hours)]
    child = subprocess.run(command, check=True, capture_output=True, text=True)
    figures = {**json.loads(child.stdout.splitlines()[-1])}
    short, exact = (
        json.loads(subprocess.run(one, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        for one in ([*command[:-1], str(args.hours / 6)], [*command[:-1], str(args.hours / 6), "--float32"])
    )
    figures["peak_mb_sixth_of_the_length"] = short["peak_mb"]
    figures["realtime_per_core_float32"] = exact["realtime_per_core"]
    figures["float32_time_ratio"] = round(short["realtime_per_core"] / exact["realtime_per_core"], 2)
    figures |= {
        **errors(args.media),
        **many_voices(args.seed),
        **music(args.media, args.seed),
        **laughing(args.media, args.seed),
    }
    if not args.json:
        for name, value in figures.items():
            print(f"{name:24s} {value}")
    line = json.dumps(figures)
    if args.out:
        args.out.write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
