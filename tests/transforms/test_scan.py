"""The scan keeps two people in any guise, drops the rest with the right reason, and pieces add up to the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from duologue.pipeline.stages_pixels import MOST_FPS
from duologue.schemas.records import REASONS, Backend, InputItem, Shot, Video
from duologue.transforms.decode import DecodeOptions, Frame, for_scan, read_frames
from duologue.transforms.detect_faces import Detections, FaceDetector
from duologue.transforms.probe import probe
from duologue.transforms.scan import (
    ScanOptions,
    ScanPiece,
    scan_longest_side,
    scan_piece,
)
from duologue.transforms.scan_verdict import ShotScan, judge_shot, link_people, merge_scan
from duologue.transforms.shots import WARM_UP_S, PySceneDetectShots, ShotTrace
from duologue.transforms.split_screen import EVIDENCE

SHARED = Path(__file__).parents[2].parent / "shared"
OPTIONS = ScanOptions()
Face = tuple[float, float, float, float]  # centre x, centre y, box width, score


def video(width: int = 1280, height: int = 720, seconds: float = 20.0) -> Video:
    return Video("f" * 64, "v", 0.0, seconds, seconds, width, height, 0, 25.0, False, 0.0, 0.0, "", "", "", 1)


def shot_scan(faces: Callable[[float], list[Face]], seconds: float, start: float = 0.0) -> ShotScan:
    """A shot whose samples show what ``faces`` returns at each time."""
    times = np.arange(start, start + seconds, 0.5)
    owner, boxes, scores = [], [], []
    for i, t in enumerate(times):
        for x, y, w, score in faces(float(t)):
            owner.append(i)
            boxes.append([x - w / 2, y - w / 2, x + w / 2, y + w / 2])
            scores.append(score)
    return ShotScan(
        Shot("f" * 64, 0, start, start + seconds),
        times,
        np.array(owner, np.int64),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.full((len(times), len(EVIDENCE)), np.nan, np.float32),
    )


ANN: Face = (400, 300, 130, 0.9)
BOB: Face = (850, 310, 120, 0.85)
CAT: Face = (1100, 300, 120, 0.9)


def verdict(faces: Callable[[float], list[Face]], seconds: float = 10.0) -> tuple[list[tuple[float, float]], list[str]]:
    result = judge_shot(shot_scan(faces, seconds), video(), OPTIONS)
    assert all(d.reason in REASONS for d in result.dropped)
    return list(result.spans), [d.reason for d in result.dropped]


def test_two_people_are_kept_whole() -> None:
    assert verdict(lambda t: [ANN, BOB], 27.0) == ([(0.0, 27.0)], [])


def test_a_rest_shorter_than_a_clip_is_left_out() -> None:
    assert verdict(lambda t: [ANN, BOB], 22.0) == ([(0.0, 20.0)], [])


def test_a_face_found_only_now_and_then_is_still_there() -> None:
    assert verdict(lambda t: [ANN, BOB] if t % 4 == 0 else [ANN]) == ([(0.0, 10.0)], [])


def test_a_profile_that_never_scores_well_is_still_a_face() -> None:
    profile = (850, 310, 110, 0.55)
    assert verdict(lambda t: [ANN, profile]) == ([(0.0, 10.0)], [])


def test_people_who_move_about_are_followed() -> None:
    assert verdict(lambda t: [(400 + 40 * t, 300, 130, 0.9), (1100 - 30 * t, 300, 100 + 5 * t, 0.8)])[0] == [
        (0.0, 10.0)
    ]


@pytest.mark.parametrize(
    ("faces", "seconds", "reason"),
    [
        (lambda t: [], 10.0, "no_face"),
        (lambda t: [(300, 300, 60, 0.45)] if t % 3 == 0 else [], 10.0, "no_face"),  # a pattern, not a face
        (lambda t: [ANN], 10.0, "one_face"),
        (lambda t: [ANN, (900, 200, 20, 0.9)], 10.0, "one_face"),  # a picture on the wall
        (lambda t: [ANN, BOB, CAT], 10.0, "many_faces"),
        (lambda t: [ANN, BOB] if t < 1 else [ANN], 10.0, "not_two_people"),
        (lambda t: [(400, 300, 30, 0.9), (850, 310, 28, 0.9)], 10.0, "faces_too_small"),
        (lambda t: [ANN, BOB], 2.5, "too_short"),
    ],
)
def test_reasons(faces: Callable[[float], list[Face]], seconds: float, reason: str) -> None:
    assert verdict(faces, seconds) == ([], [reason])


def test_a_passer_by_and_a_crowd_in_the_back_cost_nothing() -> None:
    assert verdict(lambda t: [ANN, BOB, CAT] if 3 <= t < 4 else [ANN, BOB]) == ([(0.0, 10.0)], [])
    small = [(200.0 + 60 * k, 150.0, 40.0, 0.9) for k in range(6)]
    assert verdict(lambda t: [ANN, BOB, *small]) == ([(0.0, 10.0)], [])


def test_a_guest_costs_only_his_windows() -> None:
    result = judge_shot(
        shot_scan(lambda t: [ANN, BOB, CAT] if 11 < t < 28 else [ANN, BOB], 50.0, 100.0), video(), OPTIONS
    )
    late = judge_shot(shot_scan(lambda t: [ANN, BOB, CAT] if 111 < t < 128 else [ANN, BOB], 50.0, 100.0), video())
    assert result.spans == ((100.0, 150.0),)  # those times lie before this shot
    assert late.spans == ((100.0, 110.0), (130.0, 150.0))
    assert [(d.start_s, d.end_s, d.reason) for d in late.dropped] == [(110.0, 130.0, "many_faces")]


def test_a_late_arrival_keeps_his_windows() -> None:
    spans, reasons = verdict(lambda t: [ANN, BOB] if t >= 16 else [ANN], 40.0)
    assert spans == [(10.0, 40.0)]
    assert reasons == ["one_face"]


def test_a_seam_in_most_samples_rejects_and_in_few_does_not() -> None:
    scan = shot_scan(lambda t: [ANN, BOB], 10.0)
    seam = np.array([0, 0.5, 1.0, 1.0, 40.0, 0.7, 0.0, 0.1], np.float32)
    none = np.array([0, 0.6, 0.4, 0.2, 12.0, 0.7, 0.0, 0.1], np.float32)
    for share, spans in ((0.9, 0), (0.4, 1)):
        rows = np.array([seam if k < 20 * share else none for k in range(20)])
        result = judge_shot(replace(scan, seams=rows), video(), OPTIONS)
        assert len(result.spans) == spans
        assert (result.dropped[0].reason == "split_screen") if not spans else not result.dropped
        assert result.split_colour == pytest.approx(0.7)


def test_link_people_keeps_neighbours_apart() -> None:
    people = link_people(shot_scan(lambda t: [(400 + 5 * t, 300, 130, 0.9), (560, 300, 120, 0.9)], 10.0), OPTIONS)
    assert sorted(len(p.times) for p in people) == [20, 20]


def test_a_small_face_seen_badly_but_again_counts_beside_somebody_only() -> None:
    small = {0.0: 0.5, 1.0: 0.47, 3.0: 0.49}

    def beside(t: float) -> list[Face]:
        return [ANN, *([(850, 310, 60, small[t])] if t in small else [])]

    assert verdict(beside, 4.0) == ([(0.0, 4.0)], [])
    assert verdict(lambda t: beside(t)[1:], 4.0) == ([], ["no_face"])
    small.pop(3.0)  # two looks need one of 0.55
    assert verdict(beside, 4.0) == ([], ["one_face"])
    small[1.0] = 0.56
    assert verdict(beside, 4.0) == ([(0.0, 4.0)], [])


def test_a_crowd_counts_though_nobody_in_it_is_seen_very_well() -> None:
    def street(people: int) -> tuple[list[tuple[float, float]], list[str]]:
        return verdict(lambda t: [(200.0 * k + 100.0, 300.0, 100.0, 0.7) for k in range(people)])

    assert street(5) == ([], ["many_faces"])
    assert street(4)[0] == [(0.0, 10.0)]  # two people and two patterns


def test_a_third_face_that_was_sure_once_is_no_crowd() -> None:
    def three(t: float, sure: int) -> list[Face]:
        return [ANN, BOB, (1100, 300, 120, 0.85 if t < 0.5 * sure else 0.7)]

    assert verdict(lambda t: three(t, 1)) == ([(0.0, 10.0)], [])
    assert verdict(lambda t: three(t, 2)) == ([], ["many_faces"])


def test_scan_size() -> None:
    assert scan_longest_side(video(1280, 720)) == 480
    assert scan_longest_side(video(1920, 1080)) == 704
    assert scan_longest_side(video(1080, 1920)) == 704
    assert scan_longest_side(video(3840, 2160)) == 1280
    assert scan_longest_side(video(320, 240)) == 320


class PaintedFaces:
    """Finds the pure-green squares of a test picture, so that the scan's own logic is tested alone."""

    backend = Backend("faces", "painted")
    input_px, least_px = 192, 14.0

    def detect(
        self, rgb: np.ndarray, smallest_px: float, enough: int = 0, seen: Detections | None = None
    ) -> Detections:
        import cv2

        green = (rgb[..., 1] > 240) & (rgb[..., 0] < 60) & (rgb[..., 2] < 60)
        _, _, stats, _ = cv2.connectedComponentsWithStats(green.astype(np.uint8))
        boxes = [[x, y, x + w, y + h] for x, y, w, h, _ in stats[1:] if w >= smallest_px * 0.5]
        floor = max(rgb.shape[:2]) * self.least_px / self.input_px
        boxes = [b for b in boxes if smallest_px < max(rgb.shape[:2]) or b[2] - b[0] >= floor] or [
            [x, y, x + w, y + h] for x, y, w, h, _ in stats[1:] if w >= floor
        ]
        return Detections(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.full(len(boxes), 0.9, np.float32),
            np.zeros((len(boxes), 6, 2), np.float32),
        )


