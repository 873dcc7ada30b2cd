"""What an interchange-intervention accuracy is worth: the same for networks and algorithms that it should fail on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData, need, require_whole
from locum.core.fidelity import Fidelity
from locum.inside.causal_model import CausalModel, Interventions
from locum.inside.cuts import Cut, States
from locum.inside.nonlinear_dilemma import Alignment, AlignmentMap, CodeLength, NeuronMap, OrthogonalMap, RevNetMap, proportion

__all__ = ["AlignmentAudit", "AuditLine", "audit"]

_UNTRAINED, _SHUFFLED = "untrained", "shuffled nodes"
_CONTROLS = (_UNTRAINED, _SHUFFLED)


@dataclass(frozen=True)
class AuditLine:
    """One map at one site, beside its controls.

    Parameters
    ----------
    site, map : str
    iia : Fidelity
        On inputs that did not fit; mean over fits.
    seen : Fidelity
        On the inputs that fitted, paired anew.
    controls : dict of str to Fidelity
        What the same map reaches where it should not.
    network : Fidelity
        How often the network itself answers as the algorithm does, without interventions.
    parameters : int
        Of the map.
    code : CodeLength or None
    distance : float
        Of edited states to the nearest real one; see :meth:`Alignment.distance`.
    drift : float
        Of the map's inverse; see :class:`Alignment`.
    supported : bool
    reasons : tuple of str
        Why it is not, and what else to know.
    """

    site: str
    map: str
    iia: Fidelity
    seen: Fidelity
    controls: Mapping[str, Fidelity]
    network: Fidelity
    parameters: int
    code: CodeLength | None
    distance: float
    drift: float
    supported: bool
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        verdict = "supported" if self.supported else "not supported"
        beside = "".join(f", {name} {one.value:.3f}" for name, one in self.controls.items())
        own = f"IIA {self.iia.value:.3f} [{self.iia.lower:.3f}, {self.iia.upper:.3f}]"
        text = f"{self.site}, {self.map}: {own}{beside}: {verdict}"
        return text + (f" ({'; '.join(self.reasons)})" if self.reasons else "")


@dataclass(frozen=True)
class AlignmentAudit:
    """Lines of an audit; prints as one line each.

    Parameters
    ----------
    lines : tuple of AuditLine
    margin : float
    """

    lines: tuple[AuditLine, ...]
    margin: float

    def line(self, site: str, map: str) -> AuditLine:
        """One of the lines.

        Parameters
        ----------
        site, map : str
        """
        found = [one for one in self.lines if one.site == site and one.map == map]
        if not found:
            there = ", ".join(f"{one.site} and {one.map}" for one in self.lines)
            raise InvalidData(f"there is no line of {site} and {map}; there is {there}")
        return found[0]

    def __str__(self) -> str:
        return "\n".join(map(str, self.lines))


def audit(
    cuts: Mapping[str, Cut],
    algorithm: CausalModel,
    inputs: ArrayLike,
    fresh: ArrayLike,
    *,
    maps: Sequence[AlignmentMap] = (NeuronMap(), OrthogonalMap(), RevNetMap()),
    controls: Collection[str] = _CONTROLS,
    rivals: Mapping[str, CausalModel] | None = None,
    settings: Mapping[str, Any] | None = None,
    n: int = 100_000,
    n_test: int = 4000,
    margin: float = 0.1,
    fits: int = 1,
    code_length: bool = False,
    level: float = 0.95,
    random_state: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> AlignmentAudit:
    """Fit each map at each site, and set beside it what it reaches where it should reach nothing.

    "untrained" is the same network with weights drawn anew; "shuffled nodes" the same pairings with node values that are a
    random function of the source's class; `rivals` are other algorithms for the same task. An alignment is supported where the
    lower end of its accuracy, on inputs that did not fit, passes the upper end of every control's by `margin`. A map that is
    strong enough to serve any algorithm serves the controls as well, and then says nothing.

    Parameters
    ----------
    cuts : dict of str to Cut
        By the name that the site is to have.
    algorithm : CausalModel
    inputs, fresh : array-like of shape (m, ...)
        That fit, and that measure. They should share no entities (names, vectors), or memory passes for understanding.
    maps : sequence of AlignmentMap, default=(NeuronMap(), OrthogonalMap(), RevNetMap(blocks=10, width=16))
    controls : collection of str, default=("untrained", "shuffled nodes")
    rivals : dict of str to CausalModel or None, default=None
    settings : dict or None, default=None
        Of :class:`Alignment`.
    n, n_test : int, default=100000, 4000
        Interventions that fit and that measure.
    margin : float, default=0.1
    fits : int, default=1
        Of each map, of each with another seed; untrained networks too are drawn anew for each. Accuracies are means over them.
    code_length : bool, default=False
        Whether to measure :meth:`Alignment.code_length` too, for the price of two more fits.
    level : float, default=0.95
    random_state : int, default=0
    progress : callable or None, default=None
        Called with (fits done, fits in all, which).

    Raises
    ------
    InvalidData
        No cuts or maps, another control, a margin that is no share.

    Notes
    -----
    Cost: for each site and map as many fits as one plus controls and rivals, times `fits`.
    """
    require_whole(1, n=n, n_test=n_test, fits=fits)
    if not cuts or not maps:
        raise InvalidData("expected at least one cut and at least one map, got none")
    strange = sorted(set(controls) - set(_CONTROLS))
    if strange:
        raise InvalidData(f"expected controls= among {', '.join(_CONTROLS)}, got {strange[0]!r}")
    if not 0 <= margin < 1:
        raise InvalidData(f"expected margin= of at least 0 and below 1, got {margin!r}")
    data = _Data.of(algorithm, np.asarray(inputs), np.asarray(fresh), controls, rivals or {}, n, n_test, random_state)
    total = len(cuts) * len(maps) * fits * (len(data.pairs) + (_UNTRAINED in controls))
    done, lines = 0, []

    def tick(which: str, what: str) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total, f"{which}, {what}")

    for site, cut in cuts.items():
        prepared = _prepared(cut, data, fits if _UNTRAINED in controls else 0, random_state)
        for one in maps:
            table = _fitted(prepared, data, one, settings or {}, fits, random_state, partial(tick, f"{site}, {one}"))
            lines.append(_line(site, one, table, prepared[_OWN][0], data, margin, level, code_length))
    return AlignmentAudit(tuple(lines), margin)


_OWN = ""


@dataclass(frozen=True)
class _Data:
    """Interventions that fit and that measure, of the algorithm itself (under no name) and of those that it stands beside."""

    algorithm: CausalModel
    inputs: NDArray[Any]
    fresh: NDArray[Any]
    pairs: Mapping[str, tuple[Interventions, Interventions]]

    @classmethod
    def of(
        cls, algorithm: CausalModel, inputs: Any, fresh: Any, controls: Collection[str], rivals: Mapping[str, CausalModel],
        n: int, n_test: int, seed: int,
    ) -> _Data:  # fmt: skip
        def both(one: CausalModel) -> tuple[Interventions, Interventions]:
            return one.interventions(inputs, n, random_state=seed), one.interventions(fresh, n_test, random_state=seed + 1)

        own = both(algorithm)
        pairs = {_OWN: own}
        if _SHUFFLED in controls:
            train, test = (algorithm.shuffled(inputs, part, random_state=seed) for part in own)
            pairs[_SHUFFLED] = (train, test)
        return cls(algorithm, inputs, fresh, pairs | {name: both(one) for name, one in rivals.items()})


@dataclass(frozen=True)
class _Prepared:
    """A cut network with its states on the inputs that fit and those that measure."""

    cut: Cut
    train: States
    test: States


def _prepared(cut: Cut, data: _Data, untrained: int, seed: int) -> dict[str, list[_Prepared]]:
    def one(this: Cut) -> _Prepared:
        return _Prepared(this, this.states(data.inputs), this.states(data.fresh))

    return {_OWN: [one(cut)], _UNTRAINED: [one(cut.untrained(seed + i)) for i in range(untrained)]}


@dataclass(frozen=True)
class _Table:
    """Fits of the alignment itself, and how often each intervention succeeds over fits, by control."""

    alignments: list[Alignment]
    success: dict[str, NDArray[np.float64]]
    bases: dict[str, NDArray[np.int64]]


def _fitted(
    prepared: Mapping[str, list[_Prepared]], data: _Data, kind: AlignmentMap, settings: Mapping[str, Any], fits: int, seed: int,
    tick: Callable[[str], None],
) -> _Table:  # fmt: skip
    own, alignments, success, bases = prepared[_OWN][0], [], {}, {}
    runs = [(name, [own] * fits, pair) for name, pair in data.pairs.items()]
    if prepared[_UNTRAINED]:
        runs.append((_UNTRAINED, prepared[_UNTRAINED], data.pairs[_OWN]))
    for name, networks, (train, test) in runs:
        found = []
        for i, network in enumerate(networks):
            made = Alignment(network.cut, kind, **{**settings, "random_state": seed + i}).fit(train, states=network.train)
            found.append(made.success(test, states=network.test))
            alignments += [made] if name == _OWN else []
            tick(name or "the network")
        success[name], bases[name] = np.mean(found, axis=0), test.base
    return _Table(alignments, success, bases)


def _line(
    site: str, kind: AlignmentMap, table: _Table, own: _Prepared, data: _Data, margin: float, level: float, code: bool
) -> AuditLine:
    train, test = data.pairs[_OWN]
    told = {name: proportion("IIA", one, table.bases[name], level) for name, one in table.success.items()}
    iia, controls = told.pop(_OWN), told
    again = train.part(0, len(test))
    seen = np.mean([one.success(again, states=own.train) for one in table.alignments], axis=0)
    network = _accuracy(own.test, data, level)
    first = table.alignments[0]
    line = AuditLine(
        site, str(kind), iia, proportion("IIA", seen, again.base, level), controls, network, first.n_parameters_,
        first.code_length(train) if code else None, first.distance(test, states=own.test), first.drift_, True, (),
    )  # fmt: skip
    reasons = [
        f"not above {name} ({one.value:.3f}) by {margin:g}" for name, one in controls.items() if iia.lower <= one.upper + margin
    ]
    supported = not reasons
    if line.seen.lower > iia.upper:
        reasons.append(f"{line.seen.value:.3f} on inputs that it has seen")
    if iia.lower > network.upper:
        reasons.append(f"above the network's own accuracy of {network.value:.3f}: the map has learned the task")
    return AuditLine(**{**vars(line), "supported": supported, "reasons": tuple(reasons)})


def _accuracy(states: States, data: _Data, level: float) -> Fidelity:
    rows = np.arange(len(states.hidden))
    right = _all_logits(states).argmax(axis=1) == data.algorithm.outputs(data.fresh)
    return proportion("accuracy", right, rows, level, "inputs")


def _all_logits(states: States) -> NDArray[np.float64]:
    torch = need("torch", "an alignment", "nets")
    with torch.no_grad():
        rows = torch.arange(len(states.hidden), device=states.hidden.device)
        parts = [states.after(states.hidden[part], part) for part in rows.split(1024)]
    return torch.cat(parts).cpu().double().numpy()
