"""Supervised dictionaries and evaluations of dictionaries: planted activations, identities, counterfactuals, refusals."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from locum.core.errors import InvalidData  # noqa: E402
from locum.inside import (  # noqa: E402
    Control,
    CrossSection,
    DictionaryEval,
    Interpretation,
    Location,
    PrincipalComponents,
    SparseAutoencoder,
    SupervisedDictionary,
    Tap,
    TaskInputs,
    TopK,
    interpret,
    label_properties,
)
from locum.nets import LogitDifference, seeded  # noqa: E402

NAMES = ["Ann", "Bob", "Cy", "Di"]


def task(n, seed, width=8):
    """Inputs that are sums of one direction for each value, orthogonal, with a network whose answer is the name."""
    rng = np.random.default_rng(seed)
    labels = {"name": rng.choice(NAMES, n), "size": rng.integers(2, size=n)}
    X = np.zeros((n, width))
    X[np.arange(n), np.searchsorted(NAMES, labels["name"])] = 1.0
    X[np.arange(n), 4 + labels["size"]] = 2.0
    return TaskInputs(X.astype(np.float32), labels, groups=np.arange(n) // 2)


def flipped(inputs, attribute, seed=0):
    """The same inputs with another value of one attribute."""
    labels = {name: values.copy() for name, values in inputs.labels.items()}
    if attribute == "size":
        labels["size"] = 1 - labels["size"]
    else:
        labels["name"] = np.array([NAMES[(NAMES.index(name) + 1) % 4] for name in labels["name"]])
    X = np.zeros_like(inputs.inputs)
    rows = np.arange(len(X))
    X[rows, np.searchsorted(NAMES, labels["name"])] = 1.0
    X[rows, 4 + labels["size"]] = 2.0
    return TaskInputs(X, labels, groups=inputs.groups)


def answer(inputs):
    right = np.searchsorted(NAMES, inputs.labels["name"])
    return LogitDifference(right, (right + 1) % 4)


class Names(torch.nn.Module):
    """Logits of four names, read from a hidden layer that is the input turned."""

    def __init__(self):
        super().__init__()
        with seeded(1):
            self.first = torch.nn.Linear(8, 8, bias=False)
            torch.nn.init.orthogonal_(self.first.weight)
        self.last = torch.nn.Linear(8, 4, bias=False)
        with torch.no_grad():
            self.last.weight.copy_(self.first.weight[:, :4].T)

    def forward(self, x):
        return self.last(self.first(x))


@pytest.fixture(scope="module")
def section():
    return CrossSection(Tap(Names().eval(), {"hidden": "first"}), {"hidden": "hidden"})


@pytest.fixture(scope="module")
def fitted(section):
    rows = task(400, 1)
    return SupervisedDictionary().fit(section.read(rows)["hidden"], rows.labels)


@pytest.fixture(scope="module")
def ev(section):
    return DictionaryEval(section, task(60, 2), answer(task(60, 2)))


# ---------------------------------------------------------------------- supervised dictionaries
def unbalanced(n=300, seed=0):
    """Attributes that go together, and activations that are sums of vectors."""
    rng = np.random.default_rng(seed)
    a = rng.integers(3, size=n)
    b = np.where(rng.random(n) < 0.7, a % 2, rng.integers(2, size=n))
    U, V = rng.normal(size=(3, 5)), rng.normal(size=(2, 5))
    return U[a] + V[b] + 4.0, {"a": a, "b": b}, U, V


def test_least_squares_give_sums_back_where_means_do_not():
    X, labels, U, V = unbalanced()
    mse, mean = (SupervisedDictionary(method=method).fit(X, labels) for method in ("mse", "mean"))
    np.testing.assert_allclose(mse.reconstruct(labels), X, atol=1e-5)
    np.testing.assert_allclose(mse.atom("a", 2) - mse.atom("a", 0), U[2] - U[0], atol=1e-5)
    np.testing.assert_allclose(mse.atom("b", 1) - mse.atom("b", 0), V[1] - V[0], atol=1e-5)
    assert mean.fidelity(X, labels).value > 0.01 > mse.fidelity(X, labels).value


def test_it_is_the_least_squares_fit_of_the_pseudo_inverse():
    rng = np.random.default_rng(3)
    labels = {"a": rng.integers(3, size=80), "b": rng.integers(4, size=80)}
    X = rng.normal(size=(80, 6))
    C = np.concatenate([np.eye(3)[labels["a"]], np.eye(4)[labels["b"]]], axis=1)
    wanted = np.linalg.pinv(C) @ (X.astype(np.float32) - X.astype(np.float32).mean(axis=0, dtype=np.float64))
    np.testing.assert_allclose(SupervisedDictionary().fit(X, labels).atoms_, wanted, atol=1e-6)


def test_means_are_those_of_the_rows_with_a_value():
    X, labels, *_ = unbalanced()
    found = SupervisedDictionary(["b"], method="mean").fit(X, labels)
    assert found.values_ == (("b", 0), ("b", 1))
    np.testing.assert_allclose(found.atom("b", 1), X[labels["b"] == 1].mean(axis=0) - X.mean(axis=0), atol=1e-5)
    assert found.counts_.tolist() == np.bincount(labels["b"]).tolist()


def test_methods_agree_on_balanced_labels():
    labels = {"a": np.repeat([0, 1, 2], 4), "b": np.tile([0, 1, 0, 1], 3)}
    X = np.random.default_rng(0).normal(size=(12, 4))
    one, other = (SupervisedDictionary(method=method).fit(X, labels) for method in ("mse", "mean"))
    np.testing.assert_allclose(one.atoms_, other.atoms_, atol=1e-6)


def test_codes_are_one_for_each_value_and_edits_swap_atoms():
    X, labels, *_ = unbalanced(40)
    found = SupervisedDictionary().fit(X, labels)
    codes = found.encode(labels)
    assert codes.shape == (40, 5)
    assert (codes.sum(axis=1) == 2).all()
    new = (labels["a"] + 1) % 3
    edited = found.edit(X, "a", labels["a"], new)
    np.testing.assert_allclose(edited, found.reconstruct(labels | {"a": new}), atol=1e-5)
    half = found.without(X, "a", labels["a"], 0.5)
    np.testing.assert_allclose(X - half, 0.5 * found.atoms_[labels["a"]], atol=1e-5)


def test_attributes_that_follow_from_each_other_are_told():
    labels = {"a": np.arange(40) % 4, "b": np.arange(40) % 2}
    with pytest.warns(UserWarning, match=r"cannot be told apart on these rows \(rank 4 of 5\)"):
        SupervisedDictionary().fit(np.random.default_rng(0).normal(size=(40, 3)), labels)


def test_a_file_gives_the_same_dictionary(tmp_path):
    X, labels, *_ = unbalanced(40)
    labels = {"a": np.array(["x", "y", "z"])[labels["a"]], "b": labels["b"]}
    found = SupervisedDictionary().fit(X, labels)
    found.save(tmp_path / "d")
    again = SupervisedDictionary.load(tmp_path / "d")
    np.testing.assert_array_equal(again.reconstruct(labels), found.reconstruct(labels))
    assert again.values_ == found.values_


def test_what_a_supervised_dictionary_cannot_use_is_refused():
    X, labels, *_ = unbalanced(40)
    found = SupervisedDictionary().fit(X, labels)
    with pytest.raises(InvalidData, match="no row that fitted had the value 9 of 'a'"):
        found.encode(labels | {"a": np.full(40, 9)})
    with pytest.raises(InvalidData, match="no row that fitted had the value 7 of 'b'"):
        found.edit(X, "b", labels["b"], np.full(40, 7))
    with pytest.raises(InvalidData, match="there is no attribute"):
        SupervisedDictionary(["c"]).fit(X, labels)
    with pytest.raises(InvalidData, match="expected 40 labels of 'b', got shape"):
        SupervisedDictionary().fit(X, labels | {"b": labels["b"][:3]})
    with pytest.raises(InvalidData, match="method="):
        SupervisedDictionary(method="median").fit(X, labels)


def test_principal_components_give_rows_back_and_are_those_of_scikit_learn():
    from sklearn.decomposition import PCA

    X = np.random.default_rng(0).normal(size=(50, 6)) @ np.diag([3.0, 2, 1, 1, 0.5, 0.1])
    found, theirs = PrincipalComponents().fit(X), PCA(3).fit(X)
    np.testing.assert_allclose(found.reconstruct(X), X, atol=1e-5)
    np.testing.assert_allclose(np.abs(PrincipalComponents(3).fit(X).atoms_), np.abs(theirs.components_), atol=1e-5)
    assert PrincipalComponents(99).fit(X).atoms_.shape == (6, 6)


# ---------------------------------------------------------------------- approximation
def test_a_perfect_dictionary_is_sufficient_and_necessary(ev, fitted):
    for one in (ev.sufficiency(fitted), ev.necessity(fitted)):
        assert one.value == pytest.approx(1.0, abs=1e-4)
        assert one.groups == 30


def test_one_without_the_attribute_that_counts_is_neither(ev, section):
    rows = task(400, 1)
    blind = SupervisedDictionary(["size"]).fit(section.read(rows)["hidden"], rows.labels)
    assert abs(ev.sufficiency(blind).value) < 0.1
    assert abs(ev.necessity(blind).value) < 0.1


def test_measures_are_those_of_the_definition(section, ev):
    """Half of each name's vector: half of the score, by hand."""
    rows = task(400, 1)
    half = SupervisedDictionary().fit(section.read(rows)["hidden"], rows.labels)
    half.atoms_ = 0.5 * half.atoms_
    assert ev.sufficiency(half).value == pytest.approx(0.5, abs=0.02)
    assert ev.necessity(half).value == pytest.approx(0.5, abs=0.02)


