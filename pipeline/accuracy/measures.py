"""What is measured, in which unit, how it is gathered over clips, its target, and what others published beside it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """One line of the table.

    Attributes:
        how: "median" over clips, "ratio" of sums, "count" of single events, or "ranked" (average precision of pooled
            frames).
        target: for clean and for hard conditions; None where none is set. less: smaller is better.
        published: what others report on real data, named; figures as published, none was run here.
    """

    key: str
    stage: str
    title: str
    unit: str
    how: str
    target: tuple[float, float] | None = None
    less: bool = False
    published: str = ""


MEASURES: tuple[Measure, ...] = (
    Measure("cuts_f1", "shots", "cuts, fades and dissolves, F1", "", "ratio", (0.99, 0.93), False,
            "TransNetV2 0.962 BBC, 0.779 ClipShots; PySceneDetect Adaptive 0.916 BBC"),
    Measure("split_found", "shots", "split-screen shots found", "", "count", (0.95, 0.95)),
    Measure("two_shots_lost", "shots", "two-shots taken for split screens", "", "count", (0.01, 0.01), True),
    Measure("idf1", "tracks", "tracks, IDF1", "", "ratio", (0.99, 0.95), False, "no agreed figure"),
    Measure("switches_per_minute", "tracks", "track switches a minute of tracked video", "1/min", "ratio", None, True),
    Measure("der", "turns", "diarization error, no collar, overlap scored", "", "ratio", (0.04, 0.10), True,
            "pyannote community-1: VoxConverse 0.112, MSDWild 0.228, AVA-AVD 0.446"),
    Measure("der_collar", "turns", "diarization error, collar 0.5 s in all", "", "ratio", None, True),
    Measure("speaking_ap", "bind", "who speaks, average precision of person-frames", "", "ranked", (0.98, 0.93), False,
            "AVA-ActiveSpeaker mAP: TalkNet 0.923, Light-ASD 0.941, LoCoNet 0.952"),
    Measure("binding", "bind", "speech of one person given to the right face", "", "ratio"),
    Measure("offset_ms", "bind", "A/V offset, error", "ms", "median", None, True),
    Measure("rotation_deg", "fit", "head rotation, mean error of a clip, focal length unknown", "deg", "median",
            (1.5, 3.0), True),
    Measure("rotation_known_focal_deg", "fit", "the same, focal length given", "deg", "median", None, True),
    Measure("relative_rotation_deg", "fit", "rotation of b relative to a", "deg", "median", None, True),
    Measure("distance_pct", "fit", "distance, focal length given", "%", "median", (6.0, 10.0), True),
    Measure("distance_unknown_focal_pct", "fit", "distance, focal length unknown", "%", "median", None, True),
    Measure("relative_position_cm", "fit", "position of b relative to a, focal length unknown", "cm", "median", None,
            True),
    Measure("relative_position_known_focal_cm", "fit", "the same, focal length given", "cm", "median", None, True),
    Measure("lids", "fit", "lid aperture, correlation", "", "median"),
    Measure("lips", "fit", "inner-lip gap, correlation", "", "median"),
    Measure("coverage_rotation", "fit", "rotation errors inside 2 sd", "", "ratio"),
    Measure("coverage_relative_rotation", "fit", "relative rotation errors inside 2 sd", "", "ratio"),
    Measure("coverage_depth", "fit", "distance from the camera inside 2 sd, focal length unknown", "", "ratio"),
    Measure("gaze_deg", "gaze", "gaze, mean error of a clip", "deg", "median", (4.0, 8.0), True,
            "L2CS 3.92 MPIIFaceGaze, 10.41 Gaze360"),
    Measure("gaze_known_focal_deg", "gaze", "the same, focal length given", "deg", "median", None, True),
    Measure("coverage_gaze", "gaze", "gaze errors inside 2 sd", "", "ratio"),
    Measure("mutual_gaze_ap", "relate", "mutual gaze, average precision of frames", "", "ranked", (0.93, 0.85), False,
            "LAEO-Net 0.795 UCO, 0.506 AVA"),
    Measure("mutual_gaze_brier", "relate", "mutual gaze, Brier score of frames", "", "ratio", None, True),
    Measure("mutual_gaze_found", "relate", "mutual frames whose probability is over one half", "", "ratio"),
    Measure("layout_accuracy", "relate", "layout codes claimed that are true", "", "ratio", (0.95, 0.90)),
    Measure("layout_claimed", "relate", "layout codes that are claimed at all", "", "ratio"),
    Measure("coverage_distance", "relate", "distances inside 2 sd, focal length unknown", "", "ratio"),
    Measure("coverage_position", "relate", "relative positions inside 2 sd, focal length unknown", "", "ratio"),
    Measure("usable_precision", "select", "selected time that is usable", "", "ratio", (0.98, 0.98)),
    Measure("usable_recall", "select", "usable time that is selected", "", "ratio", (0.90, 0.90)),
)  # fmt: skip
BY_KEY = {measure.key: measure for measure in MEASURES}
COVERAGE = (0.90, 0.98)  # where the share inside two sd should lie; exact normal errors give 0.954


def met(measure: Measure, condition: str, value: float) -> bool | None:
    """Whether a value reaches its target; None where there is none or nothing was measured."""
    if value != value:
        return None
    if measure.key.startswith("coverage_"):
        return COVERAGE[0] <= value <= COVERAGE[1]
    if measure.target is None:
        return None
    target = measure.target[0 if condition == "clean" else 1]
    return value <= target if measure.less else value >= target
