"""A transcoder as a network: from what goes into a layer to what comes out, with codes that may be changed on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from locum.inside._codes import SparseCodes
from locum.inside._network import DictionaryModule, DictionaryNet

__all__ = ["TranscoderModule"]

Tensor = torch.Tensor


class TranscoderModule(nn.Module):
    """Inputs of a layer to its outputs, for a network to be run with: any leading shape, gradients to the input.

    Parameters
    ----------
    net : DictionaryNet
    skip : tensor of shape (width out, width in) or None
        Linear map of the input that is added.
    """

    skip: Tensor | None

    def __init__(self, net: DictionaryNet, skip: Tensor | None) -> None:
        super().__init__()
        self.sparse = DictionaryModule(net)
        self.register_buffer("skip", skip)

    def forward(self, x: Tensor) -> Tensor:
        return self._skipped(x, self.sparse(x))

    def changed(self, x: Tensor, change: Callable[[Tensor], Any]) -> Tensor:
        """As forward, with codes, dense and of shape (..., latents), as `change` gives them."""
        net = self.sparse.net
        codes = dense(net.codes(x.reshape(-1, x.shape[-1]).to(net.atoms.dtype))).unflatten(0, x.shape[:-1])
        return self._skipped(x, (change(codes) @ net.atoms + net.bias).to(x.dtype))

    def _skipped(self, x: Tensor, y: Tensor) -> Tensor:
        return y if self.skip is None else y + x @ self.skip.T.to(x.dtype)


def dense(codes: SparseCodes) -> Tensor:
    """Codes as a table, shape (n, latents)."""
    n = len(codes.offsets) - 1
    line = torch.repeat_interleave(torch.arange(n, device=codes.index.device), codes.offsets.diff())
    return codes.value.new_zeros(n, codes.width).index_put_((line, codes.index), codes.value, accumulate=True)
