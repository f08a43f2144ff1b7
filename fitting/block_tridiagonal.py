"""Symmetric positive definite block-tridiagonal systems by cyclic reduction, with an optional dense border.

Every level eliminates every second block of every system at once, so that a chain of T blocks costs log2(T) batched
steps: the same code keeps a GPU busy and spares a CPU the Python loop over time. (Golub & Van Loan, Matrix
Computations, 4.5.4.) The elimination is kept, so that another right-hand side costs products with vectors only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Factor:
    """A factorised system of B chains of T blocks of n unknowns.

    Attributes:
        levels: of each reduction, the inverses of the K blocks that it eliminates [B, K, n, n], and these times the
            blocks that tie them to their neighbours before and after.
        last: [B, 1, n, n] Cholesky factor of the block that is left.
    """

    levels: tuple[tuple[Tensor, Tensor, Tensor], ...]
    last: Tensor

    def solve(self, rhs: Tensor, level: int = 0) -> Tensor:
        """x [B, T, n, m] of H x = rhs."""
        if level == len(self.levels):
            return torch.cholesky_solve(rhs, self.last)
        inverse, before, after = self.levels[level]
        n_odd, n_after = before.shape[1], after.shape[1]
        odd, even = rhs[:, 1::2], rhs[:, 0::2].clone()
        even[:, :n_odd] -= before.transpose(-1, -2) @ odd
        even[:, 1 : 1 + n_after] -= after.transpose(-1, -2) @ odd[:, :n_after]
        x = torch.empty_like(rhs)
        x_even = self.solve(even, level + 1)
        x[:, 0::2] = x_even
        x_odd = inverse @ odd
        x_odd -= before @ x_even[:, :n_odd]
        x_odd[:, :n_after] -= after @ x_even[:, 1 : 1 + n_after]
        x[:, 1::2] = x_odd
        return x


def factorise(diagonal: Tensor, upper: Tensor, tail: int | None = None) -> Factor:
    """Factorise H.

    Args:
        diagonal: [B, T, n, n] symmetric blocks H[t, t].
        upper: [B, T - 1, n, n] blocks H[t, t + 1]; H[t + 1, t] is the transpose.
        tail: the blocks of ``upper`` are diagonal but for their last ``tail`` rows and columns; None if they are not.

    Raises:
        torch.linalg.LinAlgError: H is not positive definite.
    """
    levels = []
    while diagonal.shape[1] > 1:
        before, after = upper[:, 0::2], upper[:, 1::2]  # H[2k, 2k + 1], H[2k + 1, 2k + 2]
        n_odd, n_after = before.shape[1], after.shape[1]
        # Inverse and product: several times faster than batched triangular solves, and exact enough in fp64.
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(diagonal[:, 1::2]))
        to_before = _times(inverse, before.transpose(-1, -2), tail)
        to_after = _times(inverse[:, :n_after], after, tail)
        left = diagonal[:, 0::2].clone()
        left[:, :n_odd] -= _times(to_before.transpose(-1, -2), before.transpose(-1, -2), tail)
        left[:, 1 : 1 + n_after] -= _times(to_after.transpose(-1, -2), after, tail)
        upper = -_times(to_after.transpose(-1, -2), before[:, :n_after].transpose(-1, -2), tail).transpose(-1, -2)
        levels.append((inverse, to_before, to_after))
        diagonal, tail = left, None  # what was eliminated ties everything with everything
    return Factor(tuple(levels), torch.linalg.cholesky(diagonal))


def _times(full: Tensor, block: Tensor, tail: int | None) -> Tensor:
    """``full @ block``, [..., n, n]; of the block only its diagonal and its last ``tail`` rows and columns count."""
    if tail is None:
        return full @ block
    head = full.shape[-1] - tail
    return torch.cat(
        [
            full[..., :head] * torch.diagonal(block, dim1=-2, dim2=-1)[..., None, :head],
            full[..., head:] @ block[..., head:, head:],
        ],
        -1,
    )


def solve(diagonal: Tensor, upper: Tensor, rhs: Tensor) -> Tensor:
    """x [B, T, n, m] of H x = rhs, for H as in :func:`factorise`."""
    return factorise(diagonal, upper).solve(rhs)


@dataclass(frozen=True)
class BorderedFactor:
    """[[H, C], [C', K]] but for its corner K, which may change: y is shared by the whole chain.

    Attributes:
        chain: of H. border: C, [B, T, n, S]. solved: H^-1 C. taken: C' H^-1 C, [B, S, S].
    """

    chain: Factor
    border: Tensor
    solved: Tensor
    taken: Tensor

    @classmethod
    def of(cls, chain: Factor, border: Tensor) -> BorderedFactor:
        """Factorise with the border [B, T, n, S] of a factorised chain."""
        solved = chain.solve(border)
        return cls(chain, border, solved, (border.transpose(-1, -2) @ solved).sum(1))

    def solve(self, rhs: Tensor, corner: Tensor, corner_rhs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Solve [[H, C], [C', K]] [x; y] = [rhs; corner_rhs].

        Args:
            rhs: [B, T, n]. corner: K, [B, S, S]. corner_rhs: [B, S].

        Returns:
            x [B, T, n], y [B, S], and the Schur complement K - C' H^-1 C [B, S, S] (the information about y).
        """
        z = self.chain.solve(rhs[..., None])[..., 0]
        schur = corner - self.taken
        y = torch.cholesky_solve(
            (corner_rhs - (self.border * z[..., None]).sum((1, 2)))[..., None], torch.linalg.cholesky(schur)
        )[..., 0]
        return z - (self.solved @ y[:, None, :, None])[..., 0], y, schur
