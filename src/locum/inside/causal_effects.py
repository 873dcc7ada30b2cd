"""What taking one latent out of a network, or putting it in, does to the next token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData, need, require_whole
from locum.core.fidelity import Fidelity
from locum.inside.describing import CodedUnits, largest
from locum.inside.features import FeatureEffect, FeatureRecord
from locum.inside.measures import interval_of_means
from locum.inside.rows import finite_rows
from locum.inside.store import padded
from locum.inside.tap import Tap

__all__ = ["causal_effects"]

_ABLATED = "taken out wherever it is active, and measured at the strongest token of each passage"
_STEERED = "added at every token of passages drawn at random, as strong as its strongest, and measured at the last"


def causal_effects(
    tap: Tap,
    site: str,
    units: CodedUnits,
    records: Sequence[FeatureRecord],
    atoms: ArrayLike,
    output_names: Sequence[str],
    *,
    n_prompts: int = 8,
    n_outputs: int = 10,
    batch_size: int = 16,
    level: float = 0.95,
    random_state: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[FeatureRecord]:
    """Records with the effects of ablation and of steering, each beside a random direction of the same length.

    Ablation subtracts code times atom at every token where the latent is active, in the passages of the record, and looks at
    the prediction at each one's own token: its divergence from the network's own, and by how much the token that followed is
    less likely. Steering adds the atom, times the largest code, at every token of other passages.

    Parameters
    ----------
    tap : Tap
        On a model that gives logits of shape (n, tokens, vocabulary).
    site : str
        Where the atoms are written: that of the codes, or the target of a transcoder.
    units : CodedUnits
        With token ids, as :func:`~locum.inside.coded_text` gives them.
    records : sequence of FeatureRecord
        Made of these units.
    atoms : array-like of shape (n_latents, width)
    output_names : sequence of str
        Of the vocabulary.
    n_prompts : int, default=8
        Passages that are steered, of documents each its own where there are as many.
    n_outputs : int, default=10
        Tokens told that became most and least likely.
    batch_size : int, default=16
    level : float, default=0.95
        Intervals are over documents.
    random_state : int, default=0
        Of the passages and the random directions.
    progress : callable or None, default=None
        Called with (records done, records in all, words).

    Returns
    -------
    list of FeatureRecord
        A record whose passages are of fewer than two documents has no effect of ablation: there would be no interval.

    Notes
    -----
    Cost: three forward passes over the passages of a record and two over the prompts.
    """
    require_whole(1, n_prompts=n_prompts, n_outputs=n_outputs, batch_size=batch_size)
    require_whole(0, random_state=random_state)
    if not units.ids:
        raise InvalidData("expected units= with token ids, from which the model can be run again; see coded_text")
    directions = finite_rows(atoms)
    if len(directions) != units.codes.shape[1]:
        raise InvalidData(f"expected an atom for each of {units.codes.shape[1]} latents, got {len(directions)}")
    run = _Run(tap, site, batch_size)
    prompts = _prompts(units, n_prompts, random_state)
    base = run.log_probabilities([_Job(one, None, None) for one in prompts])
    told = _Told(tuple(output_names), n_outputs, level, random_state)
    found = []
    for i, record in enumerate(records):
        rng = np.random.default_rng([random_state, 13, record.latent])
        other = rng.normal(size=directions.shape[1])
        atom = np.asarray(directions[record.latent])
        control = np.asarray(other / np.linalg.norm(other) * np.linalg.norm(atom), dtype=np.float32)
        effects = (
            _ablation(run, units, record, atom, control, told),
            _steering(run, prompts, base, record, atom, control, told),
        )
        found.append(replace(record, effects=tuple(one for one in effects if one is not None)))
        if progress is not None:
            progress(i + 1, len(records), f"latent {record.latent}")
    return found


# ---------------------------------------------------------------------- running
@dataclass(frozen=True)
class _Passage:
    """The beginning of a sequence, up to the token at which the next is predicted."""

    ids: NDArray[np.int64]
    sequence: int
    document: int


@dataclass(frozen=True)
class _Job:
    """A passage to run, with what is added at each of its tokens along a direction."""

    passage: _Passage
    amounts: NDArray[np.float32] | None
    direction: NDArray[np.float32] | None


@final
class _Run:
    """Predictions of the next token after passages, each with its own change of the activations."""

    def __init__(self, tap: Tap, site: str, batch_size: int) -> None:
        self.tap, self.site, self.batch_size = tap, site, batch_size

    def log_probabilities(self, jobs: Sequence[_Job]) -> NDArray[np.float32]:
        """Of the token after each passage, shape (jobs, vocabulary)."""
        order = sorted(range(len(jobs)), key=lambda i: len(jobs[i].passage.ids))
        rows: dict[int, NDArray[np.float32]] = {}
        for start in range(0, len(order), self.batch_size):
            part = order[start : start + self.batch_size]
            rows |= dict(zip(part, self._batch([jobs[i] for i in part]), strict=True))
        return np.stack([rows[i] for i in range(len(jobs))])

    def _batch(self, jobs: Sequence[_Job]) -> NDArray[np.float32]:
        torch = need("torch", "a changed network", "nets")
        ids = [job.passage.ids for job in jobs]
        inputs, there = padded(self.tap.model, ids, [(i, 0, len(one)) for i, one in enumerate(ids)])
        amounts = np.zeros(there.shape, dtype=np.float32)
        width = next((len(job.direction) for job in jobs if job.direction is not None), 0)
        directions = np.zeros((len(jobs), width), dtype=np.float32)
        for line, job in enumerate(jobs):
            if job.amounts is not None and job.direction is not None:
                amounts[line, : len(job.amounts)], directions[line] = job.amounts, job.direction

        def change(h: Any) -> Any:
            if not width:
                return h
            if h.shape[-1] != width:
                raise InvalidData(f"expected atoms {h.shape[-1]} wide, as the site {self.site!r} is, got {width}")
            added = torch.from_numpy(amounts)[:, :, None] * torch.from_numpy(directions)[:, None]
            return h + added.to(h)

        last = torch.as_tensor([len(one) - 1 for one in ids], device=there.device)
        with torch.inference_mode(), self.tap.edit(self.site, change):
            logits = self.tap.model(**inputs).logits[torch.arange(len(ids), device=there.device), last]
        return np.asarray(logits.float().log_softmax(dim=-1).cpu().numpy())


def _prompts(units: CodedUnits, n: int, random_state: int) -> list[_Passage]:
    """Passages of documents each its own, where there are as many."""
    assert units.documents is not None
    order = np.random.default_rng([random_state, 14]).permutation(len(units.ids))
    _, first = np.unique(units.documents[order], return_index=True)
    others = np.setdiff1d(np.arange(len(order)), first)
    picked = order[np.concatenate([np.sort(first), others])][:n]
    return [_Passage(units.ids[i].astype(np.int64), int(i), int(units.documents[i])) for i in picked]


# ---------------------------------------------------------------------- what is told
@dataclass(frozen=True)
class _Told:
    """How effects are told."""

    names: tuple[str, ...]
    n_outputs: int
    level: float
    random_state: int

    def mean(self, measure: str, values: NDArray[np.float64], documents: NDArray[np.int64], greater: bool) -> Fidelity:
        ends = interval_of_means(values[:, None], lambda m: m[..., 0], self.level, documents, self.random_state)
        value = float(values.mean())
        lower = max(ends.lower, 0.0) if values.min() >= 0 else ends.lower  # a divergence is never below zero
        return Fidelity(
            measure, value, min(lower, value), max(ends.upper, value), self.level, len(values), how="passages",
            method=ends.method, groups=len(np.unique(documents)), greater_is_better=greater,
        )  # fmt: skip

    def tokens(self, change: NDArray[np.float64]) -> tuple[Any, Any]:
        if len(self.names) != len(change):
            raise InvalidData(f"expected output_names= for each of {len(change)} outputs, got {len(self.names)}")
        return largest(change, self.n_outputs, self.names), largest(-change, self.n_outputs, self.names, sign=-1.0)


def _divergences(base: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    before = base.astype(np.float64)
    return np.maximum((np.exp(before) * (before - other)).sum(axis=1), 0.0)  # rounding


def _ablation(
    run: _Run, units: CodedUnits, record: FeatureRecord, atom: NDArray[np.float32], control: NDArray[np.float32], told: _Told
) -> FeatureEffect | None:
    """The latent taken out of its own passages."""
    assert units.documents is not None
    places = {one.sequence: one.position for one in (*record.drawn, *record.examples)}  # of one sequence the strongest
    # A next token is needed, of which to say by how much it is less likely.
    places = {s: p for s, p in places.items() if p + 1 < len(units.ids[s])}
    documents = np.array([units.documents[s] for s in places])
    if len(np.unique(documents)) < 2:
        return None
    column = units.codes.tocsc()[:, [record.latent]].tocoo()
    jobs: list[list[_Job]] = [[], [], []]
    for sequence, position in places.items():
        passage = _Passage(units.ids[sequence][: position + 1].astype(np.int64), sequence, int(units.documents[sequence]))
        amounts = np.zeros(position + 1, dtype=np.float32)
        mine = (units.sequence[column.row] == sequence) & (units.position[column.row] <= position)
        amounts[units.position[column.row[mine]]] = -column.data[mine]
        jobs[0].append(_Job(passage, None, None))
        jobs[1].append(_Job(passage, amounts, atom))
        jobs[2].append(_Job(passage, amounts, control))
    base, without, other = np.split(run.log_probabilities([job for part in jobs for job in part]), 3)
    following = np.array([units.ids[s][p + 1] for s, p in places.items()])
    at = np.arange(len(following)), following

    def measured(after: NDArray[np.float32]) -> tuple[Fidelity, ...]:
        return (
            told.mean("KL of the next token, nats", _divergences(base, after), documents, False),
            told.mean("rise of the loss, nats", (base[at] - after[at]).astype(np.float64), documents, False),
        )

    raised, lowered = told.tokens((without - base).mean(axis=0, dtype=np.float64))
    return FeatureEffect("ablation", _ABLATED, measured(without), measured(other), raised, lowered)


def _steering(
    run: _Run, prompts: Sequence[_Passage], base: NDArray[np.float32], record: FeatureRecord, atom: NDArray[np.float32],
    control: NDArray[np.float32], told: _Told,
) -> FeatureEffect | None:  # fmt: skip
    """The latent put into other passages."""
    documents = np.array([one.document for one in prompts])
    if len(np.unique(documents)) < 2:
        return None
    jobs = [
        _Job(one, np.full(len(one.ids), record.largest, dtype=np.float32), direction)
        for direction in (atom, control)
        for one in prompts
    ]
    steered, other = np.split(run.log_probabilities(jobs), 2)
    name = "KL of the next token, nats"
    raised, lowered = told.tokens((steered - base).mean(axis=0, dtype=np.float64))
    return FeatureEffect(
        "steering", _STEERED, (told.mean(name, _divergences(base, steered), documents, False),),
        (told.mean(name, _divergences(base, other), documents, False),), raised, lowered,
    )  # fmt: skip