def test_batches_do_not_matter(fitted):
    found = []
    for size in (7, 64):
        section = CrossSection(Tap(Names().eval(), {"hidden": "first"}), {"hidden": "hidden"}, batch_size=size)
        found.append(DictionaryEval(section, task(60, 2), answer(task(60, 2))).sufficiency(fitted))
    assert found[0].value == pytest.approx(found[1].value)


def test_necessity_is_not_defined_where_ablation_does_nothing(section):
    inputs = task(60, 2)
    same = section.read(inputs)["hidden"]
    blind = DictionaryEval(section, inputs, LogitDifference(np.zeros(60, dtype=int), np.zeros(60, dtype=int)))
    found = SupervisedDictionary().fit(same, inputs.labels)
    with pytest.raises(InvalidData, match="necessity is not defined here"):
        blind.necessity(found)


# ---------------------------------------------------------------------- control
def test_two_features_of_the_supervised_dictionary_do_what_patching_does(ev, fitted):
    goal = ev.counterfactual("name", flipped(ev.inputs, "name"))
    for by in ("distance", "labels"):
        told = ev.control(fitted, goal, k=(1, 2, 4), by=by)
        assert told.none.value == 0.0
        assert told.agreement(2).value == 1.0
        assert told.recovered(2).value == 1.0
        np.testing.assert_allclose(told.distance[:, 1], 0.0, atol=1e-5)
    by_one = ev.control(fitted, goal, k=(1,))
    assert by_one.agrees.shape == (60, 1)
    assert by_one.distance.min() > 0.5


