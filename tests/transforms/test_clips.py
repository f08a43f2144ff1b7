import importlib.util
import pathlib
import sys

import numpy as np
import pytest
from duologue.schemas.errors import BadInput
from duologue.schemas.records import Shot, Video
from duologue.transforms.clips import ClipOptions, choose_clips, load_clip_tracks
from duologue.transforms.stitch import stitch, summarise


def _stitch_tests():
    name = "duologue_tests_stitch"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, pathlib.Path(__file__).with_name("test_stitch.py"))
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


made = _stitch_tests()
LEFT, RIGHT = {"x": 300.0, "person": 1}, {"x": 700.0, "person": 2}
VIDEO = Video("v", "file:///v.mp4", 0, 120, 120, 1280, 720, 0, 25, False, 0, 0, "mp4", "h264", "aac", 1)


def choose(*pieces, span=None, options=None):
    found = [s for k, p in enumerate(pieces) for s in summarise(p, "v", 0, k, f"piece{k}")]
    start, end = span or (float(pieces[0].times[0]), float(pieces[-1].times[-1]) + 0.04)
    clips, rejects = choose_clips(
        stitch(found), VIDEO, Shot("v", 0, start, end), [(start, end)], options or ClipOptions()
    )
    arrays = {f"piece{k}": p.to_arrays() for k, p in enumerate(pieces)}
    return clips, rejects, arrays.__getitem__


def bounds(clips):
    return [(round(c.start_s, 3), round(c.end_s, 3)) for c in clips]


def test_clip_grid_from_the_spans_start():
    p = made.piece(2, 26, ("t0", 2, 26, LEFT), ("t1", 2, 26, RIGHT))
    clips, rejects, _ = choose(p)
    assert bounds(clips) == [(2, 12), (12, 22), (22, 26)] and not rejects


def test_a_rest_under_three_seconds_is_dropped_quietly():
    clips, rejects, _ = choose(made.piece(0, 12.4, ("t0", 0, 12.4, LEFT), ("t1", 0, 12.4, RIGHT)))
    assert bounds(clips) == [(0, 10)] and not rejects


def test_a_short_span_is_rejected_as_too_short():
    clips, rejects, _ = choose(made.piece(0, 2.72, ("t0", 0, 2.72, LEFT), ("t1", 0, 2.72, RIGHT)))
    assert not clips and [r.reason for r in rejects] == ["too_short"]


def test_a_is_further_left_where_both_are_first_seen():
    cross = {"x": lambda t: 900 - 80 * t, "person": 1}
    clips, _, read = choose(made.piece(0, 10, ("t0", 0, 10, cross), ("t1", 0, 10, {"x": 500.0, "person": 2})))
    tracks = load_clip_tracks(clips[0], read, ClipOptions())
    assert tracks.a.box[0, 0] < tracks.b.box[0, 0] and tracks.a.box[-1, 0] > tracks.b.box[-1, 0]
    assert (tracks.a.track_id, tracks.b.track_id) == (clips[0].a, clips[0].b)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"x": 500.0, "person": 3}, "many_faces"),
        ({"x": 500.0, "person": 3, "size": 40.0}, None),  # small: a passer-by
    ],
)
def test_third_face(more, reason):
    p = made.piece(0, 20, ("t0", 0, 20, LEFT), ("t1", 0, 20, RIGHT), ("t2", 2, 8, more))
    clips, rejects, _ = choose(p)
    expected = [(10, 20)] if reason else [(0, 10), (10, 20)]
    assert bounds(clips) == expected and [r.reason for r in rejects] == [reason] * (reason is not None)


def test_brief_third_face_is_a_passer_by():
    brief = ("t2", 4, 4.8, {"x": 500.0, "person": 3})
    clips, rejects, _ = choose(made.piece(0, 10, ("t0", 0, 10, LEFT), ("t1", 0, 10, RIGHT), brief))
    assert len(clips) == 1 and not rejects


def test_window_shrinks_to_the_part_with_both():
    clips, rejects, _ = choose(made.piece(0, 10, ("t0", 0, 10, LEFT), ("t1", 4, 10, RIGHT)))
    assert bounds(clips) == [(4, 10)] and not rejects
    clips, rejects, _ = choose(made.piece(0, 10, ("t0", 0, 10, LEFT), ("t1", 8, 10, RIGHT)))
    assert not clips and [r.reason for r in rejects] == ["not_two_people"]


def test_one_and_no_face():
    assert [r.reason for r in choose(made.piece(0, 10, ("t0", 0, 10, LEFT)))[1]] == ["one_face"]
    assert [r.reason for r in choose(made.piece(0, 10))[1]] == ["no_face"]


def test_faces_seen_but_not_measured_are_landmarks_lost():
    n = 250
    turned = {"valid": np.arange(n) < 75, "boxed": np.ones(n, bool)}
    p = made.piece(0, 10, ("t0", 0, 10, {**LEFT, **turned}), ("t1", 0, 10, RIGHT))
    clips, rejects, _ = choose(p)
    assert not clips and [r.reason for r in rejects] == ["landmarks_lost"]


def test_tiny_faces_are_rejected():
    small = [{**LEFT, "size": 14.0}, {**RIGHT, "size": 15.0}]
    _, rejects, _ = choose(made.piece(0, 10, ("t0", 0, 10, small[0]), ("t1", 0, 10, small[1])))
    assert [r.reason for r in rejects] == ["faces_too_small"]


def test_tracks_are_read_over_a_piece_edge_with_context():
    pieces = [
        made.piece(0, 14, ("t0", 0, 14, LEFT), ("t1", 0, 14, RIGHT)),
        made.piece(14, 25, ("t0", 14, 25, RIGHT), ("t1", 14, 25, LEFT)),
    ]
    clips, _, read = choose(*pieces)
    assert [c.pieces for c in clips] == [("piece0",), ("piece0", "piece1"), ("piece1",)]
    first, second, third = (load_clip_tracks(c, read, ClipOptions()) for c in clips)
    assert first.times[0] == 0 and first.times[-1] == pytest.approx(10.96)
    assert second.times[0] == pytest.approx(9.0) and second.times[-1] == pytest.approx(20.96)
    assert third.times[0] == pytest.approx(19.0) and third.times[-1] == pytest.approx(24.96)
    assert len(second.times) == 300 and (np.diff(second.times) > 0).all()
    assert second.a.valid.all() and second.b.valid.all()
    assert np.all(second.a.box[:, 0] == 250) and np.all(second.b.box[:, 0] == 650)
    assert (second.width, second.height, second.video_id) == (1280, 720, "v")


def test_a_gap_stays_a_gap():
    hole = np.abs(np.arange(250) - 120) > 10
    clips, _, read = choose(made.piece(0, 10, ("t0", 0, 10, {**LEFT, "valid": hole}), ("t1", 0, 10, RIGHT)))
    a = load_clip_tracks(clips[0], read, ClipOptions()).a
    assert (a.valid == hole).all() and np.isnan(a.landmarks[~hole]).all() and np.isfinite(a.landmarks[hole]).all()
    assert (a.confidence[~hole] == 0).all()


def test_too_few_landmarks_in_the_arrays_is_a_reject():
    clips, _, read = choose(made.piece(0, 10, ("t0", 0, 10, LEFT), ("t1", 0, 10, RIGHT)))
    with pytest.raises(BadInput, match="landmarks_lost"):
        load_clip_tracks(clips[0], read, ClipOptions(least_valid=1.1))
