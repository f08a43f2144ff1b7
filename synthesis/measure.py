"""What is true of a film: parameters, cameras, boxes, gaze and turns of everybody in it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from .actor import Actor
from .dress import FLIP
from .film import transitions
from .rasterize import project
from .scenario import Camera, Scenario
from .script import Line, speech_segments
from .soundtrack import laughs, turns_of
from .truth import BystanderTruth, OcclusionTruth, PersonTruth, Truth

Array = npt.NDArray[np.float64]
MUTUAL_ANGLE = np.radians(10.0)
SEEN = 0.3  # least share of the face's front that must show for the person to count as seen


@dataclass(frozen=True)
class Window:
    """The part x, y, width, height of the picture that one camera fills."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Stage:
    """Everything that is fixed before the first frame.

    Attributes:
        cameras: [shot][T] of the room; of each person's own in a split screen: [shot][2][T] flattened by ``camera_of``.
        windows: of the left and the right person. walkers: one per passer-by.
    """

    scenario: Scenario
    times: Array
    lines: tuple[Line, ...]
    actors: tuple[Actor, Actor]
    walkers: tuple[Actor, ...]
    shot_of: npt.NDArray[np.int64]
    cameras: tuple[tuple[list[Camera], list[Camera]], ...]
    windows: tuple[Window, Window]

    def camera_of(self, who: int, t: int) -> Camera:
        return self.cameras[int(self.shot_of[t])][who][t]


def unit(v: Array) -> Array:
    return np.asarray(v / np.linalg.norm(v, axis=-1, keepdims=True))


def _person(stage: Stage, who: int, shares: Array) -> PersonTruth:
    actor, window = stage.actors[who], stage.windows[who]
    motion, avatar = actor.motion, actor.avatar
    count = len(stage.times)
    rotation, translation, centre, gaze = (np.zeros((count, 3)) for _ in range(4))
    marks = np.zeros((count, 478, 3), np.float32)
    focal = np.zeros(count)
    middle = np.zeros((count, 3))
    for t in range(count):
        camera = stage.camera_of(who, t)
        focal[t] = camera.focal_px
        to_camera = camera.world_to_camera
        rotation[t] = Rotation.from_matrix(to_camera @ motion.rotation[t]).as_rotvec()
        translation[t] = camera.to_camera(motion.root[t])
        centre[t] = camera.to_camera(actor.centre(t))
        axes = actor.eye_axes(t) @ (to_camera @ motion.rotation[t] @ FLIP).T
        gaze[t] = unit(axes.mean(0))
        marks[t] = actor.landmarks(t, camera, camera.focal_px, window.width, window.height)
        middle[t] = project(centre[t], camera.focal_px, window.width, window.height)
    marks[..., :2] += np.array([window.x, window.y], np.float32)
    skin = marks[:, :468]
    seen = (centre[:, 2] > 0.05) & np.all((middle[:, :2] >= 0) & (middle[:, :2] < [window.width, window.height]), 1)
    speaking = np.zeros(count, dtype=bool)
    for start, end in speech_segments(stage.lines, who, bridge_s=0.2):
        speaking |= (stage.times >= start) & (stage.times < end)

    def gap(upper: int, lower: int) -> Array:
        return np.asarray(actor.size * np.linalg.norm(actor.faces[:, upper] - actor.faces[:, lower], axis=-1))

    person = stage.scenario.people[who]
    return PersonTruth(
        voice=person.voice,
        portrait=person.portrait,
        size=person.size,
        shape=avatar.shape.astype(np.float32),
        expression=motion.expression.astype(np.float32),
        jaw=motion.jaw.astype(np.float32),
        eyes=motion.eyes.astype(np.float32),
        rotation=rotation.astype(np.float32),
        translation=translation.astype(np.float32),
        head_centre=centre.astype(np.float32),
        gaze=gaze.astype(np.float32),
        looking_at_partner=np.zeros(count, np.float32),
        landmarks=marks,
        box=np.concatenate([skin[..., :2].min(1), skin[..., :2].max(1)], axis=-1).astype(np.float32),
        aperture=np.stack([gap(386, 374), gap(159, 145)], axis=-1).astype(np.float32),
        lips=gap(13, 14).astype(np.float32),
        speaking=speaking,
        visible=seen,
        visible_share=shares.astype(np.float32),
        focal_px=focal,
        window=(window.x, window.y, window.width, window.height),
    )


