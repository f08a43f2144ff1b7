"""SO(3) functions against definitions and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from duologue.fitting.rotations import exp_so3, geodesic, inverse_left_jacobian, left_jacobian, log_so3, slerp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

component = st.floats(-1.75, 1.75)
vectors = st.tuples(component, component, component).map(lambda v: torch.tensor(v, dtype=torch.float64))


@given(vectors)
@settings(max_examples=60, deadline=None)
def test_exponential_is_scipys_and_logarithm_inverts_it(v: torch.Tensor) -> None:
    r = exp_so3(v)
    np.testing.assert_allclose(r.numpy(), Rotation.from_rotvec(v.numpy()).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(log_so3(r).numpy(), v.numpy(), atol=1e-9)


@pytest.mark.parametrize("size", [0.0, 1e-9, 1e-5, 5e-3, 0.0101, 1.0, 3.1])
def test_left_jacobian_predicts_a_small_step(size: float) -> None:
    v = size * torch.tensor([0.6, -0.64, 0.48], dtype=torch.float64)
    d = 1e-6 * torch.tensor([0.3, 0.5, -0.8], dtype=torch.float64)
    stepped = exp_so3(left_jacobian(v) @ d) @ exp_so3(v)
    assert float(geodesic(stepped, exp_so3(v + d))) < 1e-10
    np.testing.assert_allclose((left_jacobian(v) @ inverse_left_jacobian(v)).numpy(), np.eye(3), atol=1e-10)


def test_logarithm_near_half_a_turn_and_at_zero() -> None:
    for angle in (0.0, 1e-8, np.pi - 1e-7, np.pi):
        v = angle * np.array([0.0, 0.6, 0.8])
        back = log_so3(exp_so3(torch.tensor(v))).numpy()
        assert min(np.abs(back - v).max(), np.abs(back + v).max()) < 1e-6


def test_slerp_is_scipys() -> None:
    a, b = Rotation.from_rotvec([0.1, -0.3, 0.2]), Rotation.from_rotvec([-0.4, 0.5, 0.3])
    expected = Slerp([0, 1], Rotation.concatenate([a, b]))([0.0, 0.3, 1.0]).as_matrix()
    r0, r1 = (torch.tensor(r.as_matrix()).expand(3, 3, 3) for r in (a, b))
    out = slerp(r0, r1, torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64))
    np.testing.assert_allclose(out.numpy(), expected, atol=1e-12)
