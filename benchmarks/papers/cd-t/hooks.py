"""What contextual decomposition is measured against, by hooks on the model alone: gradients, norms, path patching."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from prompts import Prompts

HEADS, WIDTH = 9, 64


@contextmanager
def on_heads(model: Any, change: Callable[[int, torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """What the heads of each layer put out, of shape (n, length, heads, width), goes through `change`."""

    def hook(layer: int) -> Any:
        return lambda _m, given: (change(layer, given[0].unflatten(-1, (HEADS, WIDTH))).flatten(-2),)

    hooks = [block.self_attn.o_proj.register_forward_pre_hook(hook(i)) for i, block in enumerate(model.model.layers)]
    try:
        yield
    finally:
        for one in hooks:
            one.remove()


def outputs(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Of all heads, shape (layers, n, length, heads, width)."""
    seen: list[torch.Tensor] = []
    with torch.no_grad(), on_heads(model, lambda _layer, z: seen.append(z) or z):  # type: ignore[func-returns-value]
        model.model(input_ids=ids)
    return torch.stack(seen)


def reference(model: Any, prompts: Prompts) -> Callable[[int], torch.Tensor]:
    """The mean for one prompt, shape (layers, length, heads, width)."""
    given, known = prompts.reference, {}
    rows = {i: ids.tolist() for at, ids in [(at, ids) for at, ids in given.by_length] for i, ids in zip(at, ids, strict=True)}

    def of(i: int) -> torch.Tensor:
        group, length = given.prompts[i], len(prompts.ids[i])
        if (group, length) not in known:
            same = [row for j, row in rows.items() if given.groups[j] == group and len(row) == length]
            known[group, length] = outputs(model, torch.as_tensor(same)).mean(dim=1)
        return known[group, length]

    return of


def gradient_and_norm(model: Any, prompts: Prompts) -> tuple[np.ndarray, np.ndarray]:
    """Gradient of the score times (z - m), and the norm of z - m; each of shape (heads of all layers, prompts)."""
    mean = reference(model, prompts)
    products, norms = [], []
    for i, ids in enumerate(prompts.ids):
        seen: list[torch.Tensor] = []

        def keep(_layer: int, z: torch.Tensor, seen: list[torch.Tensor] = seen) -> torch.Tensor:
            z = z if z.requires_grad else z.requires_grad_()
            z.retain_grad()
            seen.append(z)
            return z

        with on_heads(model, keep):
            prompts.score.take([i])(model(input_ids=torch.as_tensor([ids])).logits[:, -1]).sum().backward()
        gaps = torch.stack([z[0].detach() for z in seen]) - mean(i)
        slopes = torch.stack([z.grad[0] for z in seen])
        model.zero_grad(set_to_none=True)
        products.append((slopes * gaps).sum(dim=(1, 3)).flatten().numpy())
        norms.append(gaps.square().sum(dim=(1, 3)).sqrt().flatten().numpy())
    return np.stack(products, axis=1), np.stack(norms, axis=1)


def path_patching(model: Any, prompts: Prompts, sources: list[tuple[int, int]], target: tuple[int, int]) -> np.ndarray:
    """What the score loses where the target hears the mean of a source, all other heads before it being as they were."""
    mean, out = reference(model, prompts), []
    for i, ids in enumerate(prompts.ids):
        rows = torch.as_tensor([ids]).expand(len(sources), -1)
        clean, means = outputs(model, rows[:1])[:, 0], mean(i)
        heard: list[torch.Tensor] = []

        def first(layer: int, z: torch.Tensor, clean: Any = clean, means: Any = means, heard: Any = heard) -> torch.Tensor:
            if layer == target[0]:
                heard.append(z[:, :, target[1]].clone())
            z = clean[layer].expand_as(z).clone()
            for row, (at, head) in enumerate(sources):
                if at == layer:
                    z[row, :, head] = means[layer][:, head]
            return z

        def second(layer: int, z: torch.Tensor, heard: Any = heard) -> torch.Tensor:
            if layer == target[0]:
                z = z.clone()
                z[:, :, target[1]] = heard[0]
            return z

        score = prompts.score.take([i])
        with torch.no_grad():
            plain = score(model(input_ids=rows[:1]).logits[:, -1])
            with on_heads(model, first):
                model.model(input_ids=rows)
            with on_heads(model, second):
                said = model(input_ids=rows).logits[:, -1]
        out.append([float(plain - score(one[None])) for one in said])
    return np.array(out).T
