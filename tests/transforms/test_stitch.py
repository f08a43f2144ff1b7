import random

import numpy as np
import pytest
from duologue.schemas.tracks import N_LANDMARKS
from duologue.transforms.stitch import StitchOptions, TrackletSummary, stitch, summarise
from duologue.transforms.tracklet import PieceTracks, Tracklet
from hypothesis import given, settings
from hypothesis import strategies as st

FPS = 25.0


def looks(person, noise=0.0, dim=40):
    vector = np.random.default_rng(person).normal(size=dim) + noise * np.random.default_rng(99).normal(size=dim)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def tracklet(name, times, x, y=200.0, size=100.0, person=0, valid=None, boxed=None):
    """A face of ``size`` px whose centre is at x(t), y."""
    n = len(times)
    valid = np.ones(n, bool) if valid is None else valid
    boxed = valid if boxed is None else boxed
    centre = np.stack([np.broadcast_to(x(times) if callable(x) else x, (n,)), np.full(n, y)], 1)
    box = np.concatenate([centre - size / 2, centre + size / 2], 1).astype(np.float32)
    landmarks = np.zeros((n, N_LANDMARKS, 3), np.float32)
    landmarks[:, :, :2] = centre[:, None]
    landmarks[:, 33, 0] -= 0.35 * size
    landmarks[:, 263, 0] += 0.35 * size
    landmarks[~valid] = np.nan
    box[~boxed] = np.nan
    one = np.where(valid, 0.9, 0).astype(np.float32)
    return Tracklet(name, times, landmarks, box, valid, one, one * 50, looks(person), 3)


def piece(start, end, *faces):
    """Faces are (name, from, to, keywords of :func:`tracklet`)."""
    times = np.round(np.arange(round(start * FPS), round(end * FPS)) / FPS, 6)
    made = []
    for name, first, last, more in faces:
        made.append(tracklet(name, times[(times >= first - 1e-9) & (times < last - 1e-9)], **more))
    return PieceTracks(times, tuple(made))


def summaries(*pieces):
    return [s for k, p in enumerate(pieces) for s in summarise(p, "video", 3, k, f"piece{k}.npz")]


def members(tracks):
    return [[(s.piece, s.tracklet_id) for s in t.parts] for t in tracks]


def test_people_go_on_over_a_piece_edge():
    walk = {"x": lambda t: 100 + 30 * t, "person": 1}
    stay = {"x": 700.0, "person": 2}
    found = stitch(
        summaries(
            piece(0, 60, ("t0", 0, 60, walk), ("t1", 0, 60, stay)),
            piece(60, 90, ("t0", 60, 90, stay), ("t1", 60, 90, walk)),
        )
    )
    assert members(found) == [[(0, "t0"), (1, "t1")], [(0, "t1"), (1, "t0")]]
    assert [t.track_id for t in found] == ["p0", "p1"]


def test_a_face_that_reappears_nearby_is_the_same_person():
    found = stitch(
        summaries(piece(0, 20, ("t0", 0, 5, {"x": 300.0}), ("t1", 6, 20, {"x": 340.0}), ("t2", 0, 20, {"x": 800.0})))
    )
    assert members(found) == [[(0, "t0"), (0, "t1")], [(0, "t2")]]


def test_after_a_long_gap_only_one_who_looks_the_same():
    same = stitch(summaries(piece(0, 20, ("t0", 0, 5, {"x": 300.0}), ("t1", 9, 20, {"x": 320.0}))))
    other = stitch(summaries(piece(0, 20, ("t0", 0, 5, {"x": 300.0}), ("t1", 9, 20, {"x": 320.0, "person": 7}))))
    late = stitch(summaries(piece(0, 40, ("t0", 0, 5, {"x": 300.0}), ("t1", 25, 40, {"x": 320.0}))))
    assert [len(x) for x in (same, other, late)] == [1, 2, 2]


