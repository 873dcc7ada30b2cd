"""Layer-wise relevance propagation through networks of convolutions and rectifiers, on their torch.fx graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from locum.core.errors import InvalidData, UnsupportedModule, need, require_one_of, require_whole
from locum.explain._propagation import Conservation, RuleTable
from locum.explain.attribution import Attribution, Axis

if TYPE_CHECKING:
    import torch

__all__ = ["STARTS", "LRPExplainer", "Propagation", "Relevance", "checked_module"]

STARTS = ("onehot", "softmax", "logit")
_SMALLEST = 1e-9  # beside a sum of positive parts, where all of them may be 0
_EPSILON = 1e-6
_AXES: dict[int, tuple[str, ...]] = {
    1: ("column",), 2: ("channel", "time point"), 3: ("channel", "pixel row", "pixel column"),
}  # fmt: skip


def _torch() -> Any:
    return need("torch", "relevance in a network", "nets")


def checked_module(model: Any) -> Any:
    """The module itself, where it is one and in eval mode."""
    if not isinstance(model, _torch().nn.Module):
        raise InvalidData(f"expected a torch.nn.Module, got {type(model).__name__}")
    in_training = [name or "the module itself" for name, part in model.named_modules() if part.training]
    if in_training:
        raise InvalidData(
            f"expected a network in eval mode, but {in_training[0]} is in train mode, where dropout and batch statistics would "
            "be part of what is explained; call model.eval() first"
        )
    return model


# ---------------------------------------------------------------------- one operation of the graph
@dataclass
class _Operation:
    """One node of the graph with what went in and came out, as its rule needs them.

    `call` runs it again on other tensors in place of `parts`, the inputs that depend on the row. `scale` is what a batch
    normalisation right behind it multiplies each channel by.
    """

    name: str
    module: Any
    call: Callable[..., Any]
    parts: list[torch.Tensor]
    out: torch.Tensor
    scale: torch.Tensor | None = None


_Rule = Callable[[_Operation, Any], list[Any]]


def _passed(operation: _Operation, relevance: Any) -> list[Any]:
    """Element by element: what arrives goes on as it is."""
    if len(operation.parts) != 1:
        raise UnsupportedModule(f"{operation.name} joins several values of the row, and there is no rule for that")
    return [relevance]


def _moved(operation: _Operation, relevance: Any) -> list[Any]:
    """Each output is a copy of one input: relevance goes where the value came from (the winner, in a max-pool)."""
    return _gradients(operation.call, operation.parts, relevance)


def _gradients(call: Callable[..., Any], parts: list[Any], arriving: Any) -> list[Any]:
    torch = _torch()
    with torch.enable_grad():
        leaves = [part.detach().requires_grad_(True) for part in parts]
        return list(torch.autograd.grad(call(*leaves), leaves, arriving))


def _weighted(operation: _Operation, weight: Any) -> Callable[[Any], Any]:
    """The layer with another weight and without its bias."""
    torch, module = _torch(), operation.module
    given = {"weight": weight} | ({} if module.bias is None else {"bias": torch.zeros_like(module.bias)})
    return lambda x: torch.func.functional_call(module, given, (x,))


def _folded_weight(operation: _Operation) -> Any:
    weight = operation.module.weight.detach()
    if operation.scale is None:
        return weight
    return weight * operation.scale.reshape(-1, *[1] * (weight.ndim - 1))


def _zplus_layer(operation: _Operation, relevance: Any) -> list[Any]:
    """In proportion to the positive products of input and weight, so also negative inputs times negative weights."""
    torch = _torch()
    (x,), weight = operation.parts, _folded_weight(operation)
    halves = [(x.clamp(min=0), weight.clamp(min=0))]
    if bool((x < 0).any()):
        halves.append((x.clamp(max=0), weight.clamp(max=0)))
    with torch.enable_grad():
        leaves = [half.requires_grad_(True) for half, _ in halves]
        total = sum(_weighted(operation, w)(leaf) for leaf, (_, w) in zip(leaves, halves, strict=True))
        gradients = torch.autograd.grad(total, leaves, relevance / (total.detach() + _SMALLEST))
    return [sum(leaf.detach() * gradient for leaf, gradient in zip(leaves, gradients, strict=True))]


def _zplus_mean(operation: _Operation, relevance: Any) -> list[Any]:
    """In proportion to the values that have the sign of their mean."""
    (x,) = operation.parts
    found = 0
    for side, of_side in ((x.clamp(min=0), operation.out >= 0), (x.clamp(max=0), operation.out < 0)):
        total = operation.call(side)
        share = (relevance / _away_from_zero(total, _SMALLEST)) * of_side
        found = found + side * _gradients(operation.call, [side], share)[0]
    return [found]


def _zplus_sum(operation: _Operation, relevance: Any) -> list[Any]:
    """In proportion to the summands that have the sign of their sum."""
    _same_shapes(operation)
    sign = _sign(operation.out)
    sides = [(part * sign).clamp(min=0) for part in operation.parts]
    share = relevance / (sum(sides) + _SMALLEST)
    return [side * share for side in sides]


def _epsilon_layer(operation: _Operation, relevance: Any) -> list[Any]:
    """In proportion to all products of input and weight; what the bias adds is lost."""
    call = _weighted(operation, _folded_weight(operation))
    share = relevance / _away_from_zero(operation.out, _EPSILON)
    return [operation.parts[0] * _gradients(call, operation.parts, share)[0]]


def _epsilon_mean(operation: _Operation, relevance: Any) -> list[Any]:
    share = relevance / _away_from_zero(operation.out, _EPSILON)
    return [operation.parts[0] * _gradients(operation.call, operation.parts, share)[0]]


def _epsilon_sum(operation: _Operation, relevance: Any) -> list[Any]:
    _same_shapes(operation)
    share = relevance / _away_from_zero(operation.out, _EPSILON)
    return [part * share for part in operation.parts]


def _sign(values: Any) -> Any:
    torch = _torch()
    return torch.where(values >= 0, 1.0, -1.0).to(values.dtype)


def _away_from_zero(values: Any, least: float) -> Any:
    return values + least * _sign(values)


def _same_shapes(operation: _Operation) -> None:
    shapes = {tuple(part.shape) for part in operation.parts}
    if len(shapes) > 1:
        raise UnsupportedModule(f"{operation.name} adds values of shapes {sorted(shapes)}, and only equal shapes have a rule")


# ---------------------------------------------------------------------- which rule is whose
_LAYERS = ("Linear", "Conv1d", "Conv2d", "Conv3d")
_NORMS = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d")
_ONE_BY_ONE = (
    "ReLU", "ReLU6", "LeakyReLU", "ELU", "GELU", "SiLU", "Hardswish", "Softplus", "Tanh", "Sigmoid", "Identity", "Dropout",
    "Dropout1d", "Dropout2d", "Dropout3d", *_NORMS,
)  # fmt: skip
_COPIES = ("MaxPool1d", "MaxPool2d", "MaxPool3d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d", "Flatten", "Unflatten", "ZeroPad2d")
_MEANS = ("AvgPool1d", "AvgPool2d", "AvgPool3d", "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d")

# Functions and methods by name; those of one value times, less or over a constant are one by one as well.
_ONE_BY_ONE_CALLS = (
    "relu", "relu_", "relu6", "leaky_relu", "elu", "gelu", "silu", "hardswish", "softplus", "tanh", "sigmoid", "dropout",
    "contiguous", "clone", "detach", "float", "mul", "sub", "truediv", "div", "floordiv", "to",
)  # fmt: skip
_COPY_CALLS = (
    "flatten", "reshape", "view", "squeeze", "unsqueeze", "permute", "transpose", "pad", "cat", "concat", "getitem",
    "max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool2d",
)  # fmt: skip
_MEAN_CALLS = ("mean", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d")
_SUM_CALLS = ("add", "add_")


def _tables(layer: _Rule, mean: _Rule, total: _Rule) -> tuple[RuleTable[_Rule], Mapping[str, _Rule]]:
    passed: _Rule = _passed
    moved: _Rule = _moved
    modules = ((_LAYERS, layer), (_ONE_BY_ONE, passed), (_COPIES, moved), (_MEANS, mean))
    calls = ((_ONE_BY_ONE_CALLS, passed), (_COPY_CALLS, moved), (_MEAN_CALLS, mean), (_SUM_CALLS, total))
    return (
        RuleTable({name: rule for names, rule in modules for name in names}),
        {name: rule for names, rule in calls for name in names},
    )


_TABLES = {
    "zplus": _tables(_zplus_layer, _zplus_mean, _zplus_sum),
    "epsilon": _tables(_epsilon_layer, _epsilon_mean, _epsilon_sum),
}


# ---------------------------------------------------------------------- the graph
@dataclass
class Relevance:
    """What one propagation found.

    Attributes
    ----------
    layers : dict of str to torch.Tensor
        Relevance that arrives at the output of each convolution and linear layer, in the shape of that output.
    inputs : torch.Tensor or None
        Relevance of the input, in its shape, where it was asked for.
    logits : torch.Tensor of shape (n, classes)
    conservation : Conservation
        Sums of relevance on both sides of each operation, the one nearest the output first.
    """

    layers: dict[str, Any]
    inputs: Any
    logits: Any
    conservation: Conservation = field(default_factory=Conservation)


class Propagation:
    """A network made ready for relevance: traced, and a rule found for every operation.

    Parameters
    ----------
    model : torch.nn.Module
        In eval mode; one tensor in, logits of shape (n, classes) out. It is not changed.
    rule : {"zplus", "epsilon"}, default="zplus"

    Raises
    ------
    UnsupportedModule
        Something in it has no rule, or it cannot be traced; the message names it.
    """

    def __init__(self, model: Any, rule: str = "zplus") -> None:
        require_one_of(_TABLES, rule=rule)
        self._modules, self._calls = _TABLES[rule]
        self.graph = self._traced(checked_module(model))
        self.nodes = list(self.graph.nodes)
        (self._output,) = self.nodes[-1].args
        if not isinstance(self._output, _torch().fx.Node):
            raise UnsupportedModule("expected a network that answers one tensor of logits, got one that answers several")
        self._named = dict(model.named_modules())
        self._rules = {node: self._rule(node) for node in self.nodes if node.op not in ("placeholder", "get_attr", "output")}
        self._layers = [node for node in self.nodes if self._is(node, _LAYERS)]
        inputs = [node for node in self.nodes if node.op == "placeholder" and node.all_input_nodes == [] and node.users]
        if len(inputs) != 1:
            raise UnsupportedModule(f"expected a network that takes one tensor, got one that takes {len(inputs)}")
        self._input = inputs[0]
        self._of_row = _reached({self._input}, self.nodes)
        self._behind_layers = _reached(set(self._layers), self.nodes)
        self._folded = {node: node.args[0] for node in self.nodes if self._is_folded(node)}

    @property
    def layers(self) -> list[str]:
        """Paths of the convolutions and linear layers, in the order they are used."""
        return list(dict.fromkeys(node.target for node in self._layers))

    def __call__(self, X: Any, y: Any, *, start: str = "onehot", inputs: bool = False) -> Relevance:
        """Relevance of the class `y` of each row.

        Parameters
        ----------
        X : torch.Tensor of shape (n, ...)
        y : torch.Tensor of int, shape (n,)
        start : {"onehot", "softmax", "logit"}, default="onehot"
            What the output of class `y` starts from: 1, its probability, or its logit.
        inputs : bool, default=False
            Whether to go on to the input itself.
        """
        torch = _torch()
        with torch.no_grad():
            values = self._values(X)
            logits = values[self._output]
            arriving = {self._output: _started(logits, y, start)}
            found = Relevance({}, None, logits)
            wanted = self._of_row if inputs else self._behind_layers
            for node in reversed(self.nodes):
                if node not in arriving or node is self._input:
                    continue
                relevance = arriving.pop(node)
                if self._is(node, _LAYERS):
                    known = found.layers.get(node.target)
                    found.layers[node.target] = relevance if known is None else _both(known, relevance, node.target)
                parts = [part for part in self._parts(node, values) if part in self._of_row]
                if not any(part in wanted for part in parts):
                    continue
                shares = self._shared(node, parts, values, relevance)
                found.conservation.note(_label(node), float(relevance.sum()), float(sum(share.sum() for share in shares)))
                for part, share in zip(parts, shares, strict=True):
                    arriving[part] = arriving[part] + share if part in arriving else share
            found.inputs = arriving.get(self._input) if inputs else None
        return found

    # ------------------------------------------------------------------ forward
    def _values(self, X: Any) -> dict[Any, Any]:
        """What every node answers."""
        torch = _torch()
        values: dict[Any, Any] = {}
        for node in self.nodes:
            if node.op == "placeholder":
                values[node] = X if node is self._input else node.args[0] if node.args else None
            elif node.op == "get_attr":
                values[node] = _attribute(self._root, node.target)
            elif node.op != "output":
                fetched = torch.fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
                # What an operation in place is given would be lost for the rule of the one before.
                values[node] = self._run(node, *(_copied(fetched) if _in_place(node, self._named) else fetched))
        return values

    def _run(self, node: Any, args: Any, kwargs: Any) -> Any:
        if node.op == "call_module":
            return self._named[node.target](*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], node.target)(*args[1:], **kwargs)
        return node.target(*args, **kwargs)

    # ------------------------------------------------------------------ backward
    def _parts(self, node: Any, values: dict[Any, Any]) -> list[Any]:
        """The nodes that it takes tensors from, one as often as it is taken."""
        torch = _torch()
        found: list[Any] = []
        torch.fx.node.map_arg((node.args, node.kwargs), found.append)
        return [one for one in found if isinstance(values.get(one), torch.Tensor)]

    def _shared(self, node: Any, parts: list[Any], values: dict[Any, Any], relevance: Any) -> list[Any]:
        scale, out = None, values[node]
        for norm, layer in self._folded.items():
            if layer is node:
                scale, out = _scale(self._named[norm.target]), values[norm]

        def call(*tensors: Any) -> Any:
            given = iter(tensors)

            def fetched(one: Any) -> Any:
                return next(given) if one in self._of_row and isinstance(values[one], _torch().Tensor) else values[one]

            args, kwargs = _torch().fx.node.map_arg((node.args, node.kwargs), fetched)
            return self._run(node, args, kwargs)

        module = self._named[node.target] if node.op == "call_module" else None
        operation = _Operation(_label(node), module, call, [values[part] for part in parts], out, scale)
        return self._rules[node](operation, relevance)

    # ------------------------------------------------------------------ making ready
    def _traced(self, model: Any) -> Any:
        torch = _torch()
        known = self._modules

        class Tracer(torch.fx.Tracer):  # type: ignore[name-defined]
            def is_leaf_module(self, module: Any, name: str) -> bool:
                return bool(super().is_leaf_module(module, name)) or _has_rule(known, module)

        self._root = model
        try:
            return Tracer().trace(model)
        except Exception as error:
            raise UnsupportedModule(
                f"torch.fx cannot follow {type(model).__name__} ({error}); take branches on values and loops of unknown length "
                "out of its forward"
            ) from error

    def _rule(self, node: Any) -> _Rule:
        if node.op == "call_module":
            return self._modules.rule(self._named[node.target], node.target)
        name = node.target if isinstance(node.target, str) else node.target.__name__
        if name in self._calls or name in ("size", "getattr"):
            return self._calls.get(name, _passed)
        raise UnsupportedModule(
            f"there is no rule for {name} ({node.name} in the graph); there are rules for {', '.join(sorted(self._calls))}"
        )

    def _is(self, node: Any, kinds: tuple[str, ...]) -> bool:
        return node.op == "call_module" and any(kind.__name__ in kinds for kind in type(self._named[node.target]).__mro__)

    def _is_folded(self, node: Any) -> bool:
        """A batch normalisation right behind a layer that nothing else reads."""
        return self._is(node, _NORMS) and self._is(node.args[0], _LAYERS) and len(node.args[0].users) == 1


def _has_rule(table: RuleTable[_Rule], module: Any) -> bool:
    try:
        table.rule(module, "")
    except UnsupportedModule:
        return False
    return True


def _reached(start: set[Any], nodes: list[Any]) -> set[Any]:
    """The nodes of `start` and all that depend on them."""
    found = set(start)
    for node in nodes:
        if any(one in found for one in node.all_input_nodes):
            found.add(node)
    return found


def _attribute(root: Any, path: str) -> Any:
    for name in path.split("."):
        root = getattr(root, name)
    return root


def _in_place(node: Any, named: Mapping[str, Any]) -> bool:
    if node.op == "call_module":
        return bool(getattr(named[node.target], "inplace", False))
    name = node.target if isinstance(node.target, str) else node.target.__name__
    return name.endswith("_") or any(one is True for one in (*node.args[1:], node.kwargs.get("inplace")))


def _copied(value: Any) -> Any:
    torch = _torch()
    return torch.utils._pytree.tree_map(lambda one: one.clone() if isinstance(one, torch.Tensor) else one, value)


def _scale(norm: Any) -> Any:
    spread = (norm.running_var + norm.eps).sqrt()
    return (1.0 if norm.weight is None else norm.weight.detach()) / spread


def _both(known: Any, more: Any, name: str) -> Any:
    if known.shape != more.shape:
        raise UnsupportedModule(f"{name} is used at sizes {tuple(known.shape)} and {tuple(more.shape)}; give each use a layer")
    return known + more


def _label(node: Any) -> str:
    return str(node.target if node.op == "call_module" else node.name)


def _started(logits: Any, y: Any, start: str) -> Any:
    torch = _torch()
    require_one_of(STARTS, start=start)
    if logits.ndim != 2:
        raise InvalidData(f"expected a network that answers logits of shape (n, classes), got shape {tuple(logits.shape)}")
    rows, first = torch.arange(len(y), device=y.device), torch.zeros_like(logits)
    if start == "onehot":
        first[rows, y] = 1.0
    elif start == "softmax":
        first[rows, y] = logits.softmax(dim=1)[rows, y]
    else:
        first[rows, y] = logits[rows, y]
        if bool((first < 0).any()):
            raise InvalidData(
                "the logit of the class to explain is negative in some rows, which would turn the order of the units round; "
                'use start="onehot" or start="softmax"'
            )
    return first


# ---------------------------------------------------------------------- inputs explained
class LRPExplainer:
    """Layer-wise relevance propagation: how much of one logit each part of the input stands for.

    Relevance starts at one class and is shared out, layer by layer, in proportion to what each input of a layer added;
    its sum stays the same on the way. With ``rule="zplus"`` only what speaks for the class counts, and no value is negative.

    Parameters
    ----------
    model : torch.nn.Module
        In eval mode, of convolutions, linear layers, rectifiers, batch normalisation, pools, sums and concatenations.
    rule : {"zplus", "epsilon"}, default="zplus"
        ``epsilon`` is signed, and without biases equal to gradient times input.
    start : {"onehot", "softmax", "logit"}, default="onehot"
        What the class explained starts from.
    batch_size : int, default=64
    device : torch.device or str, default="cpu"

    Notes
    -----
    Cost: for each row about two forward passes and one backward pass.

    References
    ----------
    .. [1] Bach et al. (2015), "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise Relevance
       Propagation", PLOS ONE 10(7). Montavon et al. (2017), "Explaining nonlinear classification decisions with deep Taylor
       decomposition", arXiv:1512.02479.

    Examples
    --------
    >>> import numpy as np, torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 2, bias=False)).eval()
    >>> with torch.no_grad():
    ...     _ = net[0].weight.copy_(torch.tensor([[1.0, 3.0, -2.0], [0.0, 0.0, 1.0]]))
    >>> (one,) = LRPExplainer(net).explain(np.array([[1.0, 1.0, 0.5]]))
    >>> one.values.tolist()
    [0.25, 0.75, 0.0]
    """

    def __init__(
        self, model: Any, *, rule: str = "zplus", start: str = "onehot", batch_size: int = 64, device: Any = "cpu"
    ) -> None:
        self.model = model
        self.rule = rule
        self.start = start
        self.batch_size = batch_size
        self.device = device

    def explain(self, X: Any, y: Any = None) -> list[Attribution]:
        """One attribution a row.

        Parameters
        ----------
        X : array of shape (n, ...)
        y : array of int, shape (n,), or None, default=None
            The class to explain in each row; the one with the largest logit where None.
        """
        torch = _torch()
        require_whole(1, batch_size=self.batch_size)
        rows = np.asarray(X, dtype=np.float32)
        if rows.ndim < 2 or len(rows) == 0 or not np.isfinite(rows).all():
            raise InvalidData(f"expected rows of finite numbers, shape (n, ...), got an array of shape {rows.shape}")
        if y is not None and np.shape(y) != (len(rows),):
            raise InvalidData(f"expected one class for each of the {len(rows)} rows, got shape {np.shape(y)}")
        propagate = Propagation(self.model.to(self.device), self.rule)
        found = []
        for at in range(0, len(rows), self.batch_size):
            block = torch.as_tensor(rows[at : at + self.batch_size], device=self.device)
            with torch.no_grad():
                said = self.model(block).argmax(dim=1)
            wanted = said if y is None else torch.as_tensor(np.asarray(y)[at : at + self.batch_size], device=self.device).long()
            relevance = propagate(block, wanted, start=self.start, inputs=True)
            found += list(self._records(rows[at : at + self.batch_size], relevance, said, wanted))
        return found

    def _records(self, rows: Any, relevance: Relevance, said: Any, wanted: Any) -> Iterator[Attribution]:
        shape = rows.shape[1:]
        units = _AXES.get(len(shape), tuple(f"position {i}" for i in range(len(shape))))
        axes = tuple(Axis(unit, tuple(f"{unit} {i}" for i in range(size))) for unit, size in zip(units, shape, strict=True))
        unknown = np.full(shape, np.nan)
        for row, values, answer, explained in zip(
            rows, relevance.inputs.double().cpu().numpy(), said.tolist(), wanted.tolist(), strict=True
        ):
            yield Attribution(
                values, unknown, unknown, axes, base=0.0, row=row.tolist(), answer=answer, output=f"logit of class {explained}",
                baseline="nothing (relevance is shared out, no part is taken away)", method=f"LRP, rule {self.rule}",
                meaning="share of the relevance that the class started from", fidelity=None, random_state=0,
            )  # fmt: skip
