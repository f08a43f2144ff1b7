"""From the source's own frame times to the clip's clock: slerp, linear, and what counts as measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from .rotations import slerp

Array = npt.NDArray[np.float64]
LONGEST_GAP_PERIODS = 1.5  # a resampled frame lies between measurements at most this many source periods apart
# Where the source itself has no frame in between (a variable frame rate), nothing was lost: as a slower camera would.
LONGEST_FRAME_S = 0.125
_SAME_TIME = 1e-4  # seconds


@dataclass(frozen=True)
class Resampling:
    """How T clip times fall between N measured times.

    Attributes:
        before, after: [T] indices of the measurements used (equal where one falls on the clip time).
        fraction: [T] 0..1 of the way from ``before`` to ``after``.
        valid: [T] both are measurements, at most 1.5 source periods apart; or neighbouring source frames at most
            ``LONGEST_FRAME_S`` apart.
    """

    before: npt.NDArray[np.int64]
    after: npt.NDArray[np.int64]
    fraction: Array
    valid: npt.NDArray[np.bool_]

    def linear(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """[N, ...] to [T, ...]; NaN where not valid."""
        values = np.asarray(values, dtype=np.float64)
        f = self.fraction.reshape(-1, *[1] * (values.ndim - 1))
        out = values[self.before] * (1 - f) + values[self.after] * f
        out[~self.valid] = np.nan
        return out.astype(np.float32)

    def rotation(self, matrices: npt.NDArray[np.floating]) -> Array:
        """Slerp of rotation matrices [N, 3, 3] to [T, 3, 3]; the identity where not valid."""
        r = torch.as_tensor(np.asarray(matrices, dtype=np.float64))
        out = slerp(r[self.before], r[self.after], torch.as_tensor(self.fraction)).numpy()
        out[~self.valid] = np.eye(3)
        return np.asarray(out)


def clip_times(start_s: float, end_s: float, fps: float) -> Array:
    """The clip's clock: ``start_s + k / fps``, as many frames as fit before ``end_s``."""
    count = max(int(np.floor((end_s - start_s) * fps + 1e-3)), 0)
    return start_s + np.arange(count) / fps


def source_period(times: npt.NDArray[np.floating]) -> float:
    """Median interval of the source's frame times, seconds."""
    return float(np.median(np.diff(times))) if len(times) > 1 else 0.0


def resampling(
    measured: npt.NDArray[np.floating], times: npt.NDArray[np.floating], source: npt.NDArray[np.floating]
) -> Resampling:
    """Plan the resampling.

    Args:
        measured: [N] rising times of the frames that were measured, N >= 1.
        times: [T] clip times.
        source: [M] rising times of all frames of the source, measured or not.
    """
    after = np.searchsorted(measured, times - _SAME_TIME)
    before = after - 1
    exact = (after < len(measured)) & (np.abs(measured[np.minimum(after, len(measured) - 1)] - times) <= _SAME_TIME)
    inside = (before >= 0) & (after < len(measured))
    before_c = np.clip(np.where(exact, after, before), 0, len(measured) - 1)
    after_c = np.clip(after, 0, len(measured) - 1)
    span = measured[after_c] - measured[before_c]
    close = span <= LONGEST_GAP_PERIODS * source_period(source) + _SAME_TIME
    lost = np.searchsorted(source, measured[after_c] - _SAME_TIME) - np.searchsorted(
        source, measured[before_c] + _SAME_TIME
    )
    close |= (lost <= 0) & (span <= LONGEST_FRAME_S + _SAME_TIME)
    fraction = np.where(span > 0, (times - measured[before_c]) / np.where(span > 0, span, 1.0), 0.0)
    valid = exact | (inside & close)
    return Resampling(before_c, after_c, np.clip(np.where(exact, 0.0, fraction), 0.0, 1.0), valid)
