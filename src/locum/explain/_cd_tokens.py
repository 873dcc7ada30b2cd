"""What each token has to do with an answer, and whether that foretells what masking tokens does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, require_whole
from locum.core.fidelity import Fidelity
from locum.core.measures import measure
from locum.explain.attribution import Attribution, Axis
from locum.nets.prompts import LogitDifference

if TYPE_CHECKING:
    from locum.explain._cd_engine import Engine

__all__ = ["Masking", "token_importance"]

_FLOAT = NDArray[np.float64]
_INT = NDArray[np.intp]


@dataclass(frozen=True)
class Masking:
    """Texts of which half of the tokens are masked at random, on which importances are tried.

    Parameters
    ----------
    token : int
        What takes the place of a token: the mask of an encoder, or the padding or end of text of a decoder.
    fixed : tuple of int, default=()
        Tokens that are never masked, such as those that begin and end a text.
    draws : int, default=100
        Masked texts, each a pass of the model.
    random_state : int, default=0

    Raises
    ------
    InvalidData
        Fewer than ten texts, or numbers that are not whole.
    """

    token: int
    fixed: tuple[int, ...] = ()
    draws: int = 100
    random_state: int = 0

    def __post_init__(self) -> None:
        require_whole(0, token=self.token, random_state=self.random_state)
        require_whole(10, draws=self.draws)


def token_importance(
    engine: Engine, ids: _INT, label: int | None, window: int, names: Callable[[int], str], masking: Masking | None
) -> Attribution:
    """Importances of the tokens of one text; see `ContextualDecomposition.local_importance`."""
    tokens = engine.ids(ids[None])
    ((_, said),) = engine.answers(tokens, -1)
    logits = said[0].double().cpu().numpy()
    if label is not None and not 0 <= label < len(logits):
        raise InvalidData(f"expected labels from 0 to {len(logits) - 1}, got {label}")
    label = int(logits.argmax()) if label is None else label
    rival = int(np.where(np.arange(len(logits)) == label, -np.inf, logits).argmax())
    places = np.arange(len(ids))
    near = places[:, None] - (window - 1) // 2
    windows = (places >= near) & (places < near + window)
    values = engine.tokens(tokens, windows, LogitDifference([label], [rival]), -1)
    fidelity, rivals = (None, {}) if masking is None else _foretold(engine, ids, values, (label, rival), masking)
    unknown = np.full(len(ids), np.nan)
    shown = tuple(f"{names(int(one))}" for one in ids)
    return Attribution(
        values, unknown, unknown, (Axis("token", shown),), base=0.0, row=shown, answer=int(logits.argmax()),
        output=f"logit of {label} less that of {rival}", baseline="embeddings of the other tokens",
        method="contextual decomposition", meaning="margin in the part that comes from the token", fidelity=fidelity,
        random_state=0 if masking is None else masking.random_state, rivals=rivals,
    )  # fmt: skip


def _foretold(
    engine: Engine, ids: _INT, values: _FLOAT, pair: tuple[int, int], masking: Masking
) -> tuple[Fidelity | None, dict[str, Fidelity]]:
    """Rank correlation, over masked texts, of the margin with the sum of what is left; and with how many are left."""
    if masking.token >= engine.net.model.config.vocab_size:
        raise InvalidData(f"expected a token below the {engine.net.model.config.vocab_size} of the model, got {masking.token}")
    free = ~np.isin(ids, masking.fixed)
    rng = np.random.default_rng(masking.random_state)
    keep = ~free | (rng.random((masking.draws, len(ids))) < 0.5)
    texts = np.where(keep, ids, masking.token)
    answers = [said.double().cpu().numpy() for _, said in engine.answers(engine.ids(texts), -1)]
    logits = np.concatenate(answers)
    margin = logits[:, pair[0]] - logits[:, pair[1]]
    found = {}
    for name, one in (("", values), ("all tokens alike", np.ones(len(ids)))):
        try:
            found[name] = measure("spearman_correlation").fidelity(
                margin, (keep * one).sum(axis=1), region="this text with half of its tokens masked", how="masked texts"
            )
        except InvalidData:  # nothing differs: there is no order to foretell
            continue
    return found.pop("", None), found
