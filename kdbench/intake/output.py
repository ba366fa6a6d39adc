"""Make a graph answer one row of scores per image, and find out what the scores are."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from kdbench.errors import StudentError
from kdbench.intake.ask import Meaning
from kdbench.intake.graph import packed
from kdbench.intake.ports import Input, name_output, set_output
from kdbench.intake.session import Session, answers, first_of
from kdbench.intake.walk import producers, unused
from kdbench.problems import quote

if TYPE_CHECKING:
    import numpy as np
    from onnx import ModelProto

    from kdbench.spec import Array, Precision

SUM_TOLERANCE: dict[Precision, float] = {"fp32": 1e-3, "tf32": 1e-3, "fp16": 1e-2, "bf16": 5e-2, "int8": 1e-1}
"""How far from 1 a row of probabilities may add up, by what rounding in a precision explains."""

_PASSING = frozenset(
    {"Identity", "Cast", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Dropout"}
    | {"QuantizeLinear", "DequantizeLinear"}
)
_CUT = "Take the tensor before it with --output-tensor NAME, or export the model without what comes after."


def as_scores(
    model: ModelProto, port: Input, images: Array, meaning: Meaning | None
) -> tuple[list[str], Meaning | None]:
    """Give the graph the output (batch, classes) float32 or float16, by nodes appended where it is another.

    images: inputs, all of them. meaning: what the user declared.
    Answers what was changed, and what the scores of an output are that was one number per image.
    Raises StudentError for an output that no appended node makes a classifier's.
    """
    session = Session(packed(model))
    changes = _as_float(model, session.kind)
    if changes:
        session = Session(packed(model))
    count = port.batch or 1
    found = session.run(first_of(images, count))
    _refuse_shape(found.shape, count)
    dtype, inner = found.dtype, found.shape[1:]
    if len(inner) != 1:
        _append(model, "Flatten", [model.graph.output[0].name], "scores", axis=1)
        changes.append(f"its output {tuple(inner)} an image is flattened")
    if prod(inner) == 1:
        meaning = _of_one(model, answers(session, images, port.batch), meaning)
        changes.append(_widen(model, meaning, dtype))
    changes += name_output(model)
    classes = 2 if prod(inner) == 1 else prod(inner)
    set_output(model, model.graph.output[0].name, _element(dtype), (classes,))
    return changes, meaning if prod(inner) == 1 else None


def find_meaning(model: ModelProto, scores: Array, declared: Meaning | None, precision: Precision) -> Meaning:
    """Tell logits from probabilities, by the graph's end and by the scores (N, classes) float32 themselves.

    Raises StudentError where the user declared the other.
    """
    import numpy as np

    most = float(np.abs(scores.sum(axis=1, dtype=np.float64) - 1.0).max())
    within = float(scores.min()) >= -1e-6 and float(scores.max()) <= 1.0 + 1e-3
    add_up = within and most <= SUM_TOLERANCE[precision]
    ends = ends_in(model, "Softmax", "QLinearSoftmax")
    if declared == "probabilities" and not add_up:
        raise StudentError(
            "Probabilities are declared, but the model has no softmax: its scores for one image "
            + (f"add up to as far as {most:.3g} from 1." if within else "are not all within 0..1."),
            hint="Leave --meaning out, or say --meaning logits.",
        )
    found: Meaning = "probabilities" if add_up or ends else "logits"
    if declared == "logits" and found == "probabilities":
        raise StudentError(
            "Logits are declared, but the model answers probabilities: "
            + ("it ends in a softmax." if ends else "the scores for each image add up to 1."),
            hint="Leave --meaning out, or say --meaning probabilities.",
        )
    return declared or found


def ends_in(model: ModelProto, *operators: str) -> bool:
    """Tell whether the output comes from one of these operators, but for what changes its form or type."""
    answering = producers(model)
    node = answering.get(model.graph.output[0].name)
    while node is not None and node.op_type in _PASSING and node.input:
        node = answering.get(node.input[0])
    return node is not None and node.op_type in operators


def binary(scores: Array, meaning: Meaning) -> Array:
    """Do to one number per image, (N, 1), what the appended nodes do: (0, z) or (1 - p, p)."""
    import numpy as np

    first = np.zeros_like(scores) if meaning == "logits" else 1 - scores
    return np.concatenate([first, scores], axis=1)


def _as_float(model: ModelProto, kind: str) -> list[str]:
    """Append a conversion to float32 where the scores are of another type that can be converted."""
    name = quote(model.graph.output[0].name)
    if kind in ("tensor(float)", "tensor(float16)"):
        return []
    if kind in ("tensor(double)", "tensor(bfloat16)", "tensor(uint8)", "tensor(int8)"):
        _append(model, "Cast", [model.graph.output[0].name], "scores", to=1)
        return [f"its output, {kind}, is converted to float32"]
    if kind in ("tensor(int64)", "tensor(int32)", "tensor(bool)", "tensor(string)"):
        raise StudentError(
            f"The output {name} is {kind}: the class itself, not a score for each class.", hint=_CUT
        )
    raise StudentError(f"The output {name} is {kind}; expected a tensor of scores.", hint=_CUT)


def _refuse_shape(shape: tuple[int, ...], count: int) -> None:
    images = f"{count} image{'s' if count > 1 else ''}"
    if not shape or shape[0] != count:
        raise StudentError(
            f"The model answers {images} with a tensor {shape}, whose first axis is not the images.",
            hint="Export it for a batch of images, one row of scores each.",
        )
    if 0 in shape or sum(size > 1 for size in shape[1:]) > 1:
        raise StudentError(
            f"The model answers {images} with a tensor {shape}; a classifier answers (images, classes).",
            hint=f"It may do something else than classify. {_CUT}",
        )


def _of_one(model: ModelProto, values: Array, declared: Meaning | None) -> Meaning:
    """Tell what one number per image is: the logit or the probability of the second of two classes."""
    sigmoid = ends_in(model, "Sigmoid", "HardSigmoid", "QLinearSigmoid")
    within = bool(((values >= 0) & (values <= 1)).all())
    if declared == "probabilities" and not within:
        raise StudentError(
            "A probability is declared, but the model's one score per image is not within 0..1: "
            "it has no sigmoid.",
            hint="Leave --meaning out, or say --meaning logits.",
        )
    if declared == "logits" and sigmoid:
        raise StudentError(
            "A logit is declared, but the model ends in a sigmoid: its one score per image is a probability.",
            hint="Leave --meaning out, or say --meaning probabilities.",
        )
    if declared or sigmoid or not within:
        return declared or ("probabilities" if sigmoid else "logits")
    raise StudentError(
        "The model answers one score per image, all within 0..1; whether that is a logit or a probability of "
        "the second of two classes cannot be told.",
        hint="Say it with --meaning logits or --meaning probabilities.",
    )


def _widen(model: ModelProto, meaning: Meaning, dtype: np.dtype) -> str:
    """Append what makes two columns of one: (0, z), or (1 - p, p)."""
    import numpy as np
    from onnx import numpy_helper

    value = model.graph.output[0].name
    # One number alone counts as no parameter.
    operator, number, wish = ("Mul", 0, "zero") if meaning == "logits" else ("Sub", 1, "one")
    constant = numpy_helper.from_array(np.array([number], dtype), unused(model, wish))
    model.graph.initializer.append(constant)
    _append(model, operator, [constant.name, value], "first")
    _append(model, "Concat", [model.graph.output[0].name, value], meaning, axis=1)
    if meaning == "logits":
        return "its one logit z per image becomes two, (0, z): the larger is the class"
    return "its one probability p per image becomes two, (1 - p, p): the larger is the class"


def _append(model: ModelProto, operator: str, inputs: list[str], answers: str, **attributes: int) -> None:
    """Append a node that becomes the output; `answers` is the wish for its name."""
    from onnx import helper

    if not any(entry.domain in ("", "ai.onnx") for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", 13))
    name = unused(model, answers)
    model.graph.node.append(helper.make_node(operator, inputs, [name], name=f"kdbench_{name}", **attributes))
    model.graph.output[0].name = name
    model.graph.output[0].type.tensor_type.ClearField("shape")
    if operator == "Cast":
        model.graph.output[0].type.tensor_type.elem_type = attributes["to"]


def _element(dtype: np.dtype) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(dtype))
