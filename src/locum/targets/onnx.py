"""A target from an ONNX file, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, need
from locum.core.execute import Malformed
from locum.core.target import Target
from locum.targets._files import check_unchanged, digest, found, in_worker, opened_here
from locum.targets._rows import as_numbers, as_text, cast, check_columns, named_columns
from locum.targets._scores import check_link, read_scores

__all__ = ["from_onnx"]

_DTYPES = {
    "float": np.float32,
    "double": np.float64,
    "float16": np.float16,
    "bool": np.bool_,
    "string": np.object_,
    **{name: np.dtype(name).type for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")},
}
_LABELS = ("tensor(int64)", "tensor(string)")
_ERRORS = 3  # onnxruntime's log level at which it prints errors only


def from_onnx(
    path: Any,
    *,
    output: str = "auto",
    output_name: str | None = None,
    link: str | None = None,
    classes: Any = None,
    providers: Sequence[str] = ("CPUExecutionProvider",),
    threads: int = 0,
    **settings: Any,
) -> Target:
    """A target from an ONNX file.

    The model takes rows as one tensor, or one column a tensor; how wide they are and of which type, it says itself. Numbers
    are cast to that type: most files take float32.

    Parameters
    ----------
    path : path
        The file; tensors that it keeps in other files must lie beside it.
    output : {"auto", "value", "probability", "class"}, default="auto"
        What to make of what it gives. "auto": whole numbers and text are classes, scores are left as they are.
    output_name : str or None, default=None
        Which of its outputs. Where there are several, and none is named, they must be a label and the probabilities of
        classes, as converters write them: the probabilities are taken for ``output="probability"``, else the label.
    link : {None, "softmax", "sigmoid"}, default=None
        What makes probabilities of its scores; None where it gives probabilities.
    classes : sequence or None, default=None
        What the classes are called, in the order of the scores; read off the file where it tells.
    providers : sequence of str, default=("CPUExecutionProvider",)
        Of onnxruntime: what computes, best first.
    threads : int, default=0
        Threads for one batch; 0 is one for each core, in a worker of a process pool one.
    **settings
        Of `Target`. Workers of pools open the file themselves, so it must be there for them.

    Raises
    ------
    InvalidData
        No such file, not an ONNX model, inputs or outputs that do not fit rows and answers. When asked: rows that it cannot
        take.
    MissingExtra
        onnx or onnxruntime is not installed.
    """
    path = found(path, "model")
    onnx, runtime = need("onnx", "an ONNX file", "onnx"), need("onnxruntime", "an ONNX file", "onnx")
    check_link(link, output)
    if threads < 0:
        raise InvalidData(f"expected threads= of zero or more, got {threads}")
    available = runtime.get_available_providers()
    unknown = sorted(set(providers) - set(available))
    if unknown:
        raise InvalidData(f"onnxruntime has no {', '.join(unknown)} here; it has {', '.join(available)}")
    try:
        graph = onnx.load(path, load_external_data=False)
    except Exception as error:  # of a damaged file, protobuf raises what its parts raise
        raise InvalidData(f"{path.name} is not an ONNX model: {error}") from error
    beside = _beside(graph, path.parent)
    content = digest(path, *beside)
    opened = _Opened(path, beside, content, tuple(providers), threads)
    session = _session(opened)
    inputs = _inputs(session.get_inputs())
    said = _chosen(session.get_outputs(), output, output_name)
    names = _classes(graph) if classes is None else np.asarray(classes)
    kind = _kind(said, output)
    called = names if classes is not None or not _is_label(said) else None
    keys = names if _by_class(said) and classes is None else None
    answer = OnnxModel(opened, inputs, said.name, kind, link, called, keys)
    read = {
        "name": path.name,
        "check": answer.check,
        "fingerprint": f"{content} {said.name} {kind} {link} {None if called is None else called.tolist()}",
        "classes": names if kind in ("class", "probability") else None,
    }
    return Target(answer, output=kind, **{**read, **settings})


@dataclass(frozen=True)
class _Opened:
    """A file and how to run it."""

    path: Path
    beside: tuple[Path, ...]
    content: str
    providers: tuple[str, ...]
    threads: int


@opened_here
def _session(opened: _Opened) -> Any:
    import onnxruntime

    path = opened.path
    check_unchanged(opened.content, path, *opened.beside)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS
    options.intra_op_num_threads = opened.threads or (1 if in_worker() else 0)
    try:
        return onnxruntime.InferenceSession(path, options, providers=list(opened.providers))
    except Exception as error:  # onnxruntime's errors have no base of their own
        raise InvalidData(f"onnxruntime cannot run {path.name}: {error}") from error


@dataclass(frozen=True)
class _Input:
    """One input of the model: its name, the type of its numbers as onnxruntime writes it, and the shape of one row."""

    name: str
    type: str
    shape: tuple[Any, ...] | None
    batch: int | None = None
    dtype: Any = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", _DTYPES.get(self.type.removeprefix("tensor(").removesuffix(")")))

    def feed(self, values: Any) -> NDArray[Any]:
        """Values of shape (m, ...) as this input takes them."""
        where = f" in {self.name!r}"
        if self.dtype is np.object_:
            array: NDArray[Any] = as_text(values, where)
        else:
            array = cast(as_numbers(values), self.dtype, where)
        if self.shape is None:
            return array
        given = array.shape
        if len(self.shape) != array.ndim - 1 and array.size == len(array):  # one value a row, however it is wrapped
            array = array.reshape(len(array), *[1] * len(self.shape))
        fits = len(self.shape) == array.ndim - 1 and all(
            not isinstance(wanted, int) or wanted == got for wanted, got in zip(self.shape, array.shape[1:], strict=True)
        )
        if not fits:
            wanted = ", ".join(str(size) for size in ("n", *self.shape))
            raise InvalidData(f"the model takes {self.name!r} of shape ({wanted}), got {given}")
        return array


class OnnxModel:
    """Answers rows with an ONNX model.

    Parameters
    ----------
    opened : _Opened
    inputs : tuple of _Input
    name : str
        Of the output.
    output, link, classes
        As `read_scores` takes them.
    keys : ndarray of shape (k,) or None
        Of an output that names each probability by its class: the order of the classes; that of the output where None.
    """

    def __init__(
        self,
        opened: _Opened,
        inputs: tuple[_Input, ...],
        name: str,
        output: str,
        link: str | None,
        classes: NDArray[Any] | None,
        keys: NDArray[Any] | None,
    ) -> None:
        self.opened, self.inputs, self.name, self.keys = opened, inputs, name, keys
        self.output, self.link, self.classes = output, link, classes

    def __call__(self, X: Any) -> NDArray[Any]:
        session, feeds = _session(self.opened), self.feeds(X)
        m, size = len(X), self.inputs[0].batch or len(X)
        parts = [
            self._array(session.run([self.name], {name: _piece(values, start, size) for name, values in feeds.items()})[0])
            for start in range(0, m, size)
        ]
        said = np.concatenate(parts)[:m]
        return read_scores(said.astype(str) if said.dtype == object else said, self.output, self.link, self.classes)

    def check(self, X: Any) -> None:
        """Refuse rows that the model cannot take."""
        self.feeds(X)

    def feeds(self, X: Any) -> dict[str, NDArray[Any]]:
        """Rows as the model's inputs."""
        if len(self.inputs) == 1:
            only = self.inputs[0]
            columns = named_columns(X) if only.dtype is np.object_ else None
            return {only.name: only.feed(X if columns is None else np.column_stack(list(columns.values())))}
        check_columns(X, len(self.inputs), [item.name for item in self.inputs])
        columns = named_columns(X)
        rows = X if isinstance(X, np.ndarray) else np.asarray(X, dtype=object)
        values = list(rows.T) if columns is None else list(columns.values())
        return {item.name: item.feed(column) for item, column in zip(self.inputs, values, strict=True)}

    def _array(self, said: Any) -> NDArray[Any]:
        """An output as an array of shape (m, ...); probabilities by class become columns."""
        if not isinstance(said, list):
            return said
        if not said or not isinstance(said[0], dict):
            raise Malformed(f"expected a tensor, or probabilities by class, got a list of {len(said)} other things")
        keys = list(said[0]) if self.keys is None else self.keys.tolist()
        return np.array([[row[key] for key in keys] for row in said])


