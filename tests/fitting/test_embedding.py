"""Registration of the 468 landmarks to meshes on which their true places are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from duologue.fitting.canonical import canonical_skin
from duologue.fitting.embedding import EMPTY, check, embedding_distance, face_measures, register
from duologue.fitting.head_model import SKIN, HeadModel, rotation_matrix
from duologue.fitting.load_head import load_head_model
from duologue.schemas.errors import UsageError


def moved(head: HeadModel, scale: float, shift: tuple[float, float, float], pitch: float) -> HeadModel:
    turn = rotation_matrix([pitch, 0.0, 0.0])
    return replace(
        head,
        vertices=scale * head.vertices @ turn.T + shift,
        joints=scale * head.joints @ turn.T + shift,
        expression_dirs=(scale * np.einsum("ij,vjk->vik", turn, head.expression_dirs)).astype(np.float32),
        embedding=EMPTY,
    )


@pytest.mark.parametrize(
    ("name", "scale", "pitch", "mean_mm", "worst_mm"),
    [
        ("canonical", 1.0, 0.0, 0.6, 3.0),
        ("canonical", 1.06, 0.06, 1.0, 5.0),
        ("second", 1.0, 0.0, 2.0, 8.0),
        ("second", 0.95, -0.05, 2.0, 8.0),
    ],
)
def test_true_places_are_found(name: str, scale: float, pitch: float, mean_mm: float, worst_mm: float) -> None:
    head = moved(load_head_model(name), scale, (0.01, 0.2, -0.05), pitch)
    found = replace(head, embedding=register(head))
    error = 1e3 * np.linalg.norm(found.landmarks(head.vertices) - head.vertices[:468], axis=1)
    assert error.mean() < mean_mm
    assert error.max() < worst_mm
    check(found)


def test_lids_and_lips_stay_two_edges() -> None:
    head = moved(load_head_model("second"), 1.0, (0, 0, 0), 0.0)
    found = replace(head, embedding=register(head))
    e = np.zeros(len(head.expression_names))
    e[head.expression_names.index("eyeBlinkLeft")] = 1.0
    points = found.landmarks(found.pose(expression=e, jaw=[0.3, 0, 0]))
    truth = found.pose(expression=e, jaw=[0.3, 0, 0])[:468]
    wanted, got = face_measures(truth), face_measures(points)
    assert got["inner_lip_gap"] == pytest.approx(wanted["inner_lip_gap"], abs=0.004)
    assert np.linalg.norm(points[386] - points[374]) < 0.003  # the left eye is shut
    assert np.linalg.norm(points[159] - points[145]) > 0.007  # the right is not


def test_result_is_symmetric_on_a_symmetric_head() -> None:
    head = moved(load_head_model("canonical"), 1.0, (0, 0, 0), 0.0)
    points = replace(head, embedding=register(head)).landmarks(head.vertices)
    mirror = canonical_skin()[2]
    assert np.median(np.linalg.norm(points[mirror] * [-1, 1, 1] - points, axis=1)) < 2e-4


def test_anchors_are_kept() -> None:
    head = moved(load_head_model("canonical"), 1.0, (0, 0, 0), 0.0)
    place = head.vertices[5] * 0.5 + head.vertices[4] * 0.5
    points = replace(head, embedding=register(head, {4: place})).landmarks(head.vertices)
    assert np.linalg.norm(points[4] - place) < 5e-4


def test_heads_that_cannot_be_registered_say_why() -> None:
    head = replace(load_head_model("canonical"), embedding=EMPTY)
    with pytest.raises(UsageError, match="no eyeballs"):
        register(replace(head, parts=np.full_like(head.parts, SKIN)))
    still = replace(head, expression_dirs=0 * head.expression_dirs, jaw_limits=np.zeros((3, 2)))
    frozen = replace(still, weights=np.eye(5)[np.where(head.parts == 1, 3, np.where(head.parts == 2, 4, 1))])
    with pytest.raises(UsageError, match="nothing moves the mouth"):
        register(frozen)
    shut = head.pose(expression=np.array([float(n.startswith("eyeBlink")) for n in head.expression_names]))
    with pytest.raises(UsageError, match="do not show between the lids"):
        register(replace(head, vertices=shut))


def test_distance_is_zero_for_the_canonical_head_itself() -> None:
    mean, worst = embedding_distance(load_head_model("canonical"))
    assert mean < 1e-9
    assert worst < 1e-9
