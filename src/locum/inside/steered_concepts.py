"""Does steering by a latent bring what its name says, and what else does it change?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData, need, require_whole
from locum.inside.steering import SteeringDirection

__all__ = ["SteeringEffect", "steering_effects"]

_FLOATS = NDArray[np.float64]


@dataclass(frozen=True)
class SteeringEffect:
    """What one strength of a direction does to what is written.

    Attributes
    ----------
    strength : float
    rises : dict of str to float
        Of each concept: by how much the log-odds of its tokens, mean over the tokens written, lie above those of the
        network as it is.
    perplexity : float
        Of the text under the network as it is, over that of its own text: 1 where the text is as fluent.
    texts : ndarray of int, shape (prompts, tokens)
    """

    strength: float
    rises: dict[str, float]
    perplexity: float
    texts: NDArray[np.int64]

    def on_target(self, concept: str) -> float:
        """The rise of one concept.

        Parameters
        ----------
        concept : str
        """
        return self.rises[concept]

    def off_target(self, concept: str) -> float:
        """The mean size of the rises of all other concepts.

        Parameters
        ----------
        concept : str
        """
        return float(np.mean([abs(rise) for name, rise in self.rises.items() if name != concept]))


def steering_effects(
    direction: SteeringDirection,
    prompts: Sequence[ArrayLike],
    concepts: Mapping[str, ArrayLike],
    strengths: Sequence[float],
    *,
    tokens: int = 30,
    random_state: int = 0,
) -> list[SteeringEffect]:
    """Let a steered network write after neutral prompts, and see how likely it finds the tokens of each concept while it does.

    At each token written, the odds of a concept are those of all its tokens together; probabilities are used rather than
    counts of tokens, which are mostly 0.

    Parameters
    ----------
    direction : SteeringDirection
        Adding or clamping.
    prompts : sequence of array-like of int
        Token ids of neutral beginnings.
    concepts : mapping of str to array-like of int
        Token ids of each concept.
    strengths : sequence of float
    tokens : int, default=30
        Written after each prompt.
    random_state : int, default=0
        Of what is written; the same for all strengths.

    Returns
    -------
    list of SteeringEffect
        One for each strength.

    Raises
    ------
    InvalidData
        Fewer than two concepts, or one without tokens.

    Notes
    -----
    Cost: for each strength, and once more, `tokens` steps of generation for all prompts together and two passes over what
    was written.
    """
    require_whole(1, tokens=tokens)
    sets = {name: np.unique(np.asarray(ids, dtype=np.int64)) for name, ids in concepts.items()}
    if len(sets) < 2 or not all(one.size for one in sets.values()):
        raise InvalidData("expected two concepts or more, each with one token or more")
    if not len(strengths) or not np.isfinite(strengths).all():
        raise InvalidData(f"expected strengths= as finite numbers, got {list(strengths)}")
    ids = [np.asarray(one, dtype=np.int64) for one in prompts]
    wrote = direction.write(ids, None, tokens=tokens, random_state=random_state)
    before, surprise = _read(direction, None, ids, wrote, sets)
    found = []
    for strength in strengths:
        texts = direction.write(ids, strength, tokens=tokens, random_state=random_state)
        odds, _ = _read(direction, strength, ids, texts, sets)
        _, strange = _read(direction, None, ids, texts, sets)
        rises = {name: float(odds[name] - before[name]) for name in sets}
        found.append(SteeringEffect(float(strength), rises, float(np.exp(strange - surprise)), texts))
    return found


def _read(
    direction: SteeringDirection, strength: float | None, prompts: Sequence[NDArray[np.int64]], texts: NDArray[np.int64],
    sets: Mapping[str, NDArray[np.int64]],
) -> tuple[dict[str, float], float]:  # fmt: skip
    """Mean log-odds of each set of tokens where texts were written, and the mean surprise of their tokens, in nats."""
    torch = need("torch", "a steered network", "nets")
    model, n = direction.tap.model, texts.shape[1]
    device = next(model.parameters()).device
    longest = max(map(len, prompts)) + n
    lines = [np.concatenate([prompt, text]) for prompt, text in zip(prompts, texts, strict=True)]
    ids = torch.as_tensor(np.stack([np.pad(one, (0, longest - len(one))) for one in lines]), device=device)
    mask = torch.as_tensor(np.stack([np.arange(longest) < len(one) for one in lines]).astype(np.int64), device=device)
    with torch.inference_mode(), direction.at(strength):
        logits: Any = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    where = torch.as_tensor(np.stack([np.arange(len(one) - 1, len(one) - 1 + n) for one in prompts]), device=device)
    said = logits.gather(1, where[..., None].expand(-1, -1, logits.shape[-1])).double().log_softmax(dim=-1)
    written = torch.as_tensor(texts, device=device)
    surprise = -said.gather(2, written[..., None]).mean()
    odds = {}
    for name, tokens in sets.items():
        inside = said[..., torch.as_tensor(tokens, device=device)].logsumexp(dim=-1).clamp(max=-1e-12)
        odds[name] = float((inside - torch.log(-torch.expm1(inside))).mean())
    return odds, float(surprise)
