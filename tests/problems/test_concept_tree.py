"""The planted tree of concepts has the frequencies and amplitudes it says."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.problems import ConceptTree


def test_frequencies_and_amplitudes_are_those_of_the_paper():
    X, Z = ConceptTree(child=(0.5, 0.125)).sample(60_000)
    active, parents = Z > 0, ConceptTree().parents
    assert (active[:, parents < 0].sum(axis=1) == 1).all()
    np.testing.assert_allclose(active[:, :3].mean(axis=0), 0.2, atol=0.01)
    np.testing.assert_allclose(active[:, 3:11].mean(axis=0), 0.05, atol=0.005)
    for child in range(11, 20):
        parent = parents[child]
        assert not (active[:, child] & ~active[:, parent]).any()
        assert active[active[:, parent], child].mean() == pytest.approx(0.2, abs=0.02)
    assert active.sum(axis=1).mean() == pytest.approx(1.36, abs=0.02)
    assert Z[:, :11][active[:, :11]].mean() == pytest.approx(1.0, abs=0.01)
    assert Z[:, 11:][active[:, 11:]].std() == pytest.approx(0.125, abs=0.01)
    assert Z[active].min() > 0
    assert X.shape == (60_000, 20)


def test_directions_are_orthonormal_unless_siblings_are_mixed():
    plain, mixed = ConceptTree(), ConceptTree(correlation=0.3)
    np.testing.assert_allclose(plain.features @ plain.features.T, np.eye(20), atol=1e-12)
    products = mixed.features @ mixed.features.T
    siblings = mixed.parents[:, None] == mixed.parents[None, :]
    assert np.abs(products[~siblings]).max() < 1e-12
    assert products[siblings].min() > 0.1
    np.testing.assert_allclose(np.diag(products), 1.0)


def test_shared_amplitudes_go_together_and_others_do_not():
    for shared, expected in ((True, 1.0), (False, 0.0)):
        tree = ConceptTree(shared=shared)
        _, Z = tree.sample(20_000)
        rows = Z[:, 11] > 0
        assert np.corrcoef(Z[rows, 11], Z[rows, 0])[0, 1] == pytest.approx(expected, abs=0.1)


def test_seeds_give_the_same_and_other_rows_and_bad_settings_are_refused():
    tree = ConceptTree(random_state=3)
    np.testing.assert_array_equal(tree.sample(50, seed=1)[0], tree.sample(50, seed=1)[0])
    assert (tree.sample(50, seed=1)[0] != tree.sample(50, seed=2)[0]).any()
    with pytest.raises(InvalidData, match="positive mean and deviation"):
        ConceptTree(child=(0.0, 1.0))
    with pytest.raises(InvalidData, match="expected correlation="):
        ConceptTree(correlation=1.0)
