"""A network from preferences to designs stands in for the whole Pareto set of objectives that are dear to evaluate.

Nguyen, Dinh, Nguyen, Hoang and Le, 2025, arXiv 2412.17312.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from locum.core.errors import BudgetExhausted, InvalidData, TargetError, require_one_of, require_whole
from locum.core.target import Budget, Target
from locum.optimize._svh_psl_front import even_preferences, nondominated, volume
from locum.optimize._svh_psl_records import (
    Foretold,
    LearnedFront,
    ObjectiveFidelity,
    ParetoFront,
    Unit,
    fidelities,
)
from locum.optimize._svh_psl_settings import check_numbers, latin, names_of, reals
from locum.optimize.result import FEWEST
from locum.optimize.space import Space
from locum.optimize.surrogate import GaussianProcess, need_botorch
from locum.optimize.warp import PowerWarp

if TYPE_CHECKING:
    from locum.optimize._svh_psl_engine import Bound, Learned

__all__ = ["ParetoSetLearner", "ParetoFront", "LearnedFront", "ObjectiveFidelity", "hypervolume"]

_FLOAT = NDArray[np.float64]
_KERNELS, _NORMALIZERS = ("local", "global"), ("coordinate",)
_BELOW = 0.1  # by how much the ideal point lies below the best values, in their unit
_SUM = 1e-3  # by which the parts of a preference may miss one
Progress = Callable[[int, int, str], None]


def hypervolume(objectives: ArrayLike, reference_point: ArrayLike) -> float:
    """Volume between a front and a reference point; objectives are to be small.

    Parameters
    ----------
    objectives : array-like of shape (n, m)
        Rows that do not dominate the reference point count nothing.
    reference_point : array-like of shape (m,)

    Notes
    -----
    Cost: O(n log n) for two objectives, O(n^(m - 1)) for m.

    Examples
    --------
    >>> hypervolume([[1.0, 2.0], [2.0, 1.0]], [3.0, 3.0])
    3.0
    """
    Y, reference = np.asarray(objectives, dtype=float), np.asarray(reference_point, dtype=float)
    if Y.ndim != 2 or Y.shape[1] < 2 or reference.shape != (Y.shape[1],):
        raise InvalidData(f"expected objectives (n, m), m of 2 or more, and a point (m,), got {Y.shape} and {reference.shape}")
    if not (np.isfinite(Y).all() and np.isfinite(reference).all()):
        raise InvalidData("expected finite objectives and a finite reference point, got NaN or infinity")
    return volume(Y, reference)


@final
class ParetoSetLearner:
    r"""A network from preferences to designs stands in for the Pareto set of dear objectives.

    A preference says how much each objective counts; the network answers it with a design at once. It is trained against
    Gaussian processes of the objectives, which are fitted to a few evaluations; of its designs, those that should enlarge the
    front most are evaluated next. Several preferences, called particles, are trained on together: each design follows the
    gradients of those that are like it in the objectives, and is pushed away from them.

    For a preference r the network's design x is to minimise

    .. math:: \ell = \max_j r_j (v_j - z_j), \quad v_j = \mu_j(x) - \beta \sigma_j(x),

    z an ideal point a little below the best values. With P particles and the gradients :math:`g^b` of their ℓ, the parameters
    are moved by Adam against

    .. math:: \frac{1}{P} \sum_a \Big( \sum_b K_{ab} g^b + \alpha \nabla_\theta \sum_b K_{ab} \Big), \quad
        K_{ab} = \exp(-(v^a_j - v^b_j)^2 / h_j),

    where j is the objective that decides the ℓ of particle b. All objectives are to be small.

    Parameters
    ----------
    space : Space or sequence of (low, high)
        Of real numbers that always matter.
    n_obj : int, default=2
        m, the number of objectives.
    names : sequence of str or None, default=None
        Of the objectives; f1, f2, ... where None.
    hidden : sequence of int, default=(256, 256)
        Widths of the network's layers.
    lcb : float, default=0.1
        β, the standard deviations by which a surrogate's mean is lowered: more of them look more at what is unknown.
    n_particles : int, default=10
    kernel : {"local", "global"} or None, default="local"
        What makes particles alike: the one objective that decides, all of them, or nothing. With None each follows its own
        gradient alone.
    normalize : {"coordinate"} or None, default="coordinate"
        Whether the gradients of each parameter are scaled to norm 1 over the particles, as the authors' code does.
        ``kernel=None, normalize=None`` is Pareto set learning without Stein's method, arXiv 2210.08495.
    alpha : float, default=1e-3
        How strongly particles push each other away.
    c : float, default=1.0
        Multiplies the width of the kernel.
    n_steps : int, default=1000
        Of each training.
    check_every : int, default=25
        Steps between two checkpoints; the best of a training, by the hypervolume of its predicted front, is kept.
    learning_rate : float, default=1e-3
    n_candidates : int, default=1000
        Designs that those to evaluate are picked from.
    surrogate : GaussianProcess or None, default=None
        Of each objective; cloned.
    warp : PowerWarp or None, default=None
        What makes values of an objective nearer to normal first; for objectives that grow over orders of magnitude.
    random_state : int, default=0

    Attributes
    ----------
    designs : ndarray of shape (N, n)
        All evaluated, in order, in the space's own units.
    objectives : ndarray of shape (N, m)
        NaN where the evaluation failed.
    ideal_ : ndarray of shape (m,)
        z, in the standardised units of the objectives; it only ever falls.
    learned_ : Learned
        The network, and what the checkpoints of its training reached.
    stopped_ : str
        Why `minimize` ended.

    Raises
    ------
    InvalidData
        Settings that cannot be used.

    Notes
    -----
    Cost: a training for each batch, of `n_steps` times 2 to 4 ms on one core, and a Gaussian process for each objective.

    **Departures** from the paper's code: objectives are standardised in every problem; processes have priors on their lengths,
    and learn their noise; one reference point serves all checkpoints of a training, a tenth beyond the front, so that ends
    count; checkpoints are judged by an even lattice of preferences, every `check_every` steps; no design is proposed twice;
    the ideal point follows each batch told.

    Nguyen, Dinh, Nguyen, Hoang and Le, 2025, arXiv 2412.17312.

    Examples
    --------
    >>> import numpy as np
    >>> def distances(X):
    ...     return np.column_stack([((X - 0.2) ** 2).sum(axis=1), ((X - 0.8) ** 2).sum(axis=1)])
    >>> learner = ParetoSetLearner([(0, 1), (0, 1)], n_steps=150)
    >>> _ = learner.minimize(distances, n_init=10, n_iter=1)
    >>> learner.predict([[0.5, 0.5]]).round(1).tolist()
    [[0.5, 0.5]]
    """

    papers = ("svh-psl",)

    def __init__(
        self,
        space: Space | Sequence[tuple[float, float]],
        n_obj: int = 2,
        *,
        names: Sequence[str] | None = None,
        hidden: Sequence[int] = (256, 256),
        lcb: float = 0.1,
        n_particles: int = 10,
        kernel: str | None = "local",
        normalize: str | None = "coordinate",
        alpha: float = 1e-3,
        c: float = 1.0,
        n_steps: int = 1000,
        check_every: int = 25,
        learning_rate: float = 1e-3,
        n_candidates: int = 1000,
        surrogate: GaussianProcess | None = None,
        warp: PowerWarp | None = None,
        random_state: int = 0,
    ) -> None:
        self.space = reals(space)
        require_whole(2, n_obj=n_obj)
        require_whole(1, n_steps=n_steps, check_every=check_every, n_candidates=n_candidates)
        require_whole(0, random_state=random_state)
        if kernel is not None:
            require_one_of(_KERNELS, kernel=kernel)
        if normalize is not None:
            require_one_of(_NORMALIZERS, normalize=normalize)
        require_whole(1 if kernel is None else 2, n_particles=n_particles)
        self.hidden = tuple(hidden)
        if not self.hidden:
            raise InvalidData("expected hidden= with at least one width, got none")
        for width in self.hidden:
            require_whole(1, hidden=width)
        check_numbers({"c": c, "learning_rate": learning_rate}, {"lcb": lcb, "alpha": alpha})
        self.names = names_of(names, n_obj)
        if surrogate is not None and not isinstance(surrogate, GaussianProcess):
            raise InvalidData(f"expected surrogate= to be a GaussianProcess, got {type(surrogate).__name__}")
        if warp is not None and not isinstance(warp, PowerWarp):
            raise InvalidData(f"expected warp= to be a PowerWarp or None, got {type(warp).__name__}")
        self.n_obj, self.lcb, self.n_particles, self.kernel, self.normalize = n_obj, lcb, n_particles, kernel, normalize
        self.alpha, self.c, self.n_steps, self.check_every = alpha, c, n_steps, check_every
        self.learning_rate, self.n_candidates = learning_rate, n_candidates
        self.surrogate, self.warp, self.random_state = surrogate or GaussianProcess(), warp, random_state
        self.designs, self.objectives = np.zeros((0, len(self.space))), np.zeros((0, n_obj))
        self._units = np.zeros((0, len(self.space)))
        self.ideal_ = np.zeros(n_obj)
        self._foretold: dict[bytes, Foretold] = {}
        self._confirmed: list[tuple[_FLOAT, Foretold]] = []
        self._fitted: tuple[int, tuple[Unit, ...], list[GaussianProcess]] | None = None
        self._trained: tuple[int, Bound, Learned] | None = None
        self.stopped_ = ""

    # ------------------------------------------------------------------ ask and tell
    def ask(self, n: int = 5) -> _FLOAT:
        """Designs to evaluate next; the same ones again until something is told.

        Parameters
        ----------
        n : int, default=5

        Returns
        -------
        ndarray of shape (n, parameters)
            A Latin hypercube while fewer than two evaluations were told that did not fail; then designs of the network.

        Raises
        ------
        MissingExtra
            BoTorch is not installed, and there are evaluations to learn from.
        """
        require_whole(1, n=n)
        rng = np.random.default_rng([self.random_state, len(self.designs)])
        if self._worked.sum() < 2:
            return self._decoded(latin(n, len(self.space), rng))
        bound, learned = self._training()
        import torch

        from locum.optimize._svh_psl_engine import chosen

        offers = learned.designs(rng.dirichlet(np.ones(self.n_obj), max(n, self.n_candidates)))
        with torch.no_grad():
            values = bound(torch.as_tensor(offers)).numpy()
        picked = offers[chosen(offers, values, self._front(), self._units, n)]
        # A network that answers all preferences alike has fewer designs than were asked for.
        rows = self._decoded(np.vstack([picked, latin(n - len(picked), len(self.space), rng)]))
        for row, said in zip(rows, self._said(rows), strict=True):
            self._foretold.setdefault(row.tobytes(), said)
        return rows

    def tell(self, X: ArrayLike, Y: ArrayLike, *, failed: ArrayLike | None = None) -> None:
        """Say what designs gave, asked for or not.

        Parameters
        ----------
        X : array-like of shape (k, parameters)
        Y : array-like of shape (k, m)
            Smaller is better.
        failed : array-like of bool of shape (k,) or None, default=None
            Which evaluations failed; their row of `Y` is not looked at.

        Raises
        ------
        InvalidData
            Designs outside the space, another shape, or NaN or infinity where no failure is marked. Nothing is taken then.
        """
        rows, units = self._rows(X)
        values, lost = np.array(Y, dtype=float), np.zeros(len(rows), dtype=bool)
        if failed is not None:
            lost = np.asarray(failed)
            if lost.shape != (len(rows),) or lost.dtype != bool:
                raise InvalidData(f"expected failed= as {len(rows)} bools, got {lost.dtype} of shape {lost.shape}")
        if values.shape != (len(rows), self.n_obj):
            raise InvalidData(f"expected objectives of shape ({len(rows)}, {self.n_obj}), got {values.shape}")
        wrong = np.flatnonzero(~np.isfinite(values).all(axis=1) & ~lost)
        if wrong.size:
            raise InvalidData(f"row {wrong[0]} of the objectives holds NaN or infinity; mark failed evaluations in failed=")
        values[lost] = np.nan
        for row, value in zip(rows, values, strict=True):
            said = self._foretold.pop(row.tobytes(), None)
            if said is not None and np.isfinite(value).all():
                self._confirmed.append((value, said))
        self.designs, self._units = np.vstack([self.designs, rows]), np.vstack([self._units, units])
        self.objectives = np.vstack([self.objectives, values])
        if self._worked.sum() >= 2:
            self.ideal_ = np.minimum(self.ideal_, self._standard(self._scales()).min(axis=0) - _BELOW)

    def minimize(
        self,
        target: Target | Callable[[Any], Any],
        *,
        n_init: int = 20,
        n_iter: int = 20,
        batch_size: int = 5,
        budget: Budget | None = None,
        progress: Progress | None = None,
    ) -> ParetoSetLearner:
        """Evaluate a Latin hypercube, then batch after batch of designs.

        With a ledger on disk, a run that was killed and is started again goes through the same designs without paying for
        those that were answered, and on from there.

        Parameters
        ----------
        target : Target or callable
            Takes designs of shape (k, parameters), gives objectives of shape (k, m). What it raises, and NaN, are evaluations
            that failed.
        n_init : int, default=20
            Of 2 or more; those told before count.
        n_iter, batch_size : int, default=20 and 5
        budget : Budget or None, default=None
            Ends the run early.
        progress : callable or None, default=None
            Called with (evaluations, evaluations in all, how many are on the front in words).

        Returns
        -------
        self

        Raises
        ------
        InvalidData
            Settings that cannot be used; nothing was paid.
        TargetError
            Fewer than two of the first evaluations worked.
        """
        require_whole(2, n_init=n_init)
        require_whole(0, n_iter=n_iter)
        require_whole(1, batch_size=batch_size)
        if not isinstance(target, Target):
            target = Target(target, output="value", failures="isolate", batch_size=max(n_init, batch_size))
        asked = target if budget is None else target.within(budget)
        first = max(0, n_init - len(self.designs))
        total = len(self.designs) + first + n_iter * batch_size
        self.stopped_ = "all batches were evaluated"
        for n in ([first] if first else []) + [batch_size] * n_iter:
            if not self._evaluate(asked, self.ask(n)):
                self.stopped_ = "the budget ended"
                break
            if self._worked.sum() < 2:
                raise TargetError(f"{(~self._worked).sum()} of {len(self.designs)} evaluations failed; mend the objectives")
            if progress is not None:
                progress(len(self.designs), total, f"{len(self.pareto_front_.designs)} on the front")
        return self

    def _evaluate(self, target: Target, rows: _FLOAT) -> bool:
        """Ask and tell; whether the budget goes on."""
        lost, more = np.zeros(len(rows), dtype=bool), True
        try:
            target.query(rows, "fit")
        except BudgetExhausted as error:
            rows, lost, more = rows[: error.answered], lost[: error.answered], False
        except TargetError as error:
            lost[list(error.rows) or slice(None)] = True
        if not len(rows):
            return more
        values = np.full((len(rows), self.n_obj), np.nan)
        if not lost.all():
            found = np.asarray(target.query(rows[~lost], "fit"), dtype=float)  # from the ledger, where it was just answered
            if found.shape != (int((~lost).sum()), self.n_obj):
                raise InvalidData(f"expected the target to give {self.n_obj} objectives a design, got shape {found.shape}")
            values[~lost] = found
        self.tell(rows, values, failed=lost)
        return more

    # ------------------------------------------------------------------ what was learned
    @property
    def learned_(self) -> Learned:
        return self._training()[1]

    def predict(self, preferences: ArrayLike) -> _FLOAT:
        """The design for each preference.

        Parameters
        ----------
        preferences : array-like of shape (k, m)
            Parts of 0 or more that sum to 1: how much each objective counts.

        Returns
        -------
        ndarray of shape (k, parameters)

        Raises
        ------
        InvalidData
            Preferences that are none, or nothing was told yet.
        """
        given = np.asarray(preferences, dtype=float)
        if given.ndim != 2 or given.shape[1] != self.n_obj or not len(given):
            raise InvalidData(f"expected preferences of shape (k, {self.n_obj}), got {given.shape}")
        if not np.isfinite(given).all() or (given < 0).any() or (np.abs(given.sum(axis=1) - 1) > _SUM).any():
            raise InvalidData("expected preferences whose parts are 0 or more and sum to 1; divide each row by its sum")
        return self._decoded(self.learned_.designs(given / given.sum(axis=1, keepdims=True)))

    def foretell(self, X: ArrayLike) -> tuple[_FLOAT, _FLOAT]:
        """Mean and standard deviation of a new evaluation of each objective, by the surrogates.

        Parameters
        ----------
        X : array-like of shape (k, parameters)

        Returns
        -------
        two ndarrays of shape (k, m)
        """
        units = self._rows(X)[1]
        scales, surrogates = self._surrogates()
        said = [
            scale.moments(*one.predict(units, return_std=True)) for scale, one in zip(scales, surrogates, strict=True)
        ]  # fmt: skip
        return np.column_stack([mean for mean, _ in said]), np.column_stack([sd for _, sd in said])

    def learned_front(self, n: int = 200) -> LearnedFront:
        """Designs for preferences spread evenly, with what to expect of them.

        Parameters
        ----------
        n : int, default=200
            Most preferences; a lattice with as many steps as fit, corners included.
        """
        require_whole(self.n_obj, n=n)
        preferences = even_preferences(self.n_obj, n)
        designs = self.predict(preferences)
        return LearnedFront(preferences, designs, *self.foretell(designs))

    @property
    def pareto_front_(self) -> ParetoFront:
        """Evaluated designs that no other evaluated one is better than."""
        worked = np.flatnonzero(self._worked)
        kept = worked[nondominated(self.objectives[worked])]
        return ParetoFront(self.designs[kept], self.objectives[kept])

    def hypervolume(self, reference_point: ArrayLike) -> float:
        """Volume between the evaluated front and a reference point.

        Parameters
        ----------
        reference_point : array-like of shape (m,)

        Warns
        -----
        UserWarning
            No evaluated design dominates it, so that the volume is 0.
        """
        found = hypervolume(self.objectives[self._worked], reference_point)
        if found == 0:
            warnings.warn("no evaluated design dominates the reference point; move it away", UserWarning, stacklevel=2)
        return found

    def fidelity(self, X: ArrayLike | None = None, Y: ArrayLike | None = None) -> tuple[ObjectiveFidelity, ...]:
        """How far the surrogate of each objective is right about designs that it was not fitted to.

        Parameters
        ----------
        X : array-like of shape (k, parameters) or None, default=None
            Held out; where None, the designs proposed so far, each foretold before it was evaluated.
        Y : array-like of shape (k, m) or None, default=None

        Returns
        -------
        tuple of ObjectiveFidelity
            Empty with fewer than ten designs proposed and evaluated.

        Raises
        ------
        InvalidData
            Held-out designs that were told, fewer than ten of them, or objectives that do not fit them.
        """
        if X is None and Y is None:
            if len(self._confirmed) < FEWEST:
                return ()
            truth, said = zip(*self._confirmed, strict=True)
            return fidelities(self.names, truth, said, "designs foretold", self.random_state)
        rows, units = self._rows(X)
        values = np.asarray(Y, dtype=float)
        if values.shape != (len(rows), self.n_obj) or not np.isfinite(values).all() or len(rows) < FEWEST:
            raise InvalidData(f"expected {FEWEST} or more designs with {self.n_obj} finite objectives each, got {values.shape}")
        if (units[:, None] == self._units[None]).all(axis=2).any():
            raise InvalidData("expected held-out designs, got some that were told before; leave those out")
        return fidelities(self.names, values, self._said(rows), "held-out evaluations", self.random_state)

    def to_html(self, path: str | os.PathLike[str] | None = None, *, title: str = "A Pareto set") -> str:
        """One page that needs nothing else: move the preference, see the design and what to expect of it.

        Parameters
        ----------
        path : path or None, default=None
            Where it is written as well.
        title : str, default="A Pareto set"

        Returns
        -------
        str
        """
        from locum.optimize._svh_psl_page import page

        text = page(self, title)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    # ------------------------------------------------------------------ parts
    @property
    def _worked(self) -> NDArray[np.bool_]:
        return np.asarray(np.isfinite(self.objectives).all(axis=1))

    def _rows(self, X: ArrayLike | None) -> tuple[_FLOAT, _FLOAT]:
        """Designs, and their place in [0, 1]."""
        rows = np.asarray(X, dtype=float)
        if rows.ndim != 2 or rows.shape[1] != len(self.space) or not len(rows):
            raise InvalidData(f"expected designs of shape (k, {len(self.space)}), got {rows.shape}")
        return rows, self.space.encode([dict(zip(self.space.names, row.tolist(), strict=True)) for row in rows])

    def _decoded(self, units: _FLOAT) -> _FLOAT:
        return np.array([list(point.values()) for point in self.space.decode(units)], dtype=float)

    def _scales(self) -> tuple[Unit, ...]:
        return tuple(Unit.of(column, self.warp) for column in self.objectives[self._worked].T)

    def _standard(self, scales: Sequence[Unit]) -> _FLOAT:
        """Objectives that worked, each in its unit, shape (k, m)."""
        return np.column_stack([one(column) for one, column in zip(scales, self.objectives[self._worked].T, strict=True)])

    def _surrogates(self) -> tuple[tuple[Unit, ...], list[GaussianProcess]]:
        if self._fitted is None or self._fitted[0] != len(self.designs):
            if self._worked.sum() < 2:
                raise InvalidData("expected two or more evaluations that did not fail; tell() them, or minimize() first")
            scales, rows = self._scales(), self._units[self._worked]
            found = [clone(self.surrogate).fit(rows, column) for column in self._standard(scales).T]
            self._fitted = (len(self.designs), scales, found)
        return self._fitted[1:]

    def _front(self) -> _FLOAT:
        """The evaluated front, in the units that are learned."""
        values = self._standard(self._surrogates()[0])
        return values[nondominated(values)]

    def _training(self) -> tuple[Bound, Learned]:
        """The surrogates' bound and the network, for everything told."""
        if self._trained is None or self._trained[0] != len(self.designs):
            _, surrogates = self._surrogates()
            need_botorch()
            from locum.optimize._svh_psl_engine import Bound, Rule, learn

            bound = Bound([one.models_ for one in surrogates], self.lcb)
            seed = int(np.random.default_rng([self.random_state, len(self.designs), 1]).integers(2**31))
            found = learn(
                bound, self.ideal_, self._front(), len(self.space), Rule(self.kernel, self.normalize, self.alpha, self.c),
                hidden=self.hidden, particles=self.n_particles, steps=self.n_steps, every=self.check_every,
                rate=self.learning_rate, seed=seed,
            )  # fmt: skip
            self._trained = (len(self.designs), bound, found)
        return self._trained[1:]

    def _said(self, rows: _FLOAT) -> list[Foretold]:
        """What is foretold of designs, by the surrogates and by the cheapest rivals."""
        mean, sd = self.foretell(rows)
        values, known = self.objectives[self._worked], self._units[self._worked]
        apart = ((self._rows(rows)[1][:, None] - known[None]) ** 2).sum(axis=2)
        plain, nearest = values.mean(axis=0), values[apart.argmin(axis=1)]
        return [Foretold(one, spread, plain, near) for one, spread, near in zip(mean, sd, nearest, strict=True)]