def test_no_edit_is_right_where_the_attribute_does_not_matter(ev, fitted):
    goal = ev.counterfactual("size", flipped(ev.inputs, "size"))
    told = ev.control(fitted, goal, k=(2,))
    assert told.none.value == told.agreement().value == 1.0
    assert told.gain().value == 0.0
    with pytest.raises(InvalidData, match="patching size changes no answer"):
        told.recovered()


def test_recovered_lies_between_no_edit_and_patching_by_hand():
    agrees = np.array([[True]] * 6 + [[False]] * 4)
    unedited = np.array([True] * 2 + [False] * 8)
    told = Control("name", (2,), agrees, unedited, np.ones((10, 1)), np.ones((10, 1)), None, 0.95)
    assert told.recovered(2).value == pytest.approx((0.6 - 0.2) / (1 - 0.2))
    assert told.gain(2).value == pytest.approx(0.4)
    assert (told.agreement(2).value, told.none.value) == (0.6, 0.2)


def test_weights_of_all_features_sum_to_one(ev, fitted):
    goal = ev.counterfactual("name", flipped(ev.inputs, "name"))
    codes = ev.codes(fitted)
    np.testing.assert_allclose(ev._weights("hidden", fitted, codes), 1.0)
    told = ev.control(fitted, goal, k=(2,))
    wanted = [fitted.atom("name", name) @ (fitted.reconstruct(ev.inputs.labels)[i] - fitted.mean_) for i, name in
              enumerate(ev.inputs.labels["name"])]  # fmt: skip
    whole = ((fitted.reconstruct(ev.inputs.labels) - fitted.mean_) ** 2).sum(axis=1)
    np.testing.assert_allclose(told.weight[:, 0], np.array(wanted) / whole, atol=1e-6)


