"""A small algorithm as a graph of named values, and the interchange interventions that test whether a network follows it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData, require_whole

__all__ = ["CausalModel", "Interventions"]

_INPUT, _OUTPUT = "x", "the output"
_CANDIDATES = 8  # pairings drawn for each one kept, so that all kinds of change are met
_ROUNDS = 50  # of drawing node functions at random
_Values = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Interventions:
    """Interchange interventions: which inputs are paired, which values are taken from another input, and what should come out.

    Parameters
    ----------
    inputs : ndarray of shape (m, ...)
    base : ndarray of int, shape (n,)
        Row of `inputs` that is run.
    sources : ndarray of int, shape (n, nodes)
        Row of `inputs` that each node's value comes from.
    swapped : ndarray of bool, shape (n, nodes)
        Whether that node is set.
    labels : ndarray of int, shape (n,)
        What the algorithm answers under the intervention.
    nodes : tuple of str
    """

    inputs: NDArray[Any]
    base: NDArray[np.int64]
    sources: NDArray[np.int64]
    swapped: NDArray[np.bool_]
    labels: NDArray[np.int64]
    nodes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.base)

    def part(self, start: int, stop: int) -> Interventions:
        """Some of the interventions, on the same inputs.

        Parameters
        ----------
        start, stop : int
        """
        rows = slice(start, stop)
        return Interventions(
            self.inputs, self.base[rows], self.sources[rows], self.swapped[rows], self.labels[rows], self.nodes
        )


@final
class CausalModel:
    """An algorithm as named values, each a function of the input and of other values.

    The names of a function's parameters say what it reads: ``x`` is the input, and any other is a node. So the graph needs no
    list of edges, and its order follows.

    Parameters
    ----------
    nodes : dict of str to callable
        Each takes arrays of n rows and gives n whole numbers or truth values. ``x`` is the input, shape (n, ...).
    output : callable
        Likewise; gives the label, a whole number of 0 or more.

    Attributes
    ----------
    nodes : tuple of str
        Names in an order in which they can be computed.

    Raises
    ------
    InvalidData
        No nodes, a parameter that is no node, a cycle, or (when used) values that are not n whole numbers.

    Notes
    -----
    Cost: two passes over the rows for each set of interventions.

    References
    ----------
    Geiger and others, *Causal Abstraction*, arXiv 2301.04709; Sutter and others, arXiv 2507.08802, section 2.

    Examples
    --------
    >>> same = lambda a, b: (a == b).all(axis=-1)
    >>> algorithm = CausalModel(
    ...     {"left": lambda x: same(x[:, 0], x[:, 1]), "right": lambda x: same(x[:, 2], x[:, 3])},
    ...     lambda left, right: left == right,
    ... )
    >>> x = np.array([[[1], [1], [2], [2]], [[1], [2], [3], [3]]])
    >>> algorithm.outputs(x).tolist()
    [1, 0]
    >>> algorithm.outputs(x, {"left": np.array([False, True])}).tolist()
    [0, 1]
    """

    def __init__(self, nodes: Mapping[str, Callable[..., Any]], output: Callable[..., Any]) -> None:
        if not nodes:
            raise InvalidData("expected at least one node, got none")
        if _INPUT in nodes:
            raise InvalidData(f"a node cannot be called {_INPUT!r}, which is the input; call it something else")
        reads = {name: _reads(name, function, nodes) for name, function in {**nodes, _OUTPUT: output}.items()}
        try:
            order = list(TopologicalSorter({name: set(reads[name]) - {_INPUT} for name in nodes}).static_order())
        except CycleError as error:
            raise InvalidData(f"expected an algorithm without cycles, got {' -> '.join(error.args[1])}") from error
        self.nodes = tuple(order)
        self._functions, self._reads = {**nodes, _OUTPUT: output}, reads

    # ------------------------------------------------------------------ running it
    def values(self, X: ArrayLike, given: Mapping[str, ArrayLike] | None = None) -> _Values:
        """Values of all nodes, each of shape (n,).

        Parameters
        ----------
        X : array-like of shape (n, ...)
        given : dict of str to array-like or None, default=None
            Values that nodes are set to; masked arrays set only rows that are not masked.
        """
        x = np.asarray(X)
        if x.ndim < 1 or not len(x):
            raise InvalidData(f"expected inputs of shape (n, ...) with at least one row, got shape {x.shape}")
        found: _Values = {_INPUT: x}
        for name in self.nodes:
            computed = self._computed(name, found)
            if given is not None and name in given:
                told: Any = np.ma.asarray(given[name])
                computed = np.where(np.ma.getmaskarray(told), computed, told.filled(0)).astype(computed.dtype)
            found[name] = computed
        return {name: found[name] for name in (_INPUT, *self.nodes)}

    def outputs(self, X: ArrayLike, given: Mapping[str, ArrayLike] | None = None) -> NDArray[np.int64]:
        """Labels, shape (n,).

        Parameters
        ----------
        X : array-like of shape (n, ...)
        given : dict of str to array-like or None, default=None
            As for :meth:`values`.
        """
        labels = self._computed(_OUTPUT, self.values(X, given)).astype(np.int64)
        if labels.min() < 0:
            raise InvalidData(f"expected labels of 0 or more from the output, got {labels.min()}")
        return labels

    def _computed(self, name: str, found: Mapping[str, Any]) -> NDArray[Any]:
        try:
            value = np.asarray(self._functions[name](*(found[one] for one in self._reads[name])))
        except Exception as error:
            raise InvalidData(f"{name} cannot be computed from these inputs: {error}") from error
        n = len(found[_INPUT])
        if value.shape != (n,) or value.dtype.kind not in "biu":
            got = f"{value.dtype} of shape {value.shape}"
            raise InvalidData(f"expected {n} whole numbers or truth values from {name}, got {got}")
        return value

    # ------------------------------------------------------------------ interventions
    def interventions(
        self,
        X: ArrayLike,
        n: int,
        *,
        sets: Sequence[Sequence[str]] | None = None,
        balanced: bool = True,
        random_state: int = 0,
    ) -> Interventions:
        """Pair inputs at random and say what should come out where nodes take their values from other inputs.

        Parameters
        ----------
        X : array-like of shape (m, ...)
        n : int
            Interventions.
        sets : sequence of sequence of str or None, default=None
            Sets of nodes that are set together, drawn with equal probability; all that are not empty where None.
        balanced : bool, default=True
            Whether the label under the intervention, and whether it differs from that of the base, are to be as even as inputs
            allow, so that no answer is right more often than another.
        random_state : int, default=0

        Raises
        ------
        InvalidData
            Fewer than two inputs, an empty set, a name that is no node.
        """
        require_whole(1, n=n)
        x = np.asarray(X)
        if x.ndim < 1 or len(x) < 2:
            raise InvalidData(f"expected at least two inputs to pair, got shape {x.shape}")
        masks = self._masks(sets)
        rng = np.random.default_rng([random_state, 41])
        drawn = n * (_CANDIDATES if balanced else 1)
        base = _spread(len(x), drawn, rng)
        sources = rng.integers(len(x), size=(drawn, len(self.nodes)))
        swapped = masks[rng.integers(len(masks), size=drawn)]
        values, before = self.values(x), self.outputs(x)
        labels = self._under(x, values, base, sources, swapped)
        if balanced:
            keep = _even(labels, labels != before[base], n, rng)
            base, sources, swapped, labels = base[keep], sources[keep], swapped[keep], labels[keep]
        return Interventions(x, base, sources, swapped, labels, self.nodes)

    def _under(self, x: Any, values: _Values, base: Any, sources: Any, swapped: Any) -> NDArray[np.int64]:
        given = {
            name: np.ma.array(values[name][sources[:, j]], mask=~swapped[:, j]) for j, name in enumerate(self.nodes)
        }  # what is computed from the base stands where a node is not set
        return self.outputs(x[base], given)

    def _masks(self, sets: Sequence[Sequence[str]] | None) -> NDArray[np.bool_]:
        if sets is None:
            every = np.arange(1, 2 ** len(self.nodes))
            return (every[:, None] >> np.arange(len(self.nodes)) & 1).astype(bool)
        strange = sorted({name for one in sets for name in one} - set(self.nodes))
        if strange:
            raise InvalidData(f"there is no node {strange[0]!r}; there is {', '.join(self.nodes)}")
        if not sets or not all(sets):
            raise InvalidData("expected sets= with at least one node in each, got an empty one")
        return np.array([[name in one for name in self.nodes] for one in sets])

    # ------------------------------------------------------------------ a control
    def shuffled(self, X: ArrayLike, interventions: Interventions, *, random_state: int = 0) -> Interventions:
        """The same pairings with labels of a control algorithm that makes no sense for the network.

        What a node is set to is then a random function of the class of the source: the values of all its nodes and its output.
        The function is drawn so that it agrees with the node's own value about as often as by chance.

        Parameters
        ----------
        X : array-like of shape (k, ...)
            Inputs that show how often each class occurs.
        interventions : Interventions
        random_state : int, default=0
            Of the functions, which depend on nothing else but how often classes occur.
        """
        seen, here = self.values(X), self.values(interventions.inputs)
        classes = np.unique(self._classes(seen, X), axis=0)
        told = _numbered(self._classes(here, interventions.inputs), classes)
        counts = np.bincount(_numbered(self._classes(seen, X), classes), minlength=len(classes)) / len(seen[_INPUT])
        rng = np.random.default_rng([random_state, 43])
        other = {
            name: _unrelated(classes[:, j], counts, rng)[told].astype(here[name].dtype) for j, name in enumerate(self.nodes)
        }
        labels = self._under(
            interventions.inputs, {**here, **other}, interventions.base, interventions.sources, interventions.swapped
        )
        rest = (interventions.base, interventions.sources, interventions.swapped, labels, self.nodes)
        return Interventions(interventions.inputs, *rest)

    def _classes(self, values: _Values, X: Any) -> NDArray[np.int64]:
        return np.column_stack([*(values[name] for name in self.nodes), self.outputs(X)]).astype(np.int64)


def _reads(name: str, function: Any, nodes: Mapping[str, Any]) -> tuple[str, ...]:
    if not callable(function):
        raise InvalidData(f"expected {name} as a callable, got {type(function).__name__}")
    read = tuple(inspect.signature(function).parameters)
    strange = [one for one in read if one != _INPUT and one not in nodes]
    if strange or not read:
        raise InvalidData(
            f"expected the parameters of {name} to be {_INPUT!r} or nodes ({', '.join(nodes)}), "
            f"got {', '.join(strange) or 'none'}"
        )
    return read


def _spread(m: int, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """n of m rows, each as often as any other but for one."""
    rounds = [rng.permutation(m) for _ in range(-(-n // m))]
    return np.concatenate(rounds)[:n].astype(np.int64)


def _even(labels: Any, changed: Any, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions of n of the candidates, in random order, as many of each label with and without a change as there are."""
    cells = [np.flatnonzero((labels == label) & (changed == one)) for label in np.unique(labels) for one in (False, True)]
    cells = sorted((cell for cell in cells if len(cell)), key=len)
    taken, left = [], n
    for i, cell in enumerate(cells):
        some = cell[: min(len(cell), -(-left // (len(cells) - i)))]
        taken.append(some)
        left -= len(some)
    return rng.permutation(np.concatenate(taken))[:n]


def _numbered(rows: NDArray[np.int64], classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which class each row is."""
    found = (rows[:, None, :] == classes[None, :, :]).all(axis=2)
    if not found.any(axis=1).all():
        raise InvalidData("some inputs are of a class that X does not hold; give more rows as X")
    return found.argmax(axis=1)


def _unrelated(own: NDArray[np.int64], counts: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """A value for each class, the node's own ones in another order, that agrees with them about as often as by chance."""
    levels = np.unique(own)
    chance = float(sum(counts[own == level].sum() ** 2 for level in levels))
    drawn = [rng.permutation(own) for _ in range(_ROUNDS)]
    off = [abs(float(counts[one == own].sum()) - chance) for one in drawn]
    return drawn[int(np.argmin(off))]
