"""The reduced model equals the full skinned mesh at the embedded points."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from duologue.fitting.head_model import HeadModel, LandmarkEmbedding
from duologue.fitting.load_head import load_head_model
from duologue.fitting.reduce import reduce, reduced_landmarks
from duologue.tests.head_model_factory import random_parameters, with_everything
from hypothesis import given, settings
from hypothesis import strategies as st


def scattered(head: HeadModel, seed: int = 0) -> HeadModel:
    """Landmarks inside triangles, so that barycentric weights matter."""
    rng = np.random.default_rng(seed)
    faces = rng.integers(0, 852, 468)
    barycentric = rng.dirichlet(np.ones(3), 468)
    return replace(head, embedding=LandmarkEmbedding(np.arange(468), faces, barycentric, "test"))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31))
def test_equals_full_skinning(seed: int) -> None:
    head = scattered(with_everything())
    model = reduce(head)
    p = random_parameters(head, seed)
    p = {k: p[k] for k in ("shape", "expression", "jaw")}
    full = head.landmarks(head.pose(**p))
    assert np.abs(reduced_landmarks(model, **p) - full).max() < 1e-6


def test_ict_equals_full_skinning(ict: HeadModel) -> None:
    head = ict
    model = reduce(head)
    p = random_parameters(head, 5)
    p = {k: p[k] for k in ("shape", "expression", "jaw")}
    assert np.abs(reduced_landmarks(model, **p) - head.landmarks(head.pose(**p))).max() < 1e-5


def test_correctives_and_moving_joints_matter() -> None:
    """Guards the test above: leaving either out would be seen."""
    head = scattered(with_everything())
    model = reduce(head)
    p = {"expression": np.ones(len(head.expression_names)), "jaw": np.array([0.5, 0.1, 0.0])}
    full = head.landmarks(head.pose(**p))
    assert model.jaw_correctives is not None
    for without in (
        {"jaw_correctives": None, "jaw_correctives_turned": None},
        {"joint_expression_dirs": None},
        {"jaw_correctives_turned": 0 * model.jaw_correctives},
    ):
        assert np.abs(reduced_landmarks(replace(model, **without), **p) - full).max() > 1e-5


def test_selection_and_truncation() -> None:
    head = scattered(load_head_model("canonical"))
    model = reduce(head, landmarks=[263, 1, 33], n_shape=4, n_expression=6)
    assert model.landmarks.tolist() == [263, 1, 33]
    assert model.mean.shape == (2, 3, 3)
    assert model.shape_dirs.shape == (2, 3, 3, 4)
    assert model.expression_dirs.shape == (2, 3, 3, 6)
    assert model.joint_dirs.shape == (5, 3, 4)
    assert len(model.expression_names) == len(model.expression_sd) == 6
    full = head.landmarks(head.pose(shape=[1, 2, 3, 4.0], jaw=[0.2, 0, 0]))[[263, 1, 33]]
    assert np.allclose(reduced_landmarks(model, [1, 2, 3, 4.0], None, [0.2, 0, 0]), full, atol=1e-7)
    assert np.allclose(model.weights.sum(0), 1)


def test_batches() -> None:
    model = reduce(load_head_model("canonical"))
    rng = np.random.default_rng(0)
    shape, expression, jaw = rng.normal(size=32), rng.normal(size=(5, 34)), rng.normal(size=(5, 3)) * 0.2
    batch = reduced_landmarks(model, shape, expression, jaw)
    assert batch.shape == (5, 468, 3)
    assert np.allclose(batch[3], reduced_landmarks(model, shape, expression[3], jaw[3]))


def test_a_landmark_without_a_place_is_an_error() -> None:
    head = load_head_model("canonical")
    e = head.embedding
    short = replace(
        head, embedding=replace(e, landmarks=e.landmarks[:10], faces=e.faces[:10], barycentric=e.barycentric[:10])
    )
    with pytest.raises(ValueError, match="467"):
        reduce(short, landmarks=[3, 467])
