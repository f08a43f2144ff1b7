"""How two fitted heads stand to each other: dyad frame, distance, looking, mutual gaze, layout codes, captions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..schemas.errors import BadInput
from ..schemas.heads import FittedPair, HeadTrack, Relation
from .gaze import looking_at_partner, mutual_gaze, rotate
from .layout import captions, codes_of

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RelateOptions:
    """Attributes:
    captions: sentences per clip. caption_codes: most codes one sentence says.
    facing_sd_deg: what the direction a head faces is unsure of beyond ``rotation_sd`` (where "straight ahead" is).
    """

    captions: int = 5
    caption_codes: int = 4
    facing_sd_deg: float = 3.0


def relate(pair: FittedPair, options: RelateOptions = RelateOptions(), seed: str = "") -> Relation:
    """Everything about a clip that needs both heads.

    Args:
        seed: chooses the captions' wording; the clip's id.

    Raises:
        BadInput: "landmarks_lost" where no frame shows both heads.
    """
    a, b = pair.a, pair.b
    both = a.valid & b.valid
    if not b.track_id:
        return _alone(pair)
    if not both.any():
        raise BadInput("landmarks_lost", "no frame of the clip shows both heads")
    transform = camera_to_dyad(a.head_centre, b.head_centre, both)
    relative = b.head_centre.astype(np.float64) - a.head_centre
    distance = np.linalg.norm(relative, axis=-1)
    covariance = relative_covariance(pair)
    total = np.trace(covariance, axis1=1, axis2=2)
    with np.errstate(invalid="ignore"):
        direction = relative / distance[:, None]
        along = np.einsum("ti,tij,tj->t", direction, covariance, direction)
        across_sd = np.sqrt(np.maximum(total - along, 0.0) / 2) / distance
    looking_a = looking_at_partner(a.gaze, a.head_centre, b.head_centre)
    looking_b = looking_at_partner(b.gaze, b.head_centre, a.head_centre)
    mutual, by_a, by_b = mutual_gaze(a, b, distance, across_sd, pair.fps)
    probabilities = [by_a, by_b]
    layout, sd_of = _layout(pair, transform, both, distance, covariance, probabilities, mutual, options)
    codes = codes_of(layout, sd_of)
    return Relation(
        camera_to_dyad=transform,
        distance_m=distance.astype(np.float32),
        relative_position_sd=np.sqrt(total).astype(np.float32),
        looking_a=looking_a,
        looking_b=looking_b,
        mutual_gaze=mutual.astype(np.float32),
        layout=layout,
        codes=codes,
        captions=captions(codes, seed, options.captions, options.caption_codes),
    )


def _alone(pair: FittedPair) -> Relation:
    """The relation of a single-speaker clip: nobody to stand to."""
    nan = np.full(len(pair.times), np.nan, np.float32)
    return Relation(np.eye(4), nan, nan, nan, nan, nan, layout={}, codes=(), captions=())


def camera_to_dyad(
    centre_a: npt.NDArray[np.floating], centre_b: npt.NDArray[np.floating], both: npt.NDArray[np.bool_]
) -> Array:
    """Rigid 4x4: origin midway between the heads at the first frame with both, x from a to b, y up, right-handed."""
    first = int(np.argmax(both))
    pa, pb = centre_a[first].astype(np.float64), centre_b[first].astype(np.float64)
    x = (pb - pa) / np.linalg.norm(pb - pa)
    up = np.array([0.0, -1.0, 0.0])  # the camera's y points down
    if abs(x @ up) > 0.999:  # one head above the other: the camera's backward direction decides instead
        up = np.array([0.0, 0.0, -1.0])
    y = up - (up @ x) * x
    y /= np.linalg.norm(y)
    rotation = np.stack([x, y, np.cross(x, y)])
    out = np.eye(4)
    out[:3, :3] = rotation
    out[:3, 3] = -rotation @ (0.5 * (pa + pb))
    return out


def relative_covariance(pair: FittedPair) -> Array:
    """Covariance of b - a, [T, 3, 3] m^2. Size errs along each line of sight, focal length along the optical axis."""
    lf = pair.focal_log_sd
    total = np.zeros((len(pair.times), 3, 3))
    for track in (pair.a, pair.b):
        p = track.head_centre.astype(np.float64)
        log_sd2 = (track.translation_sd.astype(np.float64) / np.linalg.norm(p, axis=-1)) ** 2
        total += np.maximum(log_sd2 - lf**2, 0.0)[:, None, None] * p[:, :, None] * p[:, None, :]
    depth = pair.b.head_centre[:, 2].astype(np.float64) - pair.a.head_centre[:, 2]
    total[:, 2, 2] += (depth * lf) ** 2
    return total


def _layout(
    pair: FittedPair, transform: Array, both: npt.NDArray[np.bool_], distance: Array, covariance: Array,
    looking: list[Array], mutual: Array, options: RelateOptions,
) -> tuple[dict[str, float], dict[str, float]]:  # fmt: skip
    """Named scalars of the clip (medians over frames with both heads) and their standard deviations."""
    to_dyad = transform[:3, :3]
    camera = pair.b.head_centre.astype(np.float64) - pair.a.head_centre
    cov = covariance[both].mean(0)
    direction = np.median(camera[both], axis=0)
    direction /= np.linalg.norm(direction)
    distance_sd = float(np.sqrt(direction @ cov @ direction))
    out: dict[str, float] = {}
    sd: dict[str, float] = {}

    def put(name: str, value: float, spread: float) -> None:
        out[name], sd[name] = float(value), float(spread)

    put("distance_m", np.median(distance[both]), distance_sd)
    # Up is the camera's: a head that is further away is not higher, so the height is taken in the camera frame.
    put("height_difference_m", np.median(-camera[both, 1]), np.sqrt(cov[1, 1]))
    put("depth_difference_m", np.median(camera[both, 2]), np.sqrt(cov[2, 2]))
    first, last = np.nonzero(both)[0][[0, -1]]
    reach = max(min(12, int(both.sum()) // 4), 1)
    start = np.median(distance[both][:reach])
    end = np.median(distance[both][-reach:])
    # Size and focal errors scale both ends alike: only a tenth of them is left in the change.
    put("distance_change_m", end - start if last > first else 0.0, 0.02 + 0.1 * distance_sd)
    for name, track, sign in (("a", pair.a, 1.0), ("b", pair.b, -1.0)):
        facing, tilt = _facing(track, to_dyad, both, sign)
        # About the vertical a head faces elsewhere, about the line of sight it tilts.
        _, turn, roll = np.degrees(np.nanmedian(track.rotation_sd[both].astype(np.float64), axis=0))
        # The direction to the partner is unsure too.
        across = np.degrees(np.sqrt(max(np.trace(cov) - distance_sd**2, 0.0) / 2) / out["distance_m"])
        put(f"facing_{name}_deg", facing, float(np.hypot(np.hypot(turn, across), options.facing_sd_deg)))
        put(f"tilt_{name}_deg", tilt, float(np.hypot(roll, 1.0)))
    for name, values in (("look_a_share", looking[0]), ("look_b_share", looking[1]), ("mutual_share", mutual)):
        known = values[np.isfinite(values)]
        if len(known) >= 10:
            # Mean probability; its sd is how undecided the frames are (they err together).
            put(name, known.mean(), float(np.sqrt(np.mean(known * (1 - known))) * 0.5))
    return out, sd


def _facing(track: HeadTrack, to_dyad: Array, both: npt.NDArray[np.bool_], sign: float) -> tuple[float, float]:
    """Signed angle in the horizontal plane between where the head faces and the partner (positive: to the camera's
    side), and the head's tilt (positive: top of the head toward the subject's left), degrees, medians."""
    rotation = rotate(track.rotation[both])
    forward = -rotation[:, :, 2] @ to_dyad.T  # a head that faces the camera looks along -z of the camera
    angle = np.arctan2(forward[:, 2], sign * forward[:, 0])
    mean = np.arctan2(np.median(np.sin(angle)), np.median(np.cos(angle)))
    # The subject's left is image right for a head that faces the camera.
    left = rotation[:, :, 0]
    tilt = np.arctan2(left[:, 1], np.linalg.norm(left[:, [0, 2]], axis=-1))
    return float(np.degrees(mean)), float(np.degrees(np.median(tilt)))
