"""Codes, sentences, and back."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
from duologue.fitting.layout import (
    all_codes,
    captions,
    codes_of,
    layout_from_codes,
    parse,
    place,
    text,
)
from duologue.fitting.layout_codes import ARRANGEMENTS, GROUPS
from duologue.fitting.layout_person import BOTH


@pytest.mark.parametrize("code", all_codes())
def test_every_code_survives_text_and_layout(code: str) -> None:
    seen = set()
    for seed in range(25):
        sentence = text((code,), str(seed))
        seen.add(sentence)
        read = parse(sentence)
        assert read.codes == (code,), sentence
        assert read.unread == "", sentence
        group = code.partition(":")[0]
        back = codes_of(layout_from_codes(read.codes))
        assert tuple(c for c in back if c.startswith(group + ":")) == (code,)
    assert len(seen) >= 5


def test_combinations_survive_or_are_refused() -> None:
    rng = random.Random(0)
    kept = 0
    groups = ["arrangement", *(g.name for g in GROUPS)]
    for number in range(150):
        wanted = {rng.choice([c for c in all_codes() if c.startswith(g + ":")]) for g in groups if rng.random() < 0.4}
        codes = tuple(c for c in all_codes() if c in wanted)
        assert parse(text(codes, str(number))).codes == codes
        try:
            layout = layout_from_codes(codes)
        except ValueError:
            continue
        assert wanted <= set(codes_of(layout))
        kept += 1
    assert kept > 75


def test_bins_with_an_edge_within_the_uncertainty_are_not_claimed() -> None:
    assert codes_of({"distance_m": 1.0}, {"distance_m": 0.1}) == ("distance:personal",)
    assert codes_of({"distance_m": 1.0}, {"distance_m": 0.3}) == ()
    assert codes_of({"facing_a_deg": -5.0}, {"facing_a_deg": 10.0}) == ("facing_a:facing",)
    angles = {"facing_a_deg": 10.0, "facing_b_deg": -10.0}
    assert "arrangement:face_to_face" in codes_of(angles, dict.fromkeys(angles, 20.0))
    assert "arrangement:face_to_face" not in codes_of(angles, dict.fromkeys(angles, 40.0))
    assert codes_of({"distance_m": float("nan")}) == ()


@pytest.mark.parametrize(
    ("sentence", "metres"),
    [
        ("They are 80 cm apart", 0.8),
        ("A is side-on to B, two metres away", 2.0),
        ("about 5 feet between them", 1.524),
        ("1,5 m", 1.5),
    ],
)
def test_numbers_with_units(sentence: str, metres: float) -> None:
    assert parse(sentence).values["distance_m"] == pytest.approx(metres)
    assert sum(c.startswith("distance:") for c in parse(sentence).codes) == 1


@pytest.mark.parametrize(
    ("sentence", "codes", "values"),
    [
        ("they sit face to face at arm's length, the right head is 20 cm higher",
         ("arrangement:face_to_face", "height:b_higher", "distance:personal"), {"height_difference_m": 0.2}),
        ("the left person is 30 cm closer to the camera", ("depth:a_nearer",), {"depth_difference_m": 0.3}),
        ("they move 20 cm closer, a metre apart",
         ("change:closer", "distance:personal"), {"distance_change_m": -0.2, "distance_m": 1.0}),
        ("the right head is 2 cm higher", ("height:level",), {"height_difference_m": 0.02}),
        ("they are one metre apart", ("distance:personal",), {"distance_m": 1.0}),
    ],
)  # fmt: skip
def test_a_length_is_of_what_follows_it(sentence: str, codes: tuple[str, ...], values: dict[str, float]) -> None:
    read = parse(sentence)
    assert read.codes == codes
    assert read.values == pytest.approx(values)


def test_a_length_of_something_unknown_is_unread() -> None:
    read = parse("they sit face to face, the lamp is 20 cm higher")
    assert read.codes == ("arrangement:face_to_face",)
    assert read.values == {}
    assert "20 cm" in read.unread


def test_unknown_words_are_reported_and_unknown_codes_refused() -> None:
    assert parse("they sit face to face at arm's length").unread == ""
    assert "purple" in parse("They are face to face under a purple sky").unread
    with pytest.raises(ValueError, match="unknown"):
        layout_from_codes(("distance:lightyear",))


def test_captions_repeat_for_a_seed_and_vary_between_seeds() -> None:
    codes = ("arrangement:side_by_side", "height:level", "look_a:mostly", "distance:personal")
    assert captions(codes, "x") == captions(codes, "x")
    assert captions(codes, "x") != captions(codes, "y")
    assert len(captions(codes, "x")) == 5
    assert captions((), "x") == ()
    codes = ("arrangement:l_shape", "change:steady", "tilt_a:upright", "tilt_b:upright", "look_a:rarely",
             "facing_a:turned", "facing_b:turned", "distance:personal")  # fmt: skip
    assert {parse(said).codes for said in captions(codes, "x", most=4)} == {
        ("arrangement:l_shape", "facing_a:turned", "facing_b:turned", "look_a:rarely", "distance:personal")
    }
    assert parse(captions(codes[2:4], "x", most=1)[0]).codes == codes[2:4]


def test_what_is_true_of_both_is_said_once_and_people_keep_their_names() -> None:
    for both, phrases in BOTH.items():
        topic, _, name = both.partition(":")
        codes = (f"{topic}_a:{name}", f"{topic}_b:{name}")
        said = {text(codes, str(seed)) for seed in range(20)}
        assert said == {phrase[0].upper() + phrase[1:] + "." for phrase in phrases}
        assert all(parse(sentence).codes == codes and not parse(sentence).unread for sentence in said)
    codes = ("facing_a:facing", "facing_b:away", "look_a:mostly", "look_b:rarely", "height:a_higher", "tilt_b:left")
    for seed in range(30):
        sentence = text(codes, str(seed))
        letters = bool(re.search(r"\b[AB]\b", sentence))
        assert letters != bool(re.search(r"\b(left|right) (one|head)|on the (left|right)\b", sentence)), sentence
        assert sentence.count(".") == 3
        assert parse(sentence).codes == tuple(code for code in all_codes() if code in codes)


def test_placed_heads_have_the_layout() -> None:
    layout = layout_from_codes(("distance:personal", "facing_a:side_on", "depth:a_nearer"))
    scene = place(layout)
    relative = scene["centre_b"] - scene["centre_a"]
    assert np.linalg.norm(relative) == pytest.approx(layout["distance_m"])
    assert relative[2] == pytest.approx(layout["depth_difference_m"])
    yaw = scene["rotation_a"][1]
    forward = np.array([-np.sin(yaw), 0.0, -np.cos(yaw)])  # R_y(yaw) (0, 0, -1)
    cosine = forward @ relative / np.linalg.norm(relative)
    assert np.degrees(np.arccos(cosine)) == pytest.approx(abs(layout["facing_a_deg"]), abs=1.0)


def test_no_phrase_says_what_was_not_measured() -> None:
    """Heads are measured: whether people sit or stand is not known, nor whom they despise."""
    phrases = [phrase for group in GROUPS for bin in group.bins for phrase in bin.phrases]
    phrases += [phrase for said in (*ARRANGEMENTS.values(), *BOTH.values()) for phrase in said]
    assert len(phrases) > 150
    assert [phrase for phrase in phrases if re.search(r"\b(sits?|stands?|looks down|towers?)\b", phrase)] == []


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("They sit opposite one another.", "arrangement:face_to_face"),
        ("They stand rear to rear.", "arrangement:back_to_back"),
        ("They stand abreast.", "arrangement:side_by_side"),
        ("Much of the room lies between them.", "distance:public"),
        ("A fronts B.", "facing_a:facing"),
        ("The right one stands at a slant to the left one.", "facing_b:turned"),
        ("A sits at a right angle to B.", "facing_a:side_on"),
        ("B looks down on A.", "height:b_higher"),
        ("The left one towers over the right.", "height:a_higher"),
    ],
)
def test_phrases_of_earlier_captions_are_still_read(said: str, code: str) -> None:
    assert parse(said).codes == (code,)


@pytest.mark.parametrize(
    "said",
    ["She looks down on a phone.", "The painting on the left sits above the sofa."],
)
def test_words_about_other_things_are_no_height(said: str) -> None:
    assert parse(said).codes == ()
