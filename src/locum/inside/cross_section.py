"""Places in a network that are read together, and replaced together in one pass, input by input."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, need, require_whole
from locum.inside.tap import Tap
from locum.nets.prompts import Score, by_length

__all__ = ["Answers", "CrossSection", "Location", "PreparedInputs", "TaskInputs"]

_FLOATS = NDArray[np.float32]
_CACHES = ("cache", "past_key_values")  # what releases of transformers call it


@dataclass(frozen=True)
class Location:
    """Where one vector of each input is.

    Parameters
    ----------
    site : str
        Name of a site in the tap.
    position : str or None, default=None
        Name of a position of the inputs, such as "END"; None for networks without tokens.
    heads : int, tuple of int or None, default=None
        For a site that is viewed by head: one head, or some, side by side; all where None.
    """

    site: str
    position: str | None = None
    heads: int | tuple[int, ...] | None = None


@dataclass(frozen=True)
class TaskInputs:
    """Inputs of a task, and what is known of each.

    Parameters
    ----------
    inputs : sequence of rows of int, or array-like of shape (n, ...)
        Token ids where there are `positions`, and otherwise what the network takes.
    labels : mapping of str to array-like of shape (n,)
        Value of each attribute.
    positions : mapping of str to array-like of int, shape (n,), default=empty
        Tokens that have a name, such as where the subject is.
    groups : array-like of shape (n,) or None, default=None
        Rows of one group are no independent evidence; each row is a group where None.

    Raises
    ------
    InvalidData
        No attribute, another number of labels, positions or groups than inputs, or a position beyond a prompt, which is named.
    """

    inputs: Any
    labels: Mapping[str, Any]
    positions: Mapping[str, Any] = field(default_factory=dict)
    groups: Any = None

    def __post_init__(self) -> None:
        if not len(self.inputs) or not self.labels:
            raise InvalidData("expected at least one input and one attribute")
        given = {**self.labels, **self.positions} | ({} if self.groups is None else {"groups": self.groups})
        for name, values in given.items():
            if np.shape(values) != (len(self.inputs),):
                raise InvalidData(f"expected {name!r} for each of {len(self.inputs)} inputs, got shape {np.shape(values)}")
        lengths = np.array([len(row) for row in self.inputs]) if self.positions else None
        for name, values in self.positions.items():
            bad = np.flatnonzero((np.asarray(values) < 0) | (np.asarray(values) >= lengths))
            if len(bad):
                at = f"the position {name!r} of prompt {bad[0]} is {values[bad[0]]}"
                raise InvalidData(f"{at}, and that prompt has {len(self.inputs[bad[0]])} tokens")

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, rows: Any) -> TaskInputs:
        """Some of the inputs.

        Parameters
        ----------
        rows : array-like of int or bool
        """
        at = np.arange(len(self))[rows]
        inputs = [self.inputs[i] for i in at] if self.positions else np.asarray(self.inputs)[at]
        part = [{name: np.asarray(values)[at] for name, values in one.items()} for one in (self.labels, self.positions)]
        return TaskInputs(inputs, part[0], part[1], None if self.groups is None else np.asarray(self.groups)[at])


class Answers(NamedTuple):
    """What a network says of inputs.

    Parameters
    ----------
    score : ndarray of shape (n,)
    label : ndarray of int, shape (n,)
        The token or class with the largest logit.
    """

    score: NDArray[np.float64]
    label: NDArray[np.int64]


@final
class CrossSection:
    """Vectors at some places of a network, read in one pass and replaced in one pass.

    What is put in comes from runs of the network as it is, at all places at once; nothing is edited in sequence.

    Parameters
    ----------
    tap : Tap
        On a model that gives logits of shape (n, classes) or (n, tokens, vocabulary), or an output that has them.
    locations : mapping of str to Location, or to str
        By the name that each place is to have; a str is a site of a network without tokens.
    batch_size : int, default=64

    Raises
    ------
    InvalidData
        No location, or a site that the tap does not have.

    Notes
    -----
    Cost: a pass that stops after the last site to read; to replace, a pass over the tokens from the first that is replaced on,
    where the model keeps keys and values of those before (causal models of transformers), and whole passes elsewhere.

    Examples
    --------
    >>> import torch
    >>> from locum.nets import LogitDifference, seeded
    >>> with seeded(0):
    ...     net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).eval()
    >>> section = CrossSection(Tap(net, {"hidden": "1"}), {"hidden": "hidden"})
    >>> told = TaskInputs(np.eye(3), {"row": np.arange(3)})
    >>> here = section.read(told)["hidden"]
    >>> prepared = section.prepare(told)
    >>> plain, same = prepared.run([{}, {"hidden": here}], LogitDifference(1, 0))
    >>> here.shape, bool(np.allclose(plain.score, same.score))
    ((3, 4), True)
    """

    def __init__(self, tap: Tap, locations: Mapping[str, Location | str], *, batch_size: int = 64) -> None:
        require_whole(1, batch_size=batch_size)
        if not locations:
            raise InvalidData("expected at least one location, got none")
        self.tap, self.batch_size = tap, batch_size
        self.locations = {n: Location(one) if isinstance(one, str) else one for n, one in locations.items()}
        unknown = sorted({one.site for one in self.locations.values()} - set(tap.sites))
        if unknown:
            raise InvalidData(f"there is no site {unknown[0]!r}; there is {', '.join(tap.sites)}")
        sites = {one.site: tap.sites[one.site] for one in self.locations.values()}
        self._tap = Tap(tap.model, sites)  # stops after the last of these
        asked = inspect.signature(tap.model.forward).parameters
        self._cache = next((name for name in _CACHES if name in asked), None)
        self._last = {"logits_to_keep": 1} if "logits_to_keep" in asked else {}
        self._no_cache = {"use_cache": False} if "use_cache" in asked else {}

    def read(self, inputs: TaskInputs) -> dict[str, _FLOATS]:
        """The vectors at all locations.

        Parameters
        ----------
        inputs : TaskInputs

        Returns
        -------
        dict of str to ndarray of shape (n, width)
        """
        torch = need("torch", "a network's activations", "nets")
        self._check(inputs)
        found: dict[str, list[_FLOATS]] = {name: [] for name in self.locations}
        order = []
        for rows, given in self._batches(inputs, cached=False):
            with torch.inference_mode():
                seen = self._tap.read(given, **self._no_cache)
            for name, location in self.locations.items():
                vectors = _picked(seen[location.site], location, self._at(inputs, location, rows, 0))
                found[name].append(vectors.flatten(1).float().cpu().numpy())
            order.append(rows)
        back = np.argsort(np.concatenate(order))
        return {name: np.concatenate(parts)[back] for name, parts in found.items()}

    def prepare(self, inputs: TaskInputs) -> PreparedInputs:
        """Inputs on which many replacements can be tried, with what comes before the first place computed once.

        Parameters
        ----------
        inputs : TaskInputs
        """
        self._check(inputs)
        return PreparedInputs(self, inputs)

    # ------------------------------------------------------------------ helpers
    def _check(self, inputs: TaskInputs) -> None:
        for name, location in self.locations.items():
            if location.position is not None and location.position not in inputs.positions:
                there = ", ".join(inputs.positions) or "none"
                raise InvalidData(f"the location {name!r} is at {location.position!r}; the positions of the inputs are {there}")
            if location.position is None and inputs.positions:
                raise InvalidData(f"the location {name!r} needs a position=, one of {', '.join(inputs.positions)}")

    def _at(self, inputs: TaskInputs, location: Location, rows: NDArray[np.intp], start: int) -> NDArray[np.int64] | None:
        return None if location.position is None else np.asarray(inputs.positions[location.position])[rows] - start

    def _start(self, inputs: TaskInputs) -> NDArray[np.int64]:
        """The first token of each prompt that is replaced."""
        return np.min([inputs.positions[str(one.position)] for one in self.locations.values()], axis=0)

    def _batches(self, inputs: TaskInputs, cached: bool) -> Iterator[tuple[NDArray[np.intp], Any]]:
        """Rows and what the model takes for them: prompts of one length, which begin to differ at one token where asked."""
        torch = need("torch", "a network's activations", "nets")
        parameter = next(self.tap.model.parameters())
        if inputs.positions:
            kind, start = torch.long, self._start(inputs) if cached else np.zeros(len(inputs), dtype=np.int64)
            parts = [(at[start[at] == one], ids[start[at] == one]) for at, ids in by_length(inputs.inputs)
                     for one in np.unique(start[at])]  # fmt: skip
        else:
            table = np.asarray(inputs.inputs)
            kind = parameter.dtype if table.dtype.kind == "f" else torch.long
            parts = [(np.arange(len(table)), table)]
        for at, table in parts:
            for i in range(0, len(at), self.batch_size):
                given = torch.as_tensor(np.array(table[i : i + self.batch_size]), dtype=kind, device=parameter.device)
                yield at[i : i + self.batch_size], given


class _Batch(NamedTuple):
    rows: NDArray[np.intp]
    given: Any
    start: int
    past: Any


@final
class PreparedInputs:
    """Inputs on which many replacements can be tried; made by :meth:`CrossSection.prepare`."""

    def __init__(self, section: CrossSection, inputs: TaskInputs) -> None:
        torch = need("torch", "a network's activations", "nets")
        self.section, self.inputs, self._batches = section, inputs, []
        cached = bool(inputs.positions) and section._cache is not None
        starts = section._start(inputs) if cached else np.zeros(len(inputs), dtype=np.int64)
        for rows, given in section._batches(inputs, cached):
            start, past = int(starts[rows[0]]), None
            if start > 0:
                with torch.inference_mode():
                    told = section.tap.model(given[:, :start], use_cache=True, **section._last)
                past = getattr(told, str(section._cache))
            self._batches.append(_Batch(rows, given[:, start:] if start > 0 else given, start, past))

    def run(self, replacements: Sequence[Mapping[str, NDArray[Any]]], score: Score) -> list[Answers]:
        """What the network says with other vectors at its locations.

        Parameters
        ----------
        replacements : sequence of mapping of str to array of shape (n, width)
            Vectors by location; those not named stay as they are.
        score : LogitDifference or ProbabilityDifference
            For all inputs.

        Returns
        -------
        list of Answers
            One for each of the replacements.
        """
        torch = need("torch", "a network's activations", "nets")
        n, section = len(self.inputs), self.section
        for one in replacements:
            unknown = sorted(set(one) - set(section.locations))
            if unknown:
                raise InvalidData(f"there is no location {unknown[0]!r}; there is {', '.join(section.locations)}")
        if not isinstance(score, Score):
            raise InvalidData(f"expected score= of LogitDifference or ProbabilityDifference, got {type(score).__name__}")
        if score.prompts not in (None, n):
            raise InvalidData(f"the score is for {score.prompts} inputs, and there are {n}")
        found = [Answers(np.zeros(n), np.zeros(n, dtype=np.int64)) for _ in replacements]
        for batch in self._batches:
            part = score.take(batch.rows)
            for one, told in zip(replacements, found, strict=True):
                with torch.inference_mode(), ExitStack() as stack:
                    for site, change in self._changes(one, batch):
                        stack.enter_context(section._tap.edit(site, change))
                    logits = self._logits(batch)
                    told.score[batch.rows] = part(logits).cpu().double().numpy()
                    told.label[batch.rows] = logits.argmax(dim=-1).cpu().numpy()
        return found

    def _logits(self, batch: _Batch) -> Any:
        section = self.section
        if batch.past is None:
            said = section.tap.model(batch.given, **section._last, **section._no_cache)
        else:
            said = section.tap.model(batch.given, **{str(section._cache): batch.past}, use_cache=True, **section._last)
            batch.past.crop(-batch.given.shape[1])  # as it was before
        logits = getattr(said, "logits", said)
        return logits[:, -1] if logits.ndim == 3 else logits

    def _changes(self, vectors: Mapping[str, NDArray[Any]], batch: _Batch) -> Iterator[tuple[str, Callable[[Any], Any]]]:
        """For each site, what puts all vectors in that belong there."""
        torch = need("torch", "a network's activations", "nets")
        section = self.section
        for site in dict.fromkeys(section.locations[name].site for name in vectors):
            here = [
                (one, section._at(self.inputs, one, batch.rows, batch.start), torch.as_tensor(vectors[name][batch.rows]))
                for name, one in section.locations.items()
                if name in vectors and one.site == site
            ]

            def change(x: Any, here: list[tuple[Location, Any, Any]] = here) -> Any:
                x = x.clone()
                for location, at, new in here:
                    old = _picked(x, location, at)
                    if new.shape != (len(old), old[0].numel()):
                        raise InvalidData(f"expected vectors of shape {(len(old), old[0].numel())}, got {tuple(new.shape)}")
                    _put(x, location, at, new.to(x).reshape(old.shape))
                return x

            yield site, change


def _index(x: Any, location: Location, at: NDArray[np.int64] | None) -> tuple[Any, ...]:
    """Where the vectors are in an activation."""
    torch = need("torch", "a network's activations", "nets")
    rows = torch.arange(len(x), device=x.device)
    token = () if at is None else (torch.as_tensor(at, device=x.device),)
    if location.heads is None:
        return (rows, *token)
    heads = torch.as_tensor(np.atleast_1d(location.heads), device=x.device)
    if x.ndim != 3 + len(token):
        raise InvalidData(f"the site {location.site!r} is not viewed by head; give the tap a site with heads=")
    return (rows[:, None], *(one[:, None] for one in token), heads[None])


def _picked(x: Any, location: Location, at: NDArray[np.int64] | None) -> Any:
    return x[_index(x, location, at)]


def _put(x: Any, location: Location, at: NDArray[np.int64] | None, new: Any) -> None:
    x[_index(x, location, at)] = new
