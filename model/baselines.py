"""What any model must beat: motion without a model. Motions are [T, D]; D = 56 in :mod:`.dualtalk_format`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..schemas.errors import UsageError
from ..schemas.tracks import Float32

Frames = npt.NDArray[np.floating]


def zero(truth: Frames) -> Float32:
    """The neutral face, not moving."""
    return np.zeros(truth.shape, np.float32)


def oracle_mean(truth: Frames) -> Float32:
    """The clip's own true mean frame, held: knows the person, moves nothing. No method is given this."""
    return np.broadcast_to(truth.mean(axis=0, dtype=np.float64).astype(np.float32), truth.shape).copy()


def mean_pose(mean: Frames, frames: int) -> Float32:
    """The mean frame [D] of a training set, held for ``frames``."""
    return np.broadcast_to(mean.astype(np.float32), (frames, len(mean))).copy()


def copy_partner(partner: Frames, frames: int) -> Float32:
    """The partner's true motion as one's own; its last frame is held where it is shorter."""
    index = np.minimum(np.arange(frames), len(partner) - 1)
    return partner[index].astype(np.float32)


@dataclass(frozen=True)
class NearestNeighbour:
    """Stitches what training people did while *their* partner moved most like this partner (as in Ng et al. 2022).

    Attributes:
        keys: [M, K] partner segments of the library, every ``step``-th frame, flattened.
        answers: [M, segment, D] what the other person did meanwhile.
        segment: frames; 2 s at 25 fps. step: frames between those compared.
        mean: [D] of all library frames.
    """

    keys: Float32
    answers: Float32
    segment: int
    step: int
    mean: Float32

    @classmethod
    def of(cls, clips: Iterable[tuple[Frames, Frames]], segment: int = 50, step: int = 5) -> NearestNeighbour:
        """A library from training clips.

        Args:
            clips: (own motion, partner motion), both [T, D]; clips shorter than a segment only count for the mean.

        Raises:
            UsageError: no clip is as long as a segment.
        """
        keys, answers = [], []
        total, count = 0.0, 0
        for own, partner in clips:
            total = total + own.sum(axis=0, dtype=np.float64)
            count += len(own)
            for start in range(0, min(len(own), len(partner)) - segment + 1, segment):
                part = slice(start, start + segment)
                keys.append(partner[part][::step].astype(np.float32).reshape(-1))
                answers.append(own[part].astype(np.float32))
        if not keys:
            raise UsageError(f"no training clip has {segment} frames of both people")
        mean = np.asarray(total / count, np.float32)
        return cls(np.stack(keys), np.stack(answers), segment, step, mean)

    def predict(self, partner: Frames, frames: int, count: int = 1) -> Float32:
        """[count, frames, D] for a partner's true motion [T', D]: the nearest, the second nearest segments and so on;
        the partner's last frame is held where it is shorter.

        Raises:
            UsageError: the library has fewer segments than ``count``.
        """
        if count > len(self.keys):
            raise UsageError(f"{count} nearest of {len(self.keys)} segments")
        length = -(-frames // self.segment) * self.segment
        held = copy_partner(partner, length)
        queries = held.reshape(-1, self.segment, held.shape[1])[:, :: self.step].reshape(-1, self.keys.shape[1])
        distance = (self.keys**2).sum(1)[None] - 2 * queries @ self.keys.T
        if count == 1:
            chosen = distance.argmin(axis=1)[:, None]
        else:
            near = np.argpartition(distance, count - 1, axis=1)[:, :count]
            chosen = np.take_along_axis(near, np.take_along_axis(distance, near, 1).argsort(axis=1), 1)
        return self.answers[chosen.T].reshape(count, length, -1)[:, :frames]
