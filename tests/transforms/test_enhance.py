"""Enhancement before landmarks: what a network is given, what becomes of its answer, files that are no such network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
from duologue.pipeline.config import load_config
from duologue.pipeline.plan import make_plan
from duologue.schemas.errors import UsageError
from duologue.transforms.enhance import STEP_PX, EnhancedMesh, FaceEnhancer, enhance_backend
from duologue.transforms.face_mesh import CROP_PX, FaceMesh, Region

onnx = pytest.importorskip("onnx")


def network(path: Path, side: int | str = "h", times: float = 2.0, offset: float = 0.0, channels: int = 3) -> str:
    """A network that enlarges a picture ``times``, each pixel as it is, and adds ``offset``."""
    from onnx import TensorProto, helper, numpy_helper

    grown: int | str = "k" if isinstance(side, str) else int(side * times)
    nodes = [
        helper.make_node("Resize", ["small", "", "scales"], ["large"], mode="nearest"),
        helper.make_node("Add", ["large", "offset"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "enlarge",
        [helper.make_tensor_value_info("small", TensorProto.FLOAT, [1, channels, side, side])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, channels, grown, grown])],
        [
            numpy_helper.from_array(np.array([1, 1, times, times], np.float32), "scales"),
            numpy_helper.from_array(np.array([offset], np.float32), "offset"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return str(path)


@pytest.mark.parametrize("side", ["h", 64, 256])
def test_a_picture_comes_back_as_it_was(tmp_path: Path, side: int | str) -> None:
    smooth = np.linspace(20, 220, 48)
    crop = np.repeat((smooth[:, None] / 2 + smooth / 2)[..., None], 3, axis=2).round().astype(np.uint8)
    found = FaceEnhancer(network(tmp_path / "n.onnx", side))(crop)
    assert found.shape == (CROP_PX, CROP_PX, 3)
    want = crop[np.arange(CROP_PX) // 4][:, np.arange(CROP_PX) // 4].astype(float)
    assert np.abs(found[8:-8, 8:-8] - want[8:-8, 8:-8]).max() < 6


def test_values_run_from_0_or_from_minus_1(tmp_path: Path) -> None:
    grey = np.full((40, 40, 3), 100, np.uint8)
    lighter = network(tmp_path / "n.onnx", offset=0.1)
    assert np.abs(FaceEnhancer(lighter)(grey) - (100 + 25.5)).max() <= 1
    assert np.abs(FaceEnhancer(lighter, signed=True)(grey) - (100 + 12.75)).max() <= 1
    far = network(tmp_path / "far.onnx", offset=9.0)
    assert (FaceEnhancer(far)(grey) == 255).all()


def test_only_faces_with_fewer_pixels_than_the_landmark_network_takes_are_enhanced(tmp_path: Path) -> None:
    picture = np.ascontiguousarray(skimage.data.astronaut())
    mesh, enhancer = FaceMesh(), FaceEnhancer(network(tmp_path / "n.onnx"))
    given: list[int] = []

    class Listening(FaceEnhancer):
        def __call__(self, crop: np.ndarray) -> np.ndarray:
            given.append(len(crop))
            return super().__call__(crop)

    both = EnhancedMesh(mesh, Listening(network(tmp_path / "n.onnx")))
    given.clear()
    whole = Region(222, 122, 200)
    np.testing.assert_array_equal(both.measure(picture, whole).landmarks, mesh.measure(picture, whole).landmarks)
    assert given == []
    small = picture[::2, ::2].copy()
    region = Region(111, 61, 82)
    plain, seen = mesh.measure(small, region), both.measure_all(small, [region])[0]
    assert given == [96]
    np.testing.assert_allclose(seen.landmarks, plain.landmarks, atol=2.0)
    assert not np.array_equal(seen.crop, plain.crop)
    assert seen.plain is not None
    np.testing.assert_array_equal(seen.plain, plain.crop)
    assert seen.sharpness == plain.sharpness  # of the picture, not of what was made of it
    assert [enhancer.crop_side(side) for side in (3.0, 82.0, 190.0)] == [STEP_PX, 96, CROP_PX]


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"channels": 1}, "expected one"), ({"times": 0.5}, "answers"), ({"side": 64, "times": 0.25}, "answers")],
)
def test_files_that_are_no_such_network(tmp_path: Path, changes: dict[str, float], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        enhance_backend("onnx", network(tmp_path / "n.onnx", **changes))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert "enhance backend" in str(caught.value)


def test_names_and_paths(tmp_path: Path) -> None:
    assert enhance_backend("none", "") is None
    for name, path, says in (("onnx", "", "no file ''"), ("magic", "", "choose none, onnx or onnx-signed")):
        with pytest.raises(UsageError, match=says):
            enhance_backend(name, path)
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(UsageError, match="does not load"):
        enhance_backend("onnx-signed", str(tmp_path / "bad.onnx"))


def test_a_run_names_the_network(tmp_path: Path) -> None:
    path = network(tmp_path / "n.onnx")
    with_it = make_plan(
        load_config("", ["backends.enhance=onnx", f"backends.enhance_path={path}"]), str(tmp_path / "o")
    )
    without = make_plan(load_config(""), str(tmp_path / "o"))
    assert with_it.config_hash != without.config_hash
    assert [one.name for one in with_it.stages.score.backends if one.stage == "enhance"] == ["onnx:n.onnx"]
    assert with_it.stages.track.enhance.identity == ("onnx", with_it.stages.track.enhance.models[0].content)
