"""Where both eyes look together, from where their irises lie on the fitted eyeballs.

An eye turned far from the camera tells little by its angle: its iris stands at the eyeball's rim, and 0.3 mm are
5 degrees. Taken eye by eye, an angle at the rim is nearly worthless, and the other eye, half hidden by the nose and
guessed as looking at the camera, is believed instead. In millimetres across the line of sight both eyes are equally
good measurements, and an iris at the rim rules the guess out. The posterior of the common direction is therefore
computed from the places, on a grid. A place is linear in the direction, so that what the frames of a fixation say
adds up exactly, *before* it becomes an angle: noise at the rim averages out instead of bending the mean.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .camera import Camera
from .fixations import Fixations

Array = npt.NDArray[np.float64]

IRIS_SD_PX = 0.5
IRIS_SD_SCALE = 0.006  # of face scale, in addition: the detector's error grows with the face
PLACE_SD = 0.0005  # metres: what is wrong with one eyeball's place, or one iris' reading, in frame after frame
SIDE = 0.5  # cosine of the angle, 60 degrees, from which on less than the whole iris of a turned eye is seen
LEAST_FACING = 0.1  # an eye whose socket faces away is not less sure than by this factor
RANGE_SD = np.radians((60.0, 40.0))  # weak: eyes are not turned further in the head, whatever the rim says (yaw, pitch)
RIM, RIM_SD = -0.05, 0.1  # cosine of the angle to the camera at which, and how suddenly, irises are lost from sight
NOISE_SHARE = 0.7  # of the sd, what is not the same frame after frame
_STEP = np.radians(4.0)  # finer than half the spread that PLACE_SD leaves
_YAW, _PITCH = np.arange(-15, 16) * _STEP, np.arange(-10, 11) * _STEP
_GRID = np.stack([g.ravel() for g in np.meshgrid(_YAW, _PITCH, indexing="ij")], -1)  # [K, 2]
OUTWARD = np.array([[0.5, 0.0, np.sqrt(0.75)], [-0.5, 0.0, np.sqrt(0.75)]])  # sockets look 30 degrees outward
CHUNK = 128  # frames at once
_FINER, _FINE = 2, np.linspace(-3.0, 3.0, 9)  # times a grid is laid anew; its lines, in standard deviations


@dataclass(frozen=True)
class IrisEvidence:
    """What the irises of N frames say of the direction d that both eyes share, in the head's frame.

    An eye's log likelihood is -d.A d / 2 + b.d (places are linear in d); that its iris is seen at all says the rest.

    Attributes:
        information: [N, 2, 3, 3] A, of noise alone. pull: [N, 2, 3] b. precision: [N, 2] of the places, 1 / m^2.
        constant: [N, 2] metres, sd of a place's error that no frames remove.
        sight: [N, 2, 3] from the camera to the eyes, unit, head's frame. usable: [N, 2] the iris can be read.
    """

    information: Array
    pull: Array
    precision: Array
    constant: Array
    sight: Array
    usable: npt.NDArray[np.bool_]

    def pooled(self, fixations: Fixations, rotation: Array) -> IrisEvidence:
        """With what the other frames of each frame's fixation say, held in the head or in the world."""
        n = len(self.pull)
        turned = np.einsum("nij,nejk,nlk->neil", rotation, self.information, rotation)
        pulled = np.einsum("nij,nej->nei", rotation, self.pull)
        head, world = fixations.pooled(
            np.concatenate([self.information.reshape(n, 18), self.pull.reshape(n, 6), self.precision], 1),
            np.concatenate([turned.reshape(n, 18), pulled.reshape(n, 6), self.precision], 1),
        )
        back = np.einsum("nji,nejk,nkl->neil", rotation, world[:, :18].reshape(n, 2, 3, 3), rotation)
        return replace(
            self,
            information=head[:, :18].reshape(n, 2, 3, 3) + back,
            pull=head[:, 18:24].reshape(n, 2, 3)
            + np.einsum("nji,nej->nei", rotation, world[:, 18:24].reshape(n, 2, 3)),
            precision=head[:, 24:] + world[:, 24:],
        )

    def together(self) -> tuple[Array, Array]:
        """Of both eyes, what is constant counted once however many frames there are: A [N, 3, 3], b [N, 3]."""
        left = 1 / (1 + self.precision * self.constant**2)
        return np.einsum("ne,neij->nij", left, self.information), np.einsum("ne,nei->ni", left, self.pull)

    def direction(self) -> tuple[Array, Array]:
        """Posterior mean: yaw toward +x and pitch toward +y [N, 2], radians, and the sd per axis [N].

        NaN sd where nothing is known.
        """
        information, pull = self.together()
        mean, sd = np.zeros((len(pull), 2)), np.full(len(pull), np.nan)
        for start in range(0, len(mean), CHUNK):
            part = slice(start, start + CHUNK)
            mean[part], spread = self._part(part, information[part], pull[part])
            known = np.trace(information[part], axis1=1, axis2=2) > 0
            sd[part] = np.where(known, np.sqrt((spread**2).mean(-1)), np.nan)
        return mean, sd

    def _part(self, part: slice, information: Array, pull: Array) -> tuple[Array, Array]:
        n = len(pull)
        mean, sd = self._moments(part, information, pull, np.broadcast_to(_GRID, (n, *_GRID.shape)))
        sd = np.hypot(sd, 0.3 * _STEP)
        for _ in range(_FINER):
            lines = np.stack([g.ravel() for g in np.meshgrid(_FINE, _FINE, indexing="ij")], -1)
            step = (_FINE[1] - _FINE[0]) * sd
            mean, sd = self._moments(part, information, pull, mean[:, None] + sd[:, None] * lines)
            sd = np.hypot(sd, 0.3 * step)
        return mean, sd

    def _moments(self, part: slice, information: Array, pull: Array, grid: Array) -> tuple[Array, Array]:
        """Mean and sd per axis [n, 2] over a grid [n, K, 2] of yaw and pitch."""
        yaw, pitch = grid[..., 0], grid[..., 1]
        d = np.stack([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)], 1)  # [n, 3, K]
        log = (pull[:, :, None] * d).sum(1) - 0.5 * (d * (information @ d)).sum(1)
        # Beyond the rim an iris comes back to where it was: such a direction would not be seen.
        hidden = np.minimum(-(self.sight[part] @ d) - RIM, 0.0) / RIM_SD
        log -= 0.5 * np.where(self.usable[part][..., None], hidden * hidden, 0.0).sum(1)
        log -= 0.5 * ((grid / RANGE_SD) ** 2).sum(-1)
        weight = np.exp(log - log.max(-1, keepdims=True))
        weight /= weight.sum(-1, keepdims=True)
        mean = (weight[..., None] * grid).sum(1)
        return mean, np.sqrt(np.maximum((weight[..., None] * grid**2).sum(1) - mean**2, 0.0))