def test_never_two_places_at_once():
    found = stitch(summaries(piece(0, 10, ("t0", 0, 6, {"x": 300.0}), ("t1", 4, 10, {"x": 310.0}))))
    assert len(found) == 2


def test_a_far_or_differently_sized_face_is_someone_else():
    assert len(stitch(summaries(piece(0, 9, ("t0", 0, 4, {"x": 300.0}), ("t1", 4.2, 9, {"x": 600.0}))))) == 2
    assert (
        len(stitch(summaries(piece(0, 9, ("t0", 0, 4, {"x": 300.0}), ("t1", 4.2, 9, {"x": 300.0, "size": 40.0}))))) == 2
    )


def test_two_who_return_together_are_matched_as_a_pair():
    """Each is nearest to the wrong one; looks decide."""
    left, right = {"x": 300.0, "person": 1}, {"x": 400.0, "person": 2}
    back_left, back_right = {"x": 330.0, "person": 2}, {"x": 370.0, "person": 1}
    found = stitch(
        summaries(
            piece(0, 10, ("t0", 0, 4, left), ("t1", 0, 4, right), ("t2", 5, 10, back_left), ("t3", 5, 10, back_right))
        )
    )
    assert members(found) == [[(0, "t0"), (0, "t3")], [(0, "t1"), (0, "t2")]]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_order_of_arrival_does_not_matter(seed):
    all_of_them = summaries(
        piece(0, 30, ("t0", 0, 8, {"x": 300.0}), ("t1", 0, 30, {"x": 700.0, "person": 2}), ("t2", 9, 30, {"x": 310.0})),
        piece(30, 60, ("t0", 30, 60, {"x": 305.0}), ("t1", 30.4, 50, {"x": 690.0, "person": 2})),
    )
    shuffled = all_of_them.copy()
    random.Random(seed).shuffle(shuffled)
    assert stitch(shuffled) == stitch(all_of_them)


def test_summary_is_small_and_round_trips_as_json():
    whole = summaries(piece(0, 60, ("t0", 0, 60, {"x": lambda t: 100 + 10 * t})))[0]
    assert len(whole.to_json()) < 10_000
    assert TrackletSummary.from_json(whole.to_json()) == whole


def test_summary_counts():
    times = np.round(np.arange(0, 100) / FPS, 6)
    valid = np.ones(100, bool)
    valid[25:50] = False
    p = PieceTracks(times, (tracklet("t0", times, lambda t: 200 + 100 * t, valid=valid),))
    s = summarise(p, "video", 0, 0, "u")[0]
    assert sum(s.frames) == 100
    assert sum(s.valid) == 75
    assert len(s.frames) == 8
    assert sum(s.seen) == 75  # a second and a frame between two sightings is a gap
    assert s.valid[2] < s.frames[2]
    assert s.valid[0] == s.frames[0]
    assert s.size_px == 100
    assert s.scale_px == pytest.approx(70 * 63 / 89.4, abs=0.01)
    assert s.last_velocity[0] == pytest.approx(100, abs=1)
    assert s.first_s == 0
    assert s.last_s == pytest.approx(3.96)
    assert s.centre_x[0] == round(200 + 100 * times[times < 0.5].mean())


def test_detections_a_second_apart_count_as_seen():
    times = np.round(np.arange(0, 75) / FPS, 6)
    boxed = np.zeros(75, bool)
    boxed[::25] = True
    p = PieceTracks(times, (tracklet("t0", times, 200.0, valid=np.zeros(75, bool), boxed=boxed),))
    s = summarise(p, "video", 0, 0, "u")[0]
    assert sum(s.valid) == 0
    assert sum(s.seen) == 51
    assert s.scale_px == 0


def test_options_limit_the_gap():
    p = summaries(piece(0, 20, ("t0", 0, 5, {"x": 300.0}), ("t1", 8, 20, {"x": 300.0})))
    assert len(stitch(p, StitchOptions(long_gap_s=2.0))) == 2
