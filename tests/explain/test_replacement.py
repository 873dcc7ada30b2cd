"""What takes the place of what is taken away: the distributions, and that only what goes is replaced."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.explain import ConstantBaseline, MeanBaseline, NormalBaseline, PermutedBaseline, replaced

X = np.random.default_rng(3).normal(size=(200, 5, 2)) * [1.0, 4.0] + [0.0, 10.0]
BASELINES = [ConstantBaseline(2.5), MeanBaseline(), NormalBaseline(), PermutedBaseline()]


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda one: type(one).__name__)
def test_what_is_kept_stays_and_the_rest_is_the_baselines(baseline):
    baseline.fit(X)
    keep = np.random.default_rng(0).random(X.shape) < 0.5
    draws = list(replaced(X, keep, baseline, draws=3, random_state=1))
    assert len(draws) == 3
    for found in draws:
        assert (found[keep] == X[keep]).all()
    again = list(replaced(X, keep, baseline, draws=3, random_state=1))
    assert all((one == other).all() for one, other in zip(draws, again, strict=True))
    drawn = isinstance(baseline, NormalBaseline | PermutedBaseline)
    assert (draws[0][~keep] != draws[1][~keep]).any() == drawn
    assert all((one == X).all() for one in replaced(X, np.array(True), baseline, draws=2))


def test_each_baseline_has_the_distribution_it_names():
    rng = np.random.default_rng(0)
    assert (ConstantBaseline(2.5).fit(X).draw(3, rng) == 2.5).all()
    np.testing.assert_allclose(MeanBaseline().fit(X).draw(2, rng), np.stack([X.mean(axis=0)] * 2))
    many = NormalBaseline().fit(X).draw(20_000, rng)
    np.testing.assert_allclose(many.mean(axis=0), X.mean(axis=0), atol=0.15)
    np.testing.assert_allclose(many.std(axis=0), X.std(axis=0), rtol=0.03)
    # A normal baseline forgets what positions have to do with one another; whole examples keep it.
    linked = np.repeat(np.random.default_rng(1).normal(size=(500, 1)), 2, axis=1)
    assert abs(np.corrcoef(NormalBaseline().fit(linked).draw(4_000, rng).T)[0, 1]) < 0.08
    assert np.corrcoef(PermutedBaseline().fit(linked).draw(4_000, rng).T)[0, 1] > 0.999


def test_bad_input_is_refused():
    with pytest.raises(InvalidData, match="call fit"):
        MeanBaseline().draw(1, np.random.default_rng(0))
    with pytest.raises(InvalidData, match="NaN or infinity"):
        MeanBaseline().fit([[np.nan, 1.0]])
    with pytest.raises(InvalidData, match="n of at least 1"):
        MeanBaseline().fit(np.empty((0, 3)))
    with pytest.raises(InvalidData, match="finite value"):
        ConstantBaseline(float("inf")).fit(X)
    fitted = MeanBaseline().fit(X)
    with pytest.raises(InvalidData, match="of bools"):
        replaced(X, np.ones(X.shape), fitted)
    with pytest.raises(InvalidData, match="shape that fits"):
        replaced(X, np.ones(7, dtype=bool), fitted)
    with pytest.raises(InvalidData, match=r"expected inputs of shape \(n, 5, 2\)"):
        replaced(X[:, :3], np.array(True), fitted)
    with pytest.raises(InvalidData, match="draws= to be a whole number"):
        replaced(X, np.array(True), fitted, draws=0)
