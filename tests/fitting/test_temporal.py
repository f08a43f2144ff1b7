"""The motion prior: gradient, Hessian, exact spacing, heavy tails."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from duologue.fitting.compiled_model import CompiledModel, compile_model
from duologue.fitting.residuals import Observations, State
from duologue.fitting.rotations import exp_so3
from duologue.fitting.temporal import MotionPrior, motion_prior, motion_term

from .heads import FLIP, ellipsoid_head

F64 = torch.float64


def problem(
    times: list[float], student: float = 4.0, mask: list[bool] | None = None
) -> tuple[CompiledModel, MotionPrior, State]:
    torch.manual_seed(1)
    model = compile_model(ellipsoid_head(40, 3, 4), 3, dtype=F64)
    t = len(times)
    stamps = torch.tensor(times, dtype=F64)[None]
    keep = torch.ones(1, t, dtype=torch.bool) if mask is None else torch.tensor([mask])
    data = Observations(torch.zeros(1, t, 2, 40), torch.ones(1, t, 40), keep, stamps)
    taus = torch.full((4 + len(model.jaw_axes),), 0.15, dtype=F64)
    prior = motion_prior(model, data, torch.tensor([1.5], dtype=F64), taus, 0.25, 0.1, 1.0, student)
    state = State(
        expression=0.3 * torch.randn(1, t, 4, dtype=F64),
        jaw=0.1 * torch.randn(1, t, len(model.jaw_axes), dtype=F64),
        rotation=exp_so3(0.05 * torch.randn(1, t, 3, dtype=F64)) @ torch.tensor(FLIP),
        place=0.02 * torch.randn(1, t, 3, dtype=F64),
        velocity=0.01 * torch.randn(1, t, 6, dtype=F64),
        shape=torch.zeros(1, 2, dtype=F64),
    )
    return model, prior, state


def moved(state: State, d: torch.Tensor) -> State:
    n_e, n_j = state.expression.shape[-1], state.jaw.shape[-1]
    e, j, w, p, v = d.split([n_e, n_j, 3, 3, 6], -1)
    return replace(
        state,
        expression=state.expression + e,
        jaw=state.jaw + j,
        rotation=exp_so3(w) @ state.rotation,
        place=state.place + p,
        velocity=state.velocity + v,
    )


@pytest.mark.parametrize("student", [4.0, float("inf")])
def test_gradient_is_exact_and_hessian_is_gauss_newtons(student: float) -> None:
    _, prior, state = problem([0.0, 0.03, 0.08, 0.9, 3.0], student)
    term = motion_term(prior, state)
    n = term.gradient.shape[-1]
    step = 1e-6
    for t in range(5):
        for k in range(n):
            d = torch.zeros(1, 5, n, dtype=F64)
            d[0, t, k] = step
            slope = (motion_term(prior, moved(state, d)).cost - motion_term(prior, moved(state, -d)).cost) / (2 * step)
            exact = float(term.gradient[0, t, k])
            assert float(slope) == pytest.approx(exact, rel=2e-4, abs=2e-4 * float(term.gradient.abs().max()))
    full = torch.zeros(5 * 12, 5 * 12, dtype=F64)
    for t in range(5):
        full[12 * t : 12 * t + 12, 12 * t : 12 * t + 12] = term.pose_diagonal[0, t]
        if t < 4:
            full[12 * t : 12 * t + 12, 12 * t + 12 : 12 * t + 24] = term.pose_upper[0, t]
            full[12 * t + 12 : 12 * t + 24, 12 * t : 12 * t + 12] = term.pose_upper[0, t].T
    spectrum = torch.linalg.eigvalsh(full)
    assert float(spectrum.min()) > -1e-14 * float(spectrum.max())


def test_a_missing_frame_changes_nothing_else() -> None:
    """Two links of 40 ms weigh exactly like one of 80 ms once the frame between is eliminated (Markov)."""
    _, fine, _ = problem([0.0, 0.04, 0.08], float("inf"))
    _, coarse, _ = problem([0.0, 0.08], float("inf"))
    state3 = replace(problem([0.0, 0.04, 0.08])[2])
    still = State(*(torch.zeros_like(v) for v in state3.__dict__.values()))
    still = replace(still, rotation=torch.eye(3, dtype=F64).expand(1, 3, 3, 3))
    two = replace(
        still, **{k: getattr(still, k)[:, :2] for k in ("expression", "jaw", "rotation", "place", "velocity")}
    )
    a, b = motion_term(fine, still), motion_term(coarse, two)
    # expression: eliminate the middle
    d, u = a.linear_diagonal[0], a.linear_upper[0]
    torch.testing.assert_close(d[0] - u[0] ** 2 / d[1], b.linear_diagonal[0, 0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(-u[0] * u[1] / d[1], b.linear_upper[0, 0], rtol=1e-9, atol=1e-9)
    # pose: the middle's weak velocity prior is the only difference
    inverse = torch.linalg.inv(a.pose_diagonal[0, 1])
    torch.testing.assert_close(
        -a.pose_upper[0, 0] @ inverse @ a.pose_upper[0, 1], b.pose_upper[0, 0], rtol=1e-2, atol=10.0
    )


def test_expressions_are_untied_by_a_gap_and_pose_is_cut() -> None:
    _, prior, state = problem([0.0, 0.04, 2.5])
    term = motion_term(prior, state)
    assert float(term.linear_upper[0, 0].abs().min()) > 0.5
    assert float(term.linear_upper[0, 1].abs().max()) < 1e-4
    assert float(term.pose_upper[0, 1].abs().max()) == 0.0


def test_padding_has_no_influence() -> None:
    _, prior, state = problem([0.0, 0.04, 0.08, 0.08], mask=[True, True, True, False])
    d = torch.zeros(1, 4, 4 + state.jaw.shape[-1] + 12, dtype=F64)
    d[0, 3] = 0.3
    torch.testing.assert_close(motion_term(prior, moved(state, d)).cost, motion_term(prior, state).cost)


def test_a_jump_costs_less_than_its_square() -> None:
    def cost(size: float, student: float) -> float:
        _, prior, state = problem([0.0, 0.04], student)
        still = State(*(torch.zeros_like(v) for v in state.__dict__.values()))
        still = replace(still, rotation=torch.eye(3, dtype=F64).expand(1, 2, 3, 3))
        d = torch.zeros(1, 2, 4 + state.jaw.shape[-1] + 12, dtype=F64)
        d[0, 1, -12] = size
        return float(motion_term(prior, moved(still, d)).cost)

    assert cost(0.2, 4.0) / cost(0.02, 4.0) < 20
    assert cost(0.2, float("inf")) / cost(0.02, float("inf")) == pytest.approx(100, rel=1e-3)