def test_the_mean_over_k_is_the_area(ev, fitted):
    goal = ev.counterfactual("name", flipped(ev.inputs, "name"))
    told = ev.control(fitted, goal, k=(1, 2))
    assert told.agreement().value == pytest.approx((told.agreement(1).value + told.agreement(2).value) / 2)
    with pytest.raises(InvalidData, match="k= as one of 1, 2, got 3"):
        told.agreement(3)


def test_features_chosen_by_what_they_stand_for_do_the_same(ev, fitted, section):
    rows = task(400, 1)
    goal = ev.counterfactual("name", flipped(ev.inputs, "name"))
    scores = {"hidden": ev.value_scores(fitted.encode(rows.labels), rows.labels["name"])}
    told = ev.interpreted_control(fitted, goal, scores, k=(2,))
    np.testing.assert_array_equal(told.agrees, ev.control(fitted, goal, k=(2,)).agrees)
    assert told.agreement(2).value == 1.0
    with pytest.raises(InvalidData, match=r"there are no scores of '\w+' at 'hidden'"):
        ev.interpreted_control(fitted, goal, {"hidden": {}}, k=(2,))


def test_latents_with_an_interpretation_carry_what_they_stand_for(ev, fitted, section):
    rows = task(400, 1)
    told = interpret(fitted.encode(rows.labels), label_properties({"name": rows.labels["name"]}))
    found = ev.interpreted(fitted, told, 0.9)
    assert found["sufficiency"].value == pytest.approx(1.0, abs=0.01)
    assert found["necessity"].value == pytest.approx(1.0, abs=0.01)
    nothing = Interpretation(told.family, told.values, 0 * told.f1, told.positives)
    assert ev.interpreted(fitted, nothing, 0.9)["necessity"].value == pytest.approx(0.0, abs=1e-4)


def test_dictionaries_stand_beside_one_another(ev, fitted, section):
    rows = section.read(task(400, 1))["hidden"]
    sae = SparseAutoencoder(16, TopK(2), epochs=5, batch_size=50, learning_rate=3e-3).fit(rows)
    goal = ev.counterfactual("name", flipped(ev.inputs, "name"))
    found = ev.compare({"supervised": fitted, "sae": sae, "PCA": PrincipalComponents().fit(rows)}, [goal], k=(2, 4))
    assert found.control["supervised"]["name"].agreement(2).value == 1.0
    assert found.sufficiency["PCA"].value == pytest.approx(1.0, abs=1e-4)
    lines = str(found).splitlines()
    assert len(lines) == 1 + 3 * 2 + 3 * 2 + 1
    assert lines[-1].startswith("no edit")
    gap = ev.optimality_gap({"hidden": fitted}, goal, k=2)
    assert (gap.value, gap.n) == (pytest.approx(0.0, abs=1e-6), 60)


