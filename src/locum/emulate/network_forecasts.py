"""Networks as forecasters of one step, fed with what they say: N-BEATS and an LSTM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import InvalidData, need, require_positive, require_whole
from locum.emulate.exported import Exports
from locum.emulate.stepper import Forecasts, history_of
from locum.emulate.trajectories import Trajectories

__all__ = ["LSTM", "NBeats", "NetworkForecaster"]

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class NBeats:
    """N-BEATS with generic blocks (Oreshkin et al., arXiv 1905.10437).

    Parameters
    ----------
    blocks : int, default=8
    layers : int, default=4
        Of each block.
    width : int, default=64
    expansion : int, default=5
        Length of the codes from which a block gives back the window and forecasts.
    """

    blocks: int = 8
    layers: int = 4
    width: int = 64
    expansion: int = 5

    def __post_init__(self) -> None:
        require_whole(1, blocks=self.blocks, layers=self.layers, width=self.width, expansion=self.expansion)

    def module(self, rows: int, columns: int) -> Any:
        """The network for windows of so many rows and columns."""
        from locum.emulate._forecast_networks import Beats

        return Beats(rows, columns, self.blocks, self.layers, self.width, self.expansion)


@dataclass(frozen=True)
class LSTM:
    """A long short-term memory that reads a window row by row.

    Parameters
    ----------
    hidden : int, default=25
    layers : int, default=2
    """

    hidden: int = 25
    layers: int = 2

    def __post_init__(self) -> None:
        require_whole(1, hidden=self.hidden, layers=self.layers)

    def module(self, rows: int, columns: int) -> Any:
        """The network for windows of so many columns; it reads any number of rows."""
        from locum.emulate._forecast_networks import LongShort

        return LongShort(columns, self.hidden, self.layers)


class NetworkForecaster(Forecasts, Exports, BaseEstimator):
    """A network from the last rows to the next one, fed with what it says.

    Parameters
    ----------
    network : NBeats or LSTM, default=NBeats(blocks=8, layers=4, width=64, expansion=5)
    rows : int, default=50
        Of the window.
    epochs : int, default=200
    batch_size : int, default=32
    learning_rate : float, default=0.001
        Of Adam; falls along half a cosine.
    device : str, default="cpu"
    random_state : int, default=0

    Attributes
    ----------
    mean_, scale_ : ndarray of shape (d,)
        Of the rows learned from.
    history_ : History

    Notes
    -----
    Cost: with 1,000 rows and the defaults, 0.2 s an epoch on one core for N-BEATS, 0.4 s for the LSTM.

    **Departures**: networks are smaller than those of Gilpin, arXiv 2110.05266, which has 30 blocks of width 256.

    Examples
    --------
    >>> wave = np.sin(np.arange(300) / 4)[:, None]
    >>> model = NetworkForecaster(NBeats(blocks=2, width=32), rows=20, epochs=15).fit(wave[:250])
    >>> bool(np.abs(model.forecast(wave[:250], 10) - wave[250:260]).max() < 0.2)
    True
    """

    papers = ("dysts",)

    def __init__(
        self,
        network: NBeats | LSTM = NBeats(),
        *,
        rows: int = 50,
        epochs: int = 200,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        device: str = "cpu",
        random_state: int = 0,
    ) -> None:
        self.network = network
        self.rows = rows
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, *, progress: Callable[[int, int, str], None] | None = None) -> Self:
        """Learn the next row from all windows.

        Parameters
        ----------
        X : Trajectories, or what `Trajectories.of` takes
        progress : callable or None, default=None
            Called with (epochs done, epochs in all, words).

        Raises
        ------
        InvalidData
            Settings that cannot be used, or runs that are all shorter than a window and a row.
        MissingExtra
            torch is not installed.
        """
        if not isinstance(self.network, NBeats | LSTM):
            raise InvalidData(f"expected network= as NBeats(...) or LSTM(...), got {self.network!r}")
        require_whole(1, rows=self.rows, epochs=self.epochs, batch_size=self.batch_size)
        require_positive(learning_rate=self.learning_rate)
        require_whole(0, random_state=self.random_state)
        torch = need("torch", "a network that forecasts", "emulate")
        from locum.emulate._forecast_networks import loss
        from locum.nets import seeded, train

        runs = Trajectories.of(X)
        known = runs.stacked()
        self.mean_, self.scale_ = known.mean(axis=0), np.where(known.std(axis=0) > 0, known.std(axis=0), 1.0)
        windows = torch.from_numpy(((runs.windows(self.rows + 1) - self.mean_) / self.scale_).astype(np.float32))
        with seeded(self.random_state):
            module = self.network.module(self.rows, runs.dimension)
        self.history_ = train(
            module, loss, (windows[:, :-1].contiguous(), windows[:, -1].contiguous()), epochs=self.epochs,
            batch_size=self.batch_size, optimizer=lambda p: torch.optim.Adam(p, lr=self.learning_rate),
            schedule=lambda one: torch.optim.lr_scheduler.CosineAnnealingLR(one, self.epochs), clip=1.0, device=self.device,
            random_state=self.random_state, progress=progress,
        )  # fmt: skip
        self._module, self.n_features_in_ = module, runs.dimension
        return self

    def forecast(self, history: ArrayLike, n_steps: int) -> Array:
        """Go on from the last `rows` rows of `history` (T, d), shape (n_steps, d)."""
        from locum.emulate._forecast_networks import ahead

        require_whole(1, n_steps=n_steps)
        past = history_of(self, history, self.rows)
        said = ahead(self._module, (past[-self.rows :] - self.mean_) / self.scale_, n_steps, self.device)
        return np.asarray(said * self.scale_ + self.mean_)

    def to_module(self) -> tuple[Any, dict[str, Any]]:
        """See `Exports`: from "window" (n, rows, d) to the next row of each, (n, d)."""
        check_is_fitted(self, "history_")
        from locum.emulate._exported_modules import ScaledNetwork, some_rows

        units = {"shift": self.mean_, "spread": self.scale_, "mean": self.mean_, "scale": self.scale_}
        module = ScaledNetwork(self._module, **units)
        return module, {"window": some_rows(self.rows, self.n_features_in_)}