def iris_evidence(
    irises: npt.NDArray[np.floating], rotation: Array, eyeballs: Array, radius: float, camera: Camera,
    usable: npt.NDArray[np.bool_], place_sd: float,
) -> IrisEvidence:  # fmt: skip
    """The irises of N frames as evidence of where both eyes look.

    Args:
        irises: [N, 2, 2] pixels, iris centres (left, right). rotation: [N, 3, 3] model to camera.
        eyeballs: [N, 2, 3] metres, centres, camera frame. radius: metres, eyeball centre to iris centre.
        usable: [N, 2] the iris can be read.
        place_sd: metres, of what is wrong with an eye's place in frame after frame.
    """
    away = np.linalg.norm(eyeballs, axis=-1, keepdims=True)
    sight = eyeballs / away  # from the camera
    right = np.stack([sight[..., 2], np.zeros(sight.shape[:-1]), -sight[..., 0]], -1)
    right /= np.linalg.norm(right, axis=-1, keepdims=True)
    down = np.cross(sight, right)
    # Irises on the plane through the eyeball's centre, across the line of sight.
    ray = np.concatenate([camera.normalise(irises), np.ones((*irises.shape[:-1], 1))], -1)
    place = ray * (away / (ray * sight).sum(-1, keepdims=True)) - eyeballs
    depth = eyeballs[..., 2]
    pixel_sd = np.hypot(IRIS_SD_PX, IRIS_SD_SCALE * camera.focal_px * 0.063 / depth)
    facing = -(np.einsum("nij,ej->nei", rotation, OUTWARD) * sight).sum(-1)
    worse = 1 / np.clip(facing / SIDE, LEAST_FACING, 1.0)
    precision = np.where(usable, (pixel_sd * depth / camera.focal_px * worse) ** -2, 0.0)
    information, pull = np.zeros((len(irises), 2, 3, 3)), np.zeros((len(irises), 2, 3))
    for axis in (right, down):
        moved = radius * np.einsum("nij,nei->nej", rotation, axis)  # of the place along the axis, by the direction
        information += np.einsum("ne,nei,nej->neij", precision, moved, moved)
        pull += np.einsum("ne,nei->nei", precision * np.where(usable, (place * axis).sum(-1), 0.0), moved)
    toward = np.einsum("nij,nei->nej", rotation, sight)
    return IrisEvidence(information, pull, precision, place_sd * worse, toward, usable)


def common_gaze(
    irises: npt.NDArray[np.floating], rotation: Array, eyeballs: Array, radius: float, camera: Camera,
    usable: npt.NDArray[np.bool_],
) -> tuple[Array, Array]:  # fmt: skip
    """Direction that both eyes share, in the head's frame, of every frame by itself.

    Args: of :func:`iris_evidence`.

    Returns:
        Yaw toward +x and pitch toward +y [N, 2], radians, and their sd per axis [N]; NaN sd where no iris can be read.
    """
    return iris_evidence(irises, rotation, eyeballs, radius, camera, usable, PLACE_SD).direction()