def _piece(values: NDArray[Any], start: int, size: int) -> NDArray[Any]:
    """The next `size` rows; at the end, of a model that takes no fewer, the last row stands in for those that lack."""
    piece = values[start : start + size]
    return piece if len(piece) == size else np.concatenate([piece, np.repeat(piece[-1:], size - len(piece), axis=0)])


# ---------------------------------------------------------------------- what the model says of itself
def _inputs(given: Any) -> tuple[_Input, ...]:
    inputs = []
    for item in given:
        shape = tuple(item.shape) or None
        batch = shape[0] if shape and isinstance(shape[0], int) and shape[0] > 0 else None
        inputs.append(_Input(item.name, item.type, None if shape is None else shape[1:], batch))
    strange = [f"{item.name} ({item.type})" for item in inputs if item.dtype is None]
    wide = [item.name for item in inputs if len(inputs) > 1 and any(size != 1 for size in item.shape or ())]
    if not inputs or strange or wide:
        what = "no inputs" if not inputs else ", ".join(strange or wide)
        raise InvalidData(
            f"expected a model with one input of numbers or text, or one a column, each one value wide, got {what}; run it in "
            "a function of rows, and give that"
        )
    return tuple(inputs)


def _chosen(outputs: Any, output: str, name: str | None) -> Any:
    listed = ", ".join(f"{item.name} ({item.type} {item.shape})" for item in outputs)
    if name is not None:
        named = [item for item in outputs if item.name == name]
        if not named:
            raise InvalidData(f"the model has no output {name!r}; it has {listed}")
        return named[0]
    if len(outputs) == 1:
        return outputs[0]
    if len(outputs) == 2 and _is_label(outputs[0]) and (_by_class(outputs[1]) or len(outputs[1].shape) == 2):
        return outputs[1] if output == "probability" else outputs[0]
    raise InvalidData(f"the model has several outputs; say output_name= for one of {listed}")


