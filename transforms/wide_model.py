"""MediaPipe's full-range face detector for a picture that is no square, in two thirds of the time.

The model takes a square, so a look at a whole film frame spends two fifths of its work on the bars above and below.
Its layers are convolutions, to which any size is as good: here the sizes in the wheel's file are rewritten, its
weights stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    from mediapipe.tasks.metadata import schema_py_generated as schema

    if width % DEEPEST or height % DEEPEST:
        raise ValueError(f"the detector's input has sides of whole {DEEPEST} pixels, not {width} x {height}")
    # Only whole numbers change and none becomes longer: they are written over in a copy of the file.
    changed = bytearray(model)
    old, new = (schema.Model.GetRootAs(data, 0) for data in (model, changed))
    graph, graph_new, places = old.Subgraphs(0), new.Subgraphs(0), (SQUARE // CELL) ** 2

    def side(size: int, whole: int) -> int:
        border = 0 if size in _SIDES else 2  # a layer padded before a convolution of three
        if size - border not in _SIDES:
            raise ValueError(f"a layer of the detector has a side of {size}")
        return (size - border) * whole // SQUARE + border

    def flat(shape: Sequence[int]) -> list[int]:
        return [width * height // CELL**2 if n == places else n for n in shape]

    for index in range(graph.TensorsLength()):
        tensor = graph.Tensors(index)
        if old.Buffers(tensor.Buffer()).DataLength():
            continue  # weights
        shape = [int(n) for n in tensor.ShapeAsNumpy()]
        if len(shape) == 4 and shape[0] == 1 and shape[1] == shape[2] > 3:
            shape = [1, side(shape[1], height), side(shape[2], width), shape[3]]
        elif len(shape) == 3:
            shape = flat(shape)
        graph_new.Tensors(index).ShapeAsNumpy()[:] = shape
    for index in range(graph.OperatorsLength()):
        step = graph.Operators(index)
        code = old.OperatorCodes(step.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if kind not in (schema.BuiltinOperator.RESIZE_BILINEAR, schema.BuiltinOperator.RESHAPE):
            continue
        buffer = graph.Tensors(step.Inputs(1)).Buffer()
        values = [int(n) for n in old.Buffers(buffer).DataAsNumpy().view("<i4")]
        if kind == schema.BuiltinOperator.RESIZE_BILINEAR:
            values = [side(values[0], height), side(values[1], width)]
        else:
            values = flat(values)
            if step.BuiltinOptions() is not None:
                told = schema.ReshapeOptions()
                told.Init(changed, step.BuiltinOptions().Pos)
                if told.NewShapeLength():
                    told.NewShapeAsNumpy()[:] = values
        new.Buffers(buffer).DataAsNumpy().view("<i4")[:] = values
    return bytes(changed)
