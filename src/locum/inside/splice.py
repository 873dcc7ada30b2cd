"""What a network loses when something stands in for one of its activations: cross-entropy on held-out documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.bounds import bootstrap
from locum.core.errors import InvalidData, need, require_whole
from locum.core.fidelity import Fidelity
from locum.inside.filters import RowFilter, every_position
from locum.inside.store import padded, token_batches
from locum.inside.tap import Tap

__all__ = ["splice_fidelity"]


def splice_fidelity(
    tap: Tap,
    site: str,
    stand_ins: Mapping[str, Callable[[Any], Any]],
    documents: Sequence[ArrayLike],
    *,
    mean: ArrayLike,
    source: str | None = None,
    keep: RowFilter = every_position,
    context: int = 256,
    batch_size: int = 8,
    level: float = 0.95,
    random_state: int = 0,
) -> dict[str, dict[str, Fidelity]]:
    """Cross-entropy of a causal language model as it is, with each of some stand-ins at a site, and with the site ablated.

    Positions that the filter leaves out keep their own activations in every run. The share recovered is
    ``(ablated - spliced) / (ablated - original)``: 1 where nothing is lost, 0 where the stand-in is no better than the
    ablation. All intervals are over documents, with the same documents resampled in all runs.

    Parameters
    ----------
    tap : Tap
        On a model that gives logits of shape (n, tokens, vocabulary).
    site : str
    stand_ins : dict of str to callable
        From activations at `source` to ones at `site`, as tensors; ``dictionary.module()``.
    documents : sequence of array-like of int
        Token ids of documents that did not fit.
    mean : array-like of shape (width,)
        Of the training rows at `site`, for the ablation.
    source : str or None, default=None
        Where the stand-ins read; `site` itself where None.
    keep : RowFilter, default=every position
        Positions that the stand-ins were fitted for.
    context : int, default=256
    batch_size : int, default=8
    level : float, default=0.95
    random_state : int, default=0

    Returns
    -------
    dict of str to dict of str to Fidelity
        For each stand-in "CE original", "CE spliced", "CE mean-ablated", "CE zero-ablated" in nats a token, "KL" from the
        original to the spliced predictions, "recovered of mean ablation" and "recovered of zero ablation".

    Notes
    -----
    Cost: a forward pass over the documents for each stand-in, and three more.
    """
    require_whole(1, context=context, batch_size=batch_size)
    if keep.sites:
        raise InvalidData("expected a filter of positions and tokens here; one that reads norms differs from run to run")
    if not stand_ins:
        raise InvalidData("expected at least one stand-in, got none")
    torch = need("torch", "a spliced network", "nets")
    ids = [np.asarray(one, dtype=np.int64) for one in documents]
    if len(ids) < 2 or any(one.ndim != 1 or len(one) < 2 for one in ids):
        raise InvalidData("expected two documents or more, with two tokens each or more")
    centre = torch.as_tensor(np.asarray(mean), dtype=torch.float32)
    runs = [_Run(lambda x: torch.zeros_like(x) + centre.to(x), None), _Run(torch.zeros_like, None)]
    runs += [_Run(one, source) for one in stand_ins.values()]
    owner, lines = [], []
    for batch in token_batches(ids, context, batch_size, random_state):
        for (document, _, _), line in zip(batch, _measured(tap, site, runs, ids, batch, keep), strict=True):
            if line[0] > 0:  # a sequence of one token predicts nothing
                owner.append(document)
                lines.append(line)
    table, groups = np.array(lines), np.array(owner)
    return {
        name: _told(table[:, [0, 1, 2, 4, 6 + 2 * i, 7 + 2 * i]], groups, level, random_state)
        for i, name in enumerate(stand_ins)
    }


class _Run(NamedTuple):
    """What is put in the place of the activation."""

    function: Callable[[Any], Any]
    source: str | None


def _measured(
    tap: Tap, site: str, runs: Sequence[_Run], ids: Sequence[NDArray[np.int64]], batch: Sequence[tuple[int, int, int]],
    keep: RowFilter,
) -> list[list[float]]:  # fmt: skip
    """Sums over each sequence: tokens predicted, the original loss, and the loss and the divergence of each run."""
    torch = need("torch", "a spliced network", "nets")
    inputs, there = padded(tap.model, ids, batch)
    tokens, counted, where = inputs["input_ids"], there[:, 1:], torch.zeros_like(there)
    for line, (i, start, stop) in enumerate(batch):
        where[line, : stop - start] = torch.from_numpy(keep.picks(ids[i][start:stop], np.arange(stop - start), {}))

    def logs() -> Any:
        return tap.model(**inputs).logits[:, :-1].float().log_softmax(dim=-1)

    def loss(said: Any) -> Any:
        return -said.gather(2, tokens[:, 1:, None])[..., 0]

    with torch.inference_mode():
        before = logs()
        found = [torch.ones_like(loss(before)), loss(before)]
        for function, source in runs:
            with tap.replace(site, function, source=source) as replacement:
                replacement.where = where
                after = logs()
            found += [loss(after), (before.exp() * (before - after)).sum(dim=-1)]
        sums = torch.stack([(one * counted).sum(dim=1) for one in found], dim=1)
    return sums.cpu().double().tolist()


def _told(table: NDArray[np.float64], owner: NDArray[np.int64], level: float, random_state: int) -> dict[str, Fidelity]:
    """What sums say of one stand-in: tokens, losses of the original, both ablations and the stand-in, and divergence."""
    n, groups = int(table[:, 0].sum()), len(np.unique(owner))
    tokens, original, mean, zero, spliced, divergence = range(6)

    def over(name: str, statistic: Callable[[Any], Any], greater: bool = False) -> Fidelity:
        with np.errstate(invalid="ignore", divide="ignore"):
            value = float(statistic(table.sum(axis=0)))
        if not np.isfinite(value):
            raise InvalidData(f"{name} is not defined here: the ablation changes nothing on these documents")
        ends = bootstrap(table, statistic, level, groups=owner, random_state=random_state).including(value)
        how = "tokens of held-out documents"
        return Fidelity(
            name, value, ends.lower, ends.upper, level, n, "", how, ends.method, groups=groups, greater_is_better=greater
        )

    def per_token(i: int) -> Callable[[Any], Any]:
        return lambda m: m[..., i] / m[..., tokens]

    def recovered(ablated: int) -> Callable[[Any], Any]:
        return lambda m: (m[..., ablated] - m[..., spliced]) / (m[..., ablated] - m[..., original])

    names = {"CE original": original, "CE spliced": spliced, "CE mean-ablated": mean, "CE zero-ablated": zero, "KL": divergence}
    found = {name: over(name, per_token(i)) for name, i in names.items()}
    for name, ablated in (("mean", mean), ("zero", zero)):
        said = f"recovered of {name} ablation"
        found[said] = over(said, recovered(ablated), True)
    return found
