"""How often voices and faces are joined rightly, on conversations whose truth is known.

    python bench/bind.py [--dialogues N] [--seconds S] [--seed FIRST] [--json] [--out FILE]

Each conversation is made without pixels: espeak-ng voices with overlaps and back-channels, sound at 10 dB over noise,
heads that turn, smile and speak the same phonemes, landmarks with a tracker's noise, sound that is late or early by up
to 0.2 s; in every third one somebody off-screen speaks too, and ``off_screen_*`` say how far the share of a clip's
speech that is told to be nobody's in the picture lies from the true one, where there is such speech and where there is
none. Everything after that is the product: listening, evidence,
binding, masks, once over the audio alone and once with the faces.

An offset cannot be told from a lead of the lips. The estimator assumes that the correlation of lips with sound peaks
``BindOptions.lip_lead_s`` (0.10 s) ahead of the sound, the middle of what real talk shows (0.04 to 0.18 s). The
talkers' gestures lead their phonemes by ``synthesis.motion.LIP_LEAD_S`` (0.12 s), with a spread of ``--lead-sd``
between people; their correlation then peaks at 0.10 s, as a vowel is loud before the mouth is widest. Truth is zero for
such a talker, so ``offset_bias_s`` shows how far the two agree, not how right they are about a real video.
The options were tuned on seeds below 100 with other voices, seeds from 100 to 471 and 700 to 723 were looked at;
the figures committed are of seeds from 932 on.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["PYANNOTE_METRICS_ENABLED"] = "0"

if TYPE_CHECKING:
    from duologue.schemas.records import Turn
    from duologue.schemas.tracks import ClipTracks, FaceTrack
    from duologue.synthesis.script import Line
    from duologue.transforms.bind import SpeakingOptions
    from duologue.transforms.listen import ListenModels

CLIP_S, FPS, RATE = 10.0, 25.0, 16000
SNR_DB = 10.0
SCALE_PX, NOISE, BIAS = 45.0, 0.012, 0.0175  # face size; landmark errors in face scales
TUNING_VOICES = (
    ("en-us", "en+f4"),
    ("en-us+m3", "en-gb-x-rp+f2"),
    ("en-gb-scotland+m7", "en-us+f5"),
    ("en+m5", "en-us+m6"),
)
TEST_VOICES = (
    ("en+f3", "en-gb-x-rp+m2"),
    ("en-us+m4", "en-gb-scotland+f1"),
    ("en-us+m1", "en-gb-x-rp+m8"),
    ("en-gb-scotland+f5", "en-us+f2"),
)
OFF_VOICE = "en-us+klatt4"
OFF_TEXTS = ("And now a question from the last row, please speak up.", "Let us hear what the two of you make of that.")


@dataclass(frozen=True)
class Dialogue:
    """Sound [n] at 16 kHz, both faces over the whole length, and the truth on the picture's clock plus ``offset_s``.

    ``spoken`` are turns: pauses under 0.5 s belong to them. In ``sounding``, which the masks are scored by, silence
    from 0.2 s on is not speaking, as in the truth of rendered conversations.
    """

    audio: np.ndarray
    times: np.ndarray
    faces: tuple[FaceTrack, ...]
    spoken: dict[str, list[tuple[float, float]]]
    offset_s: float
    sounding: dict[str, list[tuple[float, float]]]


def make(seed: int, seconds: float, lead_sd: float) -> Dialogue:
    from duologue.synthesis.script import Line, speech_segments, write_script
    from duologue.synthesis.voices import Voice, speak

    rng = np.random.default_rng([seed, 5])
    names = (TEST_VOICES if seed >= 100 else TUNING_VOICES)[seed % 4]
    first, second = (Voice(n, int(rng.integers(150, 180)), int(rng.integers(35, 65))) for n in names)
    lines = list(write_script(seconds - 0.5, (first, second), seed))
    off: list[Line] = []
    if seed % 3 == 2:  # somebody off-screen speaks in the pause after a turn; what follows comes later
        for text in OFF_TEXTS:
            said = speak([(text, Voice(OFF_VOICE))])[0]
            turns = [line for line in lines if line.kind == "turn"]
            ends = [t.end_s for t in turns[1:-1] if not any(x.start_s <= t.end_s < x.end_s for x in lines)]
            at = ends[int(rng.integers(len(ends)))] + 0.8
            later = said.duration_s + 1.0
            lines = [replace(x, start_s=x.start_s + later) if x.start_s > at - 0.8 else x for x in lines]
            off.append(Line(2, at, said, "turn"))
        lines = [x for x in lines if x.end_s < seconds]
        off = [x for x in off if x.end_s < seconds]
    offset = round(float(rng.uniform(-0.2, 0.2)), 3)
    audio = np.zeros(round(seconds * RATE), np.float32)
    for line in (*lines, *off):
        lo = max(0, round((line.start_s + offset) * RATE))
        part = line.utterance.samples[: len(audio) - lo]
        audio[lo : lo + len(part)] += part
    level = float(np.sqrt(np.mean(audio[audio != 0] ** 2)))
    audio += rng.normal(0, level * 10 ** (-SNR_DB / 20), len(audio)).astype(np.float32)
    times = np.arange(0, seconds, 1 / FPS)
    leads = rng.normal(0.0, lead_sd, 2)
    seen = tuple(replace(x, start_s=x.start_s - float(leads[x.speaker])) for x in lines)
    faces = _faces(seen, times, seed, rng)
    spoken = {"ab"[w]: speech_segments(tuple(lines), w) for w in (0, 1)}
    if off:
        spoken["off"] = speech_segments(tuple(off), 2)
    fine = {"ab"[w]: speech_segments(tuple(lines), w, bridge_s=0.2) for w in (0, 1)}
    shifted, fine_shifted = (
        {who: [(s + offset, e + offset) for s, e in parts] for who, parts in one.items()} for one in (spoken, fine)
    )
    return Dialogue(audio, times, faces, shifted, offset, fine_shifted)


def _faces(lines: tuple[Line, ...], times: np.ndarray, seed: int, rng: np.random.Generator) -> tuple[FaceTrack, ...]:
    """Both faces' landmarks, of the canonical head seen by a camera 1.6 m away, with a tracker's errors."""
    from duologue.fitting.load_head import load_head_model
    from duologue.schemas.tracks import N_LANDMARKS, FaceTrack, face_scale_px
    from duologue.synthesis.motion import animate

    head = load_head_model(None)
    count = head.shape_dirs.shape[2]
    shapes = (np.asarray(rng.standard_normal(count)), np.asarray(rng.standard_normal(count)))
    places = (np.array([-0.45, 0.0, 0.0]), np.array([0.45, 0.015, 0.05]))
    motions = animate(head, shapes, places, (30.0, -30.0), lines, times, 0.7, seed)
    flip = np.diag([1.0, -1.0, -1.0])
    tracks = []
    for who, motion in enumerate(motions):
        root = head.posed_joints(shapes[who])[0]
        points = np.full((len(times), N_LANDMARKS, 3), np.nan)
        for rows in np.array_split(np.arange(len(times)), max(1, len(times) // 100)):
            skin = head.landmarks(head.pose(shapes[who], motion.expression[rows], motion.jaw[rows])) - root
            world = np.einsum("tij,tlj->tli", motion.rotation[rows] @ flip, skin) + motion.root[rows][:, None]
            points[rows[:, None], head.embedding.landmarks] = world + np.array([0.0, 0.0, 1.6])
        focal = SCALE_PX / 0.063 * 1.6
        middle = np.nanmean(points[..., 2], axis=1)[:, None, None]
        flat = points[..., :2] / points[..., 2:] * focal
        pixels = np.concatenate([flat, (points[..., 2:] - middle) * focal / middle], -1) + np.array([640.0, 360.0, 0.0])
        scale = np.median(face_scale_px(pixels.astype(np.float32)))
        pixels += scale * BIAS * rng.standard_normal((1, N_LANDMARKS, 3))
        pixels += scale * NOISE * rng.standard_normal(pixels.shape)
        whole, ones = np.ones(len(times), bool), np.ones(len(times), np.float32)
        for _ in range(int(rng.integers(0, 3))):  # a hand before the face
            at = int(rng.integers(0, len(times) - 30))
            whole[at : at + 25] = False
        pixels[~whole] = np.nan
        looks = np.zeros(8, np.float32)
        looks[who] = 1
        box = np.zeros((len(times), 4), np.float32)
        tracks.append(FaceTrack("ab"[who], pixels.astype(np.float32), box, whole, ones, ones, looks))
    return tuple(tracks)


def error_rate(
    truth: dict[str, list[tuple[float, float]]], turns: list[tuple[float, float, str]], end_s: float, collar: float
) -> float:
    """pyannote's DiarizationErrorRate, overlap scored. turns: (start, end, who)."""
    from pyannote.core import Annotation, Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate

    right, heard = Annotation(), Annotation()
    for who, parts in truth.items():
        for i, (lo, hi) in enumerate(parts):
            right[Segment(lo, hi), f"{who}{i}"] = who
    for i, (lo, hi, who) in enumerate(turns):
        heard[Segment(lo, hi), i] = who
    metric = DiarizationErrorRate(collar=collar, skip_overlap=False)
    return float(metric(right, heard, uem=Timeline([Segment(0, end_s)])))


def mask(parts: list[tuple[float, float]], times: np.ndarray) -> np.ndarray:
    out = np.zeros(len(times), bool)
    for lo, hi in parts:
        out |= (times >= lo) & (times < hi)
    return out


@dataclass(frozen=True)
class Bound:
    """A conversation in clips of ``CLIP_S``, as the product binds it: clips with their sound, turns, the faces' voices.

    ``whole``: turns before people who sound alike are parted. ``offset``: (seconds, confidence) of the whole.
    ``spent_s``: processor time of evidence and binding.
    """

    clips: list[ClipTracks]
    sounds: list[np.ndarray]
    whole: list[Turn]
    turns: list[Turn]
    faces: list[dict[str, str]]
    offset: tuple[float, float]
    spent_s: float


def bound(d: Dialogue, models: ListenModels) -> Bound:
    from duologue.schemas.tracks import ClipTracks
    from duologue.transforms.bind import bind_evidence, bind_voices, video_offset
    from duologue.transforms.listen import ListenOptions, cluster_turns, listen_piece

    seconds, options = len(d.audio) / RATE, ListenOptions()
    piece = listen_piece(d.audio, 0.0, options, models)
    whole, turns = cluster_turns([piece], options), cluster_turns([piece], options, parts=True)
    began = time.process_time()
    clips, sounds, evidence = [], [], []
    for start in np.arange(0.0, seconds - CLIP_S / 2, CLIP_S):
        end = min(start + CLIP_S, seconds)
        near = (d.times >= start - 1) & (d.times < end + 1)
        left, right = (cut(face, near) for face in d.faces)
        clips.append(ClipTracks("v", 0, float(start), float(end), 1280, 720, d.times[near], left, right))
        sounds.append(d.audio[round(start * RATE) : round(end * RATE)])
        evidence.append(bind_evidence(clips[-1], sounds[-1], float(start), turns))
    faces = bind_voices(evidence)
    offset = video_offset(evidence, faces)
    return Bound(clips, sounds, whole, turns, faces, offset, time.process_time() - began)


