"""MediaPipe's full-range face detection graph, edited and run in the caller's thread."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..schemas.errors import UsageError
from .quiet import load_mediapipe
from .wide_model import SQUARE

UInt8 = npt.NDArray[np.uint8]

_NOT_THAT = "this mediapipe's detection graph is not that of 0.10.21"


class DetectionGraph:
    """A running detection graph: an image in, MediaPipe's detection messages out, all in the caller's thread.

    Args:
        model: the ``.tflite`` file's content.
    """

    def __init__(self, text: str, model: bytes) -> None:
        from google.protobuf import text_format  # type: ignore[import-untyped]
        from mediapipe.framework import calculator_pb2
        from mediapipe.framework.formats import detection_pb2  # noqa: F401 - what the graph's packets hold
        from mediapipe.python import packet_creator, packet_getter
        from mediapipe.python._framework_bindings import calculator_graph, image_frame

        self._create, self._get = packet_creator.create_image_frame, packet_getter.get_proto_list
        self._format = image_frame.ImageFormat.SRGB
        self._clock = 0
        self._packets: dict[str, Any] = {}
        config = text_format.Parse(text, calculator_pb2.CalculatorGraphConfig())
        self._graph = calculator_graph.CalculatorGraph(graph_config=config)
        self._graph.observe_output_stream("detections", self._packets.__setitem__, True)
        self._graph.start_run({"model": packet_creator.create_string(model)})

    def process(self, rgb: UInt8) -> list[Any]:
        """Detection messages of a picture [H, W, 3]; places are shares 0..1 of it."""
        self._clock += 1
        packet = self._create(np.ascontiguousarray(rgb), image_format=self._format, copy=True)
        self._graph.add_packet_to_input_stream("image", packet.at(self._clock))
        self._graph.wait_until_idle()
        found = self._packets["detections"]
        return [] if found.is_empty() else list(self._get(found))

    def close(self) -> None:
        self._graph.close_all_packet_sources()
        self._graph.wait_until_done()


def for_input(text: str, width: int, height: int) -> str:
    """The graph for an input of this size instead of the wheel's square one."""
    square = SQUARE
    for name, old, new in (
        ("output_tensor_width", square, width),
        ("output_tensor_height", square, height),
        ("input_size_width", square, width),
        ("input_size_height", square, height),
        ("num_boxes", square**2 // 16, width * height // 16),
        ("x_scale", square, width),
        ("y_scale", square, height),
        ("w_scale", square, width),
        ("h_scale", square, height),
    ):
        text, count = re.subn(rf"\b{name}: {old}\b", f"{name}: {new}", text)
        if count != 1:
            raise UsageError(f"faces backend 'mediapipe': {_NOT_THAT} ({name})")
    return text


def full_range_graph(min_score: float) -> tuple[str, Path]:
    """The wheel's full-range graph as text, its model in a side packet ``model``, and the model's file.

    Its score threshold is replaced, and it is given one inference thread and no threads of its own: handing a tile
    from thread to thread costs a fifth of the detection.
    """
    try:
        mediapipe = load_mediapipe()
        # The modules that define the options named in the graph's text must be imported for it to parse.
        from mediapipe.calculators.tensor import (  # noqa: F401
            image_to_tensor_calculator_pb2,
            inference_calculator_pb2,
            tensors_to_detections_calculator_pb2,
        )
        from mediapipe.calculators.tflite import ssd_anchors_calculator_pb2  # noqa: F401
        from mediapipe.calculators.util import non_max_suppression_calculator_pb2  # noqa: F401
        from mediapipe.modules.face_detection import face_detection_pb2  # noqa: F401
        from mediapipe.python._framework_bindings.validated_graph_config import ValidatedGraphConfig
    except ImportError as error:
        raise UsageError(f"faces backend 'mediapipe' needs mediapipe 0.10.21: {error}") from error
    folder = Path(mediapipe.__file__).parent / "modules" / "face_detection"
    graph_file = folder / "face_detection_full_range_cpu.binarypb"
    model_file = folder / "face_detection_full_range_sparse.tflite"
    if not (graph_file.is_file() and model_file.is_file()):
        raise UsageError(f"faces backend 'mediapipe' needs mediapipe 0.10.21, whose wheel holds {model_file.name}")
    config = ValidatedGraphConfig()
    config.initialize(binary_graph_path=str(graph_file))
    text, changes = config.text_config, []
    loader = 'node { calculator: "TfLiteModelCalculator" input_side_packet: "MODEL_BLOB:model" '
    loader += 'output_side_packet: "MODEL:loaded_model" }\n'
    for old, new in (
        (r'model_path: "[^"]*"', ""),
        (r'calculator: "InferenceCalculatorCpu"', r'\g<0> input_side_packet: "MODEL:loaded_model"'),
        (r"min_score_thresh: [\d.]+", f"min_score_thresh: {min_score:.4f}"),
        (r"xnnpack \{\s*\}", "xnnpack { num_threads: 1 }"),
        (r"executor \{\s*\}", 'executor { type: "ApplicationThreadExecutor" }'),
    ):
        text, n = re.subn(old, new, text)
        changes.append(n)
    if changes != [1] * 5:
        raise UsageError(f"faces backend 'mediapipe': {_NOT_THAT}")
    return text + '\ninput_side_packet: "model"\n' + loader, model_file
