"""What a layout says of one person: named bins of facing, tilt and gaze, and how to say each of them.

The phrases of different codes must not contain one another, because sentences are read back by them.
"""

from __future__ import annotations

from dataclasses import dataclass

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


def facing_group(p: str) -> Group:
    return Group(
        f"facing_{p}",
        f"facing_{p}_deg",
        True,
        (
            Bin(
                "facing",
                0,
                20,
                (
                    "{p} faces {q}",
                    "{p} is turned squarely to {q}",
                    "{p} has the head straight toward {q}",
                    "{p} points the face directly at {q}",
                    "{p} has the face turned to {q}",
                ),
            ),
            Bin(
                "turned",
                20,
                60,
                (
                    "{p} is turned partly away from {q}",
                    "{p} is angled off {q}",
                    "{p} is at a slant to {q}",
                    "{p} has the head half turned from {q}",
                    "{p} is rotated a little off {q}",
                ),
            ),
            Bin(
                "side_on",
                60,
                110,
                (
                    "{p} is side-on to {q}",
                    "{p} shows {q} a profile",
                    "{p} has a shoulder to {q}",
                    "{p} is sideways to {q}",
                    "{p} is at a right angle to {q}",
                ),
            ),
            Bin(
                "away",
                110,
                181,
                (
                    "{p} faces away from {q}",
                    "{p} has the back of the head to {q}",
                    "{p} is turned away from {q}",
                    "{p} points the face the other way from {q}",
                    "{p} has turned the back on {q}",
                ),
            ),
        ),
    )


def tilt_group(p: str) -> Group:
    return Group(
        f"tilt_{p}",
        f"tilt_{p}_deg",
        False,
        (
            Bin(
                "right",
                -91,
                -12,
                (
                    "{p} tilts the head to the right",
                    "{p} leans the head rightward",
                    "{p} cocks the head right",
                    "{p} has the head inclined to the right",
                    "{p} lets the head drop to the right",
                ),
            ),
            Bin(
                "upright",
                -12,
                12,
                (
                    "{p} holds the head upright",
                    "{p} keeps the head level",
                    "{p} has an upright head",
                    "{p} holds the head straight up",
                    "{p} shows no head tilt",
                ),
            ),
            Bin(
                "left",
                12,
                91,
                (
                    "{p} tilts the head to the left",
                    "{p} leans the head leftward",
                    "{p} cocks the head left",
                    "{p} has the head inclined to the left",
                    "{p} lets the head drop to the left",
                ),
            ),
        ),
    )


def look_group(p: str) -> Group:
    return Group(
        f"look_{p}",
        f"look_{p}_share",
        False,
        (
            Bin(
                "rarely",
                -0.1,
                0.2,
                (
                    "{p} rarely looks at {q}",
                    "{p} hardly glances at {q}",
                    "{p} avoids looking at {q}",
                    "{p} keeps the eyes off {q}",
                    "{p} looks elsewhere than at {q}",
                ),
            ),
            Bin(
                "sometimes",
                0.2,
                0.6,
                (
                    "{p} looks at {q} now and then",
                    "{p} glances at {q} at times",
                    "{p} sometimes looks at {q}",
                    "{p} looks at {q} on and off",
                    "{p} watches {q} part of the time",
                ),
            ),
            Bin(
                "mostly",
                0.6,
                1.1,
                (
                    "{p} looks at {q} most of the time",
                    "{p} keeps the eyes on {q}",
                    "{p} mostly looks at {q}",
                    "{p} watches {q} steadily",
                    "{p} holds the gaze on {q}",
                ),
            ),
        ),
    )


# What is true of both, said once: topic and bin of `*_a` and `*_b`.
BOTH: dict[str, tuple[str, ...]] = {
    "facing:facing": (
        "each has the head straight toward the other",
        "both are turned squarely to one another",
        "each points the face directly at the other",
    ),
    "facing:turned": (
        "each is turned partly away from the other",
        "both are angled off one another",
        "each has the head half turned from the other",
    ),
    "facing:side_on": (
        "each is side-on to the other",
        "each shows the other a profile",
        "each has a shoulder to the other",
    ),
    "facing:away": (
        "each has the back of the head to the other",
        "each is turned away from the other",
        "each points the face the other way",
    ),
    "tilt:right": ("both tilt the head to the right", "both lean the head rightward", "both cock the head right"),
    "tilt:upright": ("both hold the head upright", "both keep the head level", "neither tilts the head"),
    "tilt:left": ("both tilt the head to the left", "both lean the head leftward", "both cock the head left"),
    "look:rarely": (
        "neither looks much at the other",
        "each rarely looks at the other",
        "each keeps the eyes off the other",
    ),
    "look:sometimes": (
        "each looks at the other now and then",
        "each glances at the other at times",
        "each sometimes looks at the other",
    ),
    "look:mostly": (
        "each looks at the other most of the time",
        "each keeps the eyes on the other",
        "each mostly looks at the other",
    ),
}

# Read, but not written any more: how somebody stands or sits is not measured.
OLDER: dict[str, tuple[str, ...]] = {
    "facing:facing": ("{p} fronts {q}",),
    "facing:turned": ("{p} stands at a slant to {q}",),
    "facing:side_on": ("{p} sits at a right angle to {q}",),
}
