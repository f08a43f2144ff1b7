from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from duologue.cli import main
from duologue.fitting.load_head import load_head_model
from duologue.fitting.scene_text import scene_from_text
from duologue.model.train import train
from duologue.model.train_config import config_of
from duologue.schemas.dataset import Dataset
from duologue.schemas.errors import UsageError
from duologue.schemas.records import Backend
from duologue.schemas.row import Pair
from duologue.schemas.verify import verify
from duologue.transforms.speech_file import read_speech
from duologue.viewer.generated import GeneratedMotion, Written, generated_pair, write_generated
from duologue.viewer.gltf import glb_bytes
from duologue.viewer.heads_video import framing, heads_frames, quartered
from duologue.viewer.overlay import head_vertices
from scipy.spatial.transform import Rotation

from ..dataset_factory import make_pair, without_audio, write_dataset

MODEL = load_head_model("canonical")
FRAMES = 75
TYPES = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
KINDS = {5126: "<f4", 5125: "<u4", 5123: "<u2", 5121: "u1"}


def motion(frames: int = FRAMES) -> GeneratedMotion:
    """Two heads placed by a sentence; they turn, blink, look about and speak one after the other."""
    rng = np.random.default_rng(5)
    scene = scene_from_text("they face each other at arm's length")
    t = np.arange(frames) / 25.0
    shape = rng.normal(0.0, 0.5, (2, len(MODEL.shape_names))).astype(np.float32)
    expression = 0.3 * np.abs(np.sin(t[:, None] * np.linspace(1, 4, len(MODEL.expression_names)))) * np.ones((2, 1, 1))
    rotation, translation = np.zeros((2, frames, 3)), np.zeros((2, frames, 3))
    for who in (0, 1):
        joints = MODEL.posed_joints(shape[who])
        rotation[who] = scene.rotation[who] + 0.1 * np.sin(t[:, None] * [1.0, 2.0, 3.0])
        turn = Rotation.from_rotvec(rotation[who]).as_matrix() @ np.diag([1.0, -1.0, -1.0])
        translation[who] = scene.centre[who] - turn @ (0.5 * (joints[3] + joints[4]) - joints[0])
    jaw = np.zeros((2, frames, 3))
    jaw[..., 0] = 0.1 * (1 + np.sin(8 * t))
    eyes = 0.1 * np.sin(t[None, :, None, None] + np.arange(3)) * np.ones((2, frames, 2, 1))
    speaking = np.stack([t < t[-1] / 2, t >= t[-1] / 2])
    arrays = (expression, jaw, np.zeros((2, frames, 3)), rotation, translation, eyes, speaking)
    return GeneratedMotion(shape, *(np.asarray(a, dtype=np.float32) for a in arrays))


