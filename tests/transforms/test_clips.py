import importlib.util
import pathlib
import sys
import types

import numpy as np
import pytest
from duologue.schemas.errors import BadInput
from duologue.schemas.records import Shot, Video
from duologue.transforms.clips import ClipOptions, choose_clips, load_clip_tracks
from duologue.transforms.detect_faces import FaceDetector
from duologue.transforms.face_mesh import FaceMesh
from duologue.transforms.identify import AppearanceIdentifier, similarity
from duologue.transforms.stitch import stitch, summarise
from duologue.transforms.track import TrackOptions, track_piece


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
    assert bounds(clips) == [(2, 12), (12, 22), (22, 26)]
    assert not rejects


def test_a_rest_under_three_seconds_is_dropped_quietly():
    clips, rejects, _ = choose(made.piece(0, 12.4, ("t0", 0, 12.4, LEFT), ("t1", 0, 12.4, RIGHT)))
    assert bounds(clips) == [(0, 10)]
    assert not rejects


def test_a_short_span_is_rejected_as_too_short():
    clips, rejects, _ = choose(made.piece(0, 2.72, ("t0", 0, 2.72, LEFT), ("t1", 0, 2.72, RIGHT)))
    assert not clips
    assert [r.reason for r in rejects] == ["too_short"]


def test_a_is_further_left_where_both_are_first_seen():
    cross = {"x": lambda t: 900 - 80 * t, "person": 1}
    clips, _, read = choose(made.piece(0, 10, ("t0", 0, 10, cross), ("t1", 0, 10, {"x": 500.0, "person": 2})))
    tracks = load_clip_tracks(clips[0], read, ClipOptions())
    assert tracks.a.box[0, 0] < tracks.b.box[0, 0]
    assert tracks.a.box[-1, 0] > tracks.b.box[-1, 0]
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
    assert bounds(clips) == expected
    assert [r.reason for r in rejects] == [reason] * (reason is not None)


def test_brief_third_face_is_a_passer_by():
    brief = ("t2", 4, 4.8, {"x": 500.0, "person": 3})
    clips, rejects, _ = choose(made.piece(0, 10, ("t0", 0, 10, LEFT), ("t1", 0, 10, RIGHT), brief))
    assert len(clips) == 1
    assert not rejects


def test_window_shrinks_to_the_part_with_both():
    clips, rejects, _ = choose(made.piece(0, 10, ("t0", 0, 10, LEFT), ("t1", 4, 10, RIGHT)))
    assert bounds(clips) == [(4, 10)]
    assert not rejects
    clips, rejects, _ = choose(made.piece(0, 10, ("t0", 0, 10, LEFT), ("t1", 8, 10, RIGHT)))
    assert not clips
    assert [r.reason for r in rejects] == ["not_two_people"]


def test_one_and_no_face():
    (reject,) = choose(made.piece(0, 10, ("t0", 0, 10, LEFT)))[1]
    assert (reject.stage, reject.reason) == ("clips", "one_face")
    assert [r.reason for r in choose(made.piece(0, 10))[1]] == ["no_face"]


def test_faces_seen_but_not_measured_are_landmarks_lost():
    n = 250
    turned = {"valid": np.arange(n) < 75, "boxed": np.ones(n, bool)}
    p = made.piece(0, 10, ("t0", 0, 10, {**LEFT, **turned}), ("t1", 0, 10, RIGHT))
    clips, rejects, _ = choose(p)
    assert not clips
    assert [r.reason for r in rejects] == ["landmarks_lost"]


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
    assert first.times[0] == 0
    assert first.times[-1] == pytest.approx(10.96)
    assert second.times[0] == pytest.approx(9.0)
    assert second.times[-1] == pytest.approx(20.96)
    assert third.times[0] == pytest.approx(19.0)
    assert third.times[-1] == pytest.approx(24.96)
    assert len(second.times) == 300
    assert (np.diff(second.times) > 0).all()
    assert second.a.valid.all()
    assert second.b.valid.all()
    assert np.all(second.a.box[:, 0] == 250)
    assert np.all(second.b.box[:, 0] == 650)
    assert (second.width, second.height, second.video_id) == (1280, 720, "v")


def test_a_gap_stays_a_gap():
    hole = np.abs(np.arange(250) - 120) > 10
    clips, _, read = choose(made.piece(0, 10, ("t0", 0, 10, {**LEFT, "valid": hole}), ("t1", 0, 10, RIGHT)))
    a = load_clip_tracks(clips[0], read, ClipOptions()).a
    assert (a.valid == hole).all()
    assert np.isnan(a.landmarks[~hole]).all()
    assert np.isfinite(a.landmarks[hole]).all()
    assert (a.confidence[~hole] == 0).all()