def _is_label(item: Any) -> bool:
    return item.type in _LABELS and len(item.shape) == 1


def _by_class(item: Any) -> bool:
    return item.type.startswith("seq(map(")


def _kind(item: Any, output: str) -> str:
    if output != "auto":
        return output
    if _is_label(item):
        return "class"
    if _by_class(item):
        return "probability"
    return "value" if len(item.shape) == 1 or list(item.shape[1:]) == [1] else "auto"


def _classes(graph: Any) -> NDArray[Any] | None:
    """The names of the classes, where the nodes that know any agree."""
    named = {
        tuple(text.decode() for text in attribute.strings) or tuple(attribute.ints)
        for node in graph.graph.node
        for attribute in node.attribute
        if attribute.name.startswith("classlabels_")
    }
    named.discard(())
    return np.array(named.pop()) if len(named) == 1 else None


def _beside(model: Any, folder: Path) -> tuple[Path, ...]:
    """The other files that hold tensors of the model."""
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    nodes = [node for function in model.functions for node in function.node]
    places = {ExternalDataInfo(tensor).location for tensor in _tensors(model.graph, nodes) if uses_external_data(tensor)}
    return tuple(found(folder / place, "model's tensors in") for place in sorted(places))


def _tensors(graph: Any, nodes: Sequence[Any] = ()) -> Iterator[Any]:
    yield from graph.initializer
    for node in (*graph.node, *nodes):
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)
