from __future__ import annotations

import argparse
import hashlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from duologue.fitting.load_head import load_head_model
from duologue.schemas.errors import UsageError
from duologue.schemas.tracks import face_scale_px
from duologue.synthesis import render, synthesize, voices
from duologue.synthesis.avatar import face_points
from duologue.synthesis.render import VIDEO_NAME, render_conversation
from duologue.synthesis.scenario import Camera, Scenario, ShotPlan
from duologue.synthesis.script import write_script
from duologue.synthesis.soundtrack import mix_audio
from duologue.synthesis.truth import Truth, read_truth
from duologue.synthesis.voices import SAMPLE_RATE, Voice
from scipy.signal import resample_poly
from scipy.spatial.transform import Rotation

from .conftest import SHORT

Short = tuple[Path, Truth, Scenario]
FLIP = np.diag([1.0, -1.0, -1.0])
pytestmark = pytest.mark.skipif(not voices.available(), reason="espeak-ng is not installed")


def frames(folder: Path) -> tuple[np.ndarray, list[np.ndarray]]:
    with av.open(str(folder / VIDEO_NAME)) as container:
        decoded = [(f.time, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    return np.array([t for t, _ in decoded]), [image for _, image in decoded]


def sound(folder: Path) -> np.ndarray:
    """Mono 16 kHz on the container's own clock."""
    with av.open(str(folder / VIDEO_NAME)) as container:
        blocks = [(f.time, f.to_ndarray()[0]) for f in container.decode(audio=0)]
    first = blocks[0][0]
    wave = np.concatenate([b for _, b in blocks])
    start = round(first * 48000)
    wave = wave[-start:] if start < 0 else np.concatenate([np.zeros(start), wave])
    return resample_poly(wave, 1, 3)


def lag_s(heard: np.ndarray, meant: np.ndarray) -> float:
    n = min(len(heard), len(meant))
    spectrum = np.fft.rfft(heard[:n], 2 * n) * np.conj(np.fft.rfft(meant[:n], 2 * n))
    peak = int(np.argmax(np.fft.irfft(spectrum)))
    return (peak if peak < n else peak - 2 * n) / SAMPLE_RATE


def lines_of(scenario: Scenario) -> tuple:
    both = tuple(Voice(p.voice, p.rate, p.pitch) for p in scenario.people)
    return write_script(scenario.seconds, (both[0], both[1]), scenario.seed, scenario.overlaps, scenario.backchannels)


def test_frames_come_at_the_times_of_the_truth(short: Short) -> None:
    folder, truth, scenario = short
    times, images = frames(folder)
    np.testing.assert_allclose(times, truth.times, atol=1e-6)
    assert len(times) == round(scenario.seconds * scenario.fps)
    assert images[0].shape == (scenario.height, scenario.width, 3)


def test_sound_is_aligned_within_two_milliseconds(short: Short) -> None:
    folder, _, scenario = short
    assert abs(lag_s(sound(folder), mix_audio(lines_of(scenario), scenario))) < 0.002


def test_turns_are_where_the_sound_is(short: Short) -> None:
    folder, truth, _ = short
    wave = sound(folder)
    assert truth.turns
    spoken = np.zeros(len(wave), bool)
    for turn in truth.turns:
        spoken[int(turn.start_s * SAMPLE_RATE) : int(turn.end_s * SAMPLE_RATE)] = True
    assert np.mean(wave[spoken] ** 2) > 100 * np.mean(wave[~spoken] ** 2)


def test_the_only_cut_is_seen_at_its_frame(short: Short) -> None:
    folder, truth, _ = short
    _, images = frames(folder)
    change = [float(np.abs(a.astype(int) - b).mean()) for a, b in pairwise(images)]
    assert len(truth.cuts) == 1
    cut = int(np.argmax(change)) + 1
    assert truth.times[cut] == pytest.approx(truth.cuts[0])
    assert change[cut - 1] > 5 * np.sort(change)[-2]
    np.testing.assert_array_equal(truth.shot_index, (truth.times >= truth.cuts[0]).astype(int))


@pytest.mark.parametrize("who", ["a", "b"])
def test_parameters_reproduce_the_landmarks_by_the_contract(short: Short, who: str) -> None:
    """pixels = pinhole(R(rotation) F (x - J_root) + translation), as schemas/heads.py says."""
    _, truth, _ = short
    person = getattr(truth, who)
    model = load_head_model("canonical")
    posed = model.pose(person.shape, person.expression.astype(np.float64), person.jaw.astype(np.float64))
    joints = model.posed_joints(person.shape)
    rotation = Rotation.from_rotvec(person.rotation).as_matrix() @ FLIP

    def placed(points: np.ndarray) -> np.ndarray:
        return np.einsum("tij,tlj->tli", rotation, points - joints[0]) + person.translation[:, None]

    def pixels(points: np.ndarray) -> np.ndarray:
        return points[..., :2] / points[..., 2:] * truth.focal_px[:, None, None] + [truth.width / 2, truth.height / 2]

    skin = pixels(placed(face_points(model, posed)))
    np.testing.assert_allclose(skin, person.landmarks[:, :468, :2], atol=0.02)
    centre = placed(np.broadcast_to(joints[3:5].mean(0), (len(truth.times), 1, 3)))[:, 0]
    np.testing.assert_allclose(centre, person.head_centre, atol=1e-5)
    axes = Rotation.from_rotvec(person.eyes.reshape(-1, 3)).as_matrix()[..., 2].reshape(-1, 2, 3)
    iris = joints[3:5] + model.iris_depth * axes
    np.testing.assert_allclose(pixels(placed(iris))[:, 0], person.landmarks[:, 473, :2], atol=0.02)
    np.testing.assert_allclose(pixels(placed(iris))[:, 1], person.landmarks[:, 468, :2], atol=0.02)
    gaze = np.einsum("tij,tj->ti", rotation, axes.mean(1))
    gaze /= np.linalg.norm(gaze, axis=1, keepdims=True)
    np.testing.assert_allclose(gaze, person.gaze, atol=1e-5)


def test_geometry_between_the_two(short: Short) -> None:
    _, truth, _ = short
    gap = truth.b.head_centre - truth.a.head_centre
    np.testing.assert_allclose(np.linalg.norm(gap, axis=1), truth.distance_m, atol=1e-5)
    assert 0.8 < truth.distance_m.mean() < 1.5
    toward = gap / np.linalg.norm(gap, axis=1, keepdims=True)
    np.testing.assert_allclose(np.cos(truth.a.looking_at_partner), np.sum(toward * truth.a.gaze, axis=1), atol=1e-4)
    assert (truth.a.head_centre[:, 0] < truth.b.head_centre[:, 0]).all()
    assert truth.a.visible.all()
    assert truth.b.visible.all()


@pytest.mark.parametrize("who", ["a", "b"])
def test_facemesh_sees_what_the_truth_says(short: Short, who: str) -> None:
    """The landmark network, which knows nothing of the renderer, agrees to 8 % of face scale."""
    mp = pytest.importorskip("mediapipe")
    import cv2

    folder, truth, _ = short
    person = getattr(truth, who)
    _, images = frames(folder)
    errors, irises = [], []
    for t in range(0, len(images), 10):
        marks = person.landmarks[t, :, :2]
        size = 1.6 * float((marks.max(0) - marks.min(0)).max())
        corner = marks[:468].mean(0) - size / 2
        zoom = 256 / size
        matrix = np.array([[zoom, 0, -corner[0] * zoom], [0, zoom, -corner[1] * zoom]])
        crop = cv2.warpAffine(images[t], matrix, (256, 256))
        with mp.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True) as mesh:
            found = mesh.process(crop).multi_face_landmarks
        assert found, f"no face at frame {t}"
        seen = np.array([(p.x, p.y) for p in found[0].landmark]) * 256 / zoom + corner
        scale = float(face_scale_px(person.landmarks[t]))
        distance = np.linalg.norm(seen - marks, axis=1) / scale
        errors.append(float(np.median(distance[:468])))
        irises.append(float(distance[[468, 473]].mean()))
    assert np.median(errors) < 0.08
    assert np.median(irises) < 0.06


def test_lips_move_with_the_voice(short: Short) -> None:
    _, truth, _ = short
    speaker = next(p for p in (truth.a, truth.b) if p.speaking.any())
    lead = np.roll(speaker.speaking, -3)  # lips move before the voice is heard
    assert speaker.lips[speaker.speaking].std() > 5 * speaker.lips[~(speaker.speaking | lead)].std()


def test_truth_survives_writing(short: Short) -> None:
    folder, truth, _ = short
    again = read_truth(folder)
    assert again.turns == truth.turns
    assert again.shots == truth.shots
    assert again.a.voice == truth.a.voice
    for name in ("landmarks", "rotation", "gaze", "speaking", "eyes"):
        np.testing.assert_array_equal(getattr(again.b, name), getattr(truth.b, name))
    np.testing.assert_array_equal(again.focal_px, truth.focal_px)


def test_missing_truth_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no readable truth"):
        read_truth(tmp_path)


def test_same_seed_same_bytes_and_another_seed_another_video(tmp_path: Path) -> None:
    scenario = replace(SHORT, seconds=1.6, shots=SHORT.shots[:1])

    def digest(folder: Path) -> list[str]:
        return [hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in (VIDEO_NAME, "truth.json", "truth.npz")]

    runs = {}
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        render_conversation(replace(scenario, seed=seed), tmp_path / name)
        runs[name] = digest(tmp_path / name)
    assert runs["one"] == runs["two"]
    assert all(x != y for x, y in zip(runs["one"], runs["three"], strict=True))


def test_switches_split_screen_offset_noise_and_dropped_frames(tmp_path: Path) -> None:
    scenario = replace(
        SHORT,
        seconds=2.4,
        shots=SHORT.shots[:1],
        split_screen=True,
        av_offset_s=0.3,
        noise_snr_db=20.0,
        dropped_share=0.3,
    )
    truth = render_conversation(scenario, tmp_path)
    times, images = frames(tmp_path)
    np.testing.assert_allclose(times, truth.times, atol=1e-6)
    assert len(times) < 60
    middle = scenario.width // 2
    seam = np.mean([np.abs(i[:, middle].astype(int) - i[:, middle - 1]).mean() for i in images])
    beside = np.mean([np.abs(i[:, middle + 8].astype(int) - i[:, middle + 7]).mean() for i in images])
    assert seam > 5 * beside
    assert (truth.a.box[:, 2] < middle).all()
    assert (truth.b.box[:, 0] > middle).all()
    lines = lines_of(scenario)
    heard = sound(tmp_path)
    assert abs(lag_s(heard, mix_audio(lines, replace(scenario, av_offset_s=0.0, noise_snr_db=None))) - 0.3) < 0.002
    assert truth.turns[0].start_s == pytest.approx(min(line.start_s for line in lines) + 0.3)
    quiet = heard[: int((truth.turns[0].start_s - 0.05) * SAMPLE_RATE)]
    loud = heard[int(truth.turns[0].start_s * SAMPLE_RATE) : int(truth.turns[0].end_s * SAMPLE_RATE)]
    snr = 10 * np.log10(np.mean(loud**2) / np.mean(quiet**2))
    assert 16.0 < snr < 24.0


def test_a_close_up_shows_one_of_the_two(tmp_path: Path) -> None:
    close = Camera(position=(-0.25, 0.0, -0.8), look_at=(-0.45, 0.05, 0.0), focal_px=450.0)
    small = replace(SHORT, seconds=1.0, width=320, height=180, shots=(ShotPlan(0.0, close),))
    truth = render_conversation(small, tmp_path)
    assert truth.a.visible.all()
    assert not truth.b.visible.any()


def test_another_head_model_generates(tmp_path: Path) -> None:
    small = replace(SHORT, seconds=1.0, width=320, height=180, shots=SHORT.shots[:1], head_model="second")
    truth = render_conversation(small, tmp_path)
    assert truth.head_model_id == load_head_model("second").model_id != load_head_model("canonical").model_id


def test_no_audio_leaves_no_audio_stream(tmp_path: Path) -> None:
    render_conversation(replace(SHORT, seconds=1.0, shots=SHORT.shots[:1], audio=False), tmp_path)
    with av.open(str(tmp_path / VIDEO_NAME)) as container:
        assert not container.streams.audio


def test_a_file_in_the_way_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="cannot be made"):
        render.render_conversation(SHORT, tmp_path / "file" / "out")


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    synthesize.configure(parser)
    (tmp_path / "s.yaml").write_text("width: 320\nheight: 180\nshots: [{start_s: 0, camera: {focal_px: 300}}]\n")
    options = ["--out", str(tmp_path / "o"), "--scenario", str(tmp_path / "s.yaml"), "--seconds", "1", "--seed", "3"]
    assert synthesize.run(parser.parse_args(options)) == 0
    assert "320x180" in capsys.readouterr().out
    assert read_truth(tmp_path / "o").seed == 3
    with pytest.raises(UsageError, match="--seed"):
        synthesize.run(parser.parse_args([*options[:-1], "-1"]))
