"""Layout codes: scalars of a dyad to named bins, bins to sentences, sentences back to bins and positions.

A code is ``"group:bin"``. Codes are what is stored and tested; text is a view of them. A bin is claimed only where the
value is more than one standard deviation from its edges (idea of posecodes, Delmas et al. 2022, "PoseScript").
Person ``a`` is the one on the left of the image.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import numpy as np

INF = float("inf")


@dataclass(frozen=True)
class Bin:
    """One value range [low, high) of a group, and how to say it. ``{p}`` is the person, ``{q}`` the other."""

    name: str
    low: float
    high: float
    phrases: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """A quantised scalar. ``absolute``: the bins are of its magnitude. Groups are listed from rare to common news."""

    name: str
    scalar: str
    absolute: bool
    bins: tuple[Bin, ...]


def _facing_group(p: str) -> Group:
    return Group(
        f"facing_{p}", f"facing_{p}_deg", True,
        (
            Bin("facing", 0, 20, ("{p} faces {q}", "{p} is turned squarely to {q}", "{p} has the head straight toward {q}",
                                  "{p} points the face directly at {q}", "{p} fronts {q}")),
            Bin("turned", 20, 60, ("{p} is turned partly away from {q}", "{p} is angled off {q}", "{p} stands at a slant to {q}",
                                   "{p} has the head half turned from {q}", "{p} is rotated a little off {q}")),
            Bin("side_on", 60, 110, ("{p} is side-on to {q}", "{p} shows {q} a profile", "{p} has a shoulder to {q}",
                                     "{p} is sideways to {q}", "{p} sits at a right angle to {q}")),
            Bin("away", 110, 181, ("{p} faces away from {q}", "{p} has the back of the head to {q}", "{p} is turned away from {q}",
                                   "{p} points the face the other way from {q}", "{p} has turned the back on {q}")),
        ),
    )  # fmt: skip


def _tilt_group(p: str) -> Group:
    return Group(
        f"tilt_{p}", f"tilt_{p}_deg", False,
        (
            Bin("right", -91, -12, ("{p} tilts the head to the right", "{p} leans the head rightward", "{p} cocks the head right",
                                    "{p} has the head inclined to the right", "{p} lets the head drop to the right")),
            Bin("upright", -12, 12, ("{p} holds the head upright", "{p} keeps the head level", "{p} has an upright head",
                                     "{p} holds the head straight up", "{p} shows no head tilt")),
            Bin("left", 12, 91, ("{p} tilts the head to the left", "{p} leans the head leftward", "{p} cocks the head left",
                                 "{p} has the head inclined to the left", "{p} lets the head drop to the left")),
        ),
    )  # fmt: skip


def _look_group(p: str) -> Group:
    return Group(
        f"look_{p}", f"look_{p}_share", False,
        (
            Bin("rarely", -0.1, 0.2, ("{p} rarely looks at {q}", "{p} hardly glances at {q}", "{p} avoids looking at {q}",
                                      "{p} keeps the eyes off {q}", "{p} looks elsewhere than at {q}")),
            Bin("sometimes", 0.2, 0.6, ("{p} looks at {q} now and then", "{p} glances at {q} at times", "{p} sometimes looks at {q}",
                                        "{p} looks at {q} on and off", "{p} watches {q} part of the time")),
            Bin("mostly", 0.6, 1.1, ("{p} looks at {q} most of the time", "{p} keeps the eyes on {q}", "{p} mostly looks at {q}",
                                     "{p} watches {q} steadily", "{p} holds the gaze on {q}")),
        ),
    )  # fmt: skip


GROUPS: tuple[Group, ...] = (
    Group(
        "change", "distance_change_m", False,
        (
            Bin("apart", 0.15, INF, ("they move apart", "they draw away from each other", "the gap between them widens",
                                     "they drift apart", "the distance between them grows")),
            Bin("closer", -INF, -0.15, ("they move closer", "they draw together", "the gap between them narrows",
                                        "they come nearer to each other", "the distance between them shrinks")),
            Bin("steady", -0.15, 0.15, ("they keep their distance", "the gap between them stays the same",
                                        "their spacing does not change", "they stay where they are", "their distance holds steady")),
        ),
    ),
    Group(
        "height", "height_difference_m", False,
        (
            Bin("b_higher", 0.08, INF, ("the right head is higher", "B is taller in the frame", "the head on the right sits above the other",
                                        "B looks down on A", "the right one towers over the left")),
            Bin("a_higher", -INF, -0.08, ("the left head is higher", "A is taller in the frame", "the head on the left sits above the other",
                                          "A looks down on B", "the left one towers over the right")),
            Bin("level", -0.08, 0.08, ("their heads are level", "both heads are at one height", "they are at eye level with each other",
                                       "neither head is higher", "their heads are equally high")),
        ),
    ),
    Group(
        "depth", "depth_difference_m", False,
        (
            Bin("a_nearer", 0.25, INF, ("A is nearer to the camera", "the left one is closer to the viewer", "A is in the foreground",
                                        "the left head is in front", "B is further from the camera")),
            Bin("b_nearer", -INF, -0.25, ("B is nearer to the camera", "the right one is closer to the viewer", "B is in the foreground",
                                          "the right head is in front", "A is further from the camera")),
            Bin("same", -0.25, 0.25, ("both are equally far from the camera", "they share one depth", "neither is nearer to the camera",
                                      "they are at the same depth", "the camera is as far from one as from the other")),
        ),
    ),
    Group(
        "mutual", "mutual_share", False,
        (
            Bin("much", 0.3, 1.1, ("they look each other in the eye", "they share a long mutual gaze", "their eyes meet much of the time",
                                   "they hold eye contact", "they gaze at one another")),
            Bin("little", 0.05, 0.3, ("their eyes meet briefly", "they make brief eye contact", "they exchange short glances",
                                      "eye contact comes and goes", "their gazes cross at moments")),
            Bin("none", -0.1, 0.05, ("their eyes do not meet", "they make no eye contact", "there is no mutual gaze",
                                     "they never look each other in the eye", "their gazes never cross")),
        ),
    ),
    _tilt_group("a"), _tilt_group("b"), _facing_group("a"), _facing_group("b"), _look_group("a"), _look_group("b"),
    Group(
        "distance", "distance_m", False,
        (  # zones of Hall 1966
            Bin("intimate", 0, 0.45, ("they are very close together", "they are almost touching", "they are at intimate distance",
                                      "their faces are within arm's reach of a whisper", "hardly a hand's breadth separates them")),
            Bin("personal", 0.45, 1.2, ("they are at arm's length", "they are at personal distance", "they are within easy reach",
                                        "they are close, as friends would be", "about a step separates them")),
            Bin("social", 1.2, 3.6, ("they are at social distance", "they are a few steps apart", "a table's width separates them",
                                     "they keep a polite distance", "they are across the room's corner from each other")),
            Bin("public", 3.6, INF, ("they are far apart", "they are at public distance", "much of the room lies between them",
                                     "they are many steps apart", "a wide space separates them")),
        ),
    ),
)  # fmt: skip

ARRANGEMENTS: dict[str, tuple[str, ...]] = {
    "face_to_face": ("they are face to face", "they face each other", "they sit opposite one another",
                     "they are turned toward each other", "they are vis-à-vis"),
    "side_by_side": ("they are side by side", "they sit next to each other, looking the same way", "they are shoulder to shoulder",
                     "they stand abreast", "they are in a row"),
    "l_shape": ("they form an L", "they sit at the corner of a table", "they are at right angles to each other",
                "they are arranged in an L-shape", "their headings cross at a right angle"),
    "back_to_back": ("they are back to back", "they face away from each other", "both turn their backs on the other",
                     "they look in opposite directions, backs together", "they stand rear to rear"),
}  # fmt: skip

_NAMES = {"a": ("the person on the left", "A", "the left one"), "b": ("the person on the right", "B", "the right one")}


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
_COMMON = ("height:level", "change:steady", "depth:same", "tilt_a:upright", "tilt_b:upright", "distance:personal")


def captions(codes: tuple[str, ...], seed: str, count: int = 5, most: int = 4) -> tuple[str, ...]:
    """Sentences that say the ``most`` least common codes, ``count`` wordings; the same seed gives the same words."""
    order = [c for c in codes if c not in _COMMON] + [c for c in codes if c in _COMMON]
    return tuple(text(tuple(order[:most]), f"{seed}/{k}") for k in range(count)) if order else ()


def text(codes: tuple[str, ...], seed: str = "") -> str:
    """One text that says every code."""
    parts = []
    for k, code in enumerate(codes):
        group = code.partition(":")[0]
        phrases = _phrases(code)
        phrase = phrases[_draw(f"{seed}/{k}/{code}", len(phrases))]
        if group.endswith(("_a", "_b")):
            me = group[-1]
            other = "b" if me == "a" else "a"
            names = _draw(f"{seed}/{k}/name", 3)
            phrase = phrase.format(p=_NAMES[me][names], q=_NAMES[other][names])
        parts.append(phrase)
    sentences = []
    for k in range(0, len(parts), 2):
        pair = parts[k : k + 2]
        joined = pair[0] if len(pair) == 1 else (", and ", " while ")[_draw(f"{seed}/join/{k}", 2)].join(pair)
        sentences.append(joined[0].upper() + joined[1:] + ".")
    return " ".join(sentences)


def _draw(key: str, n: int) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % n


_NUMBER = re.compile(
    r"(\d+(?:[.,]\d+)?|half a|one|two|three|four|five|a)\s*(m|metres?|meters?|cm|centimetres?|centimeters?|feet|foot|ft)\b"
)
_WORDS = {"half a": 0.5, "a": 1.0, "one": 1.0, "two": 2.0, "three": 3.0, "four": 4.0, "five": 5.0}
_UNITS = {"m": 1.0, "c": 0.01, "f": 0.3048}


def _lexicon() -> list[tuple[str, str]]:
    entries = []
    for code in all_codes():
        group = code.partition(":")[0]
        for phrase in _phrases(code):
            if group.endswith(("_a", "_b")):
                me = group[-1]
                other = "b" if me == "a" else "a"
                for mine, theirs in zip(_NAMES[me], _NAMES[other], strict=True):
                    entries.append((phrase.format(p=mine, q=theirs).lower(), code))
            else:
                entries.append((phrase.lower(), code))
    return sorted(entries, key=lambda e: (-len(e[0]), e))


@dataclass(frozen=True)
class ParsedText:
    """What a text says: codes, scalars given as numbers, and the words that meant nothing."""

    codes: tuple[str, ...]
    values: dict[str, float]
    unread: str


def parse(description: str) -> ParsedText:
    """Text to codes: phrases of the lexicon, longest first, then a distance in m, cm or feet."""
    left = " ".join(description.lower().replace("’", "'").split())
    found: set[str] = set()
    for phrase, code in _LEXICON:
        pattern = rf"(?<!\w){re.escape(phrase)}(?!\w)"
        if re.search(pattern, left):
            found.add(code)
            left = re.sub(pattern, " ", left)
    values: dict[str, float] = {}
    number = _NUMBER.search(left)
    if number:
        word = number.group(1)
        amount = _WORDS[word] if word in _WORDS else float(word.replace(",", "."))
        values["distance_m"] = amount * _UNITS[number.group(2)[0]]
        left = left.replace(number.group(0), " ")
        found = {c for c in found if not c.startswith("distance:")}
        found |= {c for c in codes_of(values) if c.startswith("distance:")}
    order = {c: k for k, c in enumerate(all_codes())}
    leftover = " ".join(re.sub(r"[.,;]|\b(and|while)\b", " ", left).split())
    return ParsedText(tuple(sorted(found, key=order.__getitem__)), values, leftover)


_LEXICON = _lexicon()

# The middle of the road for what a text does not say.
TYPICAL: dict[str, float] = {
    "distance_m": 0.9, "height_difference_m": 0.0, "depth_difference_m": 0.0, "distance_change_m": 0.0,
    "facing_a_deg": 30.0, "facing_b_deg": 30.0, "tilt_a_deg": 0.0, "tilt_b_deg": 0.0,
    "look_a_share": 0.45, "look_b_share": 0.45, "mutual_share": 0.2,
}  # fmt: skip


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
        group, _, name = code.partition(":")
        if by_group.setdefault(group, name) != name:
            raise ValueError(f"layout codes contradict each other: {group}:{by_group[group]} and {code}")
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
    for fa in range(-175, 180, 5):
        for fb in range(-175, 180, 5):
            margin = 0.0
            for spread in (0.1, 2.5, 5.0, 7.5, 10.0):
                sd = {"facing_a_deg": spread, "facing_b_deg": spread}
                have = set(codes_of({"facing_a_deg": fa, "facing_b_deg": fb}, sd))
                if not {c for c in have if c.partition(":")[0] in groups} == set(facing):
                    break
                margin = spread
            # prefer both turned to the camera's side, and near the typical angle
            score = margin - 0.01 * (abs(fa - 30) + abs(fb - 30)) / 180 if margin else -1.0
            if score > best_margin:
                best, best_margin = (float(fa), float(fb)), score
    if best is None:
        raise ValueError(f"layout codes contradict each other: {', '.join(sorted(facing))}")
    return best


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
