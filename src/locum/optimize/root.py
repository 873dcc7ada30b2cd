"""A bridge from poor designs to good ones stands in for an objective that is known only through old evaluations.

Dao, Tran, Nguyen, Truong and Hoang, 2025, arXiv 2509.16300. Networks and kernels are imported, and PyTorch with them, once they
are used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.metrics import pairwise_distances_argmin_min
from sklearn.neighbors import KNeighborsRegressor, NearestNeighbors
from sklearn.utils.validation import check_is_fitted

from locum.core.bounds import bootstrap_mean
from locum.core.errors import InvalidData, need, require_one_of, require_whole
from locum.core.fidelity import Fidelity
from locum.core.measures import measure
from locum.optimize._offline_codes import DesignCode
from locum.optimize._root_records import BridgeDiagnostics, NoPairs, Translation, above_the_best, check_settings, table

if TYPE_CHECKING:
    from locum.optimize._root_bridge import BrownianBridge
    from locum.optimize._root_functions import Pairs, PosteriorMeans

__all__ = ["BridgeOptimizer", "Translation", "BridgeDiagnostics", "NoPairs", "PosteriorMeans", "BrownianBridge"]

_FLOAT = NDArray[np.float64]
_SOURCES = ("top", "random")
_MOST_GP_ROWS = 20_000  # a kernel matrix of 1.6 GB in single precision
_HELD_OUT = 0.1  # of the starts
_ROWS_HELD_OUT = 0.2  # where the posterior means could be fitted to all of them
_MOST_JUDGED = 1000
_KNOWN = ("r2", "spearman_correlation")
_LEVEL = 0.95
_QUANTILES = (0.1, 0.5, 0.9)
_SAME = 1e-4  # in deviations: a design nearer than that to a row is the row


def __getattr__(name: str) -> Any:
    """What needs PyTorch to be defined."""
    if name not in ("PosteriorMeans", "BrownianBridge"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    need("torch", "a Brownian bridge between designs", "nets")
    from locum.optimize import _root_bridge, _root_functions

    return getattr(_root_functions if name == "PosteriorMeans" else _root_bridge, name)


@final
class BridgeOptimizer(BaseEstimator):
    r"""A bridge from poor designs to good ones stands in for an objective known only through old evaluations.

    Posterior means of Gaussian processes with many scales give plausible versions of the objective. Walks down and up on each
    give pairs of a poor and a good design. A network learns to go back from poor to good along a Brownian bridge between the
    two, given both values; it is then run from designs in the data, towards a value above theirs:

    .. math:: \hat e = (1 + w)\, e(x_t, t, y^+, y^-) - w\, e(x_t, t, 0, 0), \qquad \hat x^+ = x_t - \hat e

    Parameters
    ----------
    n_choices : int, sequence of int or None, default=None
        None for real-valued designs; else the categories at each position, as in the data's `OfflineTask`.
    n_functions : int, default=8
        Posterior means for each draw of pairs.
    lengthscale, outputscale : float, default=6.25
        Centres ℓ and s of the scales, for z-scored designs and values. ℓ = 1 was published for real-valued tasks.
    jitter : float, default=0.25
        Scales are uniform within this of their centres.
    gp_noise : float, default=0.01
        Variance of the values about a function, of z-scored values; raise it where evaluations are noisy.
    max_gp_rows : int or None, default=None
        Rows, drawn anew each time, that the functions are fitted to; all where None.
    pool : {"top", "low", "all"}, default="top"
        Rows that walks start from: the best, the worst, or any.
    n_pairs : int, default=1024
        Walks on each function.
    ascent_steps : int, default=100
    ascent_lr : float, default=0.05
        Of plain gradient steps; 0.001 was published for a real-valued task.
    min_gap : float, default=0.001
        Of the values of a pair, in deviations of y.
    T : int, default=1000
        Times of the bridge.
    hidden : int, default=1024
        Units in each of three layers.
    epochs : int, default=100
    refresh : int, default=3
        Epochs after which pairs are drawn anew.
    batch_size : int, default=128
    learning_rate : float, default=0.001
    p_uncond : float, default=0.15
        Chance that a pair's values are hidden from the network.
    sample_steps : int, default=200
    guidance : float, default=0.0
        w: 0 takes the network's answer for the values wanted, -1 that without any, and what is above 0 goes further. Published
        is -1.5, with the order "released": away from the answer for the two values exchanged.
    noise_scale : float, default=0.2
        Of the noise in each step of sampling.
    target : str or float, default="max+0.5sd"
        The value wanted: a number, or so many deviations above the best of the data.
    alpha : float, default=1.0
        What the target's z-score is multiplied with.
    order : {"consistent", "released"}, default="consistent"
        "released" exchanges the two values in sampling, as the authors' code does.
    device : torch.device or str, default="cpu"
    random_state : int, default=0

    Attributes
    ----------
    functions_ : PosteriorMeans
        Not used in training, nor fitted to all rows: they judge.
    fidelity_ : tuple of Fidelity
        How well the mean of `functions_` predicts rows that it was not fitted to, and orders them; how far translated starts
        that were held out rise in it, in deviations of y.
    rivals_ : dict of str to tuple of Fidelity
        The nearest row's value, and a walk on one posterior mean, in the same terms.
    diagnostics_ : BridgeDiagnostics
    n_features_in_ : int

    Notes
    -----
    Settings from `sample_steps` to `order` may be changed after `fit`.

    Cost: epochs / refresh times n_functions times (n³/3 operations, and 200 n_pairs n kernel entries at 100 steps), with n rows
    in the functions: 40 s on one core with n = 4,000, n_pairs = 512 and 8 functions; one network pass for each pair and epoch.

    Departures: time is scaled to [0, 1], and layers start as PyTorch has them; the learning rate falls along half a cosine;
    the average of weights begins halfway; batches are of 128 instead of two of 64; both values keep their order, without
    guidance; the target is from the data, where the published one is the maximum that is looked for, times alpha = 0.8; pairs
    are kept for three epochs; validation is on starts held out, and seeds of draws are independent.

    Dao, Tran, Nguyen, Truong and Hoang, 2025, arXiv 2509.16300.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).uniform(-1, 1, size=(200, 2))
    >>> y = -((X - 0.5) ** 2).sum(axis=1)
    >>> tiny = {"n_functions": 2, "n_pairs": 64, "hidden": 32, "epochs": 40, "batch_size": 16, "sample_steps": 50}
    >>> root = BridgeOptimizer(lengthscale=1.0, outputscale=1.0, pool="all", **tiny)
    >>> found = root.fit(X[y < -0.5], y[y < -0.5]).propose(16)
    >>> bool(np.median(-((found.X - 0.5) ** 2).sum(axis=1)) > -0.5)
    True
    """

    papers = ("root",)

    def __init__(
        self,
        n_choices: Any = None,
        *,
        n_functions: int = 8,
        lengthscale: float = 6.25,
        outputscale: float = 6.25,
        jitter: float = 0.25,
        gp_noise: float = 0.01,
        max_gp_rows: int | None = None,
        pool: str = "top",
        n_pairs: int = 1024,
        ascent_steps: int = 100,
        ascent_lr: float = 0.05,
        min_gap: float = 0.001,
        T: int = 1000,
        hidden: int = 1024,
        epochs: int = 100,
        refresh: int = 3,
        batch_size: int = 128,
        learning_rate: float = 0.001,
        p_uncond: float = 0.15,
        sample_steps: int = 200,
        guidance: float = 0.0,
        noise_scale: float = 0.2,
        target: str | float = "max+0.5sd",
        alpha: float = 1.0,
        order: str = "consistent",
        device: Any = "cpu",
        random_state: int = 0,
    ) -> None:
        self.n_choices = n_choices
        self.n_functions = n_functions
        self.lengthscale = lengthscale
        self.outputscale = outputscale
        self.jitter = jitter
        self.gp_noise = gp_noise
        self.max_gp_rows = max_gp_rows
        self.pool = pool
        self.n_pairs = n_pairs
        self.ascent_steps = ascent_steps
        self.ascent_lr = ascent_lr
        self.min_gap = min_gap
        self.T = T
        self.hidden = hidden
        self.epochs = epochs
        self.refresh = refresh
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.p_uncond = p_uncond
        self.sample_steps = sample_steps
        self.guidance = guidance
        self.noise_scale = noise_scale
        self.target = target
        self.alpha = alpha
        self.order = order
        self.device = device
        self.random_state = random_state

    # ------------------------------------------------------------------ fitting
    def fit(self, X: ArrayLike, y: ArrayLike, *, progress: Callable[[int, int, str], None] | None = None) -> Self:
        """Learn from old evaluations.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Numbers, or categories from 0 on.
        y : array-like of shape (n,)
            Larger is better.
        progress : callable or None, default=None
            Called with (epochs done, epochs in all, the validation in words).

        Returns
        -------
        self

        Raises
        ------
        InvalidData
            Rows, values or settings that cannot be used.
        NoPairs
            No walk gave a pair.
        MissingExtra
            PyTorch is not installed.
        """
        need("torch", "a Brownian bridge between designs", "nets")
        from locum.optimize._root_bridge import BrownianBridge, trained

        check_settings(self.get_params(deep=False))
        self._learn_rows(*self._checked(X, y))
        pool, held = self._starts()
        shares: list[float] = []
        last: list[Pairs] = []

        def draws() -> Iterator[tuple[Pairs, Pairs]]:
            for number in range(self.epochs):
                fresh, validation = self._pairs(pool, held, number)
                shares.append(fresh.kept)
                last[:] = [fresh]
                yield fresh, validation

        self._bridge = BrownianBridge(self.T)
        found = trained(
            self._bridge, draws(), epochs=self.epochs, refresh=self.refresh, hidden=self.hidden, batch_size=self.batch_size,
            learning_rate=self.learning_rate, p_uncond=self.p_uncond, device=self.device, random_state=self._seed("training"),
            progress=progress,
        )  # fmt: skip
        self._network = found.network
        self.diagnostics_ = self._diagnosed(found.losses, found.validation, tuple(shares), last[0])
        self._measure(held)
        return self

    # ------------------------------------------------------------------ use
    def propose(self, n: int = 128, source: str | ArrayLike = "top", *, y_high: float | None = None) -> Translation:
        """New designs from those of the data, or from others.

        Parameters
        ----------
        n : int, default=128
            Designs; not used where `source` holds designs.
        source : {"top", "random"} or array-like of shape (m, d), default="top"
            The best rows, rows at random, or designs whose values are then those of `foretell`.
        y_high : float or None, default=None
            The value wanted; by `target` and `alpha` where None.

        Returns
        -------
        Translation
        """
        rows, values = self._sources(n, source)
        return self.translate(rows, values, self.y_wanted if y_high is None else y_high)

    def translate(self, x_low: ArrayLike, y_low: ArrayLike, y_high: ArrayLike) -> Translation:
        """Carry designs from a value to a higher one.

        Parameters
        ----------
        x_low : array-like of shape (m, d)
        y_low, y_high : array-like of shape (m,), or float

        Returns
        -------
        Translation

        Raises
        ------
        InvalidData
            A value wanted that is below that of its source.
        """
        check_is_fitted(self, "diagnostics_")
        check_settings(self.get_params(deep=False))
        rows = self._designs(x_low)
        low, high = (self._values(given, len(rows), name) for given, name in ((y_low, "y_low"), (y_high, "y_high")))
        if (high < low).any():
            i = int(np.argmax(low - high))
            raise InvalidData(
                f"expected y_high of at least y_low, got {high[i]:.6g} below {low[i]:.6g} at position {i}: "
                "ask for more with y_high=, target= or alpha=, or start from poorer designs"
            )
        ends = self._translated(self._code.encode(rows), self._scaled(low), self._scaled(high))
        return self._record(self._code.decode(ends), rows, low, high)

    def ascend(self, n: int = 128, source: str | ArrayLike = "top") -> Translation:
        """The rival without a bridge: where gradient ascent on one posterior mean ends.

        Parameters
        ----------
        n : int, default=128
        source : {"top", "random"} or array-like of shape (m, d), default="top"
            As in `propose`.

        Returns
        -------
        Translation
        """
        rows, values = self._sources(n, source)
        ends = self._climbed(self._code.encode(rows))
        return self._record(self._code.decode(ends), rows, values, np.full(len(rows), np.nan))

    def foretell(self, X: ArrayLike) -> _FLOAT:
        """The mean of the posterior means.

        Parameters
        ----------
        X : array-like of shape (m, d)

        Returns
        -------
        ndarray of shape (m,)
        """
        check_is_fitted(self, "diagnostics_")
        return self._mean + self._sd * self._judged(self._code.encode(self._designs(X))).mean(axis=0)

    @property
    def y_wanted(self) -> float:
        """The value that `propose` asks for, by `target` and `alpha`."""
        check_is_fitted(self, "diagnostics_")
        target = self.target
        if isinstance(target, str):
            target = float(self._y.max()) + above_the_best(target) * self._sd
        return float(self._mean + self._sd * self.alpha * self._scaled(np.array(target)))

    # ------------------------------------------------------------------ data
    def _checked(self, X: ArrayLike, y: ArrayLike) -> tuple[NDArray[Any], _FLOAT]:
        rows = table(X)
        values = self._values(y, len(rows), "y")
        if len(rows) < 20:
            raise InvalidData(f"expected at least 20 rows, got {len(rows)}")
        if values.max() == values.min():
            raise InvalidData("expected values that differ, got a constant y: there is nothing to go up")
        used = min(len(rows), self.max_gp_rows or len(rows))
        if used > _MOST_GP_ROWS:
            raise InvalidData(
                f"expected at most {_MOST_GP_ROWS} rows in a Gaussian process, got {used}, whose kernel matrix takes "
                f"{4 * used**2 / 1e9:.1f} GB: set max_gp_rows=, such as 15000"
            )
        return rows, values

    def _designs(self, X: ArrayLike) -> NDArray[Any]:
        rows = table(X)
        if rows.shape[1] != self.n_features_in_:
            raise InvalidData(f"expected designs with {self.n_features_in_} columns, got {rows.shape[1]}")
        return rows

    def _values(self, given: ArrayLike, n: int, name: str) -> _FLOAT:
        values = np.asarray(given, dtype=float)
        if values.ndim == 0 and name != "y":
            values = np.full(n, float(values))
        if values.shape != (n,) or not np.isfinite(values).all():
            raise InvalidData(f"expected {name} to hold {n} finite numbers, one for each design, got shape {values.shape}")
        return values

    def _sources(self, n: int, source: str | ArrayLike) -> tuple[NDArray[Any], _FLOAT]:
        check_is_fitted(self, "diagnostics_")
        if not isinstance(source, str):
            rows = self._designs(source)
            return rows, self.foretell(rows)
        require_one_of(_SOURCES, source=source)
        require_whole(1, n=n)
        if n > len(self._y):
            raise InvalidData(f"expected n= of at most the {len(self._y)} rows of the data, got {n}")
        rng = np.random.default_rng(self._seed("sources"))
        chosen = np.argsort(-self._y, kind="stable")[:n] if source == "top" else rng.permutation(len(self._y))[:n]
        return self._X[chosen], self._y[chosen]

    def _learn_rows(self, rows: NDArray[Any], values: _FLOAT) -> None:
        self._code = DesignCode(self.n_choices).fit(rows, values)
        self._X, self._y = rows, values
        self._Z = np.asarray(self._code.encode(rows), dtype=float)
        self._mean, self._sd = float(values.mean()), float(values.std())
        self._z = self._scaled(values)
        self.n_features_in_ = rows.shape[1]

    def _scaled(self, values: _FLOAT) -> _FLOAT:
        return (values - self._mean) / self._sd

    def _seed(self, name: str, number: int = 0) -> int:
        """One of its own for each thing that is drawn."""
        return int(np.random.SeedSequence([self.random_state, number, *name.encode()]).generate_state(1)[0])

    def _tensor(self, rows: _FLOAT) -> Any:
        import torch

        return torch.as_tensor(rows, dtype=torch.float32, device=self.device)

    # ------------------------------------------------------------------ functions and pairs
    def _functions(self, n: int, jitter: float, most: int, seed: int) -> tuple[PosteriorMeans, NDArray[np.intp]]:
        """Posterior means with scales of their own, and the rows that they are fitted to."""
        from locum.optimize._root_functions import PosteriorMeans

        rng = np.random.default_rng(seed)
        chosen = rng.permutation(len(self._z))[:most]
        scales = rng.uniform(-jitter, jitter, size=(2, n))
        lengths, outputs = (self.lengthscale + scales[0]).tolist(), (self.outputscale + scales[1]).tolist()
        made = PosteriorMeans(
            self._Z[chosen], self._z[chosen], lengths, outputs, noise=self.gp_noise, device=self.device
        )  # fmt: skip
        return made, chosen

    @property
    def _gp_rows(self) -> int:
        return min(len(self._z), self.max_gp_rows or len(self._z))

    def _starts(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows that walks may start from, for training and for validation."""
        order = np.argsort(-self._z, kind="stable")
        pool = {"top": order[: self.n_pairs], "low": order[::-1][: self.n_pairs], "all": order}[self.pool]
        pool = np.random.default_rng(self._seed("pool")).permutation(pool)
        held = max(1, round(_HELD_OUT * len(pool)))
        return pool[held:], pool[:held]

    def _pairs(self, pool: NDArray[np.intp], held: NDArray[np.intp], number: int) -> tuple[Pairs, Pairs]:
        """Pairs of one draw of functions, for training and for validation."""
        from locum.optimize._root_functions import paired

        seed = self._seed("pairs", number)
        functions, _ = self._functions(self.n_functions, self.jitter, self._gp_rows, seed)
        rng = np.random.default_rng([seed, 1])
        found = []
        for rows, share in ((pool, 1 - _HELD_OUT), (held, _HELD_OUT)):
            chosen = rng.permutation(rows)[: max(1, round(share * self.n_pairs))]
            starts = self._tensor(self._Z[chosen])
            found.append(paired(functions, starts, steps=self.ascent_steps, lr=self.ascent_lr, min_gap=self.min_gap))
        if min(map(len, found)) == 0:
            raise NoPairs(
                f"expected walks whose ends differ by more than min_gap={self.min_gap:g} deviations of y, got none in "
                f"{self.n_functions * self.n_pairs}: take larger or more steps with ascent_lr= and ascent_steps="
            )
        return found[0], found[1]

    def _climbed(self, Z: _FLOAT) -> _FLOAT:
        from locum.optimize._root_functions import walked

        ends = walked(self._centre, self._tensor(Z), steps=self.ascent_steps, lr=self.ascent_lr)[1][0]
        return ends.cpu().numpy().astype(float)

    def _translated(self, Z: _FLOAT, low: _FLOAT, high: _FLOAT) -> _FLOAT:
        """From encoded rows (m, width) and z-scored values to encoded rows."""
        import torch

        source, wanted = self._tensor(Z), [self._tensor(high), self._tensor(low)]
        if self.order == "released":
            wanted.reverse()
        hidden = torch.zeros_like(wanted[0])

        def predict(x: Any, t: int) -> Any:
            times = torch.full_like(hidden, t)
            said = self._network(x, times, *wanted)
            return (1 + self.guidance) * said - self.guidance * self._network(x, times, hidden, hidden)

        with torch.no_grad():
            ends = self._bridge.sample(
                source, predict, steps=self.sample_steps, noise_scale=self.noise_scale, random_state=self._seed("sampling")
            )
        return ends.cpu().numpy().astype(float)

    # ------------------------------------------------------------------ what is said of it
    def _judged(self, Z: _FLOAT) -> _FLOAT:
        """What each of the functions kept apart says of encoded rows, shape (functions, m), z-scored."""
        return self.functions_.values(self._tensor(Z)).cpu().numpy().astype(float)

    def _nearest(self, Z: _FLOAT) -> _FLOAT:
        return pairwise_distances_argmin_min(Z, self._Z)[1]

    def _diagnosed(
        self, losses: tuple[float, ...], validation: tuple[float, ...], kept: tuple[float, ...], pairs: Pairs
    ) -> BridgeDiagnostics:
        rng = np.random.default_rng(self._seed("diagnostics"))
        some = rng.permutation(len(pairs))[:_MOST_JUDGED]
        rows = rng.permutation(len(self._Z))[:_MOST_JUDGED]
        apart = NearestNeighbors(n_neighbors=2).fit(self._Z).kneighbors(self._Z[rows])[0][:, 1]
        high, gaps = pairs.y_high.cpu().numpy(), (pairs.y_high - pairs.y_low).cpu().numpy()
        return BridgeDiagnostics(
            losses=losses,
            validation=validation,
            kept=kept,
            gaps=_quantiles(gaps),
            high_values=_quantiles(self._mean + self._sd * high),
            high_distances=_quantiles(self._nearest(pairs.high.cpu().numpy()[some].astype(float))),
            row_distance=float(np.median(apart)),
        )

    def _measure(self, held: NDArray[np.intp]) -> None:
        """Fidelity of the functions on rows that they have not seen, and of the bridge on functions that it has not."""
        most = min(self._gp_rows, math.floor((1 - _ROWS_HELD_OUT) * len(self._z)))
        self.functions_, seen = self._functions(self.n_functions, self.jitter, most, self._seed("judges"))
        self._centre, _ = self._functions(1, 0.0, self._gp_rows, self._seed("centre"))
        fresh = np.setdiff1d(np.arange(len(self._z)), seen)
        fresh = np.random.default_rng(self._seed("fresh")).permutation(fresh)[:_MOST_JUDGED]
        nearest = KNeighborsRegressor(1).fit(self._Z[seen], self._z[seen])
        known = [
            tuple(measure(name).fidelity(self._z[fresh], said, region="the data", how="rows held out") for name in _KNOWN)
            for said in (self._judged(self._Z[fresh]).mean(axis=0), nearest.predict(self._Z[fresh]))
        ]
        starts, wanted = self._Z[held], np.maximum(self._scaled(np.array(self.y_wanted)), self._z[held])
        ends = (self._translated(starts, self._z[held], wanted), self._climbed(starts))
        gains = [self._gain(starts, np.asarray(self._code.encode(self._code.decode(Z)), dtype=float)) for Z in ends]
        self.fidelity_ = (*known[0], gains[0])
        self.rivals_ = {"nearest row": known[1], "walk on one posterior mean": (gains[1],)}

    def _gain(self, before: _FLOAT, after: _FLOAT) -> Fidelity:
        gain = (self._judged(after) - self._judged(before)).mean(axis=0)
        ends = bootstrap_mean(gain, _LEVEL, random_state=0)
        return Fidelity(
            "rise in functions held out, in deviations of y", float(gain.mean()), ends.lower, ends.upper, _LEVEL, len(gain),
            region="starts held out", how="starts", method=ends.method,
        )  # fmt: skip

    def _record(self, X: NDArray[Any], sources: NDArray[Any], low: _FLOAT, high: _FLOAT) -> Translation:
        distances = self._nearest(np.asarray(self._code.encode(X), dtype=float))
        return Translation(
            X=X,
            sources=sources,
            y_low=low,
            y_high=high,
            predicted=self.foretell(X),
            distances=distances,
            unique=len(np.unique(X, axis=0)),
            seen=int((distances < _SAME).sum()),
            fidelity=self.fidelity_,
        )


def _quantiles(values: NDArray[Any]) -> tuple[float, ...]:
    return tuple(float(one) for one in np.quantile(values, _QUANTILES))
