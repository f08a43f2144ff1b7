"""Two public-domain portraits move over a background: where each face is, and whose it is, is known exactly."""

from dataclasses import dataclass

import cv2
import numpy as np
import pytest
import skimage.data
from duologue.transforms.decode import Frame
from duologue.transforms.detect_faces import FaceDetector
from duologue.transforms.face_mesh import FaceMesh, Region, box_of, region_from_landmarks
from duologue.transforms.face_quality import box_iou
from duologue.transforms.identify import AppearanceIdentifier
from duologue.transforms.track import TrackOptions, track_piece
from duologue.transforms.tracklet import PieceTracks
from scipy.optimize import linear_sum_assignment

WIDTH, HEIGHT, FPS = 640, 360, 20


@dataclass(frozen=True)
class Portrait:
    rgb: np.ndarray
    alpha: np.ndarray
    landmarks: np.ndarray  # in the portrait's own pixels


@dataclass(frozen=True)
class Models:
    mesh: FaceMesh
    detector: FaceDetector
    identifier: AppearanceIdentifier


@pytest.fixture(scope="module")
def models():
    return Models(FaceMesh(), FaceDetector(), AppearanceIdentifier())


@pytest.fixture(scope="module")
def portraits(models):
    import matplotlib.cbook

    hopper = cv2.imread(str(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))[..., ::-1]
    sources = [(skimage.data.astronaut(), Region(222, 122, 170)), (hopper, Region(258, 190, 300))]
    return [portrait(models.mesh, np.ascontiguousarray(rgb), region) for rgb, region in sources]


def portrait(mesh, rgb, region):
    """A head with hair and collar, cut out softly."""
    for _ in range(3):
        face = mesh.measure(rgb, region)
        region = region_from_landmarks(face.landmarks)
    x, y, r = region.x, region.y - 0.05 * region.side, 0.5 * region.side
    v, u = np.mgrid[0 : rgb.shape[0], 0 : rgb.shape[1]]
    inside = 1 - ((u - x) / (0.85 * r)) ** 2 - ((v - y) / (1.1 * r)) ** 2
    alpha = np.clip(inside * 6, 0, 1).astype(np.float32)
    x0, y0, x1, y1 = (int(q) for q in (max(x - r, 0), max(y - 1.2 * r, 0), x + r, y + 1.2 * r))
    landmarks = face.landmarks - np.array([x0, y0, 0], np.float32)
    return Portrait(rgb[y0:y1, x0:x1], alpha[y0:y1, x0:x1], landmarks)


def background():
    rng = np.random.default_rng(5)
    small = rng.integers(40, 160, (9, 16, 3)).astype(np.uint8)
    return cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def paste(canvas, p, x, y, size, angle=0.0):
    """Draws a portrait with its face centre at (x, y), the face ``size`` px high; returns its true landmarks."""
    box = box_of(p.landmarks)
    centre, scale = (box[:2] + box[2:]) / 2, size / (box[3] - box[1])
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]])
    shift = np.array([x, y]) - turn @ centre
    matrix = np.hstack([turn, shift[:, None]])
    # Shrinking without averaging first would alias.
    rgb = cv2.GaussianBlur(p.rgb, (0, 0), max(0.4 / scale, 0.3))
    drawn = cv2.warpAffine(rgb, matrix, (WIDTH, HEIGHT))
    alpha = cv2.warpAffine(p.alpha, matrix, (WIDTH, HEIGHT))[..., None]
    canvas[:] = (canvas * (1 - alpha) + drawn * alpha).round().astype(np.uint8)
    truth = p.landmarks.copy()
    truth[:, :2] = p.landmarks[:, :2] @ turn.T + shift
    truth[:, 2] *= scale
    return truth, alpha[..., 0]


