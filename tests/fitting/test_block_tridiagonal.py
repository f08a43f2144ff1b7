"""The chain solver against a dense solve."""

from __future__ import annotations

import pytest
import torch
from duologue.fitting.block_tridiagonal import BorderedFactor, factorise, solve


def chain(b: int, t: int, n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(t)
    a = torch.randn(b, t, n, n, dtype=torch.float64, generator=generator)
    diagonal = a @ a.transpose(-1, -2) + 6 * n * torch.eye(n, dtype=torch.float64)
    upper = torch.randn(b, t - 1, n, n, dtype=torch.float64, generator=generator)
    dense = torch.zeros(b, t * n, t * n, dtype=torch.float64)
    for k in range(t):
        rows = slice(k * n, (k + 1) * n)
        dense[:, rows, rows] = diagonal[:, k]
        if k + 1 < t:
            after = slice((k + 1) * n, (k + 2) * n)
            dense[:, rows, after] = upper[:, k]
            dense[:, after, rows] = upper[:, k].transpose(-1, -2)
    return diagonal, upper, dense


@pytest.mark.parametrize("t", [1, 2, 3, 4, 5, 8, 13, 32])
def test_solves_what_a_dense_solver_solves(t: int) -> None:
    diagonal, upper, dense = chain(3, t, 4)
    rhs = torch.randn(3, t, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = torch.linalg.solve(dense, rhs.reshape(3, 4 * t, 2)).reshape(3, t, 4, 2)
    torch.testing.assert_close(solve(diagonal, upper, rhs), expected, atol=1e-12, rtol=1e-10)


def test_border_is_shared_by_the_chain() -> None:
    diagonal, upper, dense = chain(2, 5, 3)
    g = torch.Generator().manual_seed(2)
    border = torch.randn(2, 5, 3, 2, dtype=torch.float64, generator=g)
    corner = 60 * torch.eye(2, dtype=torch.float64).expand(2, 2, 2)
    rhs, corner_rhs = (torch.randn(*s, dtype=torch.float64, generator=g) for s in ((2, 5, 3), (2, 2)))
    c = border.reshape(2, 15, 2)
    full = torch.cat([torch.cat([dense, c], 2), torch.cat([c.transpose(1, 2), corner], 2)], 1)
    expected = torch.linalg.solve(full, torch.cat([rhs.reshape(2, 15), corner_rhs], 1))
    factor = BorderedFactor.of(factorise(diagonal, upper), border)
    x, y, schur = factor.solve(rhs, corner, corner_rhs)
    torch.testing.assert_close(torch.cat([x.reshape(2, 15), y], 1), expected, atol=1e-12, rtol=1e-10)
    torch.testing.assert_close(torch.linalg.inv(schur), torch.linalg.inv(full)[:, 15:, 15:], atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("t", [1, 2, 5, 8, 13])
def test_links_that_are_diagonal_but_for_a_tail_are_exact_too(t: int) -> None:
    diagonal, upper, _ = chain(2, t, 5)
    loose = torch.arange(5) >= 3
    upper = upper * (torch.eye(5, dtype=torch.bool) | (loose[:, None] & loose[None]))
    rhs = torch.randn(2, t, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    expected = factorise(diagonal, upper).solve(rhs)
    torch.testing.assert_close(factorise(diagonal, upper, tail=2).solve(rhs), expected, atol=1e-13, rtol=1e-12)


def test_an_indefinite_system_is_an_error() -> None:
    diagonal, upper, _ = chain(1, 3, 2)
    with pytest.raises(torch.linalg.LinAlgError):
        solve(-diagonal, upper, torch.ones(1, 3, 2, 1, dtype=torch.float64))
