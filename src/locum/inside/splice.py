"""What a network loses when something stands in for one of its activations: cross-entropy on held-out documents."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.bounds import bootstrap
from locum.core.errors import InvalidData, need, require_whole
from locum.core.fidelity import Fidelity
from locum.inside.filters import RowFilter, every_position
from locum.inside.store import token_batches
from locum.inside.tap import Tap

__all__ = ["splice_fidelity"]

_TERMS = ("original", "spliced", "mean", "zero", "KL")


def splice_fidelity(
    tap: Tap,
    site: str,
    stand_in: Callable[[Any], Any],
    documents: Sequence[ArrayLike],
    *,
    mean: ArrayLike,
    source: str | None = None,
    keep: RowFilter = every_position,
    context: int = 256,
    batch_size: int = 8,
    level: float = 0.95,
    random_state: int = 0,
) -> dict[str, Fidelity]:
    """Cross-entropy of a causal language model as it is, with a stand-in at a site, and with the site ablated.

    Positions that the filter leaves out keep their own activations in every run. The share recovered is
    ``(ablated - spliced) / (ablated - original)``: 1 where nothing is lost, 0 where the stand-in is no better than the
    ablation. All intervals are over documents, with the same documents resampled in all runs.

    Parameters
    ----------
    tap : Tap
        On a model that gives logits of shape (n, tokens, vocabulary).
    site : str
    stand_in : callable
        From activations at `source` to ones at `site`, as tensors; ``dictionary.module()``.
    documents : sequence of array-like of int
        Token ids of documents that did not fit.
    mean : array-like of shape (width,)
        Of the training rows at `site`, for the ablation.
    source : str or None, default=None
        Where the stand-in reads; `site` itself where None.
    keep : RowFilter, default=every position
        Positions that the stand-in was fitted for.
    context : int, default=256
    batch_size : int, default=8
    level : float, default=0.95
    random_state : int, default=0

    Returns
    -------
    dict of str to Fidelity
        "CE original", "CE spliced", "CE mean-ablated", "CE zero-ablated" in nats a token, "KL" from the original to the spliced
        predictions, "recovered of mean ablation" and "recovered of zero ablation".

    Notes
    -----
    Cost: four forward passes over the documents.
    """
    require_whole(1, context=context, batch_size=batch_size)
    if keep.sites:
        raise InvalidData("expected a filter of positions and tokens here; one that reads norms differs from run to run")
    torch = need("torch", "a spliced network", "nets")
    ids = [np.asarray(one, dtype=np.int64) for one in documents]
    if len(ids) < 2 or any(one.ndim != 1 or len(one) < 2 for one in ids):
        raise InvalidData("expected two documents or more, with two tokens each or more")
    centre = torch.as_tensor(np.asarray(mean), dtype=torch.float32)
    ways = {
        "spliced": (stand_in, source),
        "mean": (lambda x: torch.zeros_like(x) + centre.to(x), None),
        "zero": (torch.zeros_like, None),
    }
    rows = [
        one
        for batch in token_batches(ids, context, batch_size, random_state)
        for one in _measured(tap, site, ways, ids, batch, keep)
    ]
    owner, table = np.array([document for document, _ in rows]), np.array([terms for _, terms in rows])
    return _told(table, owner, level, random_state)


def _measured(
    tap: Tap, site: str, ways: Any, ids: Sequence[NDArray[np.int64]], batch: Sequence[tuple[int, int, int]], keep: RowFilter
) -> Iterator[tuple[int, list[float]]]:
    """Document, and mean terms and number of tokens, of each sequence of a batch."""
    torch = need("torch", "a spliced network", "nets")
    longest = max(stop - start for _, start, stop in batch)
    tokens, mask = np.zeros((len(batch), longest), dtype=np.int64), np.zeros((len(batch), longest), dtype=np.int64)
    where = np.zeros((len(batch), longest), dtype=bool)
    for line, (i, start, stop) in enumerate(batch):
        n = stop - start
        tokens[line, :n], mask[line, :n] = ids[i][start:stop], 1
        where[line, :n] = keep.picks(tokens[line, :n], np.arange(n), {})
    device = next(tap.model.parameters()).device
    x, there = torch.as_tensor(tokens, device=device), torch.as_tensor(mask, device=device)
    extra = {"use_cache": False} if "use_cache" in inspect.signature(tap.model.forward).parameters else {}
    counted = there[:, 1:].bool()

    def run() -> tuple[Any, Any]:
        logs = tap.model(input_ids=x, attention_mask=there, **extra).logits[:, :-1].float().log_softmax(dim=-1)
        return logs, -logs.gather(2, x[:, 1:, None])[..., 0]

    with torch.inference_mode():
        before, loss = run()
        found = {"original": loss}
        for name, (function, source) in ways.items():
            with tap.replace(site, function, source=source) as replacement:
                replacement.where = torch.as_tensor(where, device=device)
                logs, found[name] = run()
            if name == "spliced":
                found["KL"] = (before.exp() * (before - logs)).sum(dim=-1)
            del logs
        sums = torch.stack([(found[name] * counted).sum(dim=1) for name in _TERMS] + [counted.sum(dim=1).float()], dim=1)
    for (i, _, _), line in zip(batch, sums.cpu().double().tolist(), strict=True):
        if line[-1] > 0:
            yield i, line


def _told(table: NDArray[np.float64], owner: NDArray[np.int64], level: float, random_state: int) -> dict[str, Fidelity]:
    n, groups = int(table[:, -1].sum()), len(np.unique(owner))
    column = {name: i for i, name in enumerate(_TERMS)}

    def over(name: str, statistic: Callable[[Any], Any], *, greater: bool) -> Fidelity:
        totals = table.sum(axis=0)
        value = float(statistic(totals))
        if not np.isfinite(value):
            raise InvalidData(f"{name} is not defined here: the ablation changes nothing on these documents")
        ends = bootstrap(table, statistic, level, groups=owner, random_state=random_state).including(value)
        return Fidelity(
            name, value, ends.lower, ends.upper, level, n, "", "tokens of held-out documents", ends.method, groups=groups,
            greater_is_better=greater,
        )  # fmt: skip

    def mean_of(i: int) -> Callable[[Any], Any]:
        return lambda m: m[..., i] / m[..., -1]

    def recovered(ablated: int) -> Callable[[Any], Any]:
        return lambda m: (m[..., ablated] - m[..., column["spliced"]]) / (m[..., ablated] - m[..., column["original"]])

    found = {
        "CE original": over("CE original", mean_of(column["original"]), greater=False),
        "CE spliced": over("CE spliced", mean_of(column["spliced"]), greater=False),
        "CE mean-ablated": over("CE mean-ablated", mean_of(column["mean"]), greater=False),
        "CE zero-ablated": over("CE zero-ablated", mean_of(column["zero"]), greater=False),
        "KL": over("KL", mean_of(column["KL"]), greater=False),
    }
    for name in ("mean", "zero"):
        said = f"recovered of {name} ablation"
        found[said] = over(said, recovered(column[name]), greater=True)
    return found