def film(portraits, paths, seconds, bars=()):
    """Frames, and per frame the true landmarks of each face with the share of it that is visible.

    Args:
        paths: per face a function of time to (x, y, size, angle); later faces are nearer the camera.
        bars: functions of time to the (x0, x1) of an upright bar before everything.
    """
    frames, truth = [], []
    for k in range(int(seconds * FPS)):
        t = k / FPS
        canvas, shown = background(), []
        for p, path in zip(portraits, paths, strict=True):
            landmarks, alpha = paste(canvas, p, *path(t))
            shown = [(lm, np.where(alpha > 0.5, 0, mask)) for lm, mask in shown]
            x0, y0, x1, y1 = box_of(landmarks).astype(int)
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            mask[max(y0, 0) : y1, max(x0, 0) : x1] = 1
            shown.append((landmarks, mask))
        for bar in bars:
            x0, x1 = (int(v) for v in bar(t))
            canvas[:, max(x0, 0) : max(x1, 0)] = (70, 60, 50)
            for _, mask in shown:
                mask[:, max(x0, 0) : max(x1, 0)] = 0
        frames.append(Frame(t, canvas))
        truth.append([(lm, mask.sum() / np.prod(box_of(lm)[2:] - box_of(lm)[:2])) for lm, mask in shown])
    return frames, truth


def idf1(piece, truth, visible=0.75):
    """IDF1 over faces of which at least ``visible`` is seen; a match is a box overlap (IoU) of at least 0.5."""
    n = len(truth[0])
    hits = np.zeros((n, len(piece.tracklets)))
    true_count = sum(share >= visible for row in truth for _, share in row)
    found_count = 0
    for j, track in enumerate(piece.tracklets):
        for k, time in enumerate(track.times):
            if not track.valid[k]:
                continue
            row = truth[round(time * FPS)]
            overlaps = [box_iou(track.box[k], box_of(lm)) for lm, _ in row]
            best = int(np.argmax(overlaps))
            if overlaps[best] >= 0.5 and row[best][1] < visible:
                continue  # found although hidden: neither right nor wrong
            found_count += 1
            if overlaps[best] >= 0.5:
                hits[best, j] += 1
    rows, columns = linear_sum_assignment(-hits)
    return 2 * hits[rows, columns].sum() / (true_count + found_count)


def run(models, frames, options=None, **bounds):
    return track_piece(frames, options or TrackOptions(), models.detector, models.mesh, models.identifier, **bounds)


def still(x, y, size, sway=6.0):
    return lambda t: (x + sway * np.sin(2.1 * t), y + 0.4 * sway * np.sin(3.3 * t), size, 0.08 * np.sin(1.7 * t))


def walk(x0, x1, y, size, seconds):
    return lambda t: (x0 + (x1 - x0) * t / seconds, y + 4 * np.sin(5 * t), size, 0.05 * np.sin(3 * t))


def test_two_swaying_faces_are_two_whole_tracks(models, portraits):
    frames, truth = film(portraits, [still(190, 170, 90), still(450, 190, 110)], 2.5)
    piece = run(models, frames)
    assert len(piece.tracklets) == 2
    assert idf1(piece, truth) > 0.99
    for track, who in zip(piece.tracklets, (0, 1), strict=True):
        assert track.valid.all()
        assert np.isfinite(track.landmarks).all()
        errors = [
            np.linalg.norm(track.landmarks[k, :468, :2] - row[who][0][:468, :2], axis=1).mean()
            for k, row in enumerate(truth)
        ]
        scale = np.linalg.norm(truth[0][who][0][33] - truth[0][who][0][263]) * 63 / 89.4
        assert np.median(errors) / scale < 0.06


def test_detector_looks_about_once_a_second(models, portraits):
    frames, _ = film(portraits, [still(190, 170, 90), still(450, 190, 110)], 2.5)

    class Counting:
        calls = 0

        def detect(self, rgb, smallest_px, enough=0, seen=None):
            self.calls += seen is None
            return models.detector.detect(rgb, smallest_px, enough, seen)

    counting = Counting()
    track_piece(frames, TrackOptions(), counting, models.mesh, models.identifier)
    assert counting.calls == 3


@pytest.mark.parametrize("seconds", [2.0, 4.0])
@pytest.mark.parametrize("front", [0, 1])
def test_crossing_faces_keep_their_own_tracks(models, portraits, seconds, front):
    order = portraits if front else portraits[::-1]
    frames, truth = film(order, [walk(150, 490, 175, 95, seconds), walk(500, 140, 185, 100, seconds)], seconds)
    piece = run(models, frames)
    assert idf1(piece, truth) > 0.9
    assert len(piece.tracklets) == 2


