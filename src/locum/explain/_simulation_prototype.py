"""A classifier that explains itself by cases: prototypes that are training rows, and what makes a row like one of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cluster import KMeans
from sklearn.utils.validation import check_is_fitted

from locum.core.domain import Domain
from locum.core.errors import InvalidData, need, require_whole
from locum.explain._simulation_network import prototype_network
from locum.explain._simulation_omission import Conditionals, one_hot
from locum.explain._simulation_rows import Table, one_line
from locum.explain._simulation_screens import additive_text, case_text, strongest
from locum.nets.training import seeded, train

__all__ = ["PrototypeClassifier", "Resemblance"]

_FLOAT = NDArray[np.float64]
_SCALE = 10.0  # evidence is the similarity times ten, as it is shown
_BATCH = 256


@dataclass(frozen=True)
class Resemblance:
    """The training case that a row is most like, of those that may be shown.

    Parameters
    ----------
    label : str
        The class of the case.
    case : str
        The case as it is shown.
    similarity : float
        Between 0 and 1.
    facts : tuple of (str, float)
        What each fact of the row adds to the likeness, times ten.
    """

    label: str
    case: str
    similarity: float
    facts: tuple[tuple[str, float], ...]

    def text(self) -> str:
        """The case, and the facts that make the row like it."""
        importance = additive_text(self.label, list(self.facts), threshold=0.0, kind="from this case")
        return f"{case_text(self.label, self.case, self.similarity)}\n\n{importance}"


class PrototypeClassifier(ClassifierMixin, BaseEstimator):
    r"""Classifies rows of categories by the training cases that they are most like.

    A network :math:`g` maps a row to a point in :math:`(0, 1)^m`. The score of a class is its nearest prototype's similarity,
    :math:`\max_k \exp(-\|g(x) - p_{k}\|^2)`. Prototypes start at the k-means centres of the class and are pushed onto training
    rows whenever that classifies the held-out rows better, so that each can be shown as a case.

    Parameters
    ----------
    domain : Domain or None, default=None
        Of categories; read off X where None.
    prototypes : int, default=20
        Of each class.
    hidden, latent : int, default=50 and 16
        Widths of the network.
    epochs : int, default=60
        With prototypes; half as many before them, with a linear layer in their place.
    push_from : int, default=20
        The first epoch after which prototypes may be pushed.
    learning_rate : float, default=0.003
        Of Adam.
    separation : float, default=0.1
        Weight of the distance to other classes' prototypes.
    validation : float, default=0.1
        Share of the rows that says when to push.
    random_state : int, default=0

    Attributes
    ----------
    classes_ : ndarray of shape (k,)
    domain_ : Domain
    cases_ : ndarray of shape (k, prototypes, d)
        The training rows that the prototypes are, encoded.

    Notes
    -----
    Cost: 1.5 times `epochs` passes over the rows, 10 s for 5,000 rows; explaining a row about one pass over its levels.

    **Departures**: the network is not started from the black box, which is only asked through its answers; Adam in the place of
    stochastic gradient descent; scores go times ten into the cross-entropy, as they are shown.

    References
    ----------
    Hase and Bansal, ACL 2020, arXiv 2005.01831, section 4.4; after Chen et al., NeurIPS 2019, arXiv 1806.10574.
    """

    def __init__(
        self,
        *,
        domain: Domain | None = None,
        prototypes: int = 20,
        hidden: int = 50,
        latent: int = 16,
        epochs: int = 60,
        push_from: int = 20,
        learning_rate: float = 0.003,
        separation: float = 0.1,
        validation: float = 0.1,
        random_state: int = 0,
    ) -> None:
        self.domain = domain
        self.prototypes = prototypes
        self.hidden = hidden
        self.latent = latent
        self.epochs = epochs
        self.push_from = push_from
        self.learning_rate = learning_rate
        self.separation = separation
        self.validation = validation
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from rows and their true labels.

        Parameters
        ----------
        X : n rows of categories
        y : array-like of shape (n,)

        Raises
        ------
        InvalidData
            Columns of numbers, settings that cannot be used, or fewer rows of a class than it is to have prototypes.
        """
        require_whole(1, prototypes=self.prototypes, hidden=self.hidden, latent=self.latent, push_from=self.push_from)
        require_whole(self.push_from, epochs=self.epochs)
        if not 0 < self.validation < 1:
            raise InvalidData(f"expected validation= between 0 and 1, got {self.validation!r}")
        table = Table(self.domain or Domain.of(X))
        self.domain_ = table.domain
        Z = table.read(X)
        self.classes_, codes = np.unique(np.asarray(y), return_inverse=True)
        if len(codes) != len(Z):
            raise InvalidData(f"expected a label for each of {len(Z)} rows, got {len(codes)}")
        order = np.random.default_rng(self.random_state).permutation(len(Z))
        held, kept = np.split(order, [int(np.ceil(self.validation * len(Z)))])
        fewest = int(np.bincount(codes[kept], minlength=len(self.classes_)).min())
        if len(self.classes_) < 2 or fewest < self.prototypes:
            raise InvalidData(
                f"expected two classes or more with at least prototypes={self.prototypes} rows of each to train on, got "
                f"{len(self.classes_)} classes, the smallest with {fewest}"
            )
        self._train(one_hot(table.domain, Z), codes, kept, held)
        self.cases_ = Z[kept][self.network_.cases.numpy()]
        self._conditionals = Conditionals(table.domain, Z[kept])
        self.n_features_in_ = Z.shape[1]
        return self

    def _train(self, X: _FLOAT, codes: NDArray[np.intp], kept: NDArray[np.intp], held: NDArray[np.intp]) -> None:
        torch = need("torch", "a network of prototypes", "nets")
        inputs, labels = torch.tensor(X, dtype=torch.float32), torch.tensor(codes)
        x, y, x_held, y_held = inputs[kept], labels[kept], inputs[held], labels[held]
        with seeded(self.random_state):
            network = prototype_network(X.shape[1], self.hidden, self.latent, self.prototypes, len(self.classes_))
            first = torch.nn.Sequential(network.body, torch.nn.Linear(self.latent, len(self.classes_)))
        settings: dict[str, Any] = {"batch_size": min(_BATCH, len(x)), "random_state": self.random_state}
        settings["optimizer"] = lambda parameters: torch.optim.Adam(parameters, lr=self.learning_rate)
        entropy = torch.nn.functional.cross_entropy
        train(first, lambda m, x, y: entropy(m(x), y), [x, y], epochs=-(-self.epochs // 2), **settings)
        self._start(network, x, y)

        def wrong(module: Any) -> float:
            return float((module(x_held).argmax(dim=1) != y_held).float().mean())

        best, pushed = np.inf, False

        def push(module: Any, epoch: int) -> None:
            nonlocal best, pushed
            error = wrong(module)
            pushed = epoch >= self.push_from and error < best
            if pushed:
                best = error
                module.push(x, y)

        train(
            network,
            lambda m, x, y: m.loss(x, y, _SCALE, self.separation),
            [x, y],
            epochs=self.epochs,
            after_epoch=push,
            # Only prototypes that have just been pushed are cases; all other weights count as worse than any of those.
            validate=lambda m: wrong(m) if pushed else 2.0,
            **settings,
        )
        self.network_ = network

    def _start(self, network: Any, x: Any, y: Any) -> None:
        torch = need("torch", "a network of prototypes", "nets")
        with torch.no_grad():
            latent = network.body(x).numpy()
        for label in range(len(self.classes_)):
            mine = latent[(y == label).numpy()]
            centres = KMeans(self.prototypes, n_init=1, random_state=self.random_state).fit(mine).cluster_centers_
            network.prototypes.data[label] = torch.tensor(centres, dtype=torch.float32)

    # ------------------------------------------------------------------ answers
    def _similarities(self, Z: _FLOAT) -> _FLOAT:
        """Similarity to each prototype, shape (n, classes, prototypes)."""
        check_is_fitted(self, "network_")
        torch = need("torch", "a network of prototypes", "nets")
        with torch.no_grad():
            away = self.network_.distances(self.network_.body(torch.tensor(one_hot(self.domain_, Z), dtype=torch.float32)))
        return np.exp(-away.numpy().astype(float))

    def _likeness(self, label: int, place: int, Z: _FLOAT) -> _FLOAT:
        return _SCALE * self._similarities(Z)[:, label, place]

    def predict_proba(self, X: Any) -> _FLOAT:
        """Probabilities of the classes, shape (n, k): the softmax of ten times the similarities."""
        check_is_fitted(self, "network_")
        scores = _SCALE * self._similarities(Table(self.domain_).read(X)).max(axis=2)
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> NDArray[Any]:
        """The class whose nearest prototype is most like each row, shape (n,)."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    # ------------------------------------------------------------------ explanations
    def explain(self, X: Any) -> list[str]:
        """In words, the case that each row is most like and why."""
        return [one.text() for one in self.explained(X)]

    def explained(self, X: Any, *, hidden: Collection[str] = (), k: int = 5) -> list[Resemblance]:
        """The case that each row is most like.

        Parameters
        ----------
        X : n rows
        hidden : collection of str, default=()
            Cases, as they are shown, that may not be.
        k : int, default=5
            Facts that are named.

        Raises
        ------
        InvalidData
            Every case is hidden.
        """
        check_is_fitted(self, "network_")
        table = Table(self.domain_)
        names = [[table.show(case) for case in cases] for cases in self.cases_]
        allowed = np.array([[name not in hidden for name in row] for row in names])
        if not allowed.any():
            raise InvalidData("every prototype is an item of the test; fit with more prototypes, or test on other items")
        out = []
        Z = table.read(X)
        for z, similar in zip(Z, self._similarities(Z), strict=True):
            label, place = (int(i) for i in np.unravel_index(np.where(allowed, similar, -1).argmax(), similar.shape))
            drops = self._conditionals.drops(z, partial(self._likeness, label, place))
            facts = table.facts(z)
            chosen = tuple(strongest(facts, drops.tolist(), k))
            out.append(Resemblance(one_line(self.classes_[label]), names[label][place], float(similar[label, place]), chosen))
        return out
