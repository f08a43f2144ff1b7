"""Endless small talk: sentences from a small grammar, so that no two conversations sound alike."""

from __future__ import annotations

import re

import numpy as np

_WORDS: dict[str, tuple[str, ...]] = {
    "who": (
        "my sister", "the neighbour", "our teacher", "my uncle", "the baker", "a friend of mine", "your brother",
        "the new manager", "my grandmother", "the man at the desk", "her cousin", "the whole team", "our landlord",
        "the woman next door", "my old boss", "the doctor", "nobody", "everyone", "the children", "the driver",
    ),
    "thing": (
        "the blue bicycle", "a pot of soup", "the garden gate", "that old piano", "the morning train", "a paper boat",
        "the kitchen window", "my winter coat", "the school play", "a box of apples", "the long bridge", "this map",
        "the village market", "a warm blanket", "the yellow house", "your camera", "the coffee machine", "a red lamp",
        "the spare key", "our tent", "the evening news", "a cheap ticket", "the river path", "the broken chair",
    ),
    "place": (
        "at the harbour", "behind the station", "in the mountains", "by the lake", "near the old mill", "in the cellar",
        "on the roof", "at the library", "across the square", "in the back yard", "at the airport", "under the stairs",
        "in the next town", "along the beach", "at my office", "up the hill", "beside the church", "in the south",
    ),
    "when": (
        "last week", "on Sunday", "this morning", "a month ago", "before breakfast", "after the storm", "in spring",
        "every Friday", "around noon", "two years ago", "late at night", "right now", "by the end of May", "again",
    ),
    "did": (
        "found", "forgot", "painted", "sold", "carried", "repaired", "borrowed", "missed", "bought", "moved", "noticed",
        "described", "measured", "opened", "promised", "cleaned", "photographed", "lost", "built", "chose",
    ),
    "do": (
        "find", "forget", "paint", "sell", "carry", "repair", "borrow", "miss", "buy", "move", "notice", "open",
        "describe", "clean", "keep", "choose", "show me", "look for", "wait for", "talk about",
    ),
    "how": (
        "quite slowly", "with great care", "for no reason", "much too early", "without any help", "in a hurry",
        "better than before", "just for fun", "very quietly", "as a surprise", "with both hands", "in the rain",
    ),
    "mood": (
        "wonderful", "rather strange", "easy enough", "a bit too loud", "awfully expensive", "worth a try", "perfect",
        "harder than it looks", "good news", "a mistake", "beautiful", "not so bad", "impossible", "quite funny",
    ),
    "start": ("Well", "Honestly", "You know", "Actually", "I mean", "By the way", "Of course", "To be fair", "So"),
}  # fmt: skip
_STATEMENTS = (
    "{who} {did} {thing} {when}.",
    "{start}, {who} {did} {thing} {place}.",
    "I {did} {thing} {how}, and it was {mood}.",
    "We could {do} {thing} {place}, if you like.",
    "{who} told me to {do} {thing}, but {who} {did} it first.",
    "It was {mood} that {who} {did} {thing} {how}.",
    "{start}, I would never {do} {thing} {when}.",
    "They {did} everything {place}, except {thing}.",
    "When {who} {did} {thing}, I was still {place}.",
    "That is {mood}, because {thing} was {place} {when}.",
    "No, I think {who} {did} {thing} {how}.",
    "{who} says it is {mood}. I am not so sure about {thing}.",
)
_QUESTIONS = (
    "Did {who} {do} {thing} {when}?",
    "Why would {who} {do} {thing} {how}?",
    "Have you seen {thing} {place}?",
    "Do you think it is {mood}?",
    "So {who} {did} {thing} {place}?",
    "What if we {do} {thing} {when}?",
    "{start}, where did you {do} {thing}?",
)
ANSWERS = ("Yes, exactly.", "No, not at all.", "I believe so.", "That makes sense.", "Really?", "You are right.")
BACKCHANNELS = (
    "Mhm.", "Yeah.", "Right.", "Oh, wow.", "I see.", "Sure.", "Okay.", "Uh-huh.", "Oh.", "Good.", "Yes.", "Hm.",
)  # fmt: skip


def sentence(rng: np.random.Generator, question_share: float = 0.28) -> str:
    """One sentence; a question with the given chance."""
    forms = _QUESTIONS if rng.random() < question_share else _STATEMENTS
    form = forms[int(rng.integers(len(forms)))]
    text = re.sub(r"\{(\w+)\}", lambda found: _pick(_WORDS[found[1]], rng), form)
    return text[0].upper() + text[1:]


def _pick(words: tuple[str, ...], rng: np.random.Generator) -> str:
    return words[int(rng.integers(len(words)))]