def solve(d: Dialogue, models: ListenModels, speaking: SpeakingOptions | None = None) -> dict[str, Any]:
    """All figures of one conversation."""
    from duologue.transforms.bind import SpeakingOptions, join_parts, speaking_masks
    from sklearn.metrics import average_precision_score

    seconds = len(d.audio) / RATE
    found = bound(d, models)
    clips, whole, turns, faces, offset = found.clips, found.whole, found.turns, found.faces, found.offset
    began = time.process_time() - found.spent_s
    heard: list[tuple[float, float, str]] = []
    offsets: list[float] = []
    chosen: dict[str, list[np.ndarray]] = {"a": [], "b": []}
    clocks: list[np.ndarray] = []
    unseen: list[tuple[float, float]] = []  # share of a clip's speech that is nobody's: told, true
    for clip, part, chosen_faces in zip(clips, found.sounds, faces, strict=True):
        times = np.arange(clip.start_s, clip.end_s - 1e-6, 1 / FPS)
        result = speaking_masks(clip, part, clip.start_s, turns, chosen_faces, times, speaking, offset)
        clocks.append(times)
        chosen["a"].append(result.speaking_a)
        chosen["b"].append(result.speaking_b)
        heard += [(t.start_s, t.end_s, t.face or f"off {t.speaker}") for t in result.turns]
        offsets.append(result.offset_s - d.offset_s)
        a, b, off = (mask(d.spoken.get(who, []), times) for who in ("a", "b", "off"))
        unseen.append((result.share_off_screen, float((off & ~a & ~b).sum() / max((a | b | off).sum(), 1))))
    spent = time.process_time() - began
    clock = np.concatenate(clocks)
    truth = {who: mask(d.spoken.get(who, []), clock) for who in ("a", "b", "off")}
    fine = {who: mask(d.sounding[who], clock) for who in "ab"}
    single = sum(truth.values()) == 1
    speaks = {who: np.concatenate(chosen[who]) for who in "ab"}
    # a voice's true owner: who speaks most in its turns
    right = wrong = 0.0
    for clip, chosen_faces in zip(clips, faces, strict=True):
        inside = single & (clock >= clip.start_s) & (clock < clip.end_s)
        for voice in chosen_faces:
            parts = mask([(t.start_s, t.end_s) for t in turns if t.speaker == voice], clock)
            owner = max(("a", "b", "off"), key=lambda w: (parts & single & truth[w]).sum())
            own = float((parts & inside & truth[owner]).sum())
            if chosen_faces[voice] == "ab":  # either: right where the face thought likelier is the speaker's
                likelier = np.where(speaks["a"] >= speaks["b"], truth["a"], truth["b"])
                right += float((parts & inside & likelier).sum())
                wrong += float((parts & inside & ~likelier).sum())
            elif chosen_faces[voice] == owner.replace("off", ""):
                right += own
            else:
                wrong += own
    anyone = mask([(t.start_s, t.end_s) for t in turns], clock) & single
    said = {"a": (speaks["a"] > 0.5) & (speaks["b"] <= 0.5), "b": (speaks["b"] > 0.5) & (speaks["a"] <= 0.5)}
    said["off"] = (speaks["a"] <= 0.5) & (speaks["b"] <= 0.5)
    given = sum((said[w] & truth[w] & anyone).sum() for w in said)
    bridged = join_parts(whole, {}, SpeakingOptions().pause_s)  # as the masks do: the same truth for both
    audio_only = [(t.start_s, t.end_s, t.speaker) for t in bridged]
    return {
        "der_audio": error_rate(d.spoken, audio_only, seconds, 0.5),
        "der_faces": error_rate(d.spoken, heard, seconds, 0.5),
        "der_audio_no_collar": error_rate(d.spoken, audio_only, seconds, 0.0),
        "der_faces_no_collar": error_rate(d.spoken, heard, seconds, 0.0),
        "ap": [float(average_precision_score(fine[w], speaks[w])) for w in "ab" if fine[w].any()],
        "bound_right_s": right / FPS,
        "bound_wrong_s": wrong / FPS,
        "frames_right": float(given),
        "frames": float(anyone.sum()),
        "offset_error": [float(x) for x in offsets],
        "video_offset_error": offset[0] - d.offset_s,
        "off_screen": unseen,
        "voices": len({t.speaker for t in whole}),
        "true_voices": len(d.spoken),
        "bind_s": spent,
        "seconds": seconds,
    }


