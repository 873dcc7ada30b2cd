"""A direction added to an activation: how strongly a network's predictions move, and what it then writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from locum.core.errors import InvalidData, need, require_positive, require_whole
from locum.inside.dictionary import Dictionary
from locum.inside.tap import Tap

__all__ = ["SteeringDirection"]

_STEPS = 40


@final
class SteeringDirection:
    """Adds a multiple of a direction of length 1 to the activations of a language model at one site, at every token.

    Strengths of different directions mean different things, so directions are compared at the same divergence of the next
    token from that of the network as it is; :meth:`strength` finds the multiple. The two signs are two interventions.

    With `reading`, strengths are not added but set: along the direction the activation is moved by what the strength lies above
    what is read there, so that a latent is held at a value whatever the text says (clamping).

    Parameters
    ----------
    tap : Tap
        On a model that gives logits of shape (n, tokens, vocabulary).
    site : str
    vector : array-like of shape (width,)
        Of any length above 0.
    unit : float, default=1.0
        What strengths are multiples of, in the units of the activation.
    reading : callable or None, default=None
        From activations, as a tensor of shape (..., width), to how much of the direction they hold, shape (...), such as
        ``dictionary.reading(latent)``.

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

    def __init__(
        self, tap: Tap, site: str, vector: ArrayLike, *, unit: float = 1.0, reading: Callable[[Any], Any] | None = None
    ) -> None:
        told = np.asarray(vector, dtype=np.float64)
        if site not in tap.sites:
            raise InvalidData(f"there is no site {site!r}; there is {', '.join(tap.sites)}")
        if told.ndim != 1 or not np.isfinite(told).all() or not told.any():
            raise InvalidData(f"expected vector= as finite numbers, shape (width,), that are not all 0, got shape {told.shape}")
        require_positive(unit=unit)
        self.tap, self.site, self.unit, self.reading = tap, site, unit, reading
        self.vector = (told / np.linalg.norm(told)).astype(np.float32)

    @classmethod
    def of_latent(
        cls, tap: Tap, site: str, dictionary: Dictionary, latent: int, codes: Any, *, clamp: bool = False
    ) -> SteeringDirection:
        """The atom of a latent, with strengths in multiples of the 99th percentile of its codes where it is active.

        Raw strengths mean different things for different latents.

        Parameters
        ----------
        tap : Tap
        site : str
            That the dictionary was fitted to.
        dictionary : Dictionary
        latent : int
        codes : sparse or dense array of shape (n, n_latents)
            Of rows of that site.
        clamp : bool, default=False
            Set the latent's code instead of adding to the activation.

        Raises
        ------
        InvalidData
            A latent that is active on none of the rows.
        """
        reading = dictionary.reading(latent)
        column = sparse.csc_array(codes)[:, [latent]].toarray()[:, 0]
        active = column[column > 0]
        if not active.size:
            raise InvalidData(f"latent {latent} is active on none of {len(column)} rows, so it has no typical strength")
        unit = float(np.quantile(active, 0.99))
        return cls(tap, site, dictionary.atoms_[latent], unit=unit, reading=reading if clamp else None)

    @contextmanager
    def at(self, alpha: float | None, *, positions: Any = None) -> Iterator[None]:
        """Steer while the context lasts.

        Parameters
        ----------
        alpha : float or None
            What the direction is multiplied by, in units of `unit`; the network as it is where None.
        positions : int, sequence of int or None, default=None
            As for :meth:`Tap.edit`.
        """
        torch = need("torch", "a steered network", "nets")
        if alpha is None:
            yield
            return
        if not np.isfinite(alpha):
            raise InvalidData(f"expected a finite strength, got {alpha!r}")
        step, amount = torch.from_numpy(self.vector), float(alpha) * self.unit

        def added(h: Any) -> Any:
            if h.shape[-1] != len(step):
                raise InvalidData(f"expected a direction {h.shape[-1]} wide for the site {self.site!r}, got {len(step)}")
            if self.reading is None:
                return h + amount * step.to(h)
            return h + (amount - self.reading(h))[..., None] * step.to(h)

        with self.tap.edit(self.site, added, positions=positions):
            yield

    # ------------------------------------------------------------------ the next token
    def log_probabilities(self, prompts: Sequence[ArrayLike], alpha: float | None = None) -> NDArray[np.float64]:
        """Of the token after each prompt, shape (prompts, vocabulary).

        Parameters
        ----------
        prompts : sequence of array-like of int
            Token ids.
        alpha : float or None, default=None
            None for the network as it is.
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
        self, prompt: ArrayLike, alpha: float | None, *, n: int = 8, tokens: int = 50, top_k: int = 30, top_p: float = 0.3,
        random_state: int = 0,
    ) -> NDArray[np.int64]:  # fmt: skip
        """Token ids that the steered network writes after a prompt, shape (n, tokens).

        Parameters
        ----------
        prompt : array-like of int
        alpha : float or None
        n, tokens : int, default=8, 50
        top_k : int, default=30
        top_p : float, default=0.3
        random_state : int, default=0
        """
        (ids,) = _prompts([prompt])
        require_whole(1, n=n)
        return self.write([ids] * n, alpha, tokens=tokens, top_k=top_k, top_p=top_p, random_state=random_state)

    def write(
        self, prompts: Sequence[ArrayLike], alpha: float | None, *, tokens: int = 50, top_k: int = 30, top_p: float = 0.3,
        random_state: int = 0,
    ) -> NDArray[np.int64]:  # fmt: skip
        """Token ids that the steered network writes after each of several prompts, shape (prompts, tokens).

        Parameters
        ----------
        prompts : sequence of array-like of int
            Shorter ones are padded on the left, and the padding masked.
        alpha : float or None
        tokens : int, default=50
        top_k : int, default=30
        top_p : float, default=0.3
        random_state : int, default=0
        """
        torch = need("torch", "a steered network", "nets")
        from locum.nets import seeded

        ids = _prompts(prompts)
        require_whole(1, tokens=tokens, top_k=top_k)
        model, longest = self.tap.model, max(map(len, ids))
        device = next(model.parameters()).device
        end = getattr(model.config, "eos_token_id", None)
        end = end[0] if isinstance(end, list) else end
        given = np.stack([np.pad(one, (longest - len(one), 0), constant_values=end or 0) for one in ids])
        there = np.stack([np.arange(longest) >= longest - len(one) for one in ids]).astype(np.int64)
        settings = {"do_sample": True, "top_k": top_k, "top_p": top_p, "max_new_tokens": tokens, "min_new_tokens": tokens}
        given, there = (torch.as_tensor(one, device=device) for one in (given, there))
        with seeded(random_state, device=device), torch.inference_mode(), self.at(alpha):
            said = model.generate(given, attention_mask=there, pad_token_id=end, **settings)
        return said[:, longest:].cpu().numpy()


def _prompts(prompts: Sequence[ArrayLike]) -> list[NDArray[np.int64]]:
    ids = [np.asarray(one, dtype=np.int64) for one in prompts]
    if not ids or any(one.ndim != 1 or not len(one) for one in ids):
        raise InvalidData("expected prompts as a sequence of one-dimensional token ids, none empty")
    return ids


def _divergence(base: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float((np.exp(base) * (base - other)).sum(axis=1).mean())
