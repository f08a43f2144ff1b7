"""Learns the weights of ``transforms/fusion.py``: whether a person speaks, of the voices heard and both mouths.

    python bench/learning/fusion.py --work DIR [--shifts N ...] [--dialogues N] [--held-out N] [--out FILE]

Two kinds of conversations with exact truth are learned from. Films: those of the accuracy suite with other seeds (each
of ``--shifts`` is added to the suite's; ``DIR/shift-N``) and those of ``fusion_films.yaml``, most of them noisy
(``DIR/more``), made once, half an hour on two cores, and curated, so that landmarks and voices have the errors that the
stages make on good and on bad films. And the conversations of ``bench/bind.py`` (seeds from 400), whose landmarks are
exact under white noise. Every clip is also learned from once with other mouths (opened wider or less, mumbling, hanging
open where the person listens, measured with more noise, or not seen), and with voices that are mistaken for a while.

``--held-out N`` leaves out the films of one shift and every third conversation, and tells how right the network is of
them.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["PYANNOTE_METRICS_ENABLED"] = "0"

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from duologue.bench import bind
from duologue.pipeline.accuracy.clock import truth_at, who_is_who
from duologue.pipeline.accuracy.found import finished, name_of
from duologue.pipeline.accuracy.suite import VIDEO, Conversation, film_all, load_suite
from duologue.pipeline.accuracy.verb import SUITE_SETTINGS, curate_videos
from duologue.pipeline.config import load_config
from duologue.pipeline.stages_heads import clip_tracks
from duologue.schemas.errors import BadInput
from duologue.schemas.records import Turn
from duologue.schemas.tracks import ClipTracks
from duologue.synthesis.truth import Truth, read_truth
from duologue.transforms import fusion
from duologue.transforms.elements import BoundClip
from duologue.transforms.evidence import join_parts
from duologue.transforms.fusion import Fusion, inputs_of, mouth_of, voices_of
from duologue.transforms.lips import RATE, LipSignal, clock, lip_signal, loudness, opening, syllables
from duologue.transforms.listen import ListenModels
from duologue.transforms.sound import read_sound, turns_from_bytes
from duologue.transforms.speaking import SpeakingOptions, shift_turns, sync_shift
from duologue.transforms.work import WorkStore
from scipy.ndimage import gaussian_filter1d

Array = np.ndarray[Any, Any]
HIDDEN, EPOCHS, BATCH, RATE_OF_LEARNING, DECAY = 32, 18, 1024, 3e-3, 0.03
SHARE = {"parameters": 1.5, "clean": 0.7, "hard": 1.2}
FPS = 25.0
MORE = Path(__file__).with_name("fusion_films.yaml")


@dataclass(frozen=True)
class Clip:
    """One clip as ``speaking_masks`` meets it, and the truth.

    Attributes:
        group: "parameters", "clean" or "hard". lips, sound: of both faces, on the picture's clock.
        voices: of a, b, nobody in the picture.
        times: [T] frames, on the picture's clock. heard: [T] somebody is. speaks: [T] of a and b.
    """

    group: str
    lips: tuple[LipSignal, LipSignal]
    sound: Array
    voices: tuple[Array, Array, Array]
    times: Array
    heard: Array
    speaks: tuple[Array, Array]


def clip_of(
    group: str,
    tracks: ClipTracks,
    audio: Array,
    turns: list[Turn],
    faces: dict[str, str],
    late_s: float,
    spoken: dict[str, list[tuple[float, float]]],
) -> Clip:
    """audio, turns and ``spoken`` (the truth) are on the sound's clock, ``late_s`` behind the picture's."""
    fine = clock(tracks.start_s - 1.0, tracks.end_s + 1.0)
    sound = syllables(loudness(audio, tracks.start_s - late_s, fine))
    times = np.arange(tracks.start_s, tracks.end_s - 1e-6, 1 / FPS)
    joined = join_parts(turns, faces, SpeakingOptions().pause_s)
    voices = voices_of(joined, faces, times)
    a, b = (lip_signal(track, tracks.times, fine) for track in (tracks.a, tracks.b))
    heard = bind.mask([(t.start_s, t.end_s) for t in joined], times)
    speaks = (bind.mask(spoken["a"], times), bind.mask(spoken["b"], times))
    return Clip(group, (a, b), sound, (voices["a"], voices["b"], voices[""]), times - late_s, heard, speaks)


def parameter_clips(seed: int, models: ListenModels) -> Iterator[Clip]:
    talk = bind.make(seed, 40.0, 0.01)
    found = bind.bound(talk, models)
    late = found.offset[0] if found.offset[1] >= SpeakingOptions().least_confidence else 0.0
    for tracks, audio, faces in zip(found.clips, found.sounds, found.faces, strict=True):
        yield clip_of("parameters", tracks, audio, found.turns, faces, late, talk.spoken)


def film_clips(suite: tuple[Conversation, ...], folder: Path) -> Iterator[Clip]:
    film_all(suite, folder / "videos", 2, lambda name: print("filmed", name, flush=True))
    config = load_config("", list(SUITE_SETTINGS))
    if not (folder / "curated" / "manifest.json").exists():
        videos = [folder / "videos" / one.name / VIDEO for one in suite]
        curate_videos(videos, folder / "curated", 2, list(SUITE_SETTINGS))
    condition = {one.name: one.condition for one in suite}
    work = WorkStore(str(folder / "curated" / "_work"))
    for bound in finished(work, "bind", BoundClip):
        clip, heard = bound.task.clip, bound.task.turns
        name = name_of(clip.video.uri)
        if heard is None or not clip.b or name not in condition:
            continue
        try:
            tracks = clip_tracks(bound.task, config.clips, work)
        except BadInput:
            continue
        offset = (bound.offset_s, bound.offset_confidence)
        shift = sync_shift(offset, config.bind)
        spoken = _spoken(read_truth(folder / "videos" / name), tracks, shift)
        if spoken is None:
            continue
        sound = read_sound(work, heard.sound, clip.start_s + shift, clip.end_s + shift)
        turns = shift_turns(turns_from_bytes(work.get(heard.file)), shift)
        late = offset[0] - shift if offset[1] >= config.bind.least_confidence else 0.0
        yield clip_of(condition[name], tracks, sound, turns, dict(bound.faces), late, spoken)


def _spoken(truth: Truth, tracks: ClipTracks, shift_s: float) -> dict[str, list[tuple[float, float]]] | None:
    """True turns by face of the clip, with sound read ``shift_s`` later; None where it shows somebody else."""
    boxes = (face.box.astype(np.float64) for face in (tracks.a, tracks.b))
    order = who_is_who(truth_at(truth, tracks.times), *boxes)
    if order is None:
        return None
    names = {"a": "a", "b": "b"} if order == (0, 1) else {"a": "b", "b": "a"}
    spoken: dict[str, list[tuple[float, float]]] = {"a": [], "b": []}
    for turn in truth.turns:
        if turn.face in names:
            spoken[names[turn.face]].append((turn.start_s - shift_s, turn.end_s - shift_s))
    return spoken


def shifted(shift: int) -> tuple[Conversation, ...]:
    """The suite's conversations with other seeds."""
    return tuple(
        replace(one, scenario=replace(one.scenario, seed=one.scenario.seed + shift)) for one in load_suite("full")
    )