def cut(face: FaceTrack, rows: np.ndarray) -> FaceTrack:
    names = ("landmarks", "box", "valid", "confidence", "sharpness")
    return replace(face, **{name: getattr(face, name)[rows] for name in names})


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    def mean(name: str) -> float:
        return round(float(np.mean([f[name] for f in found])), 4)

    ap = np.concatenate([f["ap"] for f in found])
    error = np.concatenate([f["offset_error"] for f in found])
    video = np.abs([f["video_offset_error"] for f in found])
    right, wrong = sum(f["bound_right_s"] for f in found), sum(f["bound_wrong_s"] for f in found)
    told = np.isfinite(error)
    off_told, off_true = np.concatenate([f["off_screen"] for f in found]).T
    of_three = [f["voices"] == f["true_voices"] for f in found if f["true_voices"] == 3]
    third = off_true > 0  # clips in which somebody unseen speaks
    return {
        "dialogues": len(found),
        "hours": round(sum(f["seconds"] for f in found) / 3600, 3),
        **{name: mean(name) for name in ("der_audio", "der_faces", "der_audio_no_collar", "der_faces_no_collar")},
        "ap_mean": round(float(ap.mean()), 4),
        "ap_worst": round(float(ap.min()), 4),
        "bound_right": round(right / max(right + wrong, 1e-9), 4),
        "frames_right": round(sum(f["frames_right"] for f in found) / sum(f["frames"] for f in found), 4),
        "offset_told": round(float(told.mean()), 4),
        "offset_within_20ms": round(float((np.abs(np.where(told, error, 9)) <= 0.02).mean()), 4),
        "offset_bias_s": round(float(np.median(error[told])), 4),
        "offset_worst_s": round(float(np.abs(error[told]).max(initial=0.0)), 4),
        "video_offset_within_20ms": round(float((video <= 0.02).mean()), 4),
        "off_screen_clips": int(third.sum()),
        "off_screen_error": round(float(np.abs(off_told - off_true)[third].mean()), 4) if third.any() else None,
        "off_screen_error_worst": round(float(np.abs(off_told - off_true)[third].max()), 4) if third.any() else None,
        "off_screen_false": round(float(off_told[~third].mean()), 4),
        "off_screen_false_worst": round(float(off_told[~third].max()), 4),
        "voices_right_of_three": round(float(np.mean(of_three)), 4) if of_three else None,
        "voices_right": round(float(np.mean([f["voices"] == f["true_voices"] for f in found])), 4),
        "bind_ms_per_second": round(1000 * sum(f["bind_s"] for f in found) / sum(f["seconds"] for f in found), 2),
    }