def tone(seconds: float, rate: int = 16000) -> np.ndarray:
    return (0.2 * np.sin(2 * np.pi * 180 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


BACKEND = Backend("sample", "checkpoint.pt", "a" * 64)


@pytest.fixture(scope="module")
def pair() -> Pair:
    return generated_pair(motion(), tone(3.0), MODEL, source_uri="speech.wav", backend=BACKEND)


def unpack(data: bytes) -> tuple[dict[str, Any], list[np.ndarray]]:
    """A glb's JSON, and every accessor as an array."""
    magic, version, total = struct.unpack_from("<III", data)
    assert (magic, version, total) == (0x46546C67, 2, len(data))
    size, kind = struct.unpack_from("<II", data, 12)
    assert kind == 0x4E4F534A
    assert size % 4 == 0
    gltf = json.loads(data[20 : 20 + size])
    length, kind = struct.unpack_from("<II", data, 20 + size)
    assert kind == 0x004E4942
    binary = data[28 + size :]
    assert len(binary) == length
    arrays = []
    for accessor in gltf["accessors"]:
        view = gltf["bufferViews"][accessor["bufferView"]]
        assert view["byteOffset"] % 4 == 0
        assert view["byteOffset"] + view["byteLength"] <= gltf["buffers"][0]["byteLength"]
        width = TYPES[accessor["type"]]
        array = np.frombuffer(binary, KINDS[accessor["componentType"]], accessor["count"] * width, view["byteOffset"])
        array = array.reshape(-1, width)
        if "min" in accessor:
            np.testing.assert_allclose(array.min(0), accessor["min"], rtol=1e-6)
            np.testing.assert_allclose(array.max(0), accessor["max"], rtol=1e-6)
        arrays.append(array)
    return gltf, arrays


def played(gltf: dict[str, Any], arrays: list[np.ndarray], mesh_node: int, key: int) -> np.ndarray:
    """[V, 3] what a glTF viewer shows of a skinned mesh at a key frame: morph targets, then joints."""
    node = gltf["nodes"][mesh_node]
    state = {k: dict(n) for k, n in enumerate(gltf["nodes"])}
    weights = np.zeros(0)
    for channel in gltf["animations"][0]["channels"]:
        sampler = gltf["animations"][0]["samplers"][channel["sampler"]]
        target, values = channel["target"], arrays[sampler["output"]]
        keys = len(arrays[sampler["input"]])
        if target["path"] == "weights":
            assert len(values) % keys == 0
            if target["node"] == mesh_node:
                weights = values.reshape(keys, -1)[key]
        else:
            assert len(values) == keys
            state[target["node"]][target["path"]] = values[key]
    primitive = gltf["meshes"][node["mesh"]]["primitives"][0]
    points = arrays[primitive["attributes"]["POSITION"]].astype(np.float64).copy()
    for weight, target in zip(weights, primitive["targets"], strict=True):
        points += weight * arrays[target["POSITION"]]
    parent = {child: k for k, n in enumerate(gltf["nodes"]) for child in n.get("children", [])}

    def world(index: int) -> np.ndarray:
        local = np.eye(4)
        local[:3, :3] = Rotation.from_quat(state[index].get("rotation", [0, 0, 0, 1])).as_matrix()
        local[:3, :3] *= state[index].get("scale", [1, 1, 1])
        local[:3, 3] = state[index].get("translation", [0, 0, 0])
        return world(parent[index]) @ local if index in parent else local

    skin = gltf["skins"][node["skin"]]
    bind = arrays[skin["inverseBindMatrices"]].reshape(-1, 4, 4).transpose(0, 2, 1)
    matrices = np.stack([world(joint) @ bind[k] for k, joint in enumerate(skin["joints"])])
    joints = arrays[primitive["attributes"]["JOINTS_0"]].astype(int)
    share = arrays[primitive["attributes"]["WEIGHTS_0"]]
    np.testing.assert_allclose(share.sum(1), 1.0, atol=1e-6)
    blended = np.einsum("vk,vkij->vij", share, matrices[joints])
    return np.einsum("vij,vj->vi", blended, np.c_[points, np.ones(len(points))])[:, :3]


@pytest.mark.parametrize("size", [1.0, 0.8])
def test_a_gltf_player_shows_the_heads_of_the_row(pair: Pair, size: float) -> None:
    pair = replace(pair, fitted=replace(pair.fitted, a=replace(pair.fitted.a, scale=size)))
    gltf, arrays = unpack(glb_bytes(pair, MODEL))
    assert gltf["asset"]["version"] == "2.0"
    meshes = [k for k, node in enumerate(gltf["nodes"]) if "mesh" in node]
    assert len(meshes) == 2
    for mesh, head in zip(meshes, (pair.fitted.a, pair.fitted.b), strict=True):
        for frame in (0, 31, FRAMES - 1):
            expected = head_vertices(MODEL, head, frame) * np.array([1.0, -1.0, -1.0])
            assert np.abs(played(gltf, arrays, mesh, frame) - expected).max() < 2e-5  # metres
    lens = gltf["cameras"][0]["perspective"]
    assert np.tan(lens["yfov"] / 2) == pytest.approx(pair.fitted.height / 2 / pair.fitted.focal_px)


def test_key_frames_stand_at_valid_frames_only(pair: Pair) -> None:
    valid = np.ones(FRAMES, bool)
    valid[10:20] = False
    holey = {
        name: np.where(valid.reshape(-1, *[1] * (value.ndim - 1)), value, np.nan).astype(value.dtype)
        for name, value in vars(pair.fitted.a).items()
        if isinstance(value, np.ndarray) and value.dtype == np.float32 and name != "shape"
    }
    head = replace(pair.fitted.a, **holey, valid=valid)
    gltf, arrays = unpack(glb_bytes(replace(pair, fitted=replace(pair.fitted, a=head)), MODEL))
    times = arrays[gltf["animations"][0]["samplers"][0]["input"]][:, 0]
    np.testing.assert_allclose(times, np.flatnonzero(valid) / 25.0, atol=1e-6)
    assert all(np.isfinite(array).all() for array in arrays)


def test_another_head_model_is_refused() -> None:
    with pytest.raises(UsageError, match="refers to head model"):
        glb_bytes(make_pair(), MODEL)


@pytest.fixture(scope="module")
def written(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write_generated(pair, MODEL, tmp_path_factory.mktemp("out") / "sample", "sample: {}\n")


def test_everything_is_written_and_every_verb_can_read_it(written: Written) -> None:
    report = verify(written.dataset)
    assert report.sound, report.problems
    again = Dataset(written.dataset).pair(written.pair_id)
    assert again.source.origin == "synthetic"
    assert [turn.face for turn in again.voices.turns] == ["a", "b"]
    assert "distance:personal" in again.relation.codes
    assert "arrangement:face_to_face" in again.relation.codes
    assert written.page.is_file()
    assert main(["select", str(written.dataset)]) == 0
    unpack(written.scene.read_bytes())


def test_the_film_has_picture_and_sound(written: Written) -> None:
    import av

    with av.open(str(written.film)) as film:
        assert {stream.type for stream in film.streams} == {"video", "audio"}
        assert sum(1 for _ in film.decode(video=0)) == FRAMES


def test_both_heads_are_in_the_picture_and_move(pair: Pair) -> None:
    frames = heads_frames(pair, MODEL)
    first = next(frames)
    for _ in range(4):
        later = next(frames)
    for half in (slice(0, 640), slice(640, 1280)):
        drawn = (first[:690, half].astype(int) - np.array([34, 38, 44])).any(-1)
        assert 0.03 < drawn.mean() < 0.7
        assert (first[:690, half] != later[:690, half]).any()


def test_the_film_frames_both_heads_wherever_they_are_in_the_picture(pair: Pair) -> None:
    fitted = pair.fitted
    up = np.array([0.0, -0.3, 0.4], np.float32)  # both in the upper part of the picture, and further off
    moved = {
        who: replace(head, head_centre=head.head_centre + up, translation=head.translation + up)
        for who, head in (("a", fitted.a), ("b", fitted.b))
    }
    for shown in (pair, replace(pair, fitted=replace(fitted, **moved))):
        focal, principal = framing(shown)
        corners = []
        for head in (shown.fitted.a, shown.fitted.b):
            centre = head.head_centre.astype(np.float64)
            spots = centre[:, :2] / centre[:, 2:] * focal + principal
            corners += [spots.min(0), spots.max(0)]
        low, high = np.min(corners, axis=0), np.max(corners, axis=0)
        assert (low > [60, 80]).all()
        assert (high < [1220, 640]).all()
        assert low[0] + high[0] == pytest.approx(1279, abs=40)  # in the middle, but for perspective
        assert high[0] - low[0] > 500
    nobody = {who: replace(h, valid=np.zeros_like(h.valid)) for who, h in (("a", fitted.a), ("b", fitted.b))}
    assert framing(replace(pair, fitted=replace(fitted, **nobody)))[1].tolist() == [639.5, 359.5]


def test_quarters_fill_their_triangle() -> None:
    whole = np.array([[[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]], [[1.0, 1.0], [1.0, 3.0], [5.0, 1.0]]])
    parts = quartered(whole)
    assert parts.shape == (8, 3, 2)
    assert parts[:4].tolist() == [
        [[0, 0], [2, 0], [0, 2]], [[2, 0], [4, 0], [2, 2]], [[0, 2], [2, 2], [0, 4]], [[2, 0], [2, 2], [0, 2]],
    ]  # fmt: skip
    sides = np.diff(np.concatenate([parts, parts[:, :1]], axis=1), axis=1)
    area = np.cross(np.pad(sides[:, 0], ((0, 0), (0, 1))), np.pad(sides[:, 1], ((0, 0), (0, 1))))[:, 2] / 2
    assert area.tolist() == [2.0] * 4 + [-1.0] * 4  # a quarter each, turned as the whole is


def test_an_existing_set_is_left_alone(written: Written, pair: Pair) -> None:
    with pytest.raises(UsageError, match="holds a data set already"):
        write_generated(pair, MODEL, written.dataset, "")


def test_numbers_that_are_not_finite_are_refused() -> None:
    broken = motion()
    broken.jaw[0, 3] = np.nan
    with pytest.raises(UsageError, match="generated jaw holds NaN"):
        generated_pair(broken, tone(3.0), MODEL, source_uri="x", backend=BACKEND)


def test_convert_writes_scenes_of_named_pairs(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scenes"
    assert (
        main(["convert", str(written.dataset), "--to", "gltf", "--pair", written.pair_id[:8], "--out", str(out)]) == 0
    )
    unpack((out / f"{written.pair_id}.glb").read_bytes())
    assert (out / f"{written.pair_id}.flac").is_file()
    assert "its sound beside it" in capsys.readouterr().out
    silent = without_audio(Dataset(written.dataset).pair(written.pair_id))
    write_dataset(tmp_path / "silent", [silent])
    command = ["convert", str(tmp_path / "silent"), "--to", "gltf", "--pair", silent.pair_id]
    assert main([*command, "--out", str(tmp_path / "mute")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'mute' / silent.pair_id}.glb\n"
    assert main(["convert", str(written.dataset), "--to", "gltf", "--out", str(out)]) == 2
    assert "name them with --pair" in capsys.readouterr().err


def test_sound_of_another_rate_is_resampled_and_said(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "s.wav", np.stack([tone(2.0, 44100)] * 2, axis=1), 44100)
    samples, note = read_speech(tmp_path / "s.wav")
    assert len(samples) == 32000
    assert note == "2 channels averaged, resampled from 44100 to 16000 Hz"
    np.testing.assert_allclose(samples[2000:-2000], tone(2.0)[2000:-2000], atol=2e-3)
    soundfile.write(tmp_path / "same.wav", tone(1.5), 16000)
    assert read_speech(tmp_path / "same.wav")[1] == ""


def test_bad_sound_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("not a sound")
    soundfile.write(tmp_path / "short.wav", tone(0.3), 16000)
    soundfile.write(tmp_path / "low.wav", tone(2.0, 4000), 4000)
    soundfile.write(tmp_path / "silent.wav", np.zeros(32000, np.float32), 16000)
    cases = {"text": "not a sound file", "short": "lasts 0.30 s", "low": "4000 samples", "silent": "is silent"}
    for name, message in cases.items():
        with pytest.raises(UsageError, match=message):
            read_speech(tmp_path / f"{name}.wav")
    with pytest.raises(UsageError, match="no such file"):
        read_speech(tmp_path / "gone.wav")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network, trained for a few steps on what stands for a data set: what it says is not looked at."""
    root = tmp_path_factory.mktemp("trained")
    rows = [
        generated_pair(motion(), tone(3.0) * (0.2 + 0.1 * k), MODEL, source_uri=f"{k}.wav", backend=BACKEND)
        for k in range(10)
    ]
    write_dataset(root / "set", rows)
    tree = {
        "out": str(root / "run"),
        "stages": [{"steps": 4, "data": [{"path": str(root / "set")}]}],
        "load": {"batch_size": 4, "window": 50, "selected": False, "workers": 1},
        "audio": {"width": 16, "layers": 1},
        "network": {"width": 16, "levels": 2, "blocks": 1, "layers": 2, "heads": 2, "condition": 16},
        "log": {"every": 1, "save_every": 4, "validate_every": 0, "sample_every": 0, "tensorboard": False},
    }
    train(config_of(tree))
    return root / "run"


def test_sample_animates_a_sound_file(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "talk.wav", tone(3.0, 22050), 22050)
    out = tmp_path / "made"
    command = ["sample", str(tmp_path / "talk.wav"), "--checkpoint", str(checkpoint), "--steps", "2", "--json"]
    text = "they sit face to face, two metres apart"
    assert main([*command, "--text", text, "--out", str(out)]) == 0
    shown = capsys.readouterr()
    facts = json.loads(shown.out)
    assert "resampled from 22050" in shown.err
    assert facts["codes"] == ["arrangement:face_to_face", "distance:social"]
    pair = Dataset(out).pair(facts["pair_id"])
    first = pair.fitted.b.head_centre[0] - pair.fitted.a.head_centre[0]
    assert np.linalg.norm(first) == pytest.approx(2.0, abs=0.02)
    assert len(pair.fitted.times) == facts["frames"] == 75
    for name in ("scene", "film", "page"):
        assert Path(facts[name]).is_file()
    unpack(Path(facts["scene"]).read_bytes())


def test_sample_answers_a_measured_person(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = next(iter(Dataset(checkpoint.parent / "set").pairs(selected=False)))
    out = tmp_path / "made"
    answer = ["--answer", str(checkpoint.parent / "set"), row.pair_id, "b"]
    command = ["sample", "--checkpoint", str(checkpoint), "--steps", "2", "--json"]
    assert main([*command, *answer, "--out", str(out)]) == 0
    facts = json.loads(capsys.readouterr().out)
    made = Dataset(out).pair(facts["pair_id"])
    for name in ("rotation", "translation", "jaw", "expression"):
        np.testing.assert_allclose(getattr(made.fitted.b, name), getattr(row.fitted.b, name), atol=2e-3)
    assert np.abs(made.fitted.a.jaw - row.fitted.a.jaw).max() > 1e-3
    # Whoever is taken out of the set is found here too.
    kept = ("video_id", "source_uri", "source_id", "license", "attribution", "start_s")
    assert [getattr(made.source, name) for name in kept] == [getattr(row.source, name) for name in kept]
    assert (made.person_a, made.person_b) == (row.person_a, row.person_b)
    assert made.provenance.backends[:-1] == row.provenance.backends
    assert made.voices.turns == () or made.voices.turns[0].start_s >= row.source.start_s
    assert main(["verify", str(out)]) == 0
    capsys.readouterr()
    for extra, message in (
        ([*answer, "--text", "they sit side by side"], "leave --text"),
        ([], "give AUDIO, or --answer"),
        (["x.wav", *answer], "give AUDIO, or --answer"),
        ([*answer[:-1], "c"], "PERSON is a or b"),
    ):
        assert main([*command, *extra, "--out", str(tmp_path / "x")]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--text", "a talk about cheese"], "names nothing spatial"),
        (["--checkpoint", "gone.pt"], "no checkpoint"),
        (["--guidance", "nan"], "--guidance nan: it must lie between"),
        (["--steps", "100000"], "--steps 100000: it must lie between"),
        (["--steps", "0"], "--steps 0: it must lie between"),
        (["--llm", "http://127.0.0.1:9"], "go together"),
    ],
)
def test_sample_refuses_in_one_line(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str], message: str
) -> None:
    soundfile.write(tmp_path / "talk.wav", tone(1.5), 16000)
    command = ["sample", str(tmp_path / "talk.wav"), "--checkpoint", str(checkpoint), "--out", str(tmp_path / "x")]
    assert main([*command, *extra]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "x").exists()
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "README.md").write_text("mine")
    assert main(command) == 2
    assert "is not a data set and holds README.md" in capsys.readouterr().err
    assert (tmp_path / "x" / "README.md").read_text() == "mine"
    (tmp_path / "x" / "README.md").rename(tmp_path / "x" / "film.mp4")
    assert main(command) == 2
    assert "is not a data set and holds film.mp4" in capsys.readouterr().err
    assert (tmp_path / "x" / "film.mp4").read_text() == "mine"
