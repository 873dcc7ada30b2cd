"""One server with a queue before it, as a discrete-event model, and the mean wait that theory gives."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, require_one_of, require_whole
from locum.problems.devs import INFINITY, Atomic, Bag, Coupled, simulate

__all__ = ["Server", "SingleQueue", "Source"]

_SERVICE = 10_000  # ticks of a mean service, so that whole ticks change nothing that can be seen


class Source(Atomic):
    """Sends numbers 0, 1, 2, ... at random intervals.

    Parameters
    ----------
    mean : float
        Ticks between two; exponential, rounded to whole ticks.
    """

    outputs = ("out",)

    def __init__(self, mean: float) -> None:
        self.mean = mean

    def initial(self, rng: np.random.Generator) -> tuple[int, int, np.random.Generator]:
        """Next number, ticks until it, and the generator."""
        return 0, round(rng.exponential(self.mean)), rng

    def time_advance(self, state: Any) -> int:
        """Ticks until the next."""
        return int(state[1])

    def output(self, state: Any) -> Bag:
        """The next number."""
        return {"out": [state[0]]}

    def internal(self, state: Any) -> Any:
        """Draws the next interval."""
        number, _, rng = state
        return number + 1, round(rng.exponential(self.mean)), rng

    def external(self, state: Any, elapsed: int, bag: Bag) -> Any:
        """Is never asked, as there is no input."""
        return state


@dataclass
class _Serving:
    rng: np.random.Generator
    waiting: deque[Any] = field(default_factory=deque)
    left: int = 0


class Server(Atomic):
    """Serves one at a time, in order of arrival; those that arrive together in the order of their names.

    Parameters
    ----------
    mean : float
        Ticks of a service.
    service : {"exponential", "constant"}, default="exponential"
    """

    inputs, outputs = ("in",), ("out",)

    def __init__(self, mean: float, service: str = "exponential") -> None:
        self.mean = mean
        self.service = service

    def _draw(self, state: _Serving) -> int:
        return round(self.mean if self.service == "constant" else state.rng.exponential(self.mean))

    def initial(self, rng: np.random.Generator) -> _Serving:
        """Nobody is there."""
        return _Serving(rng)

    def time_advance(self, state: _Serving) -> int | float:
        """Ticks left of the service."""
        return state.left if state.waiting else INFINITY

    def output(self, state: _Serving) -> Bag:
        """Who is served."""
        return {"out": [state.waiting[0]]}

    def internal(self, state: _Serving) -> _Serving:
        """The next is served."""
        state.waiting.popleft()
        state.left = self._draw(state) if state.waiting else 0
        return state

    def external(self, state: _Serving, elapsed: int, bag: Bag) -> _Serving:
        """More wait."""
        if state.waiting:
            state.left -= elapsed
        else:
            state.left = self._draw(state)
        state.waiting.extend(sorted(bag["in"]))
        return state

    def phase(self, state: _Serving) -> int:
        """How many are there."""
        return len(state.waiting)


@dataclass(frozen=True)
class SingleQueue:
    r"""Poisson arrivals at one server, M/M/1 or M/D/1; a mean service is the unit of time.

    The mean wait before service is :math:`\frac{\rho (1 + c^2)}{2 (1 - \rho)}`, with :math:`c^2` the squared coefficient of
    variation of the service (Pollaczek and Khinchine).

    Parameters
    ----------
    load : float
        ρ, between 0 and 1.
    service : {"exponential", "constant"}, default="exponential"

    Examples
    --------
    >>> SingleQueue(0.5).mean_wait, SingleQueue(0.5, "constant").mean_wait
    (1.0, 0.5)
    """

    load: float
    service: str = "exponential"

    def __post_init__(self) -> None:
        require_one_of(("exponential", "constant"), service=self.service)
        if not 0 < self.load < 1:
            raise InvalidData(f"expected load= between 0 and 1, or the queue grows without end, got {self.load!r}")

    @property
    def mean_wait(self) -> float:
        """Before service begins, in the long run."""
        return self.load * (2.0 if self.service == "exponential" else 1.0) / (2 * (1 - self.load))

    def model(self) -> Coupled:
        """The components and their coupling."""
        parts = {"source": Source(_SERVICE / self.load), "server": Server(_SERVICE, self.service)}
        return Coupled(parts, [("source.out", "server.in"), ("server.out", "served")], outputs=("served",))

    def times_in_system(self, customers: int, random_state: int = 0) -> NDArray[np.float64]:
        """Times from arrival to departure, shape (n,), of about as many as `customers`.

        Parameters
        ----------
        customers : int
        random_state : int, default=0
        """
        require_whole(1, customers=customers)
        trace = simulate(self.model(), round(customers * _SERVICE / self.load), random_state)
        came = np.array([event.time for event in trace.events if event.component == "source"], dtype=float)
        left = np.array([time for time, _, _ in trace.outputs], dtype=float)
        return np.asarray((left - came[: len(left)]) / _SERVICE)
