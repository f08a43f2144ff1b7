import cv2
import numpy as np
import pytest
import skimage.data
from duologue.schemas.errors import UsageError
from duologue.transforms.face_mesh import FaceMesh, Region, region_from_landmarks
from duologue.transforms.identify import (
    AppearanceIdentifier,
    InsightFaceIdentifier,
    face_identifier,
    similarity,
)


@pytest.fixture(scope="module")
def faces():
    """Two people: (frame, landmarks) each."""
    import matplotlib.cbook

    hopper = cv2.imread(str(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))[..., ::-1]
    mesh, found = FaceMesh(), []
    for rgb, region in [(skimage.data.astronaut(), Region(222, 122, 170)), (hopper, Region(258, 190, 300))]:
        rgb = np.ascontiguousarray(rgb)
        for _ in range(3):
            face = mesh.measure(rgb, region)
            region = region_from_landmarks(face.landmarks)
        found.append((rgb, face.landmarks))
    return found


def changed(rgb, landmarks, scale, gain, seed):
    """The same person smaller, in other light, with noise."""
    small = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.float64)
    noise = np.random.default_rng(seed).normal(0, 4, small.shape)
    moved = landmarks.copy()
    moved[:, :2] = (landmarks[:, :2] + 0.5) * scale - 0.5
    moved[:, 2] *= scale
    return np.clip(small * gain + noise, 0, 255).astype(np.uint8), moved


def test_descriptor_is_a_unit_vector_and_repeats(faces):
    who = AppearanceIdentifier()
    one = who.describe(*faces[0])
    assert one.dtype == np.float32
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(one, who.describe(*faces[0]))


def test_same_person_is_nearer_than_another(faces):
    who = AppearanceIdentifier()
    first, second = (who.describe(*f) for f in faces)
    apart = similarity(first, second)
    for k, (scale, gain) in enumerate([(0.9, 1.0), (0.5, 1.1), (0.4, 0.9)]):
        for reference, face in ((first, faces[0]), (second, faces[1])):
            again = who.describe(*changed(*face, scale, gain, k))
            assert similarity(reference, again) > max(who.threshold, apart + 0.05)
    assert apart < who.threshold


def test_absent_descriptor_is_like_nothing():
    assert np.isnan(similarity(np.zeros(3, np.float32), np.ones(3, np.float32)))


def recognition_model(path, size=112, dim=16):
    """A made-up ArcFace-shaped network: mean colours of a grid of the crop, through a random matrix."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    cells = 4
    weight = np.random.default_rng(0).normal(size=(3 * cells * cells, dim)).astype(np.float32)
    step = size // cells
    nodes = [
        helper.make_node("AveragePool", ["input"], ["pooled"], kernel_shape=[step, step], strides=[step, step]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "made-up",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, dim])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return weight


def test_network_from_a_folder_sees_the_aligned_face(faces, tmp_path):
    pytest.importorskip("insightface")
    recognition_model(tmp_path / "w600k.onnx")
    who = face_identifier("insightface", str(tmp_path))
    assert who.backend.name == "insightface-w600k"
    assert len(who.backend.weights_sha256) == 64
    one = who.describe(*faces[0])
    assert one.shape == (16,)
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)
    smaller = who.describe(*changed(*faces[0], 0.5, 1.0, 0))
    assert similarity(one, smaller) > 0.98 > similarity(one, who.describe(*faces[1]))


def test_turned_face_is_aligned_upright(faces, tmp_path):
    pytest.importorskip("insightface")
    recognition_model(tmp_path / "net.onnx")
    who = InsightFaceIdentifier(tmp_path / "net.onnx")
    rgb, landmarks = faces[0]
    turned = landmarks.copy()
    turned[:, :2] = 511 - landmarks[:, :2]
    one, other = who.describe(rgb, landmarks), who.describe(np.ascontiguousarray(rgb[::-1, ::-1]), turned)
    assert similarity(one, other) > 0.99


def test_what_cannot_be_had_is_one_clear_line(tmp_path):
    with pytest.raises(UsageError, match=r"no \.onnx file"):
        InsightFaceIdentifier(tmp_path)
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(UsageError, match=r"broken\.onnx does not load"):
        InsightFaceIdentifier(tmp_path)
    with pytest.raises(UsageError, match="unknown identity backend"):
        face_identifier("dlib")
    with pytest.raises(UsageError, match="needs the path"):
        face_identifier("insightface")


def test_folder_without_a_recognition_model(tmp_path):
    pytest.importorskip("insightface")
    recognition_model(tmp_path / "other.onnx", size=64)
    with pytest.raises(UsageError, match="no recognition model"):
        InsightFaceIdentifier(tmp_path)
