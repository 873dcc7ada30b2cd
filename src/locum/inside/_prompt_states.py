"""The states of a network at the end of each prompt, of several layers side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, need, require_one_of, require_whole
from locum.inside.store import padded, token_batches
from locum.inside.tap import Tap

__all__ = ["prompt_states"]


def prompt_states(
    tap: Tap,
    prompts: Sequence[Any],
    *,
    tokenizer: Any = None,
    tokens: str = "last",
    batch_size: int = 16,
    progress: Callable[[int, int, str], None] | None = None,
) -> NDArray[np.float32]:
    """Activations of the last token of each prompt, or the mean over its tokens, at all sites.

    Parameters
    ----------
    tap : Tap
        On activations of shape (n, tokens, width), all equally wide.
    prompts : sequence
        Texts, with `tokenizer`, or token ids of shape (length,) each.
    tokenizer : tokenizer of transformers or None, default=None
    tokens : {"last", "mean"}, default="last"
    batch_size : int, default=16
    progress : callable or None, default=None
        Called with (batches done, batches in all, words).

    Returns
    -------
    ndarray of shape (prompts, sites, width)
        Sites in the order of the tap.

    Raises
    ------
    InvalidData
        No prompts, an empty one, or sites of different widths.

    Notes
    -----
    Cost: a forward pass over the prompts as far as the last site.
    """
    torch = need("torch", "states of a network", "nets")
    require_whole(1, batch_size=batch_size)
    require_one_of(("last", "mean"), tokens=tokens)
    ids = [np.asarray(tokenizer(one)["input_ids"] if isinstance(one, str) and tokenizer else one) for one in prompts]
    if not ids or any(one.ndim != 1 or not one.size or one.dtype.kind not in "iu" for one in ids):
        raise InvalidData("expected prompts as texts with tokenizer=, or as one-dimensional token ids, none empty")
    batches = token_batches(ids, max(map(len, ids)), batch_size)
    found: list[Any] = [None] * len(ids)
    with torch.inference_mode():
        for done, batch in enumerate(batches, 1):
            inputs, there = padded(tap.model, ids, batch)
            states = tap.read(**inputs)
            if len({value.shape[-1] for value in states.values()}) > 1:
                widths = ", ".join(f"{name} {value.shape[-1]}" for name, value in states.items())
                raise InvalidData(f"expected sites of one width, got {widths}; read them apart")
            table = torch.stack(list(states.values()), dim=1).float()
            if tokens == "last":
                one = table[torch.arange(len(batch)), :, there.sum(dim=1) - 1]
            else:
                one = (table * there[:, None, :, None]).sum(dim=2) / there.sum(dim=1)[:, None, None]
            for (i, _, _), row in zip(batch, one.cpu().numpy(), strict=True):
                found[i] = row
            if progress is not None:
                progress(done, len(batches), f"{done} of {len(batches)} batches")
    return np.stack(found)
