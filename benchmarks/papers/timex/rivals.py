"""Maps by other methods, of captum and time-interpret, for the same classifier and the class that it answers."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
import torch

from locum.nets import Reference

STEPS = 50  # of integrated gradients


class Rivals:
    """Maps of series (n, T, d), larger for what matters more.

    Parameters
    ----------
    reference : Reference
    train : ndarray
        Series to draw baselines from.
    times : ndarray or None
        Of the series to explain, where lengths differ.
    """

    def __init__(self, reference: Reference, train: Any, times: Any = None, seed: int = 0) -> None:
        self.reference, self.seed = reference, seed
        self._train = torch.as_tensor(np.asarray(train, dtype=np.float32))
        self._times = None if times is None else torch.as_tensor(np.asarray(times, dtype=np.float32))

    def _forward(self, X: Any, *rest: Any) -> Any:
        return self.reference.forward(X, *rest)

    def _given(self, X: Any) -> tuple[Any, dict[str, Any]]:
        rows = torch.as_tensor(np.asarray(X, dtype=np.float32))
        rest = () if self._times is None else (self._times[: len(rows)],)
        with torch.no_grad():
            target = self._forward(rows, *rest).argmax(dim=1)
        return rows, {"target": target, "additional_forward_args": rest or None}

    def gradients(self, X: Any, batch: int = 640) -> Any:
        """Absolute integrated gradients from zero."""
        from captum.attr import IntegratedGradients

        rows, rest = self._given(X)
        found = IntegratedGradients(self._forward).attribute(rows, n_steps=STEPS, internal_batch_size=batch, **rest)
        return found.detach().abs().double().numpy()

    def occlusion(self, X: Any, width: int = 5) -> Any:
        """Absolute fall of the logit when a window of one channel is set to zero."""
        from captum.attr import Occlusion

        rows, rest = self._given(X)
        with torch.no_grad():
            found = Occlusion(self._forward).attribute(rows, sliding_window_shapes=(width, 1), strides=(2, 1), **rest)
        return found.abs().double().numpy()

    def gradient_shap(self, X: Any) -> Any:
        """Absolute expected gradients from 20 training series."""
        from captum.attr import GradientShap

        rows, rest = self._given(X)
        torch.manual_seed(self.seed)
        found = GradientShap(self._forward).attribute(rows, baselines=self._train[:20], n_samples=20, **rest)
        return found.detach().abs().double().numpy()

    def dynamask(self, X: Any, epochs: int = 100) -> Any:
        """Masks optimised for each series (time-interpret); raises ImportError where that is not installed."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pytorch_lightning import Trainer
            from tint.attr import DynaMask
            from tint.attr.models import MaskNet

            logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
            rows, rest = self._given(X)
            torch.manual_seed(self.seed)

            def probabilities(x: Any, *given: Any) -> Any:
                return self._forward(x, *given).softmax(dim=-1)

            trainer = Trainer(
                max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
                enable_model_summary=False,
            )  # fmt: skip
            net = MaskNet(
                probabilities, perturbation="fade_moving_average", keep_ratio=[0.1, 0.2, 0.3], size_reg_factor_init=0.1,
                size_reg_factor_dilation=100.0, time_reg_factor=0.1, loss="mse", optim="adam", lr=0.05,
            )  # fmt: skip
            found = DynaMask(probabilities).attribute(
                rows, rest["additional_forward_args"], trainer=trainer, mask_net=net, batch_size=len(rows)
            )
        return found.detach().double().numpy()

    @staticmethod
    def random(X: Any, seed: int) -> Any:
        return np.random.default_rng(seed).uniform(size=np.shape(X))
