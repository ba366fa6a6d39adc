"""Which operators of a graph were delegated to XNNPACK, from the list that an Interpreter gives of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

DELEGATE = "DELEGATE"
"""What the runtime calls a node that stands for a part of the graph that was delegated."""


def count(operators: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Count operators by who runs them, `XNNPACK` or LiteRT's own kernels, `builtin`.

    operators: as `Interpreter._get_ops_details` lists them: first all operators of the file, then a node for
    each part that was delegated. What leads from such a node's outputs back to its inputs is that part.
    """
    parts = [one for one in operators if one["op_name"] == DELEGATE]
    plain = [one for one in operators if one["op_name"] != DELEGATE]
    makers = {int(made): one for one in plain for made in one["outputs"]}
    taken: set[int] = set()
    for part in parts:
        fed = {int(tensor) for tensor in part["inputs"]}
        ahead = [int(tensor) for tensor in part["outputs"]]
        while ahead:
            maker = makers.get(ahead.pop())
            if maker is None or maker["index"] in taken:
                continue
            taken.add(maker["index"])
            ahead += [int(tensor) for tensor in maker["inputs"] if int(tensor) not in fed]
    return dict(Counter("XNNPACK" if one["index"] in taken else "builtin" for one in plain))