def test_short_occlusion_is_bridged_by_one_track(models, portraits):
    frames, truth = film(
        portraits, [still(190, 170, 90), still(450, 190, 110)], 3.0, bars=[lambda t: (60 + 180 * t, 180 + 180 * t)]
    )
    piece = run(models, frames)
    assert len(piece.tracklets) == 2
    assert idf1(piece, truth) > 0.93
    hidden = [k for k, row in enumerate(truth) if row[0][1] < 0.2]
    assert len(hidden) > 3
    lost = piece.tracklets[0]
    assert not lost.valid[hidden[1:-1]].any()
    assert np.isnan(lost.landmarks[hidden[1:-1]]).all()
    assert (lost.confidence[~lost.valid] == 0).all()


def test_a_passer_by_is_not_followed(models, portraits):
    small = walk(40, 600, 60, 34, 2.0)
    frames, _ = film([portraits[0], *portraits], [small, still(190, 190, 90), still(450, 200, 110)], 2.0)
    piece = run(models, frames)
    heights = [np.nanmedian(t.box[:, 3] - t.box[:, 1]) for t in piece.tracklets]
    assert len(heights) == 2
    assert min(heights) > 70


def test_empty_scene_has_no_track(models):
    piece = run(models, [Frame(k / FPS, background()) for k in range(10)])
    assert piece.tracklets == ()
    assert len(piece.times) == 10


def test_warm_up_is_cut_and_leaves_no_trace_in_times(models, portraits):
    frames, _ = film(portraits, [still(190, 170, 90), still(450, 190, 110)], 1.5)
    piece = run(models, frames, keep_from_s=0.5, keep_to_s=1.2)
    assert piece.times[0] == pytest.approx(0.5)
    assert piece.times[-1] < 1.2
    assert all(len(t.times) == len(piece.times) for t in piece.tracklets)


def test_same_bytes_whatever_was_tracked_before(models, portraits):
    frames, _ = film(portraits, [still(190, 170, 90), still(450, 190, 110)], 1.0)
    first = run(models, frames).to_arrays()
    run(models, frames[::-1])
    fresh = Models(FaceMesh(), FaceDetector(), AppearanceIdentifier())
    for again in (run(models, frames).to_arrays(), run(fresh, frames).to_arrays()):
        assert first.keys() == again.keys()
        assert all(first[k].tobytes() == again[k].tobytes() for k in first)


def test_frames_are_not_kept_or_changed(models, portraits):
    """The decoder reuses its frame memory as soon as the next frame is asked for."""
    frames, _ = film(
        portraits, [still(190, 170, 90), still(450, 190, 110)], 2.0, bars=[lambda t: (60 + 180 * t, 180 + 180 * t)]
    )
    slot = np.empty_like(frames[0].rgb)

    def reused():
        for f in frames:
            slot.flags.writeable = True
            slot[:] = f.rgb
            slot.flags.writeable = False
            yield Frame(f.time_s, slot)

    one, other = run(models, frames).to_arrays(), run(models, reused()).to_arrays()
    assert all(one[k].tobytes() == other[k].tobytes() for k in one)


def test_arrays_round_trip(models, portraits):
    frames, _ = film(
        portraits, [still(190, 170, 90), still(450, 190, 110)], 2.0, bars=[lambda t: (60 + 180 * t, 180 + 180 * t)]
    )
    piece = run(models, frames)
    back = PieceTracks.from_arrays(piece.to_arrays())
    assert [t.tracklet_id for t in back.tracklets] == [t.tracklet_id for t in piece.tracklets]
    for one, other in zip(piece.tracklets, back.tracklets, strict=True):
        for name in ("times", "landmarks", "box", "valid", "confidence", "sharpness", "identity"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_blur_lowers_confidence(models, portraits):
    frames, _ = film(portraits, [still(190, 170, 90), still(450, 190, 110)], 1.0)
    worse = [Frame(f.time_s, cv2.GaussianBlur(f.rgb, (0, 0), 2.2)) for f in frames]
    clear, blurred = run(models, frames), run(models, worse)
    for one, other in zip(clear.tracklets, blurred.tracklets, strict=True):
        assert np.median(other.confidence[other.valid]) < np.median(one.confidence) - 0.05
