"""Film as film: what transitions, moving cameras, third people, things before faces and calls do, and their truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from duologue.fitting.load_head import load_head_model
from duologue.synthesis import voices
from duologue.synthesis.avatar import build_avatar
from duologue.synthesis.film import Plate, camera_track, smear, takes
from duologue.synthesis.identities import IDENTITIES, load_identity
from duologue.synthesis.rasterize import project
from duologue.synthesis.render import VIDEO_NAME, render_conversation
from duologue.synthesis.scenario import Camera, Occlusion, PasserBy, Scenario, ShotPlan
from duologue.synthesis.truth import read_truth

TINY = replace(Scenario(), seconds=2.0, width=320, height=180, fps=10.0, shots=(ShotPlan(0.0),))
spoken = pytest.mark.skipif(not voices.available(), reason="espeak-ng is not installed")


def frames(folder: Path) -> list[np.ndarray]:
    with av.open(str(folder / VIDEO_NAME)) as container:
        return [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]


def test_a_dissolve_mixes_both_shots_and_a_fade_passes_black() -> None:
    shots = (ShotPlan(0.0), ShotPlan(4.0, transition="dissolve", transition_s=1.0), ShotPlan(8.0, transition="fade"))
    film = replace(TINY, seconds=12.0, shots=shots)
    assert takes(film, 0, 3.0) == [(0, 1.0)]
    assert takes(film, 0, 3.75) == [(0, 0.75), (1, 0.25)]
    assert takes(film, 1, 4.25) == [(0, 0.25), (1, 0.75)]
    assert takes(film, 2, 8.0) == [(2, 0.0)]
    assert takes(film, 1, 7.8) == [(1, pytest.approx(0.5))]


def test_a_moving_camera_zooms_evenly_and_a_still_one_does_not_move() -> None:
    film = replace(TINY, shots=(ShotPlan(0.0, zoom=2.0, handheld_deg=0.5),))
    track = camera_track(film, 0, Camera(), np.array([0.0, 1.0, 2.0]))
    np.testing.assert_allclose([c.focal_px for c in track], Camera().focal_px * np.array([1.0, np.sqrt(2.0), 2.0]))
    assert track[0].turn_deg != track[1].turn_deg
    assert len(set(camera_track(TINY, 0, Camera(), np.array([0.0, 1.0])))) == 1


def test_the_room_moves_as_a_turned_camera_sees_it() -> None:
    """A dot on the plate lands where the pinhole puts the same direction."""
    resting = Camera(focal_px=300.0)
    turned = replace(resting, turn_deg=(1.5, -1.0), roll_deg=2.0, focal_px=330.0)
    point = np.asarray(resting.position) + resting.world_to_camera.T @ np.array([0.12, 0.05, 1.0])
    picture = np.zeros((260, 420, 3), np.uint8)
    x, y = np.round(project(resting.to_camera(point), 300.0, 420, 260)[:2] - 0.5).astype(int)
    picture[y - 1 : y + 2, x - 1 : x + 2] = 255
    seen = Plate(picture, resting, (50, 40)).seen_from(turned, 320, 180)[..., 0].astype(float)
    rows, columns = np.indices(seen.shape)
    middle = np.array([(seen * columns).sum(), (seen * rows).sum()]) / seen.sum() + 0.5
    np.testing.assert_allclose(middle, project(turned.to_camera(point), 330.0, 320, 180)[:2], atol=0.8)


def test_a_smear_keeps_light_and_spreads_along_the_way() -> None:
    layer = np.zeros((41, 41, 4), np.uint8)
    layer[18:23, 18:23] = 200
    blurred = smear(layer, np.array([12.0, 0.0]))
    assert abs(int(blurred.sum()) - int(layer.sum())) < 0.03 * layer.sum()
    assert np.ptp(np.flatnonzero(blurred[20, :, 3])) > 12
    assert np.ptp(np.flatnonzero(blurred[:, 20, 3])) <= 6
    assert smear(layer, np.zeros(2)) is layer


def test_six_people_differ_in_shape_and_colour() -> None:
    model = load_head_model("canonical")
    people = [build_avatar(load_identity(name), model, 1) for name in IDENTITIES]
    assert len(people) >= 6
    for k, one in enumerate(people):
        for other in people[k + 1 :]:
            assert np.linalg.norm(one.shape - other.shape) > 2.0, (one.name, other.name)


@spoken
def test_truth_of_fades_close_ups_passers_by_and_occlusions(tmp_path: Path) -> None:
    film = replace(
        TINY,
        seconds=5.0,
        shots=(
            ShotPlan(0.0, handheld_deg=0.4),
            ShotPlan(3.0, framing="close-left", transition="fade", transition_s=0.6),
            ShotPlan(4.0, framing="over-left"),
        ),
        passers_by=(PasserBy("casey", 0.2, 2.0, behind=False),),
        occlusions=(Occlusion("right", "paper", 0.0, 1.0, 0.6),),
        shutter=0.5,
        music_snr_db=20.0,
        laughs=(4.0,),
    )
    truth = render_conversation(film, tmp_path)
    assert [(t.kind, t.shot) for t in truth.transitions] == [("fade", 1), ("cut", 2)]
    assert truth.transitions[0].start_s == pytest.approx(2.7)
    images = frames(tmp_path)
    assert images[30].mean() < 8 < images[10].mean()
    hidden = truth.b.visible_share[truth.times < 1.0]
    assert hidden[5] < 0.3 < hidden[0]
    assert not truth.pair[5]
    assert truth.a.visible_share.min() < 0.3  # somebody walked by
    close = truth.shot_index == 1
    assert not truth.pair[close].any()
    assert truth.a.visible[close].all()
    assert not truth.pair[truth.shot_index == 2].any()
    walker = truth.bystanders[0]
    here = np.isfinite(walker.box[:, 0])
    assert 0 < here.sum() < len(here)
    assert (np.diff(walker.box[here & (truth.shot_index == 0), 0]) > 0).all()
    again = read_truth(tmp_path)
    assert again.transitions == truth.transitions
    assert again.occlusions == truth.occlusions
    np.testing.assert_array_equal(again.bystanders[0].box, walker.box)
    assert again.laughs == ((4.0, 5.0),)


@spoken
@pytest.mark.parametrize(("screen", "backdrop"), [("thirds", "virtual"), ("picture-in-picture", "blurred")])
def test_calls_put_each_face_into_its_window(tmp_path: Path, screen: str, backdrop: str) -> None:
    film = replace(TINY, seconds=1.0, split_screen=True, screen=screen, backdrop=backdrop, rotate=90)
    truth = render_conversation(film, tmp_path)
    for person in (truth.a, truth.b):
        x, y, w, h = person.window
        middle = 0.5 * (person.box[:, :2] + person.box[:, 2:])
        assert ((middle > [x, y]) & (middle < [x + w, y + h])).all()
    assert not truth.pair.any()
    stored = frames(tmp_path)[0]
    assert stored.shape == (film.width, film.height, 3)  # on its side; metadata turn it back
    with av.open(str(tmp_path / VIDEO_NAME)) as container:
        assert next(container.decode(video=0)).rotation % 360 == 270
