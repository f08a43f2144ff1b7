"""Who says what, when: turns with gaps and overlaps, and back-channels while the other one talks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .voices import Utterance, Voice, speak

# Each topic is a conversation: lines alternate between the two people.
TOPICS: tuple[tuple[str, ...], ...] = (
    (
        "So tell me, how did the move to the new house go last week?",
        "Honestly, better than I feared. Most of the boxes are open, and the kitchen already works.",
        "That sounds like good progress. Did the movers break anything this time?",
        "Only one plate and a lamp that nobody liked. My brother fixed the bookshelf before lunch.",
        "Lucky you. When I moved, the piano stayed in the hall for almost a month.",
        "A whole month? How did you get past it to open the front door?",
        "We climbed over it every morning. The neighbours thought it was very funny.",
        "I believe that. You should come by on Sunday, we will cook something simple.",
        "I would love to. Shall I bring bread, or would you rather have a cake?",
        "Bring both, and please bring your camera. The view over the river is beautiful.",
    ),
    (
        "I finally watched the film about the lighthouse that you told me about.",
        "And what did you make of the ending? I am still not sure that he meant it.",
        "I think he did. He looked at the map twice before he blew out the lamp.",
        "Maybe, but the music said something else. My sister thought it was all a dream.",
        "People always say that. For me the best part was the storm in the middle.",
        "Yes, the boat scene. They built the whole harbour for it, you know.",
        "Really? I was certain that most of it came from a computer.",
        "Very little of it. A friend of mine painted some of the boats by hand.",
        "That must have been a wonderful job. Is there another part coming?",
        "They have not said so, but everybody on the team is hoping for one.",
    ),
    (
        "We need a plan for the school trip, and we have about five minutes.",
        "Fine. I propose the museum in the morning, and the big park after lunch.",
        "The museum is closed on Mondays. What about the old paper mill?",
        "Even better. My father worked there, and they let you make your own paper.",
        "Perfect. Then we leave at eight, and we bring boots for everybody.",
        "Make it half past eight. Half of them never find both of their shoes.",
        "True enough. And who will call the bus company this afternoon?",
        "I will do that, if you promise to write to all of the parents.",
        "It is a deal. Please remind them about the rain jackets as well.",
        "I have that on my list already, right below the bandages.",
    ),
)
CLOSERS = ("That sounds good to me.", "Yes, I think so too.", "All right.")  # fill the rest of a video
BACKCHANNELS = ("Mhm.", "Yeah.", "Right.", "Oh, wow.", "I see.", "Sure.")


@dataclass(frozen=True)
class Line:
    """One utterance in the conversation. ``kind`` is "turn" or "backchannel"; ``speaker`` is 0 or 1."""

    speaker: int
    start_s: float
    utterance: Utterance
    kind: str

    @property
    def end_s(self) -> float:
        return self.start_s + self.utterance.duration_s

    @property
    def text(self) -> str:
        return self.utterance.text


def write_script(
    seconds: float,
    voices: tuple[Voice, Voice],
    seed: int,
    overlaps: bool = True,
    backchannels: bool = True,
    lead_in_s: float = 0.35,
) -> tuple[Line, ...]:
    """A conversation that fills ``seconds``.

    Gaps between turns are drawn around 0.2 s (the mode of human conversation, Stivers et al. 2009); every fourth is
    negative, an overlap. Turns long enough may get a back-channel of the listener.

    Args:
        overlaps, backchannels: with both off, never do two people speak at once.

    Returns:
        Lines in order of time; with room enough at least one overlap and one back-channel.

    Raises:
        UsageError: espeak-ng is absent, or lacks a voice.
    """
    rng = np.random.default_rng([seed, 11])
    order = rng.permutation(len(TOPICS))
    texts = [text for topic in order for text in TOPICS[topic]]
    hurry = max(1.0, max(voice.rate for voice in voices) / 280)
    budget = int(seconds / 2.2 * hurry) + 2  # no line is shorter, overlaps taken off
    while len(texts) < budget:
        texts = texts + texts
    first = int(rng.integers(2))
    chosen = [(text, (first + k) % 2) for k, text in enumerate(texts[:budget])]
    answers = [str(rng.choice(BACKCHANNELS)) for _ in chosen]
    wanted = [(text, voices[who]) for text, who in chosen]
    wanted += [(text, voices[1 - who]) for text, (_, who) in zip(answers, chosen, strict=True)]
    wanted += [(text, voices[who]) for who in (0, 1) for text in CLOSERS]
    said = speak(wanted)
    n = len(chosen)
    spoken, replies = said[:n], said[n : 2 * n]
    endings = {0: said[2 * n : 2 * n + len(CLOSERS)], 1: said[2 * n + len(CLOSERS) :]}
    lines: list[Line] = []
    clock = lead_in_s
    for turns, ((_, who), utterance, reply) in enumerate(zip(chosen, spoken, replies, strict=True)):
        gap = float(np.clip(rng.normal(0.22, 0.15), 0.05, 0.7))
        wants_overlap = turns == 2 or (turns > 2 and rng.random() < 0.25)
        if turns and overlaps and wants_overlap:
            gap = -float(rng.uniform(0.25, 0.55))
        start = max(clock + gap, 0.0) if turns else clock
        if start + utterance.duration_s > seconds - 0.15:
            lines += _endings(endings, who, max(start, clock + 0.05), seconds - 0.15)
            break
        lines.append(Line(who, start, utterance, "turn"))
        wants_reply = turns == 1 or rng.random() < 0.35
        if backchannels and wants_reply and utterance.duration_s > reply.duration_s + 2.4:
            at = start + float(rng.uniform(0.45, 0.7)) * utterance.duration_s
            if at + reply.duration_s < start + utterance.duration_s - 0.6:
                lines.append(Line(1 - who, at, reply, "backchannel"))
        clock = start + utterance.duration_s
    return tuple(sorted(lines, key=lambda line: line.start_s))


def _endings(closers: dict[int, list[Utterance]], who: int, start: float, until: float) -> list[Line]:
    """Short lines in turn, each said once, while there is room."""
    lines: list[Line] = []
    left = list(range(len(CLOSERS)))
    while True:
        fitting = [k for k in left if start + closers[who][k].duration_s <= until]
        if not fitting:
            return lines
        left.remove(fitting[0])
        line = Line(who, start, closers[who][fitting[0]], "turn")
        lines.append(line)
        start, who = line.end_s + 0.25, 1 - who


def speech_segments(lines: tuple[Line, ...], speaker: int, bridge_s: float = 0.5) -> list[tuple[float, float]]:
    """When ``speaker`` makes sound: pauses shorter than ``bridge_s`` belong to the speech."""
    sounds = sorted(
        (line.start_s + p.start_s, line.start_s + p.end_s)
        for line in lines
        if line.speaker == speaker
        for p in line.utterance.phonemes
        if p.symbol
    )
    merged: list[tuple[float, float]] = []
    for start, end in sounds:
        if merged and start - merged[-1][1] < bridge_s:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged
