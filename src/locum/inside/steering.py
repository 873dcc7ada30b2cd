"""A direction added to an activation: how strongly a network's predictions move, and what it then writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData, need, require_whole
from locum.inside.tap import Tap

__all__ = ["SteeringDirection"]

_STEPS = 40


@final
class SteeringDirection:
    """Adds a multiple of a direction of length 1 to the activations of a language model at one site, at every token.

    Strengths of different directions mean different things, so directions are compared at the same divergence of the next
    token from that of the network as it is; :meth:`strength` finds the multiple. The two signs are two interventions.

    Parameters
    ----------
    tap : Tap
        On a model that gives logits of shape (n, tokens, vocabulary).
    site : str
    vector : array-like of shape (width,)
        Of any length above 0.

    Raises
    ------
    InvalidData
        No such site, a vector that is 0 or not finite; at the first pass, one of another width than the site.

    Notes
    -----
    Cost: a forward pass over the prompts for each strength; :meth:`strength` takes about eight.

    References
    ----------
    Shafran, Geiger and Geva, arXiv 2506.10920.
    """

    def __init__(self, tap: Tap, site: str, vector: ArrayLike) -> None:
        told = np.asarray(vector, dtype=np.float64)
        if site not in tap.sites:
            raise InvalidData(f"there is no site {site!r}; there is {', '.join(tap.sites)}")
        if told.ndim != 1 or not np.isfinite(told).all() or not told.any():
            raise InvalidData(f"expected vector= as finite numbers, shape (width,), that are not all 0, got shape {told.shape}")
        self.tap, self.site = tap, site
        self.vector = (told / np.linalg.norm(told)).astype(np.float32)

    @contextmanager
    def at(self, alpha: float, *, positions: Any = None) -> Iterator[None]:
        """Steer while the context lasts.

        Parameters
        ----------
        alpha : float
            What the direction is multiplied by, in the units of the activation.
        positions : int, sequence of int or None, default=None
            As for :meth:`Tap.edit`.
        """
        torch = need("torch", "a steered network", "nets")
        step = torch.from_numpy(self.vector) * float(alpha)

        def added(h: Any) -> Any:
            if h.shape[-1] != len(step):
                raise InvalidData(f"expected a direction {h.shape[-1]} wide for the site {self.site!r}, got {len(step)}")
            return h + step.to(h)

        with self.tap.edit(self.site, added, positions=positions):
            yield

    # ------------------------------------------------------------------ the next token
    def log_probabilities(self, prompts: Sequence[ArrayLike], alpha: float = 0.0) -> NDArray[np.float64]:
        """Of the token after each prompt, shape (prompts, vocabulary).

        Parameters
        ----------
        prompts : sequence of array-like of int
            Token ids.
        alpha : float, default=0.0
        """
        torch = need("torch", "a steered network", "nets")
        ids = _prompts(prompts)
        device, found = next(self.tap.model.parameters()).device, []
        with torch.inference_mode(), self.at(alpha):
            for one in ids:
                said = self.tap.model(input_ids=torch.as_tensor(one[None], device=device)).logits[0, -1]
                found.append(said.double().log_softmax(dim=-1).cpu().numpy())
        return np.stack(found)

    def divergence(self, prompts: Sequence[ArrayLike], alpha: float) -> float:
        """Mean over prompts of the Kullback-Leibler divergence of the steered next token from the network's own, in nats.

        Parameters
        ----------
        prompts : sequence of array-like of int
        alpha : float
        """
        return _divergence(self.log_probabilities(prompts), self.log_probabilities(prompts, alpha))

    def strength(
        self, prompts: Sequence[ArrayLike], kl: float = 0.25, *, sign: int = 1, most: float = 2000.0, tol: float = 0.01
    ) -> float:
        """The multiple at which :meth:`divergence` is `kl`: the least one met from 1 on, then between two by interpolation.

        Parameters
        ----------
        prompts : sequence of array-like of int
        kl : float, default=0.25
            In nats.
        sign : {1, -1}, default=1
        most : float, default=2000.0
            Largest size.
        tol : float, default=0.01
            By what share the divergence may miss `kl`.

        Returns
        -------
        float
            With the sign asked for.

        Raises
        ------
        InvalidData
            No size up to `most` reaches `kl`; the largest divergence met is told.
        """
        if sign not in (1, -1):
            raise InvalidData(f"expected sign= to be 1 or -1, got {sign!r}")
        if not (isinstance(kl, int | float) and 0 < kl < np.inf and most > 0 and 0 < tol < 1):
            raise InvalidData(f"expected kl= and most= above 0 and tol= between 0 and 1, got {kl!r}, {most!r} and {tol!r}")
        base, goal = self.log_probabilities(prompts), kl**0.5

        def at(size: float) -> float:
            """The root of the divergence, which small sizes raise in proportion."""
            return max(_divergence(base, self.log_probabilities(prompts, sign * size)), 0.0) ** 0.5

        low, below, high = 0.0, 0.0, min(1.0, float(most))
        met = above = at(high)
        while above < goal:
            if high >= most:
                raise InvalidData(f"no strength up to {most:g} reaches a divergence of {kl:g}: the largest met is {met**2:.3g}")
            low, below = high, above
            high = min(high * min(max(1.2 * goal / max(above, 1e-9), 1.5), 8.0), float(most))
            above = at(high)
            met = max(met, above)
        for _ in range(_STEPS):
            if abs(above**2 - kl) <= tol * kl:
                break
            share = (goal - below) / (above - below)
            middle = low + min(max(share, 0.05), 0.95) * (high - low)
            found = at(middle)
            if found < goal and abs(found**2 - kl) > tol * kl:
                low, below = middle, found
            else:
                high, above = middle, found
        return sign * high

    def lift(self, prompts: Sequence[ArrayLike], tokens: ArrayLike, alpha: float) -> NDArray[np.float64]:
        """By how much the log-probability of each token rises, mean over prompts, shape (tokens,).

        Parameters
        ----------
        prompts : sequence of array-like of int
        tokens : array-like of int
        alpha : float
        """
        wanted = np.asarray(tokens, dtype=np.int64)
        return (self.log_probabilities(prompts, alpha) - self.log_probabilities(prompts))[:, wanted].mean(axis=0)

    # ------------------------------------------------------------------ text
    def sample(
        self, prompt: ArrayLike, alpha: float, *, n: int = 8, tokens: int = 50, top_k: int = 30, top_p: float = 0.3,
        random_state: int = 0,
    ) -> NDArray[np.int64]:  # fmt: skip
        """Token ids that the steered network writes after a prompt, shape (n, tokens).

        Parameters
        ----------
        prompt : array-like of int
        alpha : float
        n, tokens : int, default=8, 50
        top_k : int, default=30
        top_p : float, default=0.3
        random_state : int, default=0
        """
        torch = need("torch", "a steered network", "nets")
        from locum.nets import seeded

        require_whole(1, n=n, tokens=tokens, top_k=top_k)
        (ids,) = _prompts([prompt])
        model = self.tap.model
        device = next(model.parameters()).device
        given = torch.as_tensor(np.tile(ids, (n, 1)), device=device)
        settings = {"do_sample": True, "top_k": top_k, "top_p": top_p, "max_new_tokens": tokens, "min_new_tokens": tokens}
        end = getattr(model.config, "eos_token_id", None)
        end = end[0] if isinstance(end, list) else end
        with seeded(random_state, device=device), torch.inference_mode(), self.at(alpha):
            said = model.generate(given, attention_mask=torch.ones_like(given), pad_token_id=end, **settings)
        return said[:, len(ids) :].cpu().numpy()


def _prompts(prompts: Sequence[ArrayLike]) -> list[NDArray[np.int64]]:
    ids = [np.asarray(one, dtype=np.int64) for one in prompts]
    if not ids or any(one.ndim != 1 or not len(one) for one in ids):
        raise InvalidData("expected prompts as a sequence of one-dimensional token ids, none empty")
    return ids


def _divergence(base: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float((np.exp(base) * (base - other)).sum(axis=1).mean())
