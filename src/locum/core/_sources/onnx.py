"""A program as an ONNX model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import count
from typing import Any, Literal, get_args

import numpy as np

from locum.core._sources._shared import is_text, ready
from locum.core.domain import Column
from locum.core.errors import InvalidData, MissingExtra
from locum.core.program import Condition, Levels, Linear, Program, Rule, Steps, Term

__all__ = ["to_onnx"]

_Precision = Literal["float64", "float32"]
_OPSET, _ML_OPSET, _IR = 17, 2, 8


def to_onnx(program: Program, *, precision: _Precision = "float64") -> bytes:
    """An ONNX model (opset 17) that answers for a batch of rows.

    Inputs: one tensor of shape (n,) a column, with the column's name: text for categories that are text, else numbers of the
    precision. NaN is missing; missing text is empty, or where that is a category, what ``missing_text`` in the model's
    metadata says. A category that was never seen is unknown, as in `Program`.

    Outputs: ``label`` (n,) and ``values`` (n, k), the numbers of `Program.values`; or ``value`` (n,) where the program answers
    with a value. Where a column is already called so, underscores follow.

    Parameters
    ----------
    program : Program
    precision : {"float64", "float32"}, default="float64"
        With "float32" a number falls on the same side of every threshold as in the program (thresholds are rounded down);
        what is computed is right to about seven digits.

    Raises
    ------
    MissingExtra
        The package onnx is not installed.
    InvalidData
        A program with numbers that are not finite (or beyond float32), a column without a name, or categories that are one
        and the same in float32.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra("exporting to ONNX needs onnx; install it with: pip install 'locum[onnx]'") from error
    if precision not in get_args(_Precision):
        raise InvalidData(f"expected precision to be one of {', '.join(get_args(_Precision))}, got {precision!r}")
    program = ready(program)
    if any(not column.name for column in program.columns):
        raise InvalidData("ONNX cannot hold an input without a name; rename the column first")
    graph = _Graph(onnx, program, np.dtype(precision))
    graph.answer()
    model = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, "stand-in", graph.inputs, graph.outputs, graph.constants),
        opset_imports=[onnx.helper.make_opsetid("", _OPSET), onnx.helper.make_opsetid("ai.onnx.ml", _ML_OPSET)],
        ir_version=_IR,
        producer_name="locum",
        doc_string=program.text(),
    )
    markers = {column.name: _missing_text(column) for column in program.columns if is_text(column)}
    onnx.helper.set_model_props(model, {"missing_text": json.dumps(markers)})
    return model.SerializeToString()


def _missing_text(column: Column) -> str:
    marker = ""
    while marker in column.levels:
        marker = f"({marker or 'missing'})"
    return marker


