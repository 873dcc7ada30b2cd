"""Which design is evaluated at which level next: an acquisition over designs and levels, followed to where it is largest."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from locum.optimize._improvement import log_h
from locum.optimize._mfbo_acquisitions import DesignAndLevel, DesignThenLevel, LevelAcquisition, Standing
from locum.optimize._mfbo_surrogates import LevelSurrogate
from locum.optimize._mfbo_trust import Window
from locum.optimize._propose import best_point
from locum.optimize.goal import Objective
from locum.optimize.space import Integer, Point, Space

__all__ = ["Proposal"]

_LEVEL = "level of fidelity"
_TRIES = 512
_MISSED = 10.0  # spreads of the truth that a constraint missed by one deviation counts, where the best mean is looked for


class Proposal:
    """The search for the next evaluation; larger values are better.

    Parameters
    ----------
    space : Space
    surrogate : LevelSurrogate
    limits : list of LevelSurrogate or LevelClassifier
        Of constraints, and of what works.
    standing : Standing
    leaders : list of Point
    known : list of set of str
        Keys of the designs that are not to be evaluated again, by level.
    levels : list of int
        Those that may be proposed, the truth last.
    rng : numpy Generator
    window : Window or None, default=None
        Where alone designs are looked for.
    """

    def __init__(
        self, space: Space, surrogate: LevelSurrogate, limits: list[Any], standing: Standing, leaders: list[Point],
        known: list[set[str]], levels: list[int], rng: np.random.Generator, window: Window | None = None,
    ) -> None:  # fmt: skip
        self.space, self.surrogate, self.limits, self.standing = space, surrogate, limits, standing
        self.leaders, self.known, self.levels, self.rng = leaders, known, levels, rng
        self._part, self._low, self._width = space, torch.zeros(space.width), torch.ones(space.width)
        if window is not None:
            self.leaders = [point for point in leaders if window.holds(point)]
            self._part, self._low = window.space, torch.as_tensor(window.low)
            self._width = torch.as_tensor(window.high - window.low)

    def best_mean(self) -> tuple[Point, float]:
        """Where the truth has the best mean, of designs not evaluated there, and the mean."""
        spread = float(self.standing.values.std(correction=0)) if len(self.standing.values) else 1.0

        def value(X: Any) -> Any:
            out = self.surrogate.moments(X[:, 0]).mean[:, -1]
            for one in self.limits:
                found = one.moments(X[:, 0])
                out = out - _MISSED * spread * (-found.mean[:, -1] / found.variance[:, -1].sqrt()).clamp_min(0)
            return out

        return self._best(value)

    def by(self, acquisition: LevelAcquisition) -> list[tuple[Point, int]]:
        """What an acquisition proposes: a design, and the levels to evaluate it at."""
        if not len(self.standing.rows):  # nothing keeps the constraints yet
            return [(self._best(lambda X: self._chance(X[:, 0]))[0], self.levels[-1])]
        if isinstance(acquisition, DesignThenLevel):
            height = acquisition.height(self.surrogate, self.standing)
            # Chances multiply a gain; an upper bound may be below 0, so there they count as spreads.
            point, _ = self._best(lambda X: height(X[:, 0]) + self._chance(X[:, 0]))
            design = torch.as_tensor(self.space.encode([point]))
            with torch.no_grad():
                chosen = acquisition.levels(self.surrogate, self.standing, design)
            key, allowed = self.space.key(point), set(self.levels)
            left = [level for level in chosen if level in allowed and key not in self.known[level]]
            return [(point, level) for level in left or self.levels[-1:]]
        assert isinstance(acquisition, DesignAndLevel)
        return [self._best_pair(acquisition.table(self.surrogate, self.standing))]

    def expected_gain(self, point: Point) -> float:
        """Largest expected improvement at the truth, among designs that fill the space, the leaders, and one more."""
        if not len(self.standing.rows):
            return np.inf
        X = torch.cat([self.standing.candidates, torch.as_tensor(self.space.encode([point, *self.leaders]))])
        with torch.no_grad():
            found = self.surrogate.moments(X)
            mean, sd = found.mean[:, -1], found.variance[:, -1].sqrt()
            value = log_h((mean - self.standing.values.max()) / sd) + sd.log() + self._chance(X)
        return float(value.max().exp())

    # ------------------------------------------------------------------ parts
    def _chance(self, X: Any) -> Any:
        """Logarithm of the chance that the constraints are kept at the truth, shape (b,)."""
        total = X.new_zeros(len(X))
        for one in self.limits:
            found = one.moments(X)
            total = total + torch.special.log_ndtr(found.mean[:, -1] / found.variance[:, -1].sqrt())
        return total

    def _best(self, value: Callable[[Any], Any]) -> tuple[Point, float]:
        aim, part = Objective().on(self._part), self._part

        def inside(X: Any) -> Any:
            return value(self._low + X * self._width)

        return best_point(part, inside, self.leaders, self.known[-1], self.rng, aim, _TRIES)

    def _best_pair(self, worth: Callable[[Any], Any]) -> tuple[Point, int]:
        """The best design and level, as a point of the space with one more parameter."""
        count = len(self.levels)
        if count == 1:
            top = self.levels[0]
            return self._best(lambda X: worth(X[:, 0])[:, top] + self._chance(X[:, 0]))[0], top
        whole = Space([*self._part.parameters, Integer(_LEVEL, 0, count - 1)])
        places = torch.tensor(self.levels)

        def value(X: Any) -> Any:
            design, at = self._low + X[:, 0, :-1] * self._width, (X[:, 0, -1].detach() * count).long().clamp(0, count - 1)
            return worth(design).gather(1, places[at][:, None])[:, 0] + self._chance(design)

        leaders = [{**point, _LEVEL: level} for point in self.leaders for level in range(count)]
        known = {self._pair_key(json.loads(key), i) for i, level in enumerate(self.levels) for key in self.known[level]}
        point, _ = best_point(whole, value, leaders, known, self.rng, Objective().on(whole), _TRIES)
        return {name: point[name] for name in point if name != _LEVEL}, self.levels[point[_LEVEL]]

    def _pair_key(self, point: Point, level: int) -> str:
        """As `Space.key` of the space with one more parameter, for points outside the window as well."""
        return json.dumps({**point, _LEVEL: level}, sort_keys=True, default=float)
