"""The batch of rows whose best is expected to improve most."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from botorch.acquisition.logei import qLogExpectedImprovement
from botorch.exceptions.warnings import BadInitialCandidatesWarning, OptimizationWarning
from botorch.optim import optimize_acqf
from botorch.sampling.normal import SobolQMCNormalSampler
from gpytorch.utils.warnings import NumericalWarning
from numpy.typing import NDArray

__all__ = ["best_batch"]

_SAMPLES, _STARTS, _TRIED, _STEPS = 128, 2, 32, 60


def best_batch(model: Any, q: int, width: int, best: float) -> NDArray[np.float64]:
    """Rows of shape (q, width) in [0, 1]; draws come from the global generator, which the caller has seeded."""
    sampler = SobolQMCNormalSampler(torch.Size([_SAMPLES]), seed=int(torch.randint(2**31, (1,))))
    with warnings.catch_warnings():  # starts of little value, searches cut short and rows close together still give a batch
        for kind in (BadInitialCandidatesWarning, OptimizationWarning, NumericalWarning):
            warnings.simplefilter("ignore", kind)
        found, _ = optimize_acqf(
            qLogExpectedImprovement(model, best_f=best, sampler=sampler),
            bounds=torch.stack([torch.zeros(width), torch.ones(width)]).double(),
            q=q, num_restarts=_STARTS, raw_samples=_TRIED, options={"maxiter": _STEPS},
        )  # fmt: skip
    return np.asarray(found.numpy())