class _Graph:
    """Nodes, constants, inputs and outputs of a model while it is made; a name stands for a tensor."""

    def __init__(self, onnx: Any, program: Program, dtype: np.dtype[Any]) -> None:
        self._onnx = onnx
        self._program = program
        self._dtype = dtype
        self._taken = {column.name for column in program.columns}
        self._numbers = count()
        self._columns: dict[int, tuple[str, str]] = {}
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.outputs: list[Any] = []
        self.inputs = [self._declared(c.name, str if is_text(c) else dtype, ["rows"]) for c in program.columns]
        self._one = self._ones()

    # ------------------------------------------------------------------ making parts
    def _declared(self, name: str, dtype: Any, shape: Sequence[Any]) -> Any:
        return self._onnx.helper.make_tensor_value_info(name, self._type(dtype), shape)

    def _type(self, dtype: Any) -> int:
        kind = np.dtype(dtype).kind
        return self._onnx.TensorProto.STRING if kind in "UO" else self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

    def _fresh(self, wanted: str = "") -> str:
        name = wanted or f"t{next(self._numbers)}"
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def _constant(self, values: Any, dtype: Any = None) -> str:
        array = np.asarray(values, dtype=dtype)
        flat = [text.encode() for text in array.ravel().tolist()] if array.dtype.kind in "UO" else array.ravel().tolist()
        name = self._fresh()
        self.constants.append(self._onnx.helper.make_tensor(name, self._type(array.dtype), array.shape, flat))
        return name

    def _real(self, values: Any) -> str:
        with np.errstate(over="ignore"):
            array = np.asarray(values, dtype=float).astype(self._dtype)
        if np.isinf(array).any():
            raise InvalidData("cannot export a program with numbers beyond float32 as float32; use precision='float64'")
        return self._constant(array)

    def _threshold(self, values: Sequence[float | None]) -> str:
        """The largest numbers of the precision that are not above the thresholds; None becomes NaN, which nothing passes."""
        exact = np.array([np.nan if value is None else value for value in values])
        with np.errstate(over="ignore"):
            rounded = exact.astype(self._dtype)
            return self._constant(np.where(rounded > exact, np.nextafter(rounded, self._dtype.type(-np.inf)), rounded))

    def _op(self, kind: str, *inputs: str, name: str = "", domain: str = "", **attributes: Any) -> str:
        out = self._fresh(name)
        self.nodes.append(self._onnx.helper.make_node(kind, list(inputs), [out], domain=domain, **attributes))
        return out

    def _cast(self, x: str, dtype: Any) -> str:
        return self._op("Cast", x, to=self._type(dtype))

    def _column_of(self, x: str) -> str:
        return self._op("Unsqueeze", x, self._constant([1], np.int64))

    def _ones(self) -> str:
        """True, once a row, shape (n, 1)."""
        shape = self._op("Shape", self._program.columns[0].name)
        value = self._onnx.helper.make_tensor("true", self._onnx.TensorProto.BOOL, [1], [True])
        return self._column_of(self._op("ConstantOfShape", shape, value=value))

    # ------------------------------------------------------------------ columns
    def _number(self, j: int) -> tuple[str, str]:
        """A numeric column and whether it is missing, both of shape (n, 1)."""
        if j not in self._columns:
            x = self._column_of(self._program.columns[j].name)
            self._columns[j] = (x, self._op("IsNaN", x))
        return self._columns[j]

    def _slot(self, j: int) -> str:
        """Index of the level of each row, shape (n,): after the levels come missing and unknown."""
        if j not in self._columns:
            column = self._program.columns[j]
            self._columns[j] = (self._text_slot(column) if is_text(column) else self._number_slot(column), "")
        return self._columns[j][0]

    def _text_slot(self, column: Column) -> str:
        keys = [*map(str, column.levels), _missing_text(column)]
        codes = list(range(len(keys)))
        return self._op(
            "LabelEncoder",
            column.name,
            domain="ai.onnx.ml",
            keys_strings=keys,
            values_int64s=codes,
            default_int64=len(keys),
        )

    def _number_slot(self, column: Column) -> str:
        levels = np.array(column.levels, dtype=float).astype(self._dtype)
        if len(np.unique(levels)) < len(levels):
            raise InvalidData(f"column {column.name!r} has categories that are one in float32; use precision='float64'")
        x = self._column_of(column.name)
        found = self._op("Concat", self._op("Equal", x, self._constant(levels[None])), self._op("IsNaN", x), self._one, axis=1)
        return self._first(found)

    def _first(self, held: str) -> str:
        """Position of the first that is true in each row (n, m), shape (n,)."""
        return self._op("ArgMax", self._cast(held, np.float32), axis=1, keepdims=0)

    # ------------------------------------------------------------------ conditions and rules
    def _holds(self, rules: Sequence[Rule]) -> str:
        """Which rules hold, shape (n, len(rules)): those of which no condition fails."""
        by_column: dict[int, list[tuple[int, Condition]]] = {}
        for i, rule in enumerate(rules):
            for condition in rule.conditions:
                by_column.setdefault(condition.column, []).append((i, condition))
        blocks = [self._one, *(self._passed(j, [c for _, c in found]) for j, found in by_column.items())]
        owners = [i for found in by_column.values() for i, _ in found]
        member = np.zeros((1 + len(owners), len(rules)), dtype=np.float32)
        member[1 + np.arange(len(owners)), owners] = 1
        failed = self._cast(self._op("Not", self._op("Concat", *blocks, axis=1)), np.float32)
        failures = self._op("MatMul", failed, self._constant(member))
        return self._op("Less", failures, self._constant(0.5, np.float32))

    def _passed(self, j: int, conditions: Sequence[Condition]) -> str:
        """Which conditions on one column hold, shape (n, len(conditions))."""
        column, missing = self._program.columns[j], [c.missing for c in conditions]
        if column.kind == "categorical":
            table = np.zeros((len(column.levels) + 2, len(conditions)), dtype=bool)
            for i, condition in enumerate(conditions):
                table[slice(None) if condition.levels is None else list(condition.levels), i] = True
            table[-2] = missing
            return self._op("Gather", self._constant(table), self._slot(j), axis=0)
        x, absent = self._number(j)
        below = self._op("LessOrEqual", x, self._threshold([c.low for c in conditions]))
        above = self._op("Greater", x, self._threshold([c.high for c in conditions]))
        failed = self._op("Or", self._op("Or", below, above), absent)
        return self._op("Or", self._op("Not", failed), self._op("And", absent, self._constant([missing])))

    # ------------------------------------------------------------------ scores and answers
    def _scores(self) -> str:
        """The sum of the terms, shape (n, k)."""
        terms = self._program.terms
        rules = [term for term in terms if isinstance(term, Rule)]
        zero = self._op("Sub", self._cast(self._one, self._dtype), self._real(1.0))
        parts = [self._op("Add", zero, self._real([self._program.base]))]
        if rules:
            held = self._cast(self._holds(rules), self._dtype)
            parts.append(self._op("MatMul", held, self._real([rule.value for rule in rules])))
        parts += [self._term(term) for term in terms if not isinstance(term, Rule)]
        return self._op("Sum", *parts)

    def _term(self, term: Term) -> str:
        if isinstance(term, Levels):
            table = [*term.values, term.missing, term.unknown]
            return self._op("Gather", self._real(table), self._slot(term.column), axis=0)
        assert not isinstance(term, Rule)
        x, absent = self._number(term.column)
        if isinstance(term, Linear):
            away = self._op("Sub", x, self._real(term.center))
            found = self._op("Mul", away, self._real([term.slope]))
            return self._op("Where", absent, self._real([term.missing]), found)
        return self._op("Gather", self._real([*term.values, term.missing]), self._piece(term, x, absent), axis=0)

    def _piece(self, term: Steps, x: str, absent: str) -> str:
        if not term.edges:
            passed = self._cast(absent, np.int64)
        else:
            above = self._cast(self._op("Greater", x, self._threshold(term.edges)), np.int64)
            passed = self._op("ReduceSum", above, self._constant([1], np.int64), keepdims=1)
        last = self._constant([[len(term.values)]], np.int64)
        return self._op("Squeeze", self._op("Where", absent, last, passed), self._constant([1], np.int64))

    def _linked(self, scores: str) -> str:
        if self._program.link == "identity":
            return scores
        if self._program.link == "softmax":
            return self._op("Softmax", scores, axis=1)
        clipped = self._op("Max", scores, self._real(0.0))
        total = self._op("ReduceSum", clipped, self._constant([1], np.int64), keepdims=1)
        share = self._real(1 / len(self._program.base))
        return self._op("Where", self._op("Greater", total, self._real(0.0)), self._op("Div", clipped, total), share)

    def answer(self) -> None:
        """Everything from the inputs to the outputs."""
        program = self._program
        best = None
        if program.body == "rules":
            rules = [term for term in program.terms if isinstance(term, Rule)]
            table = np.array([*(rule.value for rule in rules), program.base])
            fired = self._first(self._op("Concat", self._holds(rules), self._one, axis=1) if rules else self._one)
            values = self._op("Gather", self._real(table), fired, axis=0)
            best = self._op("Gather", self._constant(table.argmax(axis=1), np.int64), fired, axis=0)
        else:
            values = self._linked(self._scores())
        if program.classes is None:
            self._give("value", self._op("Squeeze", values, self._constant([1], np.int64)), self._dtype, ["rows"])
            return
        best = best or self._op("ArgMax", values, axis=1, keepdims=0)
        labels = np.array(program.classes)
        self._give("label", self._op("Gather", self._constant(labels), best, axis=0), labels.dtype, ["rows"])
        self._give("values", values, self._dtype, ["rows", len(program.classes)])

    def _give(self, name: str, value: str, dtype: Any, shape: Sequence[Any]) -> None:
        self.outputs.append(self._declared(self._op("Identity", value, name=name), dtype, shape))
