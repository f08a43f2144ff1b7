"""How far FaceMesh under-rotates turned heads, and what taking its mean error off the landmarks leaves.

    python bench/face_mesh_bias.py [--stills N] [--cross] [--json]

Stills of the six rendered people wearing the second head model, from which nothing was learned (the committed
calibration comes from the canonical head), are measured and fitted with the canonical head, true focal length, no
smoothing in time. Printed by true yaw: mean fitted yaw and rotation error, before and after, and how often the error
lies inside two stored standard deviations. ``--cross`` also learns anew on one portrait's faces and tests on the
other's, so that neither head model nor face was seen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from duologue.bench.shared.report import default_device, machine, parser_of, tell
from duologue.fitting.fit import FitOptions, HeadFitter
from duologue.fitting.head_model import rotation_matrix
from duologue.fitting.landmark_bias import LandmarkBias, load_bias
from duologue.fitting.load_head import load_head_model
from duologue.fitting.reduce import reduce
from duologue.pipeline.accuracy.clock import alignment, angles_deg
from duologue.schemas.errors import BadInput
from duologue.schemas.records import METADATA_LOG_SD, Focal
from duologue.schemas.tracks import ClipTracks, FaceTrack
from duologue.synthesis.identities import IDENTITIES, NAMES
from duologue.synthesis.landmark_bias import HEIGHT, WIDTH, Stills, learn, sample, shared_with_real

Array = npt.NDArray[np.float64]
BANDS = ((0, 15), (15, 30), (30, 45), (45, 60), (60, 78))
FPS = 25.0


def track(name: str, landmarks: npt.NDArray[np.float32], valid: bool) -> FaceTrack:
    n = len(landmarks)
    box = np.concatenate([landmarks[..., :2].min(1), landmarks[..., :2].max(1)], -1)
    one = np.full(n, float(valid), np.float32)
    return FaceTrack(name, landmarks, box, np.full(n, valid), one, one, np.zeros(4, np.float32))


def fitted(landmarks: npt.NDArray[np.float32], focal_px: float, options: FitOptions) -> tuple[Array, Array]:
    """Rotations [N, 3, 3] and their stored standard deviations [N, 3], radians, of unrelated pictures of one face."""
    n = len(landmarks)
    clip = ClipTracks("stills", 0, 0.0, n / FPS, WIDTH, HEIGHT, np.arange(n) / FPS, track("a", landmarks, True),
                      track("", landmarks, False), Focal(focal_px, "metadata", METADATA_LOG_SD))  # fmt: skip
    found = HeadFitter(reduce(load_head_model("canonical")), options).fit([clip])[0]
    if isinstance(found, BadInput):
        raise SystemExit(f"fit: {found}")
    return rotation_matrix(found.a.rotation.astype(np.float64)), found.a.rotation_sd.astype(np.float64)


def errors(stills: Stills, bias: LandmarkBias | None) -> dict[str, Array]:
    """Per still: true and fitted yaw, geodesic error, degrees; share of the axes inside two stored deviations."""
    options = FitOptions(rotation_motion=1e3, translation_motion=1e3, min_valid_frames=4, detector_bias=False)
    seen = stills.seen if bias is None else bias.correct(stills.seen)
    out: dict[str, list[Array]] = {"yaw": [], "fitted": [], "error": [], "inside": []}
    second, canonical = (reduce(load_head_model(name)) for name in ("second", "canonical"))
    for person in np.unique(stills.person):
        for focal in np.unique(stills.focal_px):
            rows = (stills.person == person) & (stills.focal_px == focal)
            found, sd = fitted(seen[rows], float(focal), options)
            true = stills.rotation[rows] @ alignment(second, canonical, stills.shape[rows][0])
            difference = found @ true.transpose(0, 2, 1)
            vector = 0.5 * np.stack([difference[:, 2, 1] - difference[:, 1, 2], difference[:, 0, 2]
                                     - difference[:, 2, 0], difference[:, 1, 0] - difference[:, 0, 1]], -1)  # fmt: skip
            side = np.sign(-true[:, 0, 2])
            out["yaw"].append(np.degrees(np.arctan2(-side * true[:, 0, 2], true[:, 2, 2])))
            out["fitted"].append(np.degrees(np.arctan2(-side * found[:, 0, 2], found[:, 2, 2])))
            out["error"].append(angles_deg(found, true))
            out["inside"].append((np.abs(vector) < 2.0 * sd).mean(1))
    return {key: np.concatenate(value) for key, value in out.items()}


def table(found: dict[str, Array]) -> dict[str, Any]:
    out: dict[str, Any] = {"rotation_deg": float(np.median(found["error"])), "coverage": float(found["inside"].mean())}
    for low, high in BANDS:
        rows = (found["yaw"] >= low) & (found["yaw"] < high)
        if rows.any():
            means = {key: round(float(found[key][rows].mean()), 3) for key in ("yaw", "fitted", "error", "inside")}
            out[f"{low}-{high}"] = {"stills": int(rows.sum()), **means}
    return out


def base(stills: Stills) -> npt.NDArray[np.str_]:
    return np.array([IDENTITIES[str(name)].base for name in stills.portrait])


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--stills", type=int, default=36, help="of each of the six people")
    parser.add_argument("--cross", action="store_true", help="learn on one portrait, test on the other")
    options = parser.parse_args()
    torch.set_num_threads(1)
    stills = sample(load_head_model("second"), NAMES, options.stills, 6, varied=False)
    result: dict[str, Any] = {
        "stills": len(stills.seen),
        "before": table(errors(stills, None)),
        "after": table(errors(stills, load_bias())),
        "turned_error": FitOptions().turned_error,
    }
    if options.cross:
        lessons = sample(load_head_model("canonical"), NAMES, 60, 5)
        parts = []
        for held in ("collins", "hopper"):
            bias = learn(lessons.only(base(lessons) != held))
            parts.append(errors(stills.only(base(stills) == held), shared_with_real(bias)))
        result["after_other_portrait"] = table({key: np.concatenate([p[key] for p in parts]) for key in parts[0]})
    result |= machine(default_device())
    tell(result, options.json)


if __name__ == "__main__":
    main()