def test_a_strong_attribute_hides_a_weak_one_until_it_is_taken_away():
    rng = np.random.default_rng(0)
    U, V = (rng.normal(size=(8, 24)) / 24**0.5 for _ in range(2))
    labels = {"strong": rng.integers(8, size=1500), "weak": rng.integers(8, size=1500)}
    X = 3 * U[labels["strong"]] + V[labels["weak"]]
    supervised, counts = SupervisedDictionary().fit(X, labels), []
    for share in (0.0, 1.0):
        rows = supervised.without(X, "strong", labels["strong"], share)
        sae = SparseAutoencoder(32, TopK(2), epochs=10, batch_size=100, learning_rate=3e-3).fit(rows)
        counts.append(len(interpret(sae.transform(rows), label_properties(labels), unions=1).found("weak", 0.5)))
    assert counts[0] <= 1
    assert counts[1] >= 6


# ---------------------------------------------------------------------- refusals
def test_counterfactuals_that_differ_in_more_or_less_are_refused(ev):
    with pytest.raises(InvalidData, match="counterfactual 0 does not differ in 'name'"):
        ev.counterfactual("name", ev.inputs)
    both = flipped(flipped(ev.inputs, "name"), "size")
    with pytest.raises(InvalidData, match="counterfactual 0 also differs in 'size': expected it to differ in 'name' alone"):
        ev.counterfactual("name", both)
    with pytest.raises(InvalidData, match="expected 60 inputs with labels of name, size"):
        ev.counterfactual("name", task(5, 0))
    with pytest.raises(InvalidData, match="attribute="):
        ev.counterfactual("colour", both)


def test_dictionaries_that_do_not_fit_are_refused(ev, fitted):
    with pytest.raises(InvalidData, match="expected a dictionary for each of hidden, got other"):
        ev.sufficiency({"other": fitted})
    with pytest.raises(InvalidData, match=r"expected a dictionary of locum\.inside at 'hidden', got int"):
        ev.sufficiency(3)
    narrow = PrincipalComponents(2).fit(np.random.default_rng(0).normal(size=(9, 3)))
    with pytest.raises(InvalidData, match="atoms 8 wide at 'hidden', got 3"):
        ev.sufficiency(narrow)
    goal = ev.counterfactual("name", flipped(ev.inputs, "name"))
    with pytest.raises(InvalidData, match="by='labels' needs a SupervisedDictionary"):
        ev.control(PrincipalComponents(2).fit(np.random.default_rng(0).normal(size=(9, 8))), goal, by="labels")
    for k in ((), (0,), (2, 2)):
        with pytest.raises(InvalidData, match="k= as different whole numbers"):
            ev.control(fitted, goal, k=k)
    with pytest.raises(InvalidData, match="flags of 6 latents"):
        ev.sufficiency(fitted, keep={"hidden": np.ones(3)})


def test_a_site_viewed_by_head_has_a_dictionary_for_each_head():
    net = Names().eval()
    tap = Tap(net, {"hidden": ("first", "out", 2)})
    section = CrossSection(tap, {"one": Location("hidden", heads=0), "other": Location("hidden", heads=(1,))})
    rows, inputs = task(400, 1), task(60, 2)
    found = {name: SupervisedDictionary().fit(X, rows.labels) for name, X in section.read(rows).items()}
    assert found["one"].atoms_.shape == (6, 4)
    ev = DictionaryEval(section, inputs, answer(inputs))
    assert ev.sufficiency(found).value == pytest.approx(1.0, abs=1e-4)
