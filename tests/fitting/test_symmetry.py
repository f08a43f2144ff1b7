"""A mirrored face gives the mirrored result: the embedded head and every step of its fit are the same on both sides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from duologue.fitting.compiled_model import compile_model, rigid_part
from duologue.fitting.fit import FitOptions, HeadFitter
from duologue.fitting.load_head import load_head_model
from duologue.fitting.reduce import reduce
from duologue.fitting.reduced import ReducedModel
from duologue.schemas.heads import FittedPair
from duologue.schemas.tracks import ClipTracks, FaceTrack
from duologue.synthesis.face_tracks import TrackOptions, sample_clip
from duologue.transforms.mirror import mirror_map

OTHER_SIDE = np.array([-1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def head() -> ReducedModel:
    return reduce(load_head_model("canonical"))


def mirrored(clip: ClipTracks) -> ClipTracks:
    """What a network without a side error would say of the mirrored video: a stands where b stood."""

    def person(track: FaceTrack) -> FaceTrack:
        landmarks, box = track.landmarks[:, mirror_map()].copy(), track.box.copy()
        landmarks[..., 0] = clip.width - 1 - landmarks[..., 0]
        box[:, [0, 2]] = clip.width - 1 - track.box[:, [2, 0]]
        return replace(track, landmarks=landmarks, box=box)

    return replace(clip, a=person(clip.b), b=person(clip.a))


def fitted(head: ReducedModel, clip: ClipTracks, options: FitOptions) -> FittedPair:
    result = HeadFitter(head, options).fit([clip])[0]
    assert isinstance(result, FittedPair), result
    return result


def test_what_is_compiled_of_the_head_is_symmetric(head: ReducedModel) -> None:
    model = compile_model(head, 4, "cpu")
    other = torch.as_tensor(mirror_map()[:468])
    flip = torch.as_tensor(OTHER_SIDE, dtype=model.normals.dtype)
    assert (model.normals[other] * flip - model.normals).abs().max() < 1e-3
    held = rigid_part(model)[1]
    assert set(held.tolist()) == set(other[held].tolist())


@pytest.mark.parametrize(
    "options", [FitOptions(), FitOptions(detector_bias=False, turned_error=0.0, iris_error=0.0)], ids=("video", "exact")
)
def test_mirrored_landmarks_give_mirrored_heads(head: ReducedModel, options: FitOptions) -> None:
    tracks = replace(TrackOptions(), n_frames=24, occlusions=(0, 1))  # all of them determine the identity
    clip, _ = sample_clip(load_head_model("second"), tracks, 6)
    one, two = fitted(head, clip, options), fitted(head, mirrored(clip), options)
    for mine, theirs in ((one.a, two.b), (one.b, two.a)):
        # A rotation vector is axial: its x stays, its y and z turn round.
        assert np.degrees(np.abs(mine.rotation + theirs.rotation * OTHER_SIDE)).max() < 0.02
        assert np.abs(mine.head_centre - theirs.head_centre * OTHER_SIDE).max() < 1e-3
        assert np.nanmax(np.abs(mine.gaze - theirs.gaze * OTHER_SIDE)) < 2e-3
        assert np.nanmax(np.abs(mine.gaze_sd - theirs.gaze_sd)) < 1e-3
        assert mine.scale == pytest.approx(theirs.scale, abs=1e-4)
