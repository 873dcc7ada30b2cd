"""Two attributes of which one is stronger, two Gaussians, and edits by a plain loop: all of it is easily checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from locum.inside import SparseAutoencoder, SupervisedDictionary, TopK, f1_scores, interpret


def found_as_the_strong_one_fades(
    X: np.ndarray, labels: dict[str, np.ndarray], strong: str, weak: str, shares: Any, latents: int, encoder: Any,
    settings: dict[str, Any],
) -> list[int]:  # fmt: skip
    """Latents that stand for a value of the weak attribute, once a share of the strong one's vectors is gone."""
    supervised, counts = SupervisedDictionary().fit(X, labels), []
    for share in shares:
        rows = supervised.without(X, strong, labels[strong], share).astype(np.float32)
        codes = SparseAutoencoder(latents, encoder, **settings).fit(rows).transform(rows)
        properties = {name: {v: values == v for v in np.unique(values).tolist()} for name, values in labels.items()}
        counts.append(len(interpret(codes, properties, unions=1).found(weak, 0.5)))
    return counts


def two_attributes(n: int, seed: int, values: int = 12, width: int = 24) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Sums of a vector of each attribute, one a third as long as the other, and noise."""
    rng = np.random.default_rng([seed, 5])
    U, V = (rng.normal(size=(values, width)) / np.sqrt(width) for _ in range(2))
    labels = {"strong": rng.integers(values, size=n), "weak": rng.integers(values, size=n)}
    X = 3 * U[labels["strong"]] + V[labels["weak"]] + 0.05 * rng.normal(size=(n, width))
    return X.astype(np.float32), labels


def split(seed: int, n: int = 4000, width: int = 16, wide: int = 256) -> dict[str, Any]:
    """How many latents of a narrow and of a wide dictionary are of one of two Gaussians, and how well the best tells it."""
    rng = np.random.default_rng([seed, 6])
    side = rng.integers(2, size=n)
    X = np.zeros((n, width), dtype=np.float32)
    X[:, 0] = np.where(side == 1, 4.0, -4.0)
    X += rng.normal(size=X.shape).astype(np.float32)
    out = {}
    for name, latents in (("narrow", 4), ("wide", wide)):
        sae = SparseAutoencoder(latents, TopK(1), epochs=40, batch_size=200, learning_rate=1e-2, random_state=seed).fit(X)
        codes = sae.transform(X)
        active = codes.toarray() != 0
        used = active.mean(axis=0) > 0.002
        pure = np.maximum((active & (side == 1)[:, None]).sum(axis=0), (active & (side == 0)[:, None]).sum(axis=0))
        one_sided = used & (pure >= 0.95 * active.sum(axis=0))
        scores = f1_scores(codes, {v: side == v for v in (0, 1)})
        out[name] = {"latents of one side": int(one_sided.sum()), "best F1": float(scores.max(axis=0).min())}
    return out


def by_loops(difference: np.ndarray, before: np.ndarray, after: np.ndarray, atoms: np.ndarray, k: int) -> float:
    """How far a vector is from its goal after k steps, each tried on the vectors themselves, relative to before."""
    changes = [-a * atoms[i] for i, a in enumerate(before) if a] + [b * atoms[i] for i, b in enumerate(after) if b]
    now = difference.copy()
    for _ in range(k):
        lengths = [np.linalg.norm(now + one) for one in changes]
        if not lengths or min(lengths) >= np.linalg.norm(now):
            break
        now = now + changes.pop(int(np.argmin(lengths)))
    return float(np.linalg.norm(now) / np.linalg.norm(difference))
