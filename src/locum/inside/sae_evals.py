"""Dictionaries measured on a task whose attributes are known: do they approximate, steer and explain the network there?

A dictionary of one vector for each attribute's value, fitted with labels, is the yardstick: what it can do, one that is learned
without labels may be asked to do as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from locum.core.bounds import bounded_mean
from locum.core.errors import InvalidData, require_one_of, require_whole
from locum.core.fidelity import Fidelity
from locum.inside._control import Comparison, Control, Counterfactual, of_means, told_fidelity
from locum.inside._edits import candidates, exhaustive, greedy
from locum.inside.cross_section import CrossSection, TaskInputs
from locum.inside.dictionary import Dictionary
from locum.inside.interpretation import Interpretation, f1_scores
from locum.inside.measures import interval_of_means
from locum.inside.supervised_dictionary import PrincipalComponents, SupervisedDictionary
from locum.nets.prompts import Score

__all__ = ["DictionaryEval"]

_FLOATS = NDArray[np.float64]
AnyDictionary = Dictionary | SupervisedDictionary | PrincipalComponents
_Dictionaries = AnyDictionary | Mapping[str, AnyDictionary]


@final
class DictionaryEval:
    r"""How well dictionaries approximate, steer and explain a network on inputs whose attributes are known.

    With a the activations at some locations, b the mean of a, and S the score of the network's answers, means over inputs:

    .. math::
        \text{sufficiency} = S(\hat a) / S(a), \qquad
        \text{necessity} = 1 - |S(b) - S(b + a - \hat a)| / |S(b) - S(a)|

    Control asks whether edited activations make the network answer as those of an input that differs in one attribute do.
    Intervals are over groups of inputs where the inputs have groups.

    Parameters
    ----------
    section : CrossSection
        Where dictionaries stand in; all locations are replaced together.
    inputs : TaskInputs
        That did not fit.
    score : LogitDifference or ProbabilityDifference
        For the inputs.
    means : mapping of str to array-like of shape (width,) or None, default=None
        By location, for the ablation; those of the inputs where None.
    level : float, default=0.95

    Raises
    ------
    InvalidData
        Inputs without a position that a location needs, or a score for other inputs.

    Notes
    -----
    Cost: a pass over the inputs and what :class:`CrossSection` says of each replacement; of edits with p atoms of width w,
    O(p² w) once a dictionary, and O(k (|S| + |T|)) an input, S and T the latents active in it and in the counterfactual.

    **Departures**: a supervised dictionary has atoms for values that it has seen, so that held-out inputs have new pairs of
    names, new places, objects and templates, and new names only for edits of attributes whose values are known. The direct
    effects of heads on heads are left to :class:`~locum.inside.ReplacementModel`.

    References
    ----------
    Makelov, Lange and Nanda, *Towards Principled Evaluations of Sparse Autoencoders for Interpretability and Control*, ICLR
    2025, arXiv 2405.08366, sections 3 to 5.

    Examples
    --------
    >>> import torch
    >>> from locum.inside import Tap
    >>> from locum.nets import LogitDifference, seeded
    >>> rng = np.random.default_rng(0)
    >>> labels = {"class": rng.integers(2, size=200), "size": rng.integers(3, size=200)}
    >>> X = np.stack([2.0 * labels["class"] - 1, labels["size"] - 1.0], axis=1).astype(np.float32)
    >>> with seeded(0):
    ...     net = torch.nn.Sequential(torch.nn.Linear(2, 6), torch.nn.Linear(6, 2)).eval()
    >>> section = CrossSection(Tap(net, {"hidden": "0"}), {"hidden": "hidden"})
    >>> told = TaskInputs(X, labels)
    >>> found = SupervisedDictionary().fit(section.read(told)["hidden"], labels)
    >>> ev = DictionaryEval(section, told, LogitDifference(labels["class"], 1 - labels["class"]))
    >>> round(ev.sufficiency(found).value, 3), round(ev.necessity(found).value, 3)
    (1.0, 1.0)
    """

    def __init__(
        self, section: CrossSection, inputs: TaskInputs, score: Score, *, means: Mapping[str, ArrayLike] | None = None,
        level: float = 0.95,
    ) -> None:  # fmt: skip
        self.section, self.inputs, self.score, self.level = section, inputs, score, level
        self.activations = section.read(inputs)
        given = {name: found.mean(axis=0) for name, found in self.activations.items()} if means is None else means
        self.means = {name: np.asarray(given[name], dtype=np.float64) for name in section.locations}
        self._prepared = section.prepare(inputs)
        ablated = {name: np.tile(self.means[name], (len(inputs), 1)) for name in self.means}
        self.clean, self.ablated = self._prepared.run([{}, ablated], score)

    # ------------------------------------------------------------------ approximation
    def sufficiency(self, dictionaries: _Dictionaries, *, keep: Any = None) -> Fidelity:
        """Score with reconstructions in the place of activations, as a share of the network's own.

        Parameters
        ----------
        dictionaries : dictionary, or mapping of str to dictionary
            One for each location; the dictionary alone where there is one location.
        keep : mapping of str to array-like of bool, shape (n_latents,), or None, default=None
            Instead of reconstructions, the activations less what latents that are not kept stand for.
        """
        told = {name: self._approximated(name, one, keep) for name, one in self._each(dictionaries).items()}
        (answers,) = self._prepared.run([told], self.score)
        table = np.column_stack([answers.score, self.clean.score])
        return of_means("sufficiency", table, lambda m: m[..., 0] / m[..., 1], self.inputs.groups, self.level)

    def necessity(self, dictionaries: _Dictionaries, *, keep: Any = None) -> Fidelity:
        """How much of the score is lost with what reconstructions leave over alone.

        Parameters
        ----------
        dictionaries : dictionary, or mapping of str to dictionary
        keep : mapping of str to array-like of bool, shape (n_latents,), or None, default=None
            Take away what latents that are kept stand for, rather than the whole reconstruction.

        Raises
        ------
        InvalidData
            The ablation changes the score by no more than its noise, so that the measure is not defined.
        """
        gap = self.ablated.score - self.clean.score
        ends = interval_of_means(gap[:, None], lambda m: m[..., 0], self.level, self.inputs.groups, 0)
        if ends.lower <= 0 <= ends.upper:
            said = f"{gap.mean():.3g} [{ends.lower:.3g}, {ends.upper:.3g}]"
            raise InvalidData(f"the mean ablation changes the score by {said}, which may be 0: necessity is not defined here")
        told = {}
        for name, one in self._each(dictionaries).items():
            told[name] = self.means[name] + self.activations[name] - self._approximated(name, one, keep)
            if keep is not None:
                flags = ~np.asarray(keep[name], dtype=bool)
                told[name] = self._approximated(name, one, {name: flags})
        (answers,) = self._prepared.run([told], self.score)
        table = np.column_stack([answers.score, self.ablated.score, self.clean.score])
        return of_means("necessity", table, _necessity, self.inputs.groups, self.level)

    def _approximated(self, name: str, dictionary: AnyDictionary, keep: Any) -> _FLOATS:
        codes = self._codes(name, dictionary, self.activations, self.inputs)
        if keep is None:
            return dictionary.decode(codes).astype(np.float64)
        flags = np.asarray(keep[name], dtype=bool)
        if flags.shape != (codes.shape[1],):
            raise InvalidData(f"expected keep= as flags of {codes.shape[1]} latents at {name!r}, got shape {flags.shape}")
        return np.asarray(self.activations[name] - codes @ (dictionary.atoms_ * ~flags[:, None]))

    # ------------------------------------------------------------------ control
    def counterfactual(self, attribute: str, inputs: TaskInputs) -> Counterfactual:
        """Inputs that differ from the task's in one attribute, row by row, and the answers when patched from them.

        Parameters
        ----------
        attribute : str
        inputs : TaskInputs

        Raises
        ------
        InvalidData
            Another number of inputs, labels of other attributes, or an input that differs in another attribute or in none.
        """
        require_one_of(list(self.inputs.labels), attribute=attribute)
        if len(inputs) != len(self.inputs) or set(inputs.labels) != set(self.inputs.labels):
            raise InvalidData(f"expected {len(self.inputs)} inputs with labels of {', '.join(self.inputs.labels)}")
        for name, values in self.inputs.labels.items():
            same = np.asarray(values) == np.asarray(inputs.labels[name])
            bad = np.flatnonzero(same if name == attribute else ~same)
            if len(bad):
                state = "does not differ in" if name == attribute else "also differs in"
                raise InvalidData(f"counterfactual {bad[0]} {state} {name!r}: expected it to differ in {attribute!r} alone")
        activations = self.section.read(inputs)
        (patched,) = self._prepared.run([activations], self.score)
        return Counterfactual(attribute, inputs, activations, patched)

    def control(
        self, dictionaries: _Dictionaries, counterfactual: Counterfactual, k: Sequence[int] = (2, 4, 6), *,
        by: Literal["distance", "labels"] = "distance",
    ) -> Control:  # fmt: skip
        """Change at most k features at each location, and see whether the network answers as when patched.

        Features are taken away from those active in the input, and added from those active in the counterfactual, greedily, so
        that the vector comes near that of the counterfactual; no interpretation is used.

        Parameters
        ----------
        dictionaries : dictionary, or mapping of str to dictionary
        counterfactual : Counterfactual
        k : sequence of int, default=(2, 4, 6)
        by : {"distance", "labels"}, default="distance"
            "labels" for supervised dictionaries: the old value's vector away, the new one's added, whatever k is.
        """
        ks = _checked(k)
        require_one_of(("distance", "labels"), by=by)
        edits = self._by_labels if by == "labels" else self._by_distance
        parts = {
            name: edits(name, one, counterfactual, ks) for name, one in self._each(dictionaries).items()
        }  # for each location: edited vectors by k, and weights of shape (n, ks)
        return self._judged(counterfactual, ks, parts)

    def interpreted_control(
        self, dictionaries: _Dictionaries, counterfactual: Counterfactual, scores: Mapping[str, Mapping[Any, ArrayLike]],
        k: Sequence[int] = (2, 4, 6),
    ) -> Control:  # fmt: skip
        """As :meth:`control`, with features chosen by what they stand for.

        Half of k of those active in the input, with the largest F1 for the old value, are taken away, and half of those active
        in the counterfactual, with the largest F1 for the new value, are added as they are there.

        Parameters
        ----------
        dictionaries : dictionary, or mapping of str to dictionary
        counterfactual : Counterfactual
        scores : mapping of str to mapping of value to array-like of shape (n_latents,)
            By location, F1 of each latent for each value of the attribute, from rows that fitted; see :meth:`value_scores`.
        k : sequence of int, default=(2, 4, 6)
        """
        ks = _checked(k)
        parts = {}
        for name, one in self._each(dictionaries).items():
            before = self._codes(name, one, self.activations, self.inputs)
            after = self._codes(name, one, counterfactual.activations, counterfactual.inputs)
            told = []
            for labels, codes in ((self.inputs.labels, before), (counterfactual.inputs.labels, after)):
                values = np.asarray(labels[counterfactual.attribute]).tolist()
                missing = [value for value in values if value not in scores[name]]
                if missing:
                    raise InvalidData(f"there are no scores of {missing[0]!r} at {name!r}")
                table = np.stack([np.asarray(scores[name][value]) for value in values])
                order = np.argsort(-np.where(codes.toarray() != 0, table, -1.0), axis=1, kind="stable")
                told.append((codes, order))
            edited, weights = [], []
            for each in ks:
                (old, first), (new, second) = told
                gone, come = _only(old, first[:, : each // 2]), _only(new, second[:, : each - each // 2])
                edited.append(self.activations[name] - gone @ one.atoms_ + come @ one.atoms_)
                weights.append(self._weights(name, one, gone))
            parts[name] = (edited, np.stack(weights, axis=1))
        return self._judged(counterfactual, ks, parts)

    @staticmethod
    def value_scores(codes: Any, labels: ArrayLike) -> dict[Any, _FLOATS]:
        """F1 of each latent for each value of an attribute.

        Parameters
        ----------
        codes : sparse or dense array of shape (n, n_latents)
            Of rows that fitted.
        labels : array-like of shape (n,)
        """
        values = np.unique(np.asarray(labels)).tolist()
        table = f1_scores(codes, {value: np.asarray(labels) == value for value in values})
        return {value: table[:, i] for i, value in enumerate(values)}

    def optimality_gap(
        self, dictionaries: _Dictionaries, counterfactual: Counterfactual, k: int = 4, *, most: int = 16
    ) -> Fidelity:
        """By how much greedy edits end further from the goal than the best ones, relative to the distance before the edit.

        The best are found by trying all, for inputs with at most `most` features to take away or add at a location.

        Parameters
        ----------
        dictionaries : dictionary, or mapping of str to dictionary
        counterfactual : Counterfactual
        k : int, default=4
        most : int, default=16

        Raises
        ------
        InvalidData
            Fewer than two inputs with so few features.
        """
        require_whole(1, k=k, most=most)
        values, groups = [], []
        for name, one in self._each(dictionaries).items():
            difference, found, gram = self._problem(name, one, counterfactual)
            few = np.flatnonzero(found.count <= most)
            if len(few):
                part = found.take(few)
                path = greedy(difference[few], part, one.atoms_, gram, k)
                best = exhaustive(difference[few], part, one.atoms_, k, most)
                start = np.maximum(path.squared[:, 0], 1e-12)
                values.append(np.sqrt(path.squared[:, -1] / start) - np.sqrt(np.minimum(best / start, 1.0)))
                groups.append(few)
        row = np.concatenate(values) if values else np.zeros(0)
        if len(row) < 2:
            raise InvalidData(f"expected two inputs or more with at most {most} features, got {len(row)}; raise most=")
        row, whose = np.clip(row, 0.0, 1.0), np.concatenate(groups)
        ends = bounded_mean(row, 0.0, 1.0, self.level, groups=whose if len(np.unique(whose)) > 1 else None)
        return told_fidelity("optimality gap", float(row.mean()), ends, len(row), whose, self.level, greater=False)

    # ------------------------------------------------------------------ explanation
    def codes(self, dictionary: AnyDictionary, location: str | None = None) -> Any:
        """Codes of the task's inputs at a location, shape (n, n_latents).

        Parameters
        ----------
        dictionary : dictionary
        location : str or None, default=None
            May be left out where there is one.
        """
        name = next(iter(self.section.locations)) if location is None else location
        require_one_of(list(self.section.locations), location=name)
        return self._codes(name, dictionary, self.activations, self.inputs)

    def interpreted(
        self, dictionaries: _Dictionaries, interpretations: Interpretation | Mapping[str, Interpretation],
        threshold: float = 0.6,
    ) -> dict[str, Fidelity]:  # fmt: skip
        """What latents with an interpretation carry: sufficiency with those alone, and necessity of those.

        Parameters
        ----------
        dictionaries : dictionary, or mapping of str to dictionary
        interpretations : Interpretation, or mapping of str to Interpretation
            From rows that fitted.
        threshold : float, default=0.6
            Least F1.

        Returns
        -------
        dict of str to Fidelity
            "sufficiency" and "necessity".
        """
        names = list(self._each(dictionaries))
        told = {names[0]: interpretations} if isinstance(interpretations, Interpretation) else interpretations
        keep = {name: told[name].f1 >= threshold for name in names}
        return {
            "sufficiency": self.sufficiency(dictionaries, keep=keep),
            "necessity": self.necessity(dictionaries, keep=keep),
        }

    def compare(
        self, dictionaries: Mapping[str, _Dictionaries], counterfactuals: Sequence[Counterfactual],
        k: Sequence[int] = (2, 4, 6),
    ) -> Comparison:  # fmt: skip
        """Several dictionaries beside one another, and beside no edit.

        Parameters
        ----------
        dictionaries : mapping of str to dictionary, or to mapping of str to dictionary
            By a name to show.
        counterfactuals : sequence of Counterfactual
        k : sequence of int, default=(2, 4, 6)
        """
        control = {
            name: {each.attribute: self.control(one, each, k) for each in counterfactuals} for name, one in dictionaries.items()
        }
        return Comparison(
            {name: self.sufficiency(one) for name, one in dictionaries.items()},
            {name: self.necessity(one) for name, one in dictionaries.items()},
            control,
        )

    # ------------------------------------------------------------------ helpers
    def _each(self, dictionaries: _Dictionaries) -> dict[str, AnyDictionary]:
        names = list(self.section.locations)
        given = dict(dictionaries) if isinstance(dictionaries, Mapping) else {names[0]: dictionaries}
        if set(given) != set(names):
            raise InvalidData(f"expected a dictionary for each of {', '.join(names)}, got {', '.join(map(str, given))}")
        for name, one in given.items():
            if not isinstance(one, AnyDictionary):
                raise InvalidData(f"expected a dictionary of locum.inside at {name!r}, got {type(one).__name__}")
            width = self.activations[name].shape[1]
            if one.atoms_.shape[1] != width:
                raise InvalidData(f"expected atoms {width} wide at {name!r}, got {one.atoms_.shape[1]}")
        return given

    def _codes(self, name: str, dictionary: AnyDictionary, activations: Mapping[str, Any], inputs: TaskInputs) -> Any:
        if isinstance(dictionary, SupervisedDictionary):
            return dictionary.encode(inputs.labels)
        return dictionary.encode(activations[name])

    @cached_property
    def _grams(self) -> dict[int, tuple[Any, _FLOATS]]:
        return {}

    def _gram(self, dictionary: AnyDictionary) -> _FLOATS:
        """Products of atoms, made once for each dictionary."""
        if id(dictionary) not in self._grams:
            atoms = np.asarray(dictionary.atoms_, dtype=np.float64)
            self._grams[id(dictionary)] = (dictionary, atoms @ atoms.T)
        return self._grams[id(dictionary)][1]

    def _problem(self, name: str, one: AnyDictionary, goal: Counterfactual) -> tuple[_FLOATS, Any, _FLOATS]:
        before = self._codes(name, one, self.activations, self.inputs)
        after = self._codes(name, one, goal.activations, goal.inputs)
        difference = self.activations[name].astype(np.float64) - goal.activations[name]
        return difference, candidates(before, after), self._gram(one)

    def _by_distance(
        self, name: str, one: AnyDictionary, goal: Counterfactual, ks: tuple[int, ...]
    ) -> tuple[list[_FLOATS], _FLOATS]:
        difference, found, gram = self._problem(name, one, goal)
        path = greedy(difference, found, one.atoms_, gram, max(ks))
        edited = [self.activations[name] + path.change(k, one.atoms_) for k in ks]
        weights = []
        for k in ks:
            at, size = path.atom[:, :k], path.coefficient[:, :k]
            rows, cols = np.nonzero(size < 0)
            gone = sparse.csr_array((-size[rows, cols], (rows, at[rows, cols])), shape=(len(at), len(one.atoms_)))
            weights.append(self._weights(name, one, gone))
        return edited, np.stack(weights, axis=1)

    def _by_labels(
        self, name: str, one: AnyDictionary, goal: Counterfactual, ks: tuple[int, ...]
    ) -> tuple[list[_FLOATS], _FLOATS]:
        if not isinstance(one, SupervisedDictionary):
            raise InvalidData(f"by='labels' needs a SupervisedDictionary at {name!r}, got {type(one).__name__}")
        old, new = self.inputs.labels[goal.attribute], goal.inputs.labels[goal.attribute]
        told = one.edit(self.activations[name], goal.attribute, old, new)
        return [told] * len(ks), np.full((len(told), len(ks)), np.nan)

    def _weights(self, name: str, one: AnyDictionary, gone: Any) -> _FLOATS:
        """Share of the reconstruction, less the bias, that what is taken away makes up along it, for each input."""
        codes = self._codes(name, one, self.activations, self.inputs)
        whole = np.asarray(codes @ one.atoms_)
        along = np.asarray(gone @ one.atoms_) * whole
        length = (whole**2).sum(axis=1)
        return np.divide(along.sum(axis=1), length, out=np.zeros(len(length)), where=length > 0)

    def _judged(self, goal: Counterfactual, ks: tuple[int, ...], parts: Mapping[str, tuple[list[_FLOATS], _FLOATS]]) -> Control:
        put = [{name: edited[i] for name, (edited, _) in parts.items()} for i in range(len(ks))]
        told = self._prepared.run(put, self.score)
        left, start = np.zeros((len(self.inputs), len(ks))), np.zeros(len(self.inputs))
        for name, (edited, _) in parts.items():
            start += ((self.activations[name] - goal.activations[name]) ** 2).sum(axis=1)
            left += np.stack([((one - goal.activations[name]) ** 2).sum(axis=1) for one in edited], axis=1)
        distance = np.sqrt(np.divide(left, start[:, None], out=np.zeros_like(left), where=start[:, None] > 0))
        return Control(
            goal.attribute, ks, np.stack([one.label == goal.patched.label for one in told], axis=1),
            self.clean.label == goal.patched.label, distance, np.mean([weight for _, weight in parts.values()], axis=0),
            self.inputs.groups, self.level,
        )  # fmt: skip


def _checked(k: Sequence[int]) -> tuple[int, ...]:
    ks = tuple(int(one) for one in k)
    if not ks or min(ks) < 1 or len(set(ks)) < len(ks):
        raise InvalidData(f"expected k= as different whole numbers of 1 or more, got {tuple(k)}")
    return tuple(sorted(ks))


def _only(codes: Any, index: NDArray[np.int64]) -> sparse.csr_array:
    """Codes of some latents of each row, the others 0."""
    rows = np.repeat(np.arange(len(index)), index.shape[1])
    dense = codes.toarray()
    found = sparse.csr_array((dense[rows, index.ravel()], (rows, index.ravel())), shape=codes.shape)
    found.eliminate_zeros()
    return found


def _necessity(m: Any) -> Any:
    return 1.0 - np.abs(m[..., 1] - m[..., 0]) / np.abs(m[..., 1] - m[..., 2])
