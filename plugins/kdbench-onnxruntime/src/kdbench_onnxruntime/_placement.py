"""Where the nodes of a graph really are, asked of an open inference session.

That a session was made says nothing: with a library missing ONNX Runtime logs one line and computes on the
CPU. Nor does the list of its providers, which may hold one that got no node. So the nodes are counted, where
this version tells (`session.record_ep_graph_assignment_info`), and what decides is where the products are.
Nodes that compute shapes are put on the CPU by design, and are no fall-back.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from kdbench import Placement
from kdbench.spec import Precision

CPU = "CPUExecutionProvider"
PRODUCTS = ("Conv", "Gemm", "MatMul")
"""What the names of operators contain in which nearly all of a network's arithmetic is."""


def is_product(operator: str) -> bool:
    """Tell whether nearly all arithmetic of a network is in operators like this one."""
    return any(word in operator for word in PRODUCTS)


def placement(
    session: Any, device: str, provider: str, precision: Precision, threads: int | None = None
) -> Placement:
    """Read back where a session computes that was asked for `provider` on `device`.

    `device` stands in the answer only where `provider` computes every product. Elsewhere it is `cpu`, or,
    where the device is the same and only the provider is not, that provider's own name.
    """
    nodes, products = assigned(session)
    used = _executing(session.get_providers(), nodes, products, provider)
    place = device if used == provider else "cpu" if used == CPU and device != "cpu" else used
    return Placement(device=place, precision=precision, provider=used, threads=threads, nodes=dict(nodes))


def assigned(session: Any) -> tuple[Counter[str], Counter[str]]:
    """Count the nodes per provider, and the products among them; empty where this version does not tell."""
    nodes: Counter[str] = Counter()
    products: Counter[str] = Counter()
    if tell := getattr(session, "get_provider_graph_assignment_info", None):
        for subgraph in tell():
            operators = [node.op_type for node in subgraph.get_nodes()]
            nodes[subgraph.ep_name] += len(operators)
            products[subgraph.ep_name] += sum(map(is_product, operators))
    return nodes, +products


def _executing(registered: list[str], nodes: Counter[str], products: Counter[str], wanted: str) -> str:
    """Name the provider that was asked for, or the one that computes instead."""
    if wanted not in registered:
        return registered[0]
    counted = products or nodes
    if wanted in nodes and set(products) <= {wanted}:
        return wanted
    strays = Counter({name: count for name, count in counted.items() if name != wanted})
    return strays.most_common(1)[0][0] if strays else wanted
