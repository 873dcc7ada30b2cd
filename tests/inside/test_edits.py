"""Greedy edits against a plain loop that works with vectors, and against trying all."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import sparse

from locum.core.errors import InvalidData
from locum.inside._edits import candidates, exhaustive, greedy


def drawn(n=40, p=30, width=12, share=0.15, seed=0):
    rng = np.random.default_rng(seed)
    atoms = rng.normal(size=(p, width))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    codes = [sparse.csr_array((rng.random((n, p)) < share) * rng.gamma(4, 0.25, size=(n, p))) for _ in range(2)]
    rows = [one @ atoms + 0.1 * rng.normal(size=(n, width)) for one in codes]
    return rows[0] - rows[1], codes, atoms


def by_loops(difference, before, after, atoms, k):
    """One vector at a time, each step tried on the vectors themselves."""
    changes = [(-a, i) for i, a in enumerate(before) if a] + [(b, i) for i, b in enumerate(after) if b]
    now, chosen = difference.copy(), []
    for _ in range(k):
        lengths = [np.linalg.norm(now + size * atoms[i]) for size, i in changes]
        if not lengths or min(lengths) >= np.linalg.norm(now):
            break
        size, i = changes.pop(int(np.argmin(lengths)))
        now = now + size * atoms[i]
        chosen.append((i, size))
    return chosen, now


@pytest.mark.parametrize("seed", range(3))
def test_edits_are_those_of_a_plain_loop(seed):
    difference, (before, after), atoms = drawn(seed=seed)
    path = greedy(difference, candidates(before, after), atoms, atoms @ atoms.T, 6)
    change = path.change(6, atoms)
    for i, (one, other) in enumerate(zip(before.toarray(), after.toarray(), strict=True)):
        chosen, left = by_loops(difference[i], one, other, atoms, 6)
        taken = [(a, c) for a, c in zip(path.atom[i], path.coefficient[i], strict=True) if a >= 0]
        assert [a for a, _ in taken] == [a for a, _ in chosen]
        np.testing.assert_allclose([c for _, c in taken], [c for _, c in chosen])
        np.testing.assert_allclose(difference[i] + change[i], left, atol=1e-9)
        assert path.squared[i, -1] == pytest.approx(left @ left, abs=1e-9)


def test_each_step_brings_the_vector_nearer_and_prefixes_are_edits_of_fewer():
    difference, codes, atoms = drawn()
    found = candidates(*codes)
    path = greedy(difference, found, atoms, atoms @ atoms.T, 12)
    assert (np.diff(path.squared, axis=1) <= 1e-12).all()
    for k in (1, 3):
        np.testing.assert_allclose(greedy(difference, found, atoms, atoms @ atoms.T, k).change(k, atoms), path.change(k, atoms))


def test_all_features_bring_a_sum_all_the_way():
    rng = np.random.default_rng(0)
    atoms = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    old = rng.random((20, 8)) < 0.5
    codes = [sparse.csr_array(there * rng.random((20, 8))) for there in (old, ~old)]  # no latent is in both
    difference = (codes[0] - codes[1]) @ atoms
    path = greedy(difference, candidates(*codes), atoms, atoms @ atoms.T, 16)
    np.testing.assert_allclose(path.squared[:, -1], 0.0, atol=1e-9)


def test_an_atom_may_be_taken_away_and_added():
    atoms = np.eye(2)
    codes = [sparse.csr_array(np.array([[1.0, 0.0]])), sparse.csr_array(np.array([[3.0, 0.0]]))]
    path = greedy(np.array([[-2.0, 0.0]]), candidates(*codes), atoms, atoms, 2)
    assert path.atom[0].tolist() == [0, 0]
    assert path.change(2, atoms)[0].tolist() == [2.0, 0.0]
    assert path.squared[0].tolist() == [4.0, 1.0, 0.0]


def test_rows_without_features_stay_as_they_are():
    none = sparse.csr_array((3, 4))
    path = greedy(np.ones((3, 2)), candidates(none, none), np.ones((4, 2)), np.full((4, 4), 2.0), 3)
    assert not path.change(3, np.ones((4, 2))).any()
    np.testing.assert_allclose(path.squared, 2.0)


def test_trying_all_is_never_worse_and_is_what_sets_give():
    difference, (before, after), atoms = drawn(n=15, share=0.1)
    found = candidates(before, after)
    few = np.flatnonzero(found.count <= 8)
    best = exhaustive(difference[few], found.take(few), atoms, 3, 8)
    path = greedy(difference[few], found.take(few), atoms, atoms @ atoms.T, 3)
    assert (best <= path.squared[:, -1] + 1e-9).all()
    i = few[0]
    vectors = [-a * atoms[j] for j, a in enumerate(before.toarray()[i]) if a]
    vectors += [b * atoms[j] for j, b in enumerate(after.toarray()[i]) if b]
    sums = [difference[i] + sum(s, np.zeros(12)) for k in range(4) for s in itertools.combinations(vectors, k)]
    assert best[0] == pytest.approx(min(one @ one for one in sums))


def test_greedy_can_be_beaten():
    """Two features that together are right, and one that alone is nearer."""
    atoms = np.array([[1.0, 1.0], [1.0, -1.0], [1.9, 0.0]])
    none, all_three = sparse.csr_array((1, 3)), sparse.csr_array(np.ones((1, 3)))
    found = candidates(none, all_three)
    difference = np.array([[-2.0, 0.0]])
    path = greedy(difference, found, atoms, atoms @ atoms.T, 2)
    assert path.squared[0, -1] == pytest.approx(0.01)
    assert exhaustive(difference, found, atoms, 2, 3)[0] == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(InvalidData, match="at most 2 candidates, got one with 3"):
        exhaustive(difference, found, atoms, 2, 2)
