from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from duologue.schemas.errors import UsageError
from duologue.synthesis.scenario import Camera, Scenario, ShotPlan, check, load_scenario


def test_default_camera_has_the_worlds_axes() -> None:
    camera = Camera(position=(0.0, 0.0, -2.0), look_at=(0.0, 0.0, 0.0))
    np.testing.assert_allclose(camera.world_to_camera, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(camera.to_camera(np.array([0.1, 0.2, 0.0])), [0.1, 0.2, 2.0])


def test_any_camera_is_a_rotation_and_sees_its_target_ahead() -> None:
    camera = Camera(position=(0.7, -0.4, -1.9), look_at=(0.1, 0.2, 0.3), roll_deg=7.0)
    rotation = camera.world_to_camera
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    x, y, z = camera.to_camera(np.array(camera.look_at))
    assert abs(x) < 1e-12
    assert abs(y) < 1e-12
    assert z > 1.0


def test_yaml_keeps_defaults_and_reads_types(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "seconds: 5\nnoise_snr_db: null\nsplit_screen: true\n"
        "shots:\n- {start_s: 0, camera: {focal_px: 900, position: [0, 0, -2]}}\n"
    )
    scenario = load_scenario(path)
    assert scenario == replace(
        Scenario(), seconds=5.0, noise_snr_db=None, split_screen=True,
        shots=(ShotPlan(0.0, Camera(focal_px=900.0, position=(0.0, 0.0, -2.0))),),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("second: 5", "has no second"),
        ("seconds: long", "must be of type float"),
        ("seconds: 0", "between 1 and 3600"),
        ("shots: []", "first shot"),
        ("shots: [{start_s: 1, camera: {}}]", "first shot"),
        ("shots: [{start_s: 0, framing: wide}]", "shots.0..framing"),
        ("shots: [{start_s: 0, transition: dissolve}]", "nothing to dissolve"),
        ("shots: [{start_s: 0, zoom: 9}]", "zoom"),
        ("passers_by: [{portrait: nobody}]", "no portrait"),
        ("occlusions: [{what: cat}]", "occlusions.0..what"),
        ("backdrop: blurred", "needs split_screen"),
        ("rotate: 45", "rotate"),
        ("shutter: 2", "shutter"),
        ("{split_screen: true, passers_by: [{}]}", "split screen has neither"),
        ("width: 641", "multiple of 4"),
        ("split_screen: 1", "of type bool"),
        ("left: {portrait: nobody, voice: en, rate: 1, pitch: 1, position: [0, 0, 0], body_deg: 0}", "no portrait"),
        ("left: [1]", "must be a mapping"),
        ("a: [", "not YAML"),
        ("dropped_share: 2", "dropped_share"),
        ("crf: 99", "crf is 99; it must lie between 0 and 51"),
        ("seed: -3", "seed"),
        ("grain: -1", "grain"),
        ("noise_snr_db: .nan", "noise_snr_db is nan"),
        ("noise_snr_db: .inf", "noise_snr_db is inf: say null for none"),
        ("music_snr_db: .inf", "music_snr_db is inf: say null for none"),
        ("speed: 3", "^scenario has no speed; it has seconds"),
        ("mutual_share: 5", "mutual_share"),
        ("laughs: [-1]", "laughs.0."),
        ("left: {portrait: collins, voice: en, rate: 0, pitch: 1, position: [-1, 0, 0], body_deg: 0}", "left.rate"),
        ("left: {portrait: collins, voice: en, rate: 99, pitch: 1, position: [.nan, 0, 0], body_deg: 0}", "position"),
        ("shots: [{start_s: 0, camera: {focal_px: 0}}]", "shots.0..camera.focal_px"),
        ("shots: [{start_s: 0, camera: {position: [0, -2, 0], look_at: [0, 0, 0]}}]", "straight up or down"),
        ("shots: [{start_s: 0, camera: {position: [0, 1, 0], look_at: [0, 1, 0]}}]", "its own place"),
        ("shots: [{start_s: 0, defocus_px: -1}]", "defocus_px"),
        ("occlusions: [{seconds: 0}]", "occlusions.0..seconds"),
        ("passers_by: [{seconds: -1}]", "passers_by.0..seconds"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        load_scenario(path)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_scenario(tmp_path / "none.yaml")


def test_frame_times_lie_on_the_grid_and_can_be_thinned() -> None:
    assert len(Scenario().frame_times) == 650
    thin = replace(Scenario(), dropped_share=0.3).frame_times
    assert thin[0] == 0.0
    assert 0.6 < len(thin) / 650 < 0.8
    np.testing.assert_allclose(thin * 25, np.round(thin * 25))
    assert check(Scenario()) == Scenario()


def test_a_film_shorter_than_the_usual_one_has_only_the_shots_that_fit(tmp_path: Path) -> None:
    usual = Scenario()
    path = tmp_path / "s.yaml"
    path.write_text("seconds: 1.2")
    assert load_scenario(path).shots == usual.shots[:1]
    path.write_text("seconds: 1.2\nshots: [{start_s: 0}, {start_s: 1.3}]")
    with pytest.raises(UsageError, match=r"shot from 1.3 s on has no frame in a film of 1.2 s"):
        load_scenario(path)
