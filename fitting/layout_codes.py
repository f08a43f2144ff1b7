"""The layout vocabulary: named bins of a dyad's scalars and how to say each of them (one person's: `layout_person`).

A code is ``"group:bin"``. ``{p}`` in a phrase is the person, ``{q}`` the other one. The phrases of different codes must
not contain one another, because sentences are read back by them.
"""

from __future__ import annotations

from .layout_person import INF, Bin, Group, facing_group, look_group, tilt_group

GROUPS: tuple[Group, ...] = (
    Group(
        "change",
        "distance_change_m",
        False,
        (
            Bin(
                "apart",
                0.15,
                INF,
                (
                    "they move apart",
                    "they draw away from each other",
                    "the gap between them widens",
                    "they drift apart",
                    "the distance between them grows",
                ),
            ),
            Bin(
                "closer",
                -INF,
                -0.15,
                (
                    "they move closer",
                    "they draw together",
                    "the gap between them narrows",
                    "they come nearer to each other",
                    "the distance between them shrinks",
                ),
            ),
            Bin(
                "steady",
                -0.15,
                0.15,
                (
                    "they keep their distance",
                    "the gap between them stays the same",
                    "their spacing does not change",
                    "they stay where they are",
                    "their distance holds steady",
                ),
            ),
        ),
    ),
    Group(
        "height",
        "height_difference_m",
        False,
        (
            Bin(
                "b_higher",
                0.08,
                INF,
                (
                    "the right head is higher",
                    "B is taller in the frame",
                    "the head on the right is above the other",
                    "B's head is above A's",
                    "the right head rises over the left one",
                ),
            ),
            Bin(
                "a_higher",
                -INF,
                -0.08,
                (
                    "the left head is higher",
                    "A is taller in the frame",
                    "the head on the left is above the other",
                    "A's head is above B's",
                    "the left head rises over the right one",
                ),
            ),
            Bin(
                "level",
                -0.08,
                0.08,
                (
                    "their heads are level",
                    "both heads are at one height",
                    "they are at eye level with each other",
                    "neither head is higher",
                    "their heads are equally high",
                ),
            ),
        ),
    ),
    Group(
        "depth",
        "depth_difference_m",
        False,
        (
            Bin(
                "a_nearer",
                0.25,
                INF,
                (
                    "A is nearer to the camera",
                    "the left one is closer to the viewer",
                    "A is in the foreground",
                    "the left head is in front",
                    "B is further from the camera",
                ),
            ),
            Bin(
                "b_nearer",
                -INF,
                -0.25,
                (
                    "B is nearer to the camera",
                    "the right one is closer to the viewer",
                    "B is in the foreground",
                    "the right head is in front",
                    "A is further from the camera",
                ),
            ),
            Bin(
                "same",
                -0.25,
                0.25,
                (
                    "both are equally far from the camera",
                    "they share one depth",
                    "neither is nearer to the camera",
                    "they are at the same depth",
                    "the camera is as far from one as from the other",
                ),
            ),
        ),
    ),
    Group(
        "mutual",
        "mutual_share",
        False,
        (
            Bin(
                "much",
                0.3,
                1.1,
                (
                    "they look each other in the eye",
                    "they share a long mutual gaze",
                    "their eyes meet much of the time",
                    "they hold eye contact",
                    "they gaze at one another",
                ),
            ),
            Bin(
                "little",
                0.05,
                0.3,
                (
                    "their eyes meet briefly",
                    "they make brief eye contact",
                    "they exchange short glances",
                    "eye contact comes and goes",
                    "their gazes cross at moments",
                ),
            ),
            Bin(
                "none",
                -0.1,
                0.05,
                (
                    "their eyes do not meet",
                    "they make no eye contact",
                    "there is no mutual gaze",
                    "they never look each other in the eye",
                    "their gazes never cross",
                ),
            ),
        ),
    ),
    tilt_group("a"),
    tilt_group("b"),
    facing_group("a"),
    facing_group("b"),
    look_group("a"),
    look_group("b"),
    Group(
        "distance",
        "distance_m",
        False,
        (  # zones of Hall 1966
            Bin(
                "intimate",
                0,
                0.45,
                (
                    "they are very close together",
                    "they are almost touching",
                    "they are at intimate distance",
                    "their faces are within arm's reach of a whisper",
                    "hardly a hand's breadth separates them",
                ),
            ),
            Bin(
                "personal",
                0.45,
                1.2,
                (
                    "they are at arm's length",
                    "they are at personal distance",
                    "they are within easy reach",
                    "they are close, as friends would be",
                    "about a step separates them",
                ),
            ),
            Bin(
                "social",
                1.2,
                3.6,
                (
                    "they are at social distance",
                    "they are a few steps apart",
                    "a table's width separates them",
                    "they keep a polite distance",
                    "two or three steps separate them",
                ),
            ),
            Bin(
                "public",
                3.6,
                INF,
                (
                    "they are far apart",
                    "they are at public distance",
                    "much space lies between them",
                    "they are many steps apart",
                    "a wide space separates them",
                ),
            ),
        ),
    ),
)

ARRANGEMENTS: dict[str, tuple[str, ...]] = {
    "face_to_face": (
        "they are face to face",
        "they face each other",
        "they are opposite one another",
        "they are turned toward each other",
        "they are vis-à-vis",
    ),
    "side_by_side": (
        "they are side by side",
        "they are next to each other, looking the same way",
        "they are shoulder to shoulder",
        "they are abreast",
        "they are in a row",
    ),
    "l_shape": (
        "they form an L",
        "they are placed as at the corner of a table",
        "they are at right angles to each other",
        "they are arranged in an L-shape",
        "their headings cross at a right angle",
    ),
    "back_to_back": (
        "they are back to back",
        "they face away from each other",
        "both turn their backs on the other",
        "they look in opposite directions, backs together",
        "they have their backs to each other",
    ),
}

# Words of people who do not know the phrases above; read after them, for groups that those left open.
LOOSE: dict[str, tuple[str, ...]] = {
    "arrangement:face_to_face": ("face to face", "facing each other", "opposite each other", "across a table",
                                 "across the table", "across from each other", "toe to toe", "eye to eye",
                                 "sit opposite one another"),
    "arrangement:side_by_side": ("side by side", "next to each other", "beside each other", "shoulder to shoulder",
                                 "on a bench", "on a sofa", "in the car", "stand abreast"),
    "arrangement:l_shape": ("l-shape", "at the corner", "right angle", "right angles"),
    "arrangement:back_to_back": ("back to back", "rear to rear"),
    "distance:intimate": ("intimate", "intimately", "very close", "whisper", "whispering", "nose to nose", "cuddling"),
    "distance:personal": ("arm's length", "personal distance", "close together", "close to each other",
        "near each other"),
    "distance:social": ("social distance", "across a table", "across the table", "a few steps apart", "at a desk"),
    "distance:public": ("far apart", "public distance", "across the room", "at a distance", "shouting over",
        "much of the room lies between them"),
    "height:a_higher": ("left one is taller", "left person is taller", "a is taller", "left one stands",
                        "a looks down on b", "left one towers over the right", "head on the left sits above"),
    "height:b_higher": ("right one is taller", "right person is taller", "b is taller", "right one stands",
                        "b looks down on a", "right one towers over the left", "head on the right sits above"),
    "depth:a_nearer": ("left person is nearer", "left one is nearer", "left person is closer to the camera"),
    "depth:b_nearer": ("right person is nearer", "right one is nearer", "right person is closer to the camera"),
    "mutual:much": ("eye contact", "looking at each other", "look at each other"),
}  # fmt: skip
