"""What a card shows beyond the numbers, through `locum.card`: the worst parts and their bounds, examples, how it was made."""

from __future__ import annotations

import json
from importlib.metadata import version

import numpy as np
import pytest
from sklearn.base import BaseEstimator

import locum
from locum.core.domain import Domain
from locum.core.region import Region
from locum.core.surrogate import StandIn, fit
from locum.core.target import Target
from locum.explain.tree import TreeClassifier

COLOURS = np.array(["blue", "green", "red"], dtype=object)


class Formula(BaseEstimator):
    """A stand-in's model that is a formula."""

    papers = ("cart",)

    def __init__(self, predict, predict_proba=None):
        self.predict = predict
        if predict_proba is not None:
            self.predict_proba = predict_proba


def noise(X):
    """A number between 0 and 1 that has nothing to do with any part of the region."""
    return (X[:, 1].astype(float) * 1e4) % 1


def rows(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(size=(n, 3))


def stand_in(model, output, classes, data, names=None):
    domain = Domain.of(data, names=names)
    about = {"name": "planted", "output": output, "classes": classes}
    return StandIn(model, domain, Region.of(domain, data), about, {"calls": 10})


def named(X):
    return np.where(X[:, 2].astype(float) > 0.5, "no", "yes")


def disagrees(share, where):
    """Answers as `named`, but for a share of the rows of a part, and a twentieth of the others."""

    def answer(X):
        other = np.where(named(X) == "no", "yes", "no")
        return np.where(noise(X) < np.where(where(X), share, 0.05), other, named(X))

    return answer


def high(X):
    return X[:, 0].astype(float) > 0.7


# ------------------------------------------------------------------ the worst parts
def test_a_planted_disagreement_is_found():
    standin = stand_in(Formula(named), "class", ["no", "yes"], rows(300, 9))
    card = locum.card(standin, Target(disagrees(0.6, high), name="planted"), rows(1500))
    (worst,) = card.worst
    assert worst["where"].startswith("x0 > 0.")
    assert float(worst["where"].split()[2]) == pytest.approx(0.7, abs=0.03)
    assert worst["fidelity"].value == pytest.approx(0.4, abs=0.08)
    assert worst["fidelity"].candidates == 2
    assert worst["fidelity"].region == worst["where"]
    assert worst["n"] == worst["fidelity"].n == pytest.approx(1500 / 2 * 0.3, rel=0.15)
    assert worst["fidelity"].upper < card.fidelity[0].lower
    for example in worst["examples"]:
        assert example["row"]["x0"] > 0.65
        assert {example["target"], example["stand_in"]} == {"no", "yes"}


def test_several_parts_are_listed_from_the_worst_on():
    target = Target(both, name="planted")
    standin = stand_in(Formula(named), "class", ["no", "yes"], rows(300, 9))
    first, second = locum.card(standin, target, rows(2000)).worst
    assert (first["where"][:5], second["where"][:4]) == ("x0 <=", "x0 >")
    assert [float(part["where"].split()[2]) for part in (first, second)] == pytest.approx([0.2, 0.7], abs=0.02)
    assert first["fidelity"].value < second["fidelity"].value
    assert first["fidelity"].candidates == 3


def both(X):
    """Wrong nearly everywhere in one part, and half the time in another."""
    share = np.select([X[:, 0] < 0.2, X[:, 0] > 0.7], [0.9, 0.5], 0.02)
    return np.where(noise(X) < share, np.where(named(X) == "no", "yes", "no"), named(X))


def test_a_category_or_missing_values_can_be_the_worst_part():
    def made(n, seed):
        X = rows(n, seed).astype(object)
        X[:, 0] = COLOURS[np.random.default_rng(seed).integers(0, 3, n)]
        X[::4, 2] = None
        return X

    def known(X):
        return np.where(np.array([v is not None and v > 0.5 for v in X[:, 2]]), "no", "yes")

    def target(wrong):
        return Target(lambda X: np.where(wrong(X) & (noise(X) < 0.7), "other", known(X)), name="planted")

    standin = stand_in(Formula(known), "class", ["no", "other", "yes"], made(300, 9))
    red = locum.card(standin, target(lambda X: X[:, 0] == "red"), made(1000, 0)).worst[0]
    assert red["where"] == "x0 is red"
    absent = locum.card(standin, target(lambda X: np.array([v is None for v in X[:, 2]])), made(1000, 0)).worst[0]
    assert absent["where"] == "x2 is missing"
    assert [example["row"]["x2"] for example in absent["examples"]] == [None] * 3
    assert absent["fidelity"].value == pytest.approx(0.3, abs=0.12)


def test_values_and_probabilities_have_worst_parts():
    def linear(X):
        return 2 * X[:, 2]

    def odds(X):
        return np.column_stack([X[:, 2], 1 - X[:, 2]])

    values = stand_in(Formula(linear), "value", None, rows(300, 9))
    shifted = Target(lambda X: linear(X) + high(X) * (1 + noise(X)), output="value", name="planted")
    worst = locum.card(values, shifted, rows(1200)).worst[0]
    assert worst["fidelity"].measure == "mae"
    assert worst["fidelity"].value == pytest.approx(1.5, abs=0.1)
    assert worst["where"].startswith("x0 > 0.")
    assert {type(example["target"]) for example in worst["examples"]} == {float}
    soft = stand_in(Formula(None, odds), "probability", ["no", "yes"], rows(300, 9))
    swapped = Target(lambda X: np.where(high(X)[:, None], odds(X)[:, ::-1], odds(X)), classes=["no", "yes"], name="planted")
    worst = locum.card(soft, swapped, rows(1200)).worst[0]
    assert worst["fidelity"].measure == "total_variation_similarity"
    assert worst["fidelity"].value < 0.7
    assert all(example["target"].split(" (")[0] in ("no", "yes") for example in worst["examples"])


def reaches(where, X):
    """Which rows a condition in words holds for."""
    out = np.ones(len(X), dtype=bool)
    for one in where.split(" and "):
        out &= eval(" & ".join(f"({half})" for half in halves(one)), {f"x{j}": X[:, j] for j in range(3)})
    return out


def halves(one):
    """``a < x <= b`` as two comparisons."""
    words = one.split()
    return [one] if len(words) == 3 else [" ".join(words[:3]), " ".join(words[2:])]


def coverage(kind, target, score, repeats, n):
    """How often the interval of the worst part holds what is true of that part."""
    everyone = rows(20_000, 12345)
    model = {"class": Formula(named), "value": Formula(lambda X: X[:, 2])}[kind]
    standin = stand_in(model, kind, ["no", "yes"] if kind == "class" else None, rows(200, 9))
    truth = score(everyone)
    covered = []
    for seed in range(repeats):
        card = locum.card(standin, Target(target, output=kind, name="planted"), rows(n, seed))
        for worst in card.worst[:1]:
            true = truth[reaches(worst["where"], everyone)].mean()
            covered.append(worst["fidelity"].lower <= true <= worst["fidelity"].upper)
    return np.array(covered)


def test_the_bound_of_the_worst_part_is_honest_where_a_part_is_worse():
    target = disagrees(0.4, high)
    covered = coverage("class", target, lambda X: target(X) == named(X), 200, 300)
    assert len(covered) > 190
    assert covered.mean() >= 0.93


def test_the_bound_of_the_worst_part_is_honest_where_only_chance_makes_one():
    """Few parts are reported at all, and what is said of those is true."""
    target = disagrees(0.15, lambda X: np.ones(len(X), dtype=bool))
    covered = coverage("class", target, lambda X: target(X) == named(X), 200, 120)
    assert len(covered) < 40
    assert (~covered).sum() <= 0.07 * 200


def test_the_bound_of_the_worst_part_is_honest_for_values():
    def target(X):
        return X[:, 2] + np.where(high(X), 0.5, 0.1) * noise(X) ** 2

    covered = coverage("value", target, lambda X: np.abs(target(X) - X[:, 2]), 50, 200)
    assert len(covered) > 40
    assert covered.mean() >= 0.93


def test_no_worst_part_where_nothing_tells():
    standin = stand_in(Formula(named), "class", ["no", "yes"], rows(300, 9))
    assert locum.card(standin, Target(named, name="planted"), rows(500)).worst == ()
    assert locum.card(standin, Target(disagrees(0.6, high), name="planted"), rows(79)).worst == ()
    assert locum.card(standin, Target(disagrees(0.6, high), name="planted"), rows(300)).worst != ()


def test_worst_parts_are_the_same_again():
    standin = stand_in(Formula(named), "class", ["no", "yes"], rows(300, 9))
    cards = [locum.card(standin, Target(disagrees(0.5, high), name="planted"), rows(400)) for _ in range(2)]
    assert cards[0].worst == cards[1].worst


# ------------------------------------------------------------------ examples and how it was made
def test_examples_are_typical_rows_with_different_answers():
    data = rows(400, 9).astype(object)
    data[:, 0] = COLOURS[np.random.default_rng(0).integers(0, 3, 400)]
    standin = stand_in(Formula(named), "class", ["no", "yes"], data)
    card = locum.card(standin, Target(named, name="planted"), data)
    assert len(card.examples) == 2
    for example in card.examples:
        assert list(example) == ["x0", "x1", "x2"]
        assert example["x0"] in COLOURS
        row = np.array([[example["x0"], example["x1"], example["x2"]]], dtype=object)
        assert standin.region.inside(row).all()
        assert standin.region.novelty(row)[0] < np.median(standin.region.novelty(data))
    assert {str(named(np.array([[0, 0, e["x2"]]]))[0]) for e in card.examples} == {"no", "yes"}
    values = stand_in(Formula(lambda X: X[:, 2].astype(float)), "value", None, data)
    quarters = locum.card(values, Target(lambda X: X[:, 2].astype(float), output="value"), data).examples
    assert np.digitize([e["x2"] for e in quarters], [0.25, 0.5, 0.75]).tolist() == [0, 1, 2, 3]


def test_whole_numbers_and_missing_values_are_shown_as_such():
    data = np.column_stack([np.arange(200) % 7, rows(200)[:, :2]])
    data[:150, 1] = np.nan
    standin = stand_in(Formula(lambda X: np.full(len(X), "yes")), "class", ["no", "yes"], data)
    (example,) = locum.card(standin, Target(lambda X: np.full(len(X), "yes"), name="planted"), data).examples
    assert isinstance(example["x0"], int)
    assert example["x1"] is None
    json.dumps(example, allow_nan=False)


def test_fresh_rows_may_hold_a_category_that_was_never_seen():
    data = rows(200, 9).astype(object)
    data[:, 0] = COLOURS[np.arange(200) % 3]
    standin = stand_in(Formula(named), "class", ["no", "yes"], data)
    fresh = rows(200, 1).astype(object)
    fresh[:, 0] = np.where(np.arange(200) % 2, "violet", "blue")
    card = locum.card(standin, Target(disagrees(0.6, lambda X: X[:, 0] == "violet"), name="planted"), fresh)
    assert {example["x0"] for example in card.examples} == {"blue"}
    fresh[:, 0] = "violet"
    assert locum.card(standin, Target(named, name="planted"), fresh).examples == ()


def test_a_card_says_how_its_stand_in_was_made():
    target = Target(disagrees(0.3, high), name="planted", price=0.5)
    standin = fit(TreeClassifier(max_rules=3), target, rows(60, 9), budget=20, random_state=7)
    card = locum.card(standin, target, rows(100), data="made up", title="A title", measures=["cohen_kappa"])
    made = card.provenance
    assert (made["seed"], made["data"], made["papers"]) == (7, "made up", ["cart", "tree-alternating-optimization"])
    assert made["versions"]["numpy"] == version("numpy")
    assert set(made["versions"]) == {"python", "locum", "numpy", "scikit-learn"}
    assert card.title == "A title"
    assert card.stand_in["name"] == "tree"
    assert card.stand_in["class"] == "locum.explain.tree.TreeClassifier"
    assert card.price["target"] == {"calls": 20, "seconds": pytest.approx(0, abs=1), "money": 10.0, "currency": "USD"}
    assert card.price["by_purpose"] == {"fit": 20, "score": 100}
    assert [found.measure for found in card.fidelity] == ["cohen_kappa"]
    assert [rival["name"] for rival in card.rivals] == ["constant", "one split", "linear model"]
    assert {rival["fidelity"].measure for rival in card.rivals} == {"cohen_kappa"}
    assert card.line().startswith("tree (3 statements) stands in for planted: cohen_kappa 0.")


def test_a_card_of_a_measured_stand_in_asks_nothing_new():
    target = Target(named, name="planted")
    standin = stand_in(Formula(named), "class", ["no", "yes"], rows(300, 9)).check(target, rows(100))
    paid = target.account().paid
    card = locum.card(standin, target, rows(100))
    assert target.account().paid == paid == 100
    assert card.fidelity == standin.fidelity
    assert card.title == "A stand-in for planted"


@pytest.mark.parametrize(
    ("name", "words"),
    [("RuleListClassifier", "rule list"), ("HTTPModel", "HTTP model"), ("Ridge", "ridge"), ("Regressor", "regressor")],
)
def test_the_name_of_a_model_is_its_class_in_words(name, words):
    kind = type(name, (Formula,), {"__init__": lambda self, predict: setattr(self, "predict", predict)})
    standin = stand_in(kind(named), "class", ["no", "yes"], rows(60, 9))
    assert locum.card(standin, Target(named, name="planted"), rows(50)).stand_in["name"] == words


# ------------------------------------------------------------------ hostile names
HOSTILE = ["</script><img src=x onerror=alert(1)>", 'a\' & "b" > c\n\x1b[2J', "{{7*7}} [bold]x[/] \u202e"]


def test_hostile_names_stay_words():
    data = rows(600, 9).astype(object)
    data[:, 0] = np.array([HOSTILE[0], "b", HOSTILE[2]], dtype=object)[np.arange(600) % 3]
    labels = np.array([HOSTILE[1], HOSTILE[0]])

    def said(X):
        return labels[(X[:, 2].astype(float) > 0.5).astype(int)]

    target = Target(lambda X: np.where((X[:, 0] == HOSTILE[0]) & (noise(X) < 0.8), labels[0], said(X)), name=HOSTILE[0])
    standin = stand_in(Formula(said), "class", labels.tolist(), data, names=HOSTILE)
    card = locum.card(standin, target, rows_of(data), title=HOSTILE[1], data=HOSTILE[2])
    assert card.worst[0]["where"].startswith(f"{HOSTILE[0]} is {HOSTILE[0]}")
    assert {HOSTILE[0]} == {example["row"][HOSTILE[0]] for example in card.worst[0]["examples"]}
    page = card.to_html()
    assert "<img src=x" not in page
    assert "</script><img" not in page
    assert "49 [bold]" not in page
    assert locum.Card.from_dict(json.loads(card.to_json())).to_dict() == card.to_dict()


def rows_of(data):
    fresh = data.copy()
    fresh[:, 1] = rows(len(data), 3)[:, 1]
    return fresh
