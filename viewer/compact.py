"""Fewer expression modes for a page: a basis of the motion that is shown, instead of all that a head model can do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
LARGEST = 2_000_000  # numbers in the modes of a page; more are compacted
TOLERANCE_M = 5e-5


@dataclass(frozen=True)
class Basis:
    """Expression modes of a page.

    Attributes:
        modes: [V, 3, K] metres.
        project: [E, K]: a row's coefficients times this are the page's; None where they are the row's own.
    """

    modes: npt.NDArray[np.floating]
    project: Array | None = None

    def coefficients(self, expression: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """[T, E] of a row -> [T, K] of the page; NaN rows stay NaN."""
        if self.project is None:
            return expression
        return np.asarray(expression.astype(np.float64) @ self.project)


def compact_modes(
    modes: npt.NDArray[np.floating], coefficients: npt.NDArray[np.floating], tolerance_m: float = TOLERANCE_M
) -> Basis:
    """Principal directions of the vertex motion that the coefficients make.

    Args:
        modes: [V, 3, E]. coefficients: [N, <=E], everything that will be shown; rows with NaN are left out.

    Returns:
        The smallest basis whose root-mean-square vertex error is at most ``tolerance_m`` in every row.
    """
    modes = modes[..., : coefficients.shape[1]]
    vertices, _, count = modes.shape
    flat = modes.reshape(vertices * 3, count).astype(np.float64)
    rows = coefficients[np.isfinite(coefficients).all(axis=1)].astype(np.float64)
    power, axes = np.linalg.eigh(flat.T @ flat / vertices)
    keep = power > power.max(initial=0.0) * 1e-12
    root = np.sqrt(power[keep])
    into = axes[:, keep] * root  # coefficients -> coordinates whose length is the RMS vertex displacement
    motion = rows @ into
    _, directions = np.linalg.eigh(motion.T @ motion)
    directions = directions[:, ::-1]
    left = np.sum(motion**2, axis=1)[:, None] - np.cumsum((motion @ directions) ** 2, axis=1)
    worst = np.sqrt(np.maximum(left, 0.0)).max(axis=0, initial=0.0)
    enough = np.flatnonzero(worst <= tolerance_m)
    chosen = directions[:, : (enough[0] + 1 if len(enough) else directions.shape[1])]
    made = flat @ ((axes[:, keep] / root) @ chosen)
    return Basis(made.reshape(vertices, 3, -1), into @ chosen)
