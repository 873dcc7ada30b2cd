"""A small network trained on real images, epoch after epoch: the loss after few stands in for that after many."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData, require_whole

__all__ = ["TRAINING_BOUNDS", "training_curve"]

_FLOAT = NDArray[np.float64]
_WIDTH = 32
# Decimal logarithms of learning rate and weight decay, momentum, and the binary logarithm of the batch.
TRAINING_BOUNDS = np.array([[-3.5, 0.0], [-6.0, 0.5], [0.0, 0.98], [4.0, 8.0]])


def training_curve(x: ArrayLike, epochs: int, random_state: int = 0) -> _FLOAT:
    """Loss on images that were held out, after each epoch of a training on the handwritten digits that scikit-learn ships.

    A network of one hidden layer of 32 units, by stochastic gradient descent with momentum. A training of fewer epochs is the
    beginning of a longer one.

    Parameters
    ----------
    x : array-like of shape (4,)
        Decimal logarithms of learning rate and weight decay, momentum, binary logarithm of the batch size; see
        `TRAINING_BOUNDS`.
    epochs : int
    random_state : int, default=0
        Of the first weights and the order of the images.

    Returns
    -------
    ndarray of shape (epochs,)
        Cross-entropy; NaN from where the training diverged.

    References
    ----------
    Alpaydin and Kaynak, *Optical recognition of handwritten digits*, UCI, 1998.

    Examples
    --------
    >>> curve = training_curve([-1.5, -4.0, 0.5, 5.0], epochs=3)
    >>> bool(curve[2] < curve[0])
    True
    """
    row = np.asarray(x, dtype=float)
    require_whole(1, epochs=epochs)
    require_whole(0, random_state=random_state)
    if row.shape != (4,) or not np.isfinite(row).all() or not 0 <= row[2] <= 1:
        raise InvalidData(f"expected four finite numbers, momentum from 0 to 1, got {x!r}")
    from sklearn.neural_network import MLPClassifier

    X, y, held_out, labels = _digits()
    rate, decay, momentum, batch = 10 ** row[0], 10 ** row[1], float(row[2]), round(2 ** row[3])
    network = MLPClassifier(
        (_WIDTH,), solver="sgd", learning_rate_init=rate, alpha=decay, momentum=momentum, batch_size=batch,
        random_state=random_state,
    )  # fmt: skip
    out = np.full(epochs, np.nan)
    with np.errstate(all="ignore"):
        for epoch in range(epochs):
            try:
                network.partial_fit(X, y, classes=np.arange(10))
            except ValueError:  # weights that are not finite any more
                break
            told = network.predict_proba(held_out)[np.arange(len(labels)), labels]
            out[epoch] = -np.log(np.maximum(told, 1e-12)).mean()
    return out


@cache
def _digits() -> tuple[Any, ...]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, digits = load_digits(return_X_y=True)
    X, held_out, y, labels = train_test_split(images / 16.0, digits, test_size=0.4, random_state=0, stratify=digits)
    return X, y, held_out, labels