def other_mouth(lips: LipSignal, speaks: Array, times: Array, rng: np.random.Generator) -> LipSignal:
    """The same talk of somebody who opens the mouth more or less, mumbles, gapes, is measured worse or not seen."""
    if not lips.valid.any():
        return lips
    if rng.random() < 0.15:
        start, long = rng.uniform(lips.times[0], lips.times[-1]), rng.exponential(4.0)
        return replace(lips, valid=lips.valid & ~((lips.times >= start - long) & (lips.times < start + long)))
    aperture = lips.aperture_mm.astype(np.float64)
    rest = np.percentile(aperture[lips.valid], 10)
    size = np.full(len(aperture), np.exp(rng.uniform(-0.4, 0.5)))
    if rng.random() < 0.25:  # mumbles at times, or is seen from the side
        for start in rng.uniform(lips.times[0], lips.times[-1], rng.poisson(3.0)):
            size[(lips.times >= start) & (lips.times < start + rng.exponential(0.7))] *= rng.uniform(0.0, 0.4)
    aperture = rest + gaussian_filter1d(size, 0.05 * RATE) * (aperture - rest)
    if rng.random() < 0.4:
        listens = np.interp(lips.times, times, speaks.astype(np.float64)) < 0.1
        runs = np.cumsum(np.abs(np.diff(listens.astype(int), prepend=0)))
        aperture += gaussian_filter1d(rng.uniform(0.0, 5.0, runs.max() + 1)[runs] * listens, 0.15 * RATE)
    frames = np.arange(lips.times[0], lips.times[-1], 1 / FPS)
    if rng.random() < 0.25:  # shut lips tremble in a grainy picture, for a while
        tremble = gaussian_filter1d(rng.normal(0.0, 1.0, len(frames)), rng.uniform(0.7, 2.5))
        spell = gaussian_filter1d(rng.normal(0.0, 1.0, len(frames)), 15.0)
        tremble *= rng.uniform(0.5, 3.0) / tremble.std() * (spell > 0.0)
        aperture += np.abs(np.interp(lips.times, frames, tremble))
    noise = [rng.normal(0.0, 1.0, len(frames)) for _ in "ln"]
    if rng.random() < 0.3:  # smooth in time, as a tracker's
        noise = [gaussian_filter1d(one, rng.uniform(1.0, 5.0)) for one in noise]
    shakes = abs(rng.normal(0.0, 0.25))
    on_lips, on_nose = (np.interp(lips.times, frames, shakes * one / one.std()) for one in noise)
    shake = 1.4826 * float(np.median(np.abs(opening(on_nose) - gaussian_filter1d(on_nose, 0.4 * RATE))))
    speed = gaussian_filter1d((np.gradient(gaussian_filter1d(on_nose, 2.0)) * RATE) ** 2, 0.13 * RATE)
    return replace(
        lips,
        aperture_mm=(aperture + on_lips).astype(np.float32),
        noise_mm=float(np.hypot(lips.noise_mm, shake)),
        noise_mm_s=float(np.hypot(lips.noise_mm_s, np.median(np.sqrt(speed)))),
    )


