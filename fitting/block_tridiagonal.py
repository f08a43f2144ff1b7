"""Symmetric positive definite block-tridiagonal systems by cyclic reduction, with an optional dense border.

Every level eliminates every second block of every system at once, so that a chain of T blocks costs log2(T) batched
steps: the same code keeps a GPU busy and spares a CPU the Python loop over time. (Golub & Van Loan, Matrix
Computations, 4.5.4.)
"""

from __future__ import annotations

import torch
from torch import Tensor


def solve(diagonal: Tensor, upper: Tensor, rhs: Tensor) -> Tensor:
    """Solve H x = rhs for B chains of T blocks.

    Args:
        diagonal: [B, T, n, n] symmetric blocks H[t, t].
        upper: [B, T - 1, n, n] blocks H[t, t + 1]; H[t + 1, t] is the transpose.
        rhs: [B, T, n, m].

    Returns:
        x: [B, T, n, m].

    Raises:
        torch.linalg.LinAlgError: H is not positive definite.
    """
    steps = diagonal.shape[1]
    if steps == 1:
        return torch.cholesky_solve(rhs, torch.linalg.cholesky(diagonal))
    n, m = diagonal.shape[-1], rhs.shape[-1]
    odd, even = slice(1, None, 2), slice(0, None, 2)
    before = upper[:, 0::2]  # H[2k, 2k + 1]
    after = upper[:, 1::2]  # H[2k + 1, 2k + 2]
    n_odd, n_after = before.shape[1], after.shape[1]

    factor = torch.linalg.cholesky(diagonal[:, odd])
    right = torch.zeros(*factor.shape[:2], n, 2 * n + m, dtype=rhs.dtype, device=rhs.device)
    right[..., :n] = before.transpose(-1, -2)
    right[:, :n_after, :, n : 2 * n] = after
    right[..., 2 * n :] = rhs[:, odd]
    # Inverse and product: several times faster than batched triangular solves, and exact enough in fp64.
    solved = torch.cholesky_inverse(factor) @ right  # H_odd^-1 [to the block before, to the block after, rhs]

    to_before = before @ solved
    to_after = after.transpose(-1, -2) @ solved[:, :n_after]
    next_diagonal = diagonal[:, even].clone()
    next_diagonal[:, :n_odd] -= to_before[..., :n]
    next_diagonal[:, 1 : 1 + n_after] -= to_after[..., n : 2 * n]
    next_rhs = rhs[:, even].clone()
    next_rhs[:, :n_odd] -= to_before[..., 2 * n :]
    next_rhs[:, 1 : 1 + n_after] -= to_after[..., 2 * n :]
    next_upper = -to_before[:, :n_after, :, n : 2 * n]

    x = torch.empty_like(rhs)
    x_even = solve(next_diagonal, next_upper, next_rhs)
    x[:, even] = x_even
    x_odd = solved[..., 2 * n :] - solved[..., :n] @ x_even[:, :n_odd]
    x_odd[:, :n_after] -= solved[:, :n_after, :, n : 2 * n] @ x_even[:, 1 : 1 + n_after]
    x[:, odd] = x_odd
    return x


def solve_bordered(
    diagonal: Tensor, upper: Tensor, rhs: Tensor, border: Tensor, corner: Tensor, corner_rhs: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Solve [[H, C], [C', K]] [x; y] = [rhs; corner_rhs], H block-tridiagonal, y shared by the whole chain.

    Args:
        diagonal, upper: H as in :func:`solve`.
        rhs: [B, T, n].
        border: C, [B, T, n, S]. corner: K, [B, S, S]. corner_rhs: [B, S].

    Returns:
        x [B, T, n], y [B, S], and the Schur complement K - C' H^-1 C [B, S, S] (the information about y).
    """
    z = solve(diagonal, upper, torch.cat([border, rhs[..., None]], dim=-1))
    z_border, z_rhs = z[..., :-1], z[..., -1]
    schur = corner - (border.transpose(-1, -2) @ z_border).sum(1)
    y = torch.cholesky_solve(
        (corner_rhs - (border * z_rhs[..., None]).sum((1, 2)))[..., None], torch.linalg.cholesky(schur)
    )[..., 0]
    x = z_rhs - (z_border @ y[:, None, :, None])[..., 0]
    return x, y, schur