def pipeline_share(bind_ms_per_second: float) -> float | None:
    """Evidence, binding and masks as a share of all stages' time in the last curation benchmark; None without one."""
    path = Path(__file__).parent / "results" / "curate.json"
    if not path.is_file():
        return None
    stages = json.loads(path.read_text())["seconds_per_video_hour"]
    return round(3.6 * bind_ms_per_second / sum(stages.values()), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dialogues", type=int, default=48)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--seed", type=int, default=932)
    parser.add_argument("--lead-sd", type=float, default=0.01, help="spread of the lips' lead between people, seconds")
    parser.add_argument("--out", type=Path, help="also write the figures to this file as JSON")
    parser.add_argument("--json", action="store_true", help="only the last line: one JSON object")
    parser.add_argument("--verbose", action="store_true", help="a line for every conversation")
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    from duologue.transforms.listen import ListenModels

    models, found = ListenModels(), []
    for seed in range(args.seed, args.seed + args.dialogues):
        found.append(solve(make(seed, args.seconds, args.lead_sd), models))
        if args.verbose:
            short = {
                k: np.round(v, 3).tolist() if isinstance(v, (list, tuple)) else round(v, 3)
                for k, v in found[-1].items()
            }
            print(seed, json.dumps(short), flush=True)
    figures = {"snr_db": SNR_DB, "seconds": args.seconds, "lead_sd_s": args.lead_sd, "first_seed": args.seed}
    figures |= summary(found)
    figures["pipeline_share"] = pipeline_share(figures["bind_ms_per_second"])
    if not args.json:
        for name, value in figures.items():
            print(f"{name:26s} {value}")
    if args.out:
        args.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
