"""Conversations with exact truth and no pixels: espeak voices, and faces that mouth the phonemes spoken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from duologue.schemas.records import Turn
from duologue.schemas.tracks import ClipTracks, FaceTrack

UPPER, LOWER = (13, 82, 312, 81, 311), (14, 87, 317, 178, 402)


def template() -> np.ndarray:
    """[478, 3] millimetres: an ellipsoid face with eye corners, nose and inner lips in plausible places."""
    rng = np.random.default_rng(7)
    angle, height = rng.uniform(-1.2, 1.2, 478), rng.uniform(-80, 80, 478)
    points = np.stack([70 * np.sin(angle), height, -60 * np.cos(angle)], 1)
    points[[33, 263]] = [(-44.7, -30, -10), (44.7, -30, -10)]
    nose = zip((-32, -24, -16, -8, 0, 6), range(-50, -74, -4), strict=True)
    points[[168, 6, 197, 195, 5, 4]] = [(0, y, z) for y, z in nose]
    for i, (u, v) in enumerate(zip(UPPER, LOWER, strict=True)):
        x = (0.0, -6.0, 6.0, -12.0, 12.0)[i]
        points[u], points[v] = (x, 35, -55), (x, 35, -55)
    return points


def face(name: str, times: np.ndarray, aperture: np.ndarray, scale: float, noise_px: float, seed: int) -> FaceTrack:
    """A face whose inner lips open by ``aperture`` mm while the head turns and moves on its own."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 6, 4)
    yaw = 0.5 * np.sin(2 * np.pi * 0.3 * times + phase[0]) + 0.15 * np.sin(2 * np.pi * 1.3 * times + phase[1])
    pitch = 0.12 * np.sin(2 * np.pi * 1.7 * times + phase[2])
    points = np.repeat(template()[None], len(times), 0)
    points[:, LOWER, 1] += aperture[:, None]
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    zero, one = np.zeros_like(yaw), np.ones_like(yaw)
    turn = np.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy], -1).reshape(-1, 3, 3)
    nod = np.stack([one, zero, zero, zero, cp, -sp, zero, sp, cp], -1).reshape(-1, 3, 3)
    pixels = np.einsum("tij,tkj->tki", nod @ turn, points) * (scale / 63.0)
    pixels += rng.normal(0, noise_px, (len(times), 1, 3)) + rng.normal(0, noise_px, pixels.shape)
    pixels += [300.0, 200.0, 0.0]
    identity = np.zeros(16, np.float32)
    identity[seed % 16] = 1
    whole = np.ones(len(times), bool)
    box = np.zeros((len(times), 4), np.float32)
    ones = np.ones(len(times), np.float32)
    return FaceTrack(name, pixels.astype(np.float32), box, whole, ones, ones, identity)


@dataclass(frozen=True)
class Conversation:
    tracks: ClipTracks
    audio: np.ndarray
    turns: list[Turn]
    speaks: dict[str, np.ndarray]
    times: np.ndarray


TEXTS = (
    "Good morning, I wanted to ask you about the garden behind the house.",
    "Well, the garden is larger than we thought, and nobody lives there.",
    "Please bring my brother a bottle of apple juice before the party.",
    "Maybe we could meet about half past five, if the weather is fine.",
)


def converse(
    spoken: dict[str, list],
    order: str = "ab",
    offset_s: float = 0.0,
    noise_px: float = 0.25,
    scale: float = 60.0,
    snr_db: float = 30.0,
    fps: float = 29.97,
    start_s: float = 100.0,
    gap_s: float = 0.3,
    seed: int = 0,
    owner: dict[str, str] | None = None,
    length_s: float = 14.0,
) -> Conversation:
    """Turns in ``order`` ("a", "b", "o" = off-screen voice); v0 is a's voice, v1 is b's, v2 nobody's."""
    from duologue.synthesis.motion import RATE, mouth_track
    from duologue.synthesis.script import Line

    rng = np.random.default_rng(seed)
    owner = owner or {"a": "en-us", "b": "en+f4", "o": "en+f4"}
    audio = np.zeros(round(length_s * 16000), np.float32)
    at, lines, turns = 0.4, [], []
    for i in range(20):
        who = order[i % len(order)]
        utterance = spoken[owner[who]][i % len(TEXTS)]
        if at + utterance.duration_s > length_s - 0.2:
            break
        lo = round(at * 16000)
        audio[lo : lo + len(utterance.samples)] += utterance.samples
        lines.append((who, Line({"a": 0, "b": 1, "o": 2}[who], at, utterance, "turn")))
        turns.append(Turn(start_s + at, start_s + at + utterance.duration_s, {"a": "v0", "b": "v1", "o": "v2"}[who]))
        at += utterance.duration_s + gap_s
    level = float(np.sqrt(np.mean(audio[audio != 0] ** 2)))
    audio = audio + rng.normal(0, level * 10 ** (-snr_db / 20), len(audio)).astype(np.float32)
    times = np.arange(0, length_s, 1 / fps)
    tracks, speaks = [], {}
    clock25 = np.arange(0, length_s - 0.04, 0.04)
    for index, who in enumerate("ab"):
        mine = tuple(line for w, line in lines if w == who)
        shape = mouth_track(tuple(mine), index, length_s + 1)[:, 0] * 18.0
        moment = np.arange(len(shape)) / RATE
        aperture = np.interp(times - offset_s, moment, shape)
        tracks.append(face(who, times, 1.0 + aperture, scale, noise_px, 10 * seed + index))
        speaks[who] = np.zeros(len(clock25), bool)
        for line in mine:
            speaks[who] |= (clock25 >= line.start_s) & (clock25 < line.end_s)
    clip = ClipTracks("v", 0, start_s, start_s + length_s, 1280, 720, times + start_s, tracks[0], tracks[1])
    return Conversation(clip, audio.astype(np.float32), turns, speaks, clock25 + start_s)