def mistaken(voices: tuple[Array, Array, Array], rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """The clip's voices are one to the ear, or for a while taken for each other, for one of the two's, for nobody's."""
    a, b, nobody = (one.copy() for one in voices)
    kind = int(rng.integers(4))
    start, long = int(rng.integers(len(a))), int(rng.uniform(10, 100))
    rows = slice(None) if kind == 1 else slice(start, start + long)
    both = np.maximum(a[rows], b[rows])
    if kind == 0:
        a[rows], b[rows] = b[rows].copy(), a[rows].copy()
    elif kind == 1:
        a[rows] = b[rows] = 0.5 * both
    elif kind == 2:
        nobody[rows], a[rows], b[rows] = np.maximum(nobody[rows], both), 0.0, 0.0
    elif rng.random() < 0.5:
        a[rows], b[rows] = both, 0.0
    else:
        b[rows], a[rows] = both, 0.0
    return a, b, nobody


def other_clip(clip: Clip, rng: np.random.Generator) -> Clip:
    a, b = (other_mouth(lips, speaks, clip.times, rng) for lips, speaks in zip(clip.lips, clip.speaks, strict=True))
    voices = mistaken(clip.voices, rng) if rng.random() < 0.4 else clip.voices
    return replace(clip, lips=(a, b), voices=voices, times=clip.times + rng.normal(0.0, 0.01))


def examples(clips: list[Clip], rng: np.random.Generator | None) -> tuple[Array, Array, Array]:
    """[N, D] inputs, [N] truth, [N] group; with a generator, every clip once more with other mouths and voices."""
    inputs, truth, group = [], [], []
    for clip in clips:
        for one in (clip,) if rng is None else (clip, other_clip(clip, rng)):
            mouths = [mouth_of(lips, one.sound) for lips in one.lips]
            for me in (0, 1):
                voices = (one.voices[me], one.voices[1 - me], one.voices[2])
                inputs.append(inputs_of(mouths[me], mouths[1 - me], voices, one.times)[one.heard])
                truth.append(one.speaks[me][one.heard])
                group += [one.group] * int(one.heard.sum())
    return np.concatenate(inputs), np.concatenate(truth), np.array(group)


def learn(inputs: Array, truth: Array, group: Array, seed: int) -> Fusion:
    torch.manual_seed(seed)
    weight = np.zeros(len(group))
    for name in set(group.tolist()):
        weight[group == name] = SHARE[name] / np.mean(group == name)
    mean, scale = inputs.mean(axis=0), inputs.std(axis=0) + 1e-6
    x, y, w = (torch.tensor(v, dtype=torch.float32) for v in ((inputs - mean) / scale, truth, weight / weight.mean()))
    hidden, out = torch.nn.Linear(x.shape[1], HIDDEN), torch.nn.Linear(HIDDEN, 1)
    net = torch.nn.Sequential(hidden, torch.nn.Tanh(), out)
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE_OF_LEARNING, weight_decay=DECAY)
    steps = EPOCHS * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3 * RATE_OF_LEARNING, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x)).split(BATCH):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(net(x[rows])[:, 0], y[rows], weight=w[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    weights = (hidden.weight.detach().numpy().T, hidden.bias.detach().numpy(), out.weight.detach().numpy()[0])
    arrays = (np.ascontiguousarray(v, np.float32) for v in (mean, scale, *weights, out.bias.detach().numpy()[0]))
    return Fusion(*arrays)


def tell(network: Fusion, clips: list[Clip]) -> None:
    inputs, truth, group = examples(clips, None)
    odds = network.log_odds(inputs)
    for name in sorted(set(group.tolist())):
        mine = group == name
        loss = np.logaddexp(0.0, np.where(truth[mine], -odds[mine], odds[mine])).mean()
        right = ((odds[mine] > 0) == truth[mine]).mean()
        print(f"{name:12s} {int(mine.sum()):7d} frames  log loss {loss:.4f}  right {right:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="films are kept here")
    parser.add_argument("--shifts", type=int, nargs="+", default=[1300, 3000], help="added to the suite's seeds")
    parser.add_argument("--held-out", type=int, help="the films of this shift are tested on, not learned from")
    parser.add_argument("--dialogues", type=int, default=72)
    parser.add_argument("--out", type=Path, default=fusion.PATH)
    args = parser.parse_args()
    torch.set_num_threads(1)
    models = ListenModels()
    seen: list[Clip] = []
    held: list[Clip] = []
    for shift in args.shifts:
        part, suite = held if shift == args.held_out else seen, shifted(shift)
        part.extend(film_clips(suite, args.work / f"shift-{shift}"))
    seen.extend(film_clips(load_suite("full", MORE), args.work / "more"))
    for seed in range(400, 400 + args.dialogues):
        (held if args.held_out is not None and seed % 3 == 0 else seen).extend(parameter_clips(seed, models))
    network = learn(*examples(seen, np.random.default_rng(0)), 0)
    tell(network, held or seen)
    np.savez(args.out, **{name: getattr(network, name) for name in Fusion.__dataclass_fields__})


if __name__ == "__main__":
    main()
