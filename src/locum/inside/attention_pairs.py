"""What an attention score is made of: a product of each part of the query with each part of the key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData, need, require_whole
from locum.inside.dictionary import Dictionary
from locum.inside.interpretation import Interpretation
from locum.inside.rows import finite_rows
from locum.inside.supervised_dictionary import PrincipalComponents, SupervisedDictionary

__all__ = ["AttentionPairs", "attention_pairs", "parts_of"]

_FLOATS = NDArray[np.float64]


@dataclass(frozen=True)
class AttentionPairs:
    """Scores before the softmax, by pairs of parts.

    Attributes
    ----------
    queries, keys : tuple of str
        Names of the parts.
    values : ndarray of shape (n, queries, keys)
        They sum to the score of each row.
    """

    queries: tuple[str, ...]
    keys: tuple[str, ...]
    values: _FLOATS

    @property
    def total(self) -> _FLOATS:
        """The scores, shape (n,)."""
        return np.asarray(self.values.sum(axis=(1, 2)))

    def top(self, n: int = 5) -> list[tuple[str, str, float]]:
        """Pairs with the largest mean by size.

        Parameters
        ----------
        n : int, default=5
        """
        mean = self.values.mean(axis=0)
        order = np.argsort(-np.abs(mean), axis=None, kind="stable")[:n]
        found = [np.unravel_index(i, mean.shape) for i in order]
        return [(self.queries[i], self.keys[j], float(mean[i, j])) for i, j in found]


def parts_of(
    dictionary: Dictionary | SupervisedDictionary | PrincipalComponents,
    X: ArrayLike,
    *,
    labels: Mapping[str, ArrayLike] | None = None,
    interpretation: Interpretation | None = None,
    threshold: float = 0.5,
) -> dict[str, _FLOATS]:
    """Rows as a sum of parts: the bias, latents by what they stand for, and what the dictionary leaves over.

    Parameters
    ----------
    dictionary : dictionary
    X : array-like of shape (n, width)
    labels : mapping of str to array-like of shape (n,), or None, default=None
        For a :class:`SupervisedDictionary`, whose parts are its attributes.
    interpretation : Interpretation or None, default=None
        For another dictionary, whose parts are families of properties; those without an interpretation are "other".
    threshold : float, default=0.5
        Least F1.

    Returns
    -------
    dict of str to ndarray of shape (n, width)
        "bias" first and "error" last; they sum to X.
    """
    x = finite_rows(X, dictionary.atoms_.shape[1]).astype(np.float64)
    if isinstance(dictionary, SupervisedDictionary):
        if labels is None:
            raise InvalidData("expected labels=, which a supervised dictionary is read by")
        codes, family = dictionary.encode(labels), [name for name, _ in dictionary.values_]
    else:
        if interpretation is None or len(interpretation.family) != len(dictionary.atoms_):
            raise InvalidData(f"expected interpretation= of the {len(dictionary.atoms_)} latents")
        codes = dictionary.encode(x)
        good = interpretation.f1 >= threshold
        family = [name if known else "other" for name, known in zip(interpretation.family, good, strict=True)]
    parts = {"bias": np.tile(np.asarray(dictionary.bias_, dtype=np.float64), (len(x), 1))}
    for name in dict.fromkeys(family):
        atoms = dictionary.atoms_ * (np.array(family) == name)[:, None]
        parts[name] = np.asarray(codes @ atoms)
    parts["error"] = x - np.sum(list(parts.values()), axis=0)
    return parts


def attention_pairs(
    model: Any,
    queries: Mapping[str, ArrayLike],
    keys: Mapping[str, ArrayLike],
    query_positions: ArrayLike,
    key_positions: ArrayLike,
) -> AttentionPairs:
    r"""Split scores of one head into products of parts, ``(R q) · (R k) / √d`` with R the rotation of each position.

    Rotation and product are linear, so parts of queries and keys before the rotation give parts of the score that sum to it.
    Keys of models with fewer heads of keys belong to several heads of queries.

    Parameters
    ----------
    model : causal model of transformers of the Llama type
    queries, keys : mapping of str to array-like of shape (n, width of a head)
        Parts of what the query and key projections give for one head, as :func:`parts_of` makes them.
    query_positions, key_positions : array-like of int, shape (n,)

    Returns
    -------
    AttentionPairs

    Raises
    ------
    InvalidData
        Parts of different shapes, no parts, or a model without rotary positions.
    """
    torch = need("torch", "attention scores", "nets")
    rotary = getattr(getattr(model, "model", None), "rotary_emb", None)
    if rotary is None:
        raise InvalidData(f"expected a model with rotary positions, model.rotary_emb, got {type(model).__name__}")
    shapes = {np.shape(one) for one in (*queries.values(), *keys.values())}
    if not queries or not keys or len(shapes) != 1:
        raise InvalidData(f"expected parts of queries and keys of one shape, (n, width), got {sorted(shapes)}")
    ((n, width),) = shapes
    require_whole(1, n=n)
    turned = []
    for parts, at in ((queries, query_positions), (keys, key_positions)):
        places = torch.as_tensor(np.asarray(at, dtype=np.int64))[None]
        with torch.no_grad():
            cosine, sine = (one[0].double().cpu().numpy() for one in rotary(torch.zeros(1, n, width), places))
        x = np.stack([np.asarray(one, dtype=np.float64) for one in parts.values()])
        half = np.concatenate([-x[..., width // 2 :], x[..., : width // 2]], axis=-1)
        turned.append(x * cosine + half * sine)
    values = np.einsum("qnw,knw->nqk", *turned) / np.sqrt(width)
    return AttentionPairs(tuple(queries), tuple(keys), values)
