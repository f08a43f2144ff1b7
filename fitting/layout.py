"""Layout codes: scalars of a dyad to named bins, bins to sentences, sentences back to bins and positions.

A code is ``"group:bin"``. Codes are what is stored and tested; text is a view of them. A bin is claimed only where the
value is more than one standard deviation from its edges (idea of posecodes, Delmas et al. 2022, "PoseScript").
Person ``a`` is the one on the left of the image.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .layout_codes import ARRANGEMENTS, GROUPS, LOOSE
from .layout_person import BOTH, OLDER, Bin

_NAMES = {"a": ("the person on the left", "A", "the left one"), "b": ("the person on the right", "B", "the right one")}
_LETTERS = 1  # of the three ways to call people
_LETTER = re.compile(r"\b[AB]\b")


def arrangement_of(facing_a_deg: float, facing_b_deg: float) -> str | None:
    """Body of the scene from both signed facing angles (0: at the partner; positive: to the camera's side)."""
    if abs(facing_a_deg) < 45 and abs(facing_b_deg) < 45:
        return "face_to_face"
    if abs(facing_a_deg) > 120 and abs(facing_b_deg) > 120:
        return "back_to_back"
    # headings in one plane: a looks at angle fa from +x, b at 180 - fb
    difference = abs((facing_a_deg + facing_b_deg - 180 + 180) % 360 - 180)
    if difference < 40 and 45 <= abs(facing_a_deg) <= 135 and 45 <= abs(facing_b_deg) <= 135:
        return "side_by_side"
    if 60 < difference < 120:
        return "l_shape"
    return None


def codes_of(layout: dict[str, float], sd: dict[str, float] | None = None) -> tuple[str, ...]:
    """Codes of a layout, in a fixed order. Bins with an edge within one sd of the value are not claimed.

    Args:
        layout: named scalars; groups whose scalar is missing or NaN yield no code.
        sd: their standard deviations; missing ones are zero.
    """
    sd = sd or {}
    out: list[str] = []
    fa, fb = layout.get("facing_a_deg", np.nan), layout.get("facing_b_deg", np.nan)
    if np.isfinite(fa) and np.isfinite(fb):
        sa, sb = sd.get("facing_a_deg", 0.0), sd.get("facing_b_deg", 0.0)
        corners = {arrangement_of(fa + i * sa, fb + j * sb) for i in (-1, 0, 1) for j in (-1, 0, 1)}
        only = corners.pop()
        if not corners and only is not None:
            out.append(f"arrangement:{only}")
    for group in GROUPS:
        value = layout.get(group.scalar, np.nan)
        if not np.isfinite(value):
            continue
        value = abs(value) if group.absolute else value
        spread = sd.get(group.scalar, 0.0)
        for b in group.bins:
            open_low = group.absolute and b.low == 0
            if b.low <= value < b.high and (open_low or value - spread >= b.low) and value + spread < b.high:
                out.append(f"{group.name}:{b.name}")
    return tuple(out)


def all_codes() -> tuple[str, ...]:
    """Every code there is."""
    return tuple(f"arrangement:{k}" for k in ARRANGEMENTS) + tuple(f"{g.name}:{b.name}" for g in GROUPS for b in g.bins)


def _phrases(code: str) -> tuple[str, ...]:
    group, _, name = code.partition(":")
    if group == "arrangement":
        return ARRANGEMENTS[name]
    for g in GROUPS:
        if g.name == group:
            return next(b.phrases for b in g.bins if b.name == name)
    raise KeyError(code)


# What a listener learns least from comes last: codes that nearly every clip has.
_COMMON = ("distance:personal", "change:steady", "height:level", "depth:same", "tilt_a:upright", "tilt_b:upright")


def captions(codes: tuple[str, ...], seed: str, count: int = 5, most: int = 4) -> tuple[str, ...]:
    """Sentences that say the ``most`` least common things, ``count`` wordings; the same seed gives the same words.

    What is true of both people is one thing, said of both or not at all.
    """
    left = [c for c in codes if c not in _COMMON] + [c for c in _COMMON if c in codes]
    told: list[str] = []
    for _ in range(most):
        if left:
            code = left[0]
            told += [c for c in left if c in (code, _of_other(code))]
            left = [c for c in left if c not in told]
    return tuple(text(tuple(told), f"{seed}/{k}") for k in range(count)) if told else ()


def _of_other(code: str) -> str:
    """The same code of the other person; "" for one that is about neither."""
    topic, person = _about(code)
    name = code.partition(":")[2]
    return f"{topic}_{'b' if person == 'a' else 'a'}:{name}" if person else ""


def text(codes: tuple[str, ...], seed: str = "") -> str:
    """One text that says every code; people are called the same throughout, what is true of both is said once."""
    style = _draw(f"{seed}/names", 3)
    sentences = []
    for k, together in enumerate(_sentences(codes)):
        of_whom = {_about(code)[1] for code in together}
        word = " while " if of_whom == {"a", "b"} and _draw(f"{seed}/join/{k}", 2) else ", and "
        both = BOTH.get(f"{_about(together[0])[0]}:{together[0].partition(':')[2]}", ())
        if len(together) == 2 and _of_other(together[0]) == together[1] and both:
            joined = both[_draw(f"{seed}/both/{k}", len(both))]
        else:
            joined = word.join(_clause(code, style, f"{seed}/{k}/{code}") for code in together)
        sentences.append(joined[0].upper() + joined[1:] + ".")
    return " ".join(sentences)


def _about(code: str) -> tuple[str, str]:
    """Topic and person of a code: "facing", "a"; the group and "" where it is about neither."""
    group = code.partition(":")[0]
    return (group[:-2], group[-1]) if group.endswith(("_a", "_b")) else (group, "")


def _clause(code: str, style: int, key: str) -> str:
    group, phrases = code.partition(":")[0], _phrases(code)
    if group.endswith(("_a", "_b")):
        me = group[-1]
        other = "b" if me == "a" else "a"
        phrases = tuple(phrase.format(p=_NAMES[me][style], q=_NAMES[other][style]) for phrase in phrases)
    else:  # phrases with names of their own
        fitting = tuple(phrase for phrase in phrases if bool(_LETTER.search(phrase)) == (style == _LETTERS))
        phrases = fitting or phrases
    return phrases[_draw(key, len(phrases))]


def _sentences(codes: tuple[str, ...]) -> list[list[str]]:
    """The codes said in one sentence: one topic of both people, otherwise two neighbours."""
    out: list[list[str]] = []
    left = list(codes)
    while left:
        code = left.pop(0)
        topic, person = _about(code)
        twin = next((other for other in left if person and _about(other)[0] == topic), None)
        if twin is not None:
            left.remove(twin)
            out.append(sorted((code, twin), key=_about))
        elif out and len(out[-1]) == 1:
            out[-1].append(code)
        else:
            out.append([code])
    return out


def _draw(key: str, n: int) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % n


_NUMBER = re.compile(
    r"(\d+(?:[.,]\d+)?|half a|one|two|three|four|five|a)\s*(m|metres?|meters?|cm|centimet(?:re|er)s?|feet|foot|ft)\b"
)
_WORDS = {"half a": 0.5, "a": 1.0, "one": 1.0, "two": 2.0, "three": 3.0, "four": 4.0, "five": 5.0}
_UNITS = {"m": 1.0, "c": 0.01, "f": 0.3048}


def _lexicon() -> list[tuple[str, tuple[str, ...]]]:
    """Every phrase in every naming and the codes it says, longest first."""
    entries: list[tuple[str, tuple[str, ...]]] = []
    for code in all_codes():
        me = _about(code)[1]
        for phrase in (*_phrases(code), *OLDER.get(code.replace(f"_{me}:", ":"), ())):
            if me:
                other = "b" if me == "a" else "a"
                for mine, theirs in zip(_NAMES[me], _NAMES[other], strict=True):
                    entries.append((phrase.format(p=mine, q=theirs).lower(), (code,)))
            else:
                entries.append((phrase.lower(), (code,)))
    for both, phrases in BOTH.items():
        topic, _, name = both.partition(":")
        entries += [(phrase, (f"{topic}_a:{name}", f"{topic}_b:{name}")) for phrase in phrases]
    return sorted(entries, key=lambda e: (-len(e[0]), e))


@dataclass(frozen=True)
class ParsedText:
    """What a text says: codes, scalars given as numbers, and the words that meant nothing."""

    codes: tuple[str, ...]
    values: dict[str, float]
    unread: str


# What a length before one of these words is of, and the sign of the scalar by code.
_COMPARED = re.compile(
    r"\s*(higher|taller|above|lower|below|nearer|closer|further|farther)\b( (?:to|from) the camera)?"
)
_SIGNED = {
    "height:b_higher": 1.0, "height:a_higher": -1.0, "depth:a_nearer": 1.0, "depth:b_nearer": -1.0,
    "change:apart": 1.0, "change:closer": -1.0,
}  # fmt: skip
_FILLERS = (
    "a", "an", "and", "apart", "are", "at", "away", "from", "in", "is", "of", "on", "sit", "stand", "the", "they", "to",
    "two", "while", "with",
)  # fmt: skip
_SCALARS = {group.name: group.scalar for group in GROUPS}


def parse(description: str) -> ParsedText:
    """Text to codes: phrases of the lexicon, longest first, then looser words.

    A length in m, cm or feet is the distance or, where such a word follows it, how much higher, nearer to the camera or
    closer than before somebody is.
    """
    left = " ".join(description.lower().replace("’", "'").split())
    distance: re.Match[str] | None = None
    lengths: list[tuple[float, tuple[str, ...], str]] = []  # metres, groups it may be of, as said
    for number in reversed(list(_NUMBER.finditer(left))):
        about = _compared(left[number.end() :])
        if about:
            lengths.append((_metres(number), about, number.group(0)))
            left = f"{left[: number.start()].rstrip()} {left[number.end() :].lstrip()}"
        else:
            distance = number
    found: set[str] = set()
    for phrase, codes in _LEXICON:
        pattern = rf"(?<!\w){re.escape(phrase)}(?!\w)"
        if re.search(pattern, left):
            found.update(codes)
            left = re.sub(pattern, " ", left)
    read: list[str] = []
    said = {code.partition(":")[0] for code in found}
    for code, phrases in LOOSE.items():
        heard = [phrase for phrase in phrases if re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", left)]
        read += heard
        if heard and code.partition(":")[0] not in said:
            found.add(code)
    for phrase in sorted(read, key=len, reverse=True):
        left = re.sub(rf"(?<!\w){re.escape(phrase)}(?!\w)", " ", left)
    values: dict[str, float] = {}
    if distance is not None:
        values["distance_m"] = _metres(distance)
        left = left.replace(distance.group(0), " ")
    for amount, about, words in lengths:
        compared = sorted(code for code in found if code in _SIGNED and code.partition(":")[0] in about)
        if compared:
            values[_SCALARS[compared[0].partition(":")[0]]] = amount * _SIGNED[compared[0]]
        else:
            left = f"{words} {left}"
    for group, scalar in _SCALARS.items():
        if scalar in values:
            found = {code for code in found if not code.startswith(f"{group}:")} | set(
                codes_of({scalar: values[scalar]})
            )
    order = {c: k for k, c in enumerate(all_codes())}
    leftover = " ".join(word for word in re.sub(r"[.,;]", " ", left).split() if word not in _FILLERS)
    return ParsedText(tuple(sorted(found, key=order.__getitem__)), values, leftover)


def _metres(number: re.Match[str]) -> float:
    word = number.group(1)
    return (_WORDS[word] if word in _WORDS else float(word.replace(",", "."))) * _UNITS[number.group(2)[0]]


def _compared(after: str) -> tuple[str, ...]:
    """Groups that a length may be of, from the words after it; none: it is the distance."""
    word = _COMPARED.match(after)
    if word is None:
        return ()
    if word.group(1) in ("higher", "taller", "above", "lower", "below"):
        return ("height",)
    return ("depth",) if word.group(2) else ("depth", "change")


_LEXICON = _lexicon()

# The middle of the road for what a text does not say.
TYPICAL: dict[str, float] = {
    "distance_m": 0.9,
    "height_difference_m": 0.0,
    "depth_difference_m": 0.0,
    "distance_change_m": 0.0,
    "facing_a_deg": 30.0,
    "facing_b_deg": 30.0,
    "tilt_a_deg": 0.0,
    "tilt_b_deg": 0.0,
    "look_a_share": 0.45,
    "look_b_share": 0.45,
    "mutual_share": 0.2,
}


def layout_from_codes(codes: tuple[str, ...], values: dict[str, float] | None = None) -> dict[str, float]:
    """Scalars inside every coded bin, well away from its edges, typical elsewhere.

    Raises:
        ValueError: an unknown code, or codes that no layout satisfies.
    """
    unknown = set(codes) - set(all_codes())
    if unknown:
        raise ValueError(f"unknown layout code {sorted(unknown)[0]}")
    out = dict(TYPICAL)
    wanted = set(codes)
    by_group: dict[str, str] = {}
    for code in codes:
        kind, _, name = code.partition(":")
        if by_group.setdefault(kind, name) != name:
            raise ValueError(f"layout codes contradict each other: {kind}:{by_group[kind]} and {code}")
    for group in GROUPS:
        if group.name in by_group and not group.name.startswith("facing_"):
            b = next(b for b in group.bins if b.name == by_group[group.name])
            out[group.scalar] = _inside(b)
    out["facing_a_deg"], out["facing_b_deg"] = _facing_angles(wanted)
    # A depth or height difference cannot exceed the distance; a longer distance makes room.
    need = float(np.hypot(out["height_difference_m"], out["depth_difference_m"])) * 1.05
    if out["distance_m"] < need and "distance" not in by_group:
        out["distance_m"] = need
    out.update(values or {})
    return out


def _inside(b: Bin) -> float:
    if np.isinf(b.high):
        return b.low * 1.3
    if np.isinf(b.low):
        return b.high * 1.3
    return 0.5 * (b.low + b.high)


def _facing_angles(wanted: set[str]) -> tuple[float, float]:
    """Signed facing angles that satisfy the facing and arrangement codes with the widest margin; typical if free."""
    facing = [c for c in wanted if c.startswith(("facing_", "arrangement:"))]
    if not facing:
        return TYPICAL["facing_a_deg"], TYPICAL["facing_b_deg"]
    groups = {c.partition(":")[0] for c in facing}
    best, best_margin = None, -1.0
    for fa, fb, claimed in _facing_table():
        margin = 0
        while margin < len(claimed) and {c for c in claimed[margin] if c.partition(":")[0] in groups} == set(facing):
            margin += 1
        # prefer both turned to the camera's side, and near the typical angle
        score = margin - 0.01 * (abs(fa - 30) + abs(fb - 30)) / 180 if margin else -1.0
        if score > best_margin:
            best, best_margin = (fa, fb), score
    if best is None:
        raise ValueError(f"layout codes contradict each other: {', '.join(sorted(facing))}")
    return best


@lru_cache(maxsize=1)
def _facing_table() -> tuple[tuple[float, float, tuple[frozenset[str], ...]], ...]:
    """Codes claimed at every pair of facing angles, for growing uncertainty."""
    rows = []
    for fa in range(-170, 181, 10):
        for fb in range(-170, 181, 10):
            angles = {"facing_a_deg": float(fa), "facing_b_deg": float(fb)}
            claimed = (frozenset(codes_of(angles, dict.fromkeys(angles, sd))) for sd in (0.1, 4.0, 8.0))
            rows.append((float(fa), float(fb), tuple(claimed)))
    return tuple(rows)


def place(layout: dict[str, float], depth_m: float = 1.5) -> dict[str, np.ndarray]:
    """Head centres and headings of a layout, camera frame: ``centre_a``, ``centre_b`` [3] metres and ``rotation_a``,
    ``rotation_b`` [3] axis-angle (zero faces the camera), the middle of the dyad ``depth_m`` in front of the camera."""
    distance = max(layout["distance_m"], 0.05)
    dy, dz = -layout["height_difference_m"], layout["depth_difference_m"]
    across = float(np.sqrt(max(distance**2 - dy**2 - dz**2, (0.2 * distance) ** 2)))
    half = 0.5 * np.array([across, dy, dz])
    middle = np.array([0.0, 0.0, depth_m])
    out = {"centre_a": middle - half, "centre_b": middle + half}
    line = np.arctan2(dz, across)  # of the line a -> b in the camera's horizontal plane
    for name, sign in (("a", 1.0), ("b", -1.0)):
        # direction faced, as an angle in the plane (x right, -z toward the camera)
        turn = np.radians(layout[f"facing_{name}_deg"])
        x, toward = sign * np.cos(turn), np.sin(turn)
        face = np.array([x * np.cos(line) + toward * np.sin(line), 0.0, x * np.sin(line) - toward * np.cos(line)])
        yaw = np.arctan2(-face[0], -face[2])  # R_y(yaw) applied to (0, 0, -1)
        out[f"rotation_{name}"] = np.array([0.0, yaw, 0.0])
    return out