def movie(seconds: float, fps: float = 12.0) -> Iterator[Frame]:
    """Shots of 7.25 s with two, one and two small squares, and black from 23 to 26 s."""
    rng = np.random.default_rng(3)
    tones = rng.integers(30, 200, (40, 3))
    for i in range(round(seconds * fps)):
        t = i / fps
        shot = int(t // 7.25)
        picture = np.full((72, 128, 3), tones[shot], np.uint8)
        picture += rng.integers(0, 8, picture.shape, dtype=np.uint8)
        size = (24, 24, 6)[shot % 3]
        for k in range(1 if shot % 3 == 1 else 2):
            x = 20 + 60 * k + int(3 * np.sin(t))
            picture[30 : 30 + size, x : x + size] = (0, 255, 0)
        yield Frame(t, np.zeros_like(picture) if 23 <= t < 26 else picture)


def test_pieces_add_up_to_the_whole() -> None:
    frames, clip = list(movie(60.0)), video(1280, 720, 60.0)

    def scan(start: float, end: float) -> ScanPiece:
        near = (f for f in frames if start - WARM_UP_S <= f.time_s < end + WARM_UP_S)
        return scan_piece(near, clip, start, end, OPTIONS, PaintedFaces(), PySceneDetectShots())

    whole = merge_scan([scan(0, 60)], clip, OPTIONS)
    for grid in (15.0, 29.0):
        pieces = [scan(k * grid, min(60.0, (k + 1) * grid)) for k in range(round(60 / grid + 0.49))]
        stored = [ScanPiece.from_arrays({k: np.array(v) for k, v in p.to_arrays().items()}) for p in pieces]
        merged = merge_scan(stored, clip, OPTIONS)
        assert [s.shot for s in merged] == [s.shot for s in whole]
        for one, other in zip(merged, whole, strict=True):
            np.testing.assert_array_equal(one.sample_times, other.sample_times)
            assert judge_shot(one, clip, OPTIONS).spans == judge_shot(other, clip, OPTIONS).spans
    # 9 shots; the black is no shot and splits the one it lies in.
    starts = [round(s.shot.start_s, 2) for s in whole]
    assert starts == [0.0, 7.25, 14.5, 21.75, 26.0, 29.0, 36.25, 43.5, 50.75, 58.0]
    assert whole[3].shot.end_s == pytest.approx(23.0)
    kept = [s.shot.index for s in whole if judge_shot(s, clip, OPTIONS).spans]
    assert kept == [0, 2, 4, 6, 7]
    assert all(len(judge_shot(s, clip, OPTIONS).dropped) == 1 for s in whole if s.shot.index not in kept)


def test_arrays_hold_no_objects_and_round_trip() -> None:
    piece = scan_piece(movie(3.0), video(), 0.0, 3.0, OPTIONS, PaintedFaces(), PySceneDetectShots())
    arrays = piece.to_arrays()
    assert all(a.dtype != object for a in arrays.values())
    again = ScanPiece.from_arrays(arrays)
    for name, value in again.to_arrays().items():
        np.testing.assert_array_equal(value, arrays[name])
    assert piece.boxes[:, 2].max() > 800  # pixels of the original, not of the scan frame
    assert len(piece.sample_times) == 6


def test_a_black_video_is_one_shot_without_faces() -> None:
    black = (Frame(f.time_s, np.zeros_like(f.rgb)) for f in movie(5.0))
    piece = scan_piece(black, video(seconds=5.0), 0.0, 5.0, OPTIONS, PaintedFaces(), PySceneDetectShots())
    (shot,) = merge_scan([piece], video(seconds=5.0), OPTIONS)
    assert judge_shot(shot, video(seconds=5.0), OPTIONS).dropped[0].reason == "no_face"


def test_nothing_scanned_is_no_shot() -> None:
    piece = scan_piece([], video(), 0.0, 3.0, OPTIONS, PaintedFaces(), PySceneDetectShots())
    assert merge_scan([piece], video(), OPTIONS) == []
    assert merge_scan([], video(), OPTIONS) == []


def test_no_shot_holds_a_part_of_a_dissolve() -> None:
    times = np.arange(0, 12, 0.04)
    slow, size = np.array([5.0]), np.array([40.0], np.float32)
    luma = np.full(len(times), 99, np.float32)
    trace = ShotTrace(times, luma, np.array([8.0]), np.array([50.0], np.float32), slow, size)
    empty = np.zeros(0)
    none, boxes, seams = np.zeros(0, np.float32), np.zeros((0, 4), np.float32), np.zeros((0, len(EVIDENCE)), np.float32)
    piece = ScanPiece(trace, empty, np.zeros(0, np.bool_), np.zeros(0, np.int64), boxes, none, seams)
    shots = [one.shot for one in merge_scan([piece], video(seconds=12.0), OPTIONS)]
    assert [(s.start_s, s.end_s) for s in shots] == [(0.0, 4.5), (5.5, 8.0), (8.0, 12.0)]


REAL = {
    "two_sitcom_cuts.mp4": ["kept", "kept", "kept", "too_short", "kept", "kept"],
    "two_split_interview.mp4": ["split_screen"],
    "two_faces_family_silent.mp4": ["kept"],
    "two_faces_headpose.gif": ["kept"],
    "two_faces_sitcom_short.avi": ["too_short"],
    "many_faces_street.mp4": ["many_faces"],
    "one_face_talking.mp4": ["one_face"],
    "cut_noface_to_face.mov": ["no_face", "too_short"],
    "no_face_animation.mp4": ["no_face"],
}


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


@pytest.mark.parametrize("name", sorted(REAL))
def test_real_clips_are_judged_as_what_they_are(name: str, detector: FaceDetector) -> None:
    """Decoded as the pipeline's scan decodes."""
    path = SHARED / "media" / name
    if not path.is_file():
        pytest.skip(f"no {name} here")
    clip = probe(str(path), InputItem(str(path)))
    side, how = scan_longest_side(clip), for_scan(DecodeOptions())
    with read_frames(
        str(path), clip, start_s=clip.start_s, end_s=clip.end_s, longest_side=side, max_fps=MOST_FPS, options=how
    ) as frames:
        piece = scan_piece(frames, clip, clip.start_s, clip.end_s, OPTIONS, detector, PySceneDetectShots())
    found = []
    for scan in merge_scan([piece], clip, OPTIONS):
        result = judge_shot(scan, clip, OPTIONS)
        found.append("kept" if result.spans else result.dropped[0].reason)
    assert found == REAL[name]
