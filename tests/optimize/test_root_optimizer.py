"""The optimizer that carries poor designs to good ones: planted objectives, invariances, what it says of itself, refusals."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

torch = pytest.importorskip("torch")

from locum.core.errors import InvalidData  # noqa: E402
from locum.optimize.root import BridgeOptimizer, NoPairs  # noqa: E402

TINY = {
    "lengthscale": 1.0, "outputscale": 1.0, "n_functions": 3, "n_pairs": 64, "ascent_steps": 60, "hidden": 32, "epochs": 30,
    "batch_size": 32, "pool": "all", "sample_steps": 40,
}  # fmt: skip
CHEAP = TINY | {"epochs": 2, "ascent_steps": 5, "hidden": 8}


def bowl(X):
    """Best at 0.5, with value 0."""
    return -((np.asarray(X) - 0.5) ** 2).sum(axis=1)


def visible(n=250, seed=0, width=2):
    """Designs of the worse two thirds."""
    X = np.random.default_rng(seed).uniform(-1, 1, size=(n, width))
    y = bowl(X)
    rows = y < np.quantile(y, 0.67)
    return X[rows], y[rows]


@pytest.fixture(scope="module")
def fitted():
    return BridgeOptimizer(**TINY).fit(*visible())


@pytest.fixture(scope="module")
def cheap():
    return BridgeOptimizer(**CHEAP).fit(*visible())


# ---------------------------------------------------------------------- planted objectives
def test_poor_designs_become_better_than_all_that_was_seen(fitted):
    X, y = visible()
    poor = np.argsort(y)[:100]
    found = fitted.translate(X[poor], y[poor], fitted.y_wanted)
    assert np.median(bowl(found.X)) > y.max()
    assert np.quantile(bowl(found.X) - y[poor], 0.05) > 0
    assert np.array_equal(found.sources, X[poor])


def test_the_value_asked_for_matters_and_so_does_the_order_of_the_two(fitted):
    X, y = visible()
    modest, high = (fitted.translate(X[:60], y[:60], wanted).X for wanted in (y[:60], fitted.y_wanted))
    assert np.median(bowl(high) - bowl(modest)) > 0
    exchanged = other(fitted, order="released").translate(X[:60], y[:60], fitted.y_wanted).X
    assert np.abs(exchanged - high).max() > 0.05


def test_exchanged_values_are_those_that_the_network_gets(fitted):
    X, _ = visible()
    same = np.full(60, -0.3)
    consistent, released = (other(fitted, order=order).translate(X[:60], same, same).X for order in ("consistent", "released"))
    assert np.array_equal(consistent, released)  # with equal values there is nothing to exchange


def test_guidance_of_minus_one_forgets_the_values(fitted):
    X, y = visible()
    blind = other(fitted, guidance=-1.0)
    one, another = blind.translate(X[:30], y[:30], 0.0), blind.translate(X[:30], y[:30], 50.0)
    assert np.array_equal(one.X, another.X)
    assert not np.array_equal(one.X, fitted.translate(X[:30], y[:30], 0.0).X)


def test_guidance_does_not_matter_where_the_values_say_nothing(fitted):
    """Hidden values are those of the mean, and the answers with and without values add up to one."""
    X, y = visible()
    ends = [other(fitted, guidance=w).translate(X[:20], y.mean(), y.mean()).X for w in (-1.5, 0.0, 2.0)]
    assert ends[0] == pytest.approx(ends[1], abs=1e-4)
    assert ends[2] == pytest.approx(ends[1], abs=1e-4)


def other(root, **settings):
    """The same fitted one, with other settings of its use."""
    return copy.copy(root).set_params(**settings)


LETTERS = np.random.default_rng(5).normal(size=(6, 4))


def spelled(X):
    """Additive over the letters at six positions."""
    return LETTERS[np.arange(6), np.asarray(X)].sum(axis=1)


def test_designs_of_categories_stay_so_and_improve():
    X = np.random.default_rng(0).integers(0, 4, size=(500, 6))
    X = X[spelled(X) < np.median(spelled(X))]
    root = BridgeOptimizer(4, **(TINY | {"lengthscale": 4.0, "ascent_lr": 0.2})).fit(X, spelled(X))
    found = root.propose(64, "random")
    assert found.X.dtype.kind in "iu"
    assert set(np.unique(found.X)) <= set(range(4))
    assert np.median(spelled(found.X)) > np.median(spelled(found.sources)) + spelled(X).std() / 2
    known = {tuple(row) for row in X.tolist()}
    assert found.seen == sum(tuple(row) in known for row in found.X.tolist())
    assert found.unique == len({tuple(row) for row in found.X.tolist()})


# ---------------------------------------------------------------------- sources and targets
def test_sources_are_the_best_rows_or_rows_at_random_or_those_given(cheap):
    X, y = visible()
    best = cheap.propose(20)
    assert np.array_equal(best.sources, X[np.argsort(-y, kind="stable")[:20]])
    assert np.array_equal(best.y_low, bowl(best.sources))
    drawn = cheap.propose(20, "random")
    assert len(np.unique(drawn.sources, axis=0)) == 20
    assert np.median(drawn.y_low) < np.median(best.y_low)
    given = cheap.propose(source=X[:7])
    assert np.array_equal(given.sources, X[:7])
    assert np.array_equal(given.y_low, cheap.foretell(X[:7]))


def test_the_value_wanted_comes_from_the_data_and_can_be_set(cheap):
    _, y = visible()
    assert cheap.y_wanted == pytest.approx(y.max() + 0.5 * y.std())
    assert other(cheap, target="max + 2sd").y_wanted == pytest.approx(y.max() + 2 * y.std())
    assert other(cheap, target=0.0).y_wanted == pytest.approx(0.0)
    scaled = other(cheap, target=0.0, alpha=0.8).y_wanted
    assert (scaled - y.mean()) / y.std() == pytest.approx(0.8 * (0 - y.mean()) / y.std())
    assert set(cheap.propose(5, y_high=0.25).y_high) == {0.25}


def test_a_walk_on_one_function_is_the_rival(cheap):
    found = cheap.ascend(10)
    assert np.isnan(found.y_high).all()
    assert (found.predicted > cheap.foretell(found.sources)).all()


# ---------------------------------------------------------------------- invariances and seeds
def test_the_same_seed_gives_the_same_and_torchs_own_generator_stays_as_it_is():
    X, y = visible()
    before = torch.get_rng_state()
    runs = [BridgeOptimizer(**CHEAP, random_state=seed).fit(X, y) for seed in (0, 0, 1)]
    found = [run.propose(16).X for run in runs]
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], runs[0].propose(16).X)
    assert not np.allclose(found[0], found[2])
    assert runs[0].diagnostics_ == runs[1].diagnostics_
    assert torch.equal(before, torch.get_rng_state())


def test_units_of_designs_and_values_do_not_matter(cheap):
    X, y = visible()
    stretched = BridgeOptimizer(**CHEAP).fit(X * [100.0, 0.5] + [3.0, 0.0], 7.0 * y - 2.0)
    found = (stretched.propose(16).X - [3.0, 0.0]) / [100.0, 0.5]
    assert found == pytest.approx(cheap.propose(16).X, abs=1e-3)
    assert stretched.foretell(X[:9] * [100.0, 0.5] + [3.0, 0.0]) == pytest.approx(7 * cheap.foretell(X[:9]) - 2, abs=1e-3)


@pytest.mark.parametrize(("epochs", "refresh", "draws"), [(1, 3, 1), (4, 9, 1), (5, 2, 3), (3, 1, 3)])
def test_pairs_are_drawn_anew_every_so_many_epochs(epochs, refresh, draws):
    told = []
    root = BridgeOptimizer(**(CHEAP | {"epochs": epochs, "refresh": refresh}))
    root.fit(*visible(), progress=lambda done, of, words: told.append((done, of, words)))
    assert len(root.diagnostics_.kept) == draws
    assert len(root.diagnostics_.losses) == len(root.diagnostics_.validation) == epochs
    assert [(done, of) for done, of, _ in told] == [(i + 1, epochs) for i in range(epochs)]
    assert all(words.startswith("validation ") for *_, words in told)


def test_training_lowers_the_error_on_starts_that_were_held_out():
    """Also where all epochs are on one draw of pairs, and the average of weights has to begin within it."""
    root = BridgeOptimizer(**(TINY | {"refresh": 100})).fit(*visible())
    assert root.diagnostics_.validation[-1] < 0.95 * root.diagnostics_.validation[0]
    assert np.median(bowl(root.propose(32, "random").X)) > visible()[1].max()


# ---------------------------------------------------------------------- what it says of itself
def test_functions_that_know_the_objective_are_told_from_those_that_do_not():
    X, y = visible(n=2000)
    y = y + 0.2 * np.random.default_rng(3).normal(size=len(y))
    root = BridgeOptimizer(**CHEAP, gp_noise=0.1, max_gp_rows=400).fit(X, y)
    known, ranked, risen = root.fidelity_
    nearest = root.rivals_["nearest row"]
    assert (known.measure, ranked.measure) == ("r2", "spearman_correlation")
    assert known.lower > nearest[0].upper
    assert ranked.lower > nearest[1].upper
    assert (known.n, risen.n) == (len(X) - 400, round(0.1 * len(X)))
    noise = BridgeOptimizer(**CHEAP, gp_noise=0.1, max_gp_rows=400).fit(X, np.random.default_rng(1).normal(size=len(y)))
    assert noise.fidelity_[0].upper < 0.2
    assert noise.rivals_["nearest row"][0].upper < 0


def test_a_bridge_that_learned_raises_functions_that_it_has_not_seen(fitted):
    risen, (rival,) = fitted.fidelity_[-1], fitted.rivals_["walk on one posterior mean"]
    assert 0 < risen.lower < risen.value < rival.upper


def test_rows_held_out_are_not_those_that_the_functions_were_fitted_to():
    """Values that only memory could know; with each row thrice, it does."""
    X, _ = visible(n=150)
    y = np.random.default_rng(2).normal(size=len(X))
    memory = {"lengthscale": 0.1, "jitter": 0.01, "gp_noise": 1e-4, "ascent_lr": 0.001}
    once = BridgeOptimizer(**(CHEAP | memory)).fit(X, y)
    thrice = BridgeOptimizer(**(CHEAP | memory)).fit(np.tile(X, (3, 1)), np.tile(y, 3))
    assert once.fidelity_[0].value < 0.2
    assert thrice.fidelity_[0].value > 0.9


def test_diagnostics_are_those_of_the_pairs(cheap):
    found = cheap.diagnostics_
    assert found.kept == (1.0,)
    assert 0.001 < found.gaps[0] < found.gaps[1] < found.gaps[2]
    X, _ = visible()
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    apart = np.linalg.norm(Z[:, None] - Z[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert found.row_distance == pytest.approx(np.median(apart.min(axis=1)))
    farther = BridgeOptimizer(**(CHEAP | {"ascent_steps": 200})).fit(*visible()).diagnostics_
    assert farther.high_distances[1] > found.high_distances[1]
    assert farther.gaps[1] > found.gaps[1]


def test_walks_start_where_they_are_told_to():
    pools = [BridgeOptimizer(**(CHEAP | {"pool": pool})) for pool in ("top", "all", "low")]
    ends = [root.fit(*visible()).diagnostics_.high_values for root in pools]
    assert ends[0][1] > ends[1][1] > ends[2][1]
    assert ends[1][2] - ends[1][0] > max(ends[0][2] - ends[0][0], ends[2][2] - ends[2][0])


def test_each_draw_of_functions_is_another_one():
    one, another = (BridgeOptimizer(**(CHEAP | {"refresh": 1, "epochs": n})).fit(*visible()) for n in (1, 2))
    assert one.diagnostics_.gaps != another.diagnostics_.gaps
    assert one.functions_.lengthscales == another.functions_.lengthscales


def test_scales_lie_around_their_centres():
    settings = CHEAP | {"n_functions": 40, "lengthscale": 2.0, "outputscale": 3.0, "jitter": 0.5, "epochs": 1}
    functions = BridgeOptimizer(**settings).fit(*visible()).functions_
    for found, centre in ((functions.lengthscales, 2.0), (functions.outputscales, 3.0)):
        assert centre - 0.5 <= min(found) < centre - 0.3
        assert centre + 0.3 < max(found) <= centre + 0.5
    assert not np.allclose(np.subtract(functions.lengthscales, 2.0), np.subtract(functions.outputscales, 3.0))


def test_who_does_not_move_does_not_rise():
    still = BridgeOptimizer(**(CHEAP | {"pool": "low", "ascent_lr": 1e-4, "ascent_steps": 1, "min_gap": 0.0}))
    assert abs(still.fit(*visible()).rivals_["walk on one posterior mean"][0].value) < 1e-2


def test_answers_without_values_have_to_be_learned():
    X, y = visible()
    fits = [BridgeOptimizer(**(TINY | {"p_uncond": p, "guidance": -1.0})).fit(X, y) for p in (0.0, 0.5)]
    never, half = (np.median(bowl(root.translate(X[:60], y[:60], 0.0).X)) for root in fits)
    assert half > y.max()
    assert half > never + 0.1


def test_distances_of_designs_are_to_the_nearest_row(cheap):
    X, _ = visible()
    found = cheap.propose(12)
    scaled = [(part - X.mean(axis=0)) / X.std(axis=0) for part in (found.X, X)]
    expected = np.linalg.norm(scaled[0][:, None] - scaled[1][None], axis=2).min(axis=1)
    assert found.distances == pytest.approx(expected)
    assert found.predicted == pytest.approx(cheap.foretell(found.X))
    assert found.fidelity == cheap.fidelity_


# ---------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_functions": 0}, "n_functions= to be a whole number of 1 or more"),
        ({"n_pairs": 1}, "n_pairs= to be a whole number of 2 or more"),
        ({"max_gp_rows": 1}, "max_gp_rows= to be a whole number of 2 or more"),
        ({"lengthscale": 0.0}, "lengthscale= to be a number above 0"),
        ({"gp_noise": float("nan")}, "gp_noise= to be a number above 0, got nan"),
        ({"jitter": 1.0}, "jitter= to be a number of 0 or more and below the scales, 1"),
        ({"jitter": -0.1}, "jitter= to be a number of 0 or more"),
        ({"min_gap": -1.0}, "min_gap= to be a number of 0 or more"),
        ({"p_uncond": 1.0}, "p_uncond= to be a number of at least 0 and below 1"),
        ({"guidance": "high"}, "guidance= to be a number that is finite"),
        ({"pool": "best"}, "pool= to be one of top, low, all"),
        ({"order": "swapped"}, "order= to be one of consistent, released"),
        ({"target": "best"}, 'target= to be a number or text such as "max[+]0.5sd"'),
        ({"target": float("inf")}, "target= to be a number that is finite"),
        ({"sample_steps": 2000}, "sample_steps= of at most T=1000, got 2000"),
    ],
)
def test_settings_that_cannot_be_used(settings, message):
    with pytest.raises(InvalidData, match=message):
        BridgeOptimizer(**(CHEAP | settings)).fit(*visible())


def test_rows_that_cannot_be_used():
    X, y = visible()
    root = BridgeOptimizer(**CHEAP)
    for rows, values, message in (
        (X, np.where(np.arange(len(y)) == 3, np.nan, y), "expected y to hold .* finite numbers"),
        (np.where(X > 0.9, np.nan, X), y, "expected finite designs, got NaN"),
        (X, y[:-1], f"expected y to hold {len(y)} finite numbers, one for each design, got shape"),
        (X[:, 0], y, r"expected designs as numbers of shape \(n, d\), got shape"),
        (X[:10], y[:10], "at least 20 rows, got 10"),
        (X, np.ones(len(X)), "got a constant y"),
        (np.zeros((20_001, 2)), np.arange(20_001.0), "at most 20000 rows in a Gaussian process.*1.6 GB: set max_gp_rows="),
    ):
        with pytest.raises(InvalidData, match=message):
            root.fit(rows, values)


def test_no_pair_far_enough_apart():
    with pytest.raises(NoPairs, match="min_gap=1000 deviations of y, got none in 192: take larger or more steps"):
        BridgeOptimizer(**(CHEAP | {"min_gap": 1000.0})).fit(*visible())
    assert issubclass(NoPairs, RuntimeError)


def test_use_that_makes_no_sense(cheap):
    X, y = visible()
    for call, message in (
        (lambda: cheap.translate(X[:3], [0.0, -1.0, 0.0], [0.0, -1.5, 1.0]), "got -1.5 below -1 at position 1"),
        (lambda: cheap.propose(8, y_high=-9.0), "expected y_high of at least y_low"),
        (lambda: cheap.propose(len(y) + 1), f"n= of at most the {len(y)} rows"),
        (lambda: cheap.propose(0), "n= to be a whole number of 1 or more"),
        (lambda: cheap.propose(4, "worst"), "source= to be one of top, random"),
        (lambda: cheap.propose(source=X[:3, :1]), "designs with 2 columns, got 1"),
        (lambda: cheap.translate(X[:3], y[:2], 1.0), "y_low to hold 3 finite numbers"),
        (lambda: cheap.translate(X[:3], y[:3], np.nan), "y_high to hold 3 finite numbers"),
    ):
        with pytest.raises(InvalidData, match=message):
            call()


def test_unfitted_it_says_so():
    with pytest.raises(NotFittedError):
        BridgeOptimizer().propose()
