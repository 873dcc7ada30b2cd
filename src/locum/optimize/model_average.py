"""Several surrogates at once, each as credible as the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from locum.core.errors import InvalidData
from locum.optimize.surrogate import GaussianProcess, Surrogate

if TYPE_CHECKING:
    from botorch.models.model import Model

__all__ = ["ModelAverage"]


@final
class ModelAverage(Surrogate):
    """Surrogates that are all fitted, and believed equally.

    The loop averages acquisition functions over them, as it does over sampled settings: a point is worth evaluating if it is
    under some of them. Predictions are those of the mixture.

    Parameters
    ----------
    surrogates : sequence of Surrogate, default=()
        A `GaussianProcess` and one with ``input_warping=True`` where empty, which is what an `Optimizer` believes by default:
        bent columns help where the optimum lies in a corner, and mislead elsewhere.

    Attributes
    ----------
    surrogates_ : tuple of Surrogate
        Those fitted.
    models_ : tuple of botorch Model
        Those of all.

    Notes
    -----
    Cost: the sum of theirs. Models count equally: a surrogate whose settings are sampled counts once for each sample.
    Averaging an acquisition over settings of one process: Snoek, Larochelle and Adams, arXiv 1206.2944, section 3.2; over kinds
    of processes: Malkomes and Garnett, *Automating Bayesian optimization with Bayesian optimization*, NeurIPS 2018.

    Examples
    --------
    >>> import numpy as np
    >>> U = np.linspace(0, 1, 9)[:, None]
    >>> average = ModelAverage().fit(U, np.exp(-20 * U[:, 0]))
    >>> len(average.models_), average.predict([[0.5]]).shape
    (2, (1,))
    """

    def __init__(self, surrogates: Sequence[Surrogate] = ()) -> None:
        self.surrogates = surrogates

    def _each(self) -> list[Surrogate]:
        found = list(self.surrogates) or [GaussianProcess(), GaussianProcess(input_warping=True)]
        for one in found:
            if not isinstance(one, Surrogate):
                raise InvalidData(f"expected surrogates= to hold a Surrogate each, got {type(one).__name__}")
        return found

    @property
    def most(self) -> int | None:  # type: ignore[override]
        """Rows that the one which takes fewest can be fitted to."""
        return min((one.most for one in self._each() if one.most is not None), default=None)

    @property
    def exact(self) -> bool:
        return all(one.exact for one in self._each())

    @property
    def warps(self) -> bool:
        return all(one.warps for one in self._each())

    def _make(self, rows: NDArray[np.float64], values: NDArray[np.float64], *gradients: Any) -> tuple[Model, ...]:
        self.surrogates_ = tuple(clone(one).fit(rows, values) for one in self._each())
        return tuple(model for one in self.surrogates_ for model in one.models_)