def _faces(person: PersonTruth, share: Array) -> npt.NDArray[np.bool_]:
    """[T] the person is in the picture, turned at most 90 degrees away from the camera, and not hidden."""
    ahead = Rotation.from_rotvec(person.rotation).as_matrix() @ np.array([0.0, 0.0, -1.0])
    toward = np.sum(ahead * person.head_centre, axis=1) < 0.0
    return np.asarray(person.visible & toward & (share > SEEN))


def _bystander(stage: Stage, number: int, shares: Array) -> BystanderTruth:
    actor, plan = stage.walkers[number], stage.scenario.passers_by[number]
    count = len(stage.times)
    window = stage.windows[0]
    box, centre = np.full((count, 4), np.nan, np.float32), np.full((count, 3), np.nan, np.float32)
    rotation = np.full((count, 3), np.nan, np.float32)
    here = (stage.times >= plan.start_s) & (stage.times < plan.start_s + plan.seconds)
    for t in np.flatnonzero(here).tolist():
        camera = stage.camera_of(0, t)
        middle = camera.to_camera(actor.centre(t))
        if middle[2] < 0.05:
            continue
        marks = actor.landmarks(t, camera, camera.focal_px, window.width, window.height)[:468, :2]
        centre[t] = middle
        box[t] = np.concatenate([marks.min(0), marks.max(0)])
        rotation[t] = Rotation.from_matrix(camera.world_to_camera @ actor.motion.rotation[t]).as_rotvec()
    return BystanderTruth(plan.portrait, box, centre, rotation, shares.astype(np.float32))


def truth_of(stage: Stage, shares: Array, walker_shares: Array) -> Truth:
    """The truth of a filmed stage.

    Args:
        shares: [2, T] how much of the front of each face can be seen; walker_shares: [P, T].
    """
    scenario, actors = stage.scenario, stage.actors
    count = len(stage.times)
    people = [_person(stage, who, shares[who]) for who in (0, 1)]
    world = [np.stack([k.centre(t) for t in range(count)]) for k in actors]
    looks = []
    for who in (0, 1):
        toward = unit(world[1 - who] - world[who])
        axes = np.stack([actors[who].eye_axes(t) @ (actors[who].motion.rotation[t] @ FLIP).T for t in range(count)])
        cosine = np.sum(unit(axes.mean(1)) * toward, axis=-1)
        looks.append(np.arccos(np.clip(cosine, -1.0, 1.0)).astype(np.float32))
    a, b = (replace(p, looking_at_partner=look) for p, look in zip(people, looks, strict=True))
    first = [float(stage.times[np.argmax(stage.shot_of == s)]) for s in np.unique(stage.shot_of).tolist()]
    model = actors[0].avatar.model
    return Truth(
        times=stage.times,
        fps=scenario.fps,
        width=scenario.width,
        height=scenario.height,
        shots=tuple(zip(first, [*first[1:], scenario.seconds], strict=True)),
        shot_index=stage.shot_of.astype(np.int64),
        focal_px=a.focal_px,
        turns=turns_of(stage.lines, scenario),
        distance_m=np.linalg.norm(world[1] - world[0], axis=-1).astype(np.float32),
        mutual_gaze=(looks[0] < MUTUAL_ANGLE) & (looks[1] < MUTUAL_ANGLE),
        av_offset_s=scenario.av_offset_s,
        split_screen=scenario.split_screen,
        head_model_id=model.model_id,
        head_model_sha256=model.sha256,
        head_model_tier=model.tier,
        seed=scenario.seed,
        pair=_faces(a, shares[0]) & _faces(b, shares[1]) & (not scenario.split_screen),
        transitions=transitions(scenario, tuple(first)),
        occlusions=tuple(
            OcclusionTruth("ab"[o.who == "right"], o.what, o.start_s, o.start_s + o.seconds)
            for o in scenario.occlusions
        ),
        bystanders=tuple(_bystander(stage, k, walker_shares[k]) for k in range(len(stage.walkers))),
        laughs=laughs(scenario),
        music=scenario.music_snr_db is not None,
        screen=scenario.screen if scenario.split_screen else "",
        backdrop=scenario.backdrop,
        rotate=scenario.rotate,
        a=a,
        b=b,
    )
