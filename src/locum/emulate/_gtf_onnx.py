"""One step of a piecewise-linear cell as an ONNX graph, for programs that know nothing of this library."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import need
from locum.emulate._gtf_cells import Cell, Parameters

__all__ = ["step_graph"]

Array = NDArray[np.floating[Any]]

_OPSET, _IR = 17, 8


def step_graph(cell: Cell, p: Parameters, D: Array, d: Array) -> bytes:
    """The graph from "state" (n, M), and "inputs" (n, K) where there are some, to "next" (n, M) and "observed" (n, N).

    What is observed of a state z is z D + d.
    """
    onnx = need("onnx", "an ONNX file", "onnx")
    make, kind = onnx.helper, onnx.TensorProto.DOUBLE
    P, o, c = cell.phi(p)
    constants = {"P": P.T, "A": p["A"], "W": p["W"].T, "h": p["h"], "D": D, "d": d}
    nodes = [make.make_node("MatMul", ["state", "P"], ["u"]), make.make_node("Mul", ["state", "A"], ["kept"])]
    parts = []
    for j in range(len(c)):
        constants |= {f"o{j}": o[j], f"c{j}": c[j : j + 1]}
        nodes.append(make.make_node("Add", ["u", f"o{j}"], [f"over{j}"]))
        nodes.append(make.make_node("Relu", [f"over{j}"], [f"on{j}"]))
        nodes.append(make.make_node("Mul", [f"on{j}", f"c{j}"], [f"part{j}"]))
        parts.append(f"part{j}")
    nodes.append(make.make_node("Sum", parts, ["phi"]))
    nodes.append(make.make_node("MatMul", ["phi", "W"], ["moved"]))
    terms, given = ["kept", "moved", "h"], [make.make_tensor_value_info("state", kind, ["n", cell.latent])]
    if cell.inputs:
        constants["C"] = p["C"].T
        nodes.append(make.make_node("MatMul", ["inputs", "C"], ["driven"]))
        terms.append("driven")
        given.append(make.make_tensor_value_info("inputs", kind, ["n", cell.inputs]))
    nodes.append(make.make_node("Sum", terms, ["next"]))
    nodes.append(make.make_node("MatMul", ["next", "D"], ["seen"]))
    nodes.append(make.make_node("Add", ["seen", "d"], ["observed"]))
    told = [make.make_tensor_value_info("next", kind, ["n", cell.latent])]
    told.append(make.make_tensor_value_info("observed", kind, ["n", len(d)]))
    held = [onnx.numpy_helper.from_array(np.ascontiguousarray(one, dtype=np.float64), name) for name, one in constants.items()]
    graph = make.make_graph(nodes, "step", given, told, held)
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", _OPSET)], ir_version=_IR)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