def test_too_few_landmarks_in_the_arrays_is_a_reject():
    clips, _, read = choose(made.piece(0, 10, ("t0", 0, 10, LEFT), ("t1", 0, 10, RIGHT)))
    with pytest.raises(BadInput, match="landmarks_lost"):
        load_clip_tracks(clips[0], read, ClipOptions(least_valid=1.1))


def _cut(cutoffs, path):
    """Frames of a real clip, by shot; times from its first frame."""
    import cv2

    video = cv2.VideoCapture(str(path))
    fps = video.get(cv2.CAP_PROP_FPS)
    shots, k = [[] for _ in range(len(cutoffs) + 1)], 0
    while True:
        ok, bgr = video.read()
        if not ok:
            return shots
        t = k / fps
        shots[int(np.searchsorted(cutoffs, t + 1e-3))].append(
            types.SimpleNamespace(time_s=t, rgb=bgr[..., ::-1].copy())
        )
        k += 1


@pytest.mark.slow
def test_real_scene_gives_measured_pairs_from_several_shots():
    """Six hard-cut shots, A B C A C B; pieces of 2 s with 1 s of warm-up, so that every track is stitched."""
    path = pathlib.Path(__file__).parents[2].parent / "shared" / "media" / "two_sitcom_cuts.mp4"
    if not path.is_file():
        pytest.skip(f"needs the real clip {path.name}")
    detector, mesh, who = FaceDetector(), FaceMesh(), AppearanceIdentifier()
    pairs = {}
    for index, frames in enumerate(_cut([4.338, 11.261, 16.725, 18.852, 23.065], path)):
        start, end = frames[0].time_s, frames[-1].time_s + 0.04
        pieces = []
        for k in range(int(np.ceil((end - start) / 2.0 - 1e-6))):
            t0, t1 = start + 2.0 * k, start + 2.0 * (k + 1)
            part = [f for f in frames if t0 - 1.0 <= f.time_s < t1]
            pieces.append(track_piece(part, TrackOptions(), detector, mesh, who, t0, t1))
        found = [s for k, p in enumerate(pieces) for s in summarise(p, "v", index, k, f"piece{k}")]
        clips, _ = choose_clips(stitch(found), VIDEO, Shot("v", index, start, end), [(start, end)], ClipOptions())
        arrays = {f"piece{k}": p.to_arrays() for k, p in enumerate(pieces)}
        pairs[index] = [load_clip_tracks(c, arrays.__getitem__, ClipOptions()) for c in clips]
    assert all(len(pairs[k]) == 1 for k in (0, 2, 4))
    for k in (0, 2, 4):
        tracks = pairs[k][0]
        assert min(tracks.a.valid.mean(), tracks.b.valid.mean()) > 0.95
        assert np.nanmedian(tracks.a.box[:, 0]) < np.nanmedian(tracks.b.box[:, 0])
    # Shots 2 and 4 show the same two people, shot 0 shows others.
    again, first = pairs[4][0], pairs[2][0]
    for one, other in ((first.a, again.a), (first.b, again.b)):
        assert similarity(one.identity, other.identity) > who.threshold
        for stranger in (pairs[0][0].a, pairs[0][0].b):
            assert similarity(one.identity, stranger.identity) < who.threshold


def test_two_spans_of_one_shot_in_one_piece_of_the_grid():
    """Two files may bear the same piece number."""
    first = made.piece(0, 8, ("t0", 0, 8, LEFT), ("t1", 0, 8, RIGHT))
    second = made.piece(9, 20, ("t0", 9, 20, RIGHT), ("t1", 9, 20, LEFT))
    found = [s for p, uri in ((first, "one"), (second, "two")) for s in summarise(p, "v", 0, 0, uri)]
    clips, _ = choose_clips(stitch(found), VIDEO, Shot("v", 0, 0, 20), [(0, 8), (9, 20)], ClipOptions())
    assert bounds(clips) == [(0, 8), (9, 19)]
    read = {"one": first.to_arrays(), "two": second.to_arrays()}.__getitem__
    tracks = load_clip_tracks(clips[1], read, ClipOptions())
    assert np.all(tracks.a.box[:, 0] == 250)
    assert np.all(tracks.b.box[:, 0] == 650)


ALONE = ClipOptions(people=1)


def test_one_person_makes_single_speaker_clips_with_nobody_for_b():
    clips, rejects, read = choose(made.piece(0, 10, ("t0", 0, 10, LEFT)), options=ALONE)
    assert bounds(clips) == [(0, 10)]
    assert not rejects
    tracks = load_clip_tracks(clips[0], read, ALONE)
    assert (clips[0].b, tracks.b.track_id) == ("", "")
    assert not tracks.b.valid.any()
    assert tracks.a.valid.all()


def test_a_second_person_costs_a_single_speaker_clip():
    clips, rejects, _ = choose(made.piece(0, 10, ("t0", 0, 10, LEFT), ("t1", 0, 10, RIGHT)), options=ALONE)
    assert not clips
    assert [r.reason for r in rejects] == ["many_faces"]
