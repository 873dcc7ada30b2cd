"""Programmable variational inference: known posteriors, densities that are estimated, fidelity, and bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.distributions import (  # noqa: E402
    Bernoulli,
    Beta,
    Categorical,
    Gamma,
    Geometric,
    Independent,
    MultivariateNormal,
    Normal,
    Uniform,
)

from locum.core.errors import InvalidData  # noqa: E402
from locum.infer.programmable_vi import (  # noqa: E402
    SIR,
    Average,
    Enumerate,
    Laplace,
    Marginal,
    MeasureValued,
    Normalize,
    Objective,
    Prior,
    Reinforce,
    Reparameterise,
    RunningMean,
    check_unbiased,
    draws,
    elbo,
    evidence_gap,
    frozen,
    iwelbo,
    objective,
    p_wake,
    pareto_k,
    program,
    q_wake,
    replicate,
    sample,
    sequential,
)
from locum.nets import seeded, train  # noqa: E402

SEEN = {"y": torch.tensor(1.2)}


@program
def conjugate():
    """x ~ N(0, 2), y ~ N(x, 1): given y = 1.2, x ~ N(0.96, 0.8) (variances 4, 1 and 0.8)."""
    x = sample("x", Normal(0.0, 2.0))
    sample("y", Normal(x, 1.0))


EVIDENCE = float(Normal(0.0, math.sqrt(5.0)).log_prob(SEEN["y"]))


@program
def normal_guide(p):
    sample("x", Normal(p["m"], p["s"].exp()))


AT_POSTERIOR = {"m": torch.tensor(0.96), "s": torch.tensor(0.5 * math.log(0.8))}
AWAY = {"m": torch.tensor(0.0), "s": torch.tensor(0.3)}


def divergence(p):
    """KL divergence from the guide to the posterior."""
    variance = float((2 * p["s"]).exp())
    return 0.5 * (variance / 0.8 + (float(p["m"]) - 0.96) ** 2 / 0.8 - 1 - math.log(variance / 0.8))


# ---------------------------------------------------------------------- objectives
def test_at_the_posterior_every_draw_of_the_elbo_is_the_evidence():
    estimate = elbo(conjugate, normal_guide, SEEN).value_and_grad(AT_POSTERIOR, particles=16)
    assert estimate.value == pytest.approx(EVIDENCE, abs=1e-5)
    assert torch.allclose(estimate.values, torch.full((16,), EVIDENCE), atol=1e-5)


def test_optimisation_finds_the_posterior():
    found = elbo(conjugate, normal_guide, SEEN).maximise(
        AWAY, steps=400, particles=8, optimizer=lambda found: torch.optim.Adam(found, lr=0.02), random_state=1
    )
    assert float(found.params["m"]) == pytest.approx(0.96, abs=0.06)
    assert float(found.params["s"].exp()) == pytest.approx(math.sqrt(0.8), abs=0.06)
    assert found.values[-1] == pytest.approx(EVIDENCE, abs=0.02)
    assert float(AWAY["m"]) == 0.0, "the parameters that were given have changed"


def test_bounds_are_in_order():
    means = [
        float(one.evaluate(AWAY, particles=20_000).mean())
        for one in [elbo(conjugate, normal_guide, SEEN)] + [iwelbo(conjugate, normal_guide, SEEN, k) for k in (1, 4, 64)]
    ]
    assert means[0] == pytest.approx(means[1], abs=0.03)
    assert means[1] < means[2] < means[3] < EVIDENCE + 0.01
    assert EVIDENCE - means[3] < 0.02


def test_a_symmetric_objective_of_ones_own_is_unbiased():
    """KL in both directions, the second by importance weights."""

    @objective
    def both_ways(p):
        choices, log_q = normal_guide.simulate(p)
        log_weight = conjugate.density({**choices, **SEEN}) - log_q - EVIDENCE
        return log_weight - log_weight.exp() * log_weight

    narrow = {"m": torch.tensor(0.9), "s": torch.tensor(0.1)}

    def derivative():
        p = {key: one.double().requires_grad_() for key, one in narrow.items()}
        v, d = (2 * p["s"]).exp(), (p["m"] - 0.96) ** 2
        forward = 0.5 * (v / 0.8 + d / 0.8 - 1 - torch.log(v / 0.8))
        backward = 0.5 * (0.8 / v + d / v - 1 + torch.log(v / 0.8))
        return {k: g.numpy() for k, g in zip(p, torch.autograd.grad(-forward - backward, list(p.values())), strict=True)}

    found = check_unbiased(both_ways, narrow, exact=derivative(), n=50_000)
    assert found.unbiased, str(found)


def test_wake_phases_move_to_the_posterior_and_the_evidence():
    """Given enough particles: the guide fits the posterior's moments, the model's scale its maximum likelihood."""
    obs = {"y": torch.tensor(3.0)}

    @program
    def scaled(p):
        x = sample("x", Normal(0.0, p["t"].exp()))
        sample("y", Normal(x, 1.0))

    @program
    def wide(p):
        sample("x", Normal(p["m"], 3.0))

    def once(p):
        with torch.no_grad():
            return {"m": p["m"], "t": p["t"]}

    start = once({"m": torch.tensor(0.0), "t": torch.tensor(0.0)})
    bound = q_wake(scaled, wide, obs, SIR(200, wide))
    grad = bound.value_and_grad(start, particles=400).grads
    assert float(grad["m"]) == pytest.approx(1.5 / 9, abs=0.02)  # the posterior of x is N(1.5, 0.5)
    assert float(grad["t"]) == 0.0, "a derivative went through the sampler"
    grad = p_wake(scaled, obs, SIR(200, wide)).value_and_grad(start, particles=400).grads
    assert float(grad["t"]) == pytest.approx(1.5**2 + 0.5 - 1, abs=0.15)  # E x² under the posterior, less 1
    assert float(grad["m"]) == 0.0


def test_rows_are_separate_problems():
    x = torch.linspace(-1, 1, 5)

    @program
    def model(p, data):
        z = sample("z", Normal(torch.zeros(len(data)), 1.0))
        sample("x", Normal(z, 1.0))

    @program
    def guide(p, data):
        sample("z", Normal(p["w"] * data, p["s"].exp()))

    bound = iwelbo(model, guide, lambda data: {"x": data}, 4)
    right = {"w": torch.tensor(0.5), "s": torch.tensor(-0.5 * math.log(2.0))}
    estimate = bound.value_and_grad(right, x, particles=3, rows=5)
    assert torch.allclose(estimate.values, Normal(0.0, math.sqrt(2.0)).log_prob(x).expand(3, 5), atol=1e-5)
    score = elbo(
        model,
        program(lambda p, data: sample("z", Normal(p["w"] * data, p["s"].exp()), Reinforce("leave-one-out"))),
        lambda data: {"x": data},
    )
    other = {"w": torch.tensor(0.1), "s": torch.tensor(0.0)}
    by_score = score.value_and_grad(other, x, particles=20_000, rows=5).grads["w"]
    by_path = elbo(model, guide, lambda data: {"x": data}).value_and_grad(other, x, particles=20_000, rows=5).grads["w"]
    assert float(by_score) == pytest.approx(float(by_path), abs=0.02)


def test_networks_train_through_the_one_loop():
    with seeded(0):
        net = torch.nn.Linear(1, 1)
        data = torch.randn(256, 1) * 2

    @program
    def model(net, x):
        z = sample("z", Independent(Normal(torch.zeros(len(x), 1), 1.0), 1))
        sample("x", Independent(Normal(z, 1.0), 1))

    @program
    def guide(net, x):
        sample("z", Independent(Normal(net(x), math.sqrt(0.5)), 1))

    bound = elbo(model, guide, lambda x: {"x": x})
    train(
        net,
        lambda m, x: -bound.surrogate(m, x, particles=2, rows=len(x)),
        [data],
        epochs=40,
        batch_size=64,
        optimizer=lambda p: torch.optim.Adam(p, lr=0.05),
    )
    assert net.weight.item() == pytest.approx(0.5, abs=0.03)
    grads = bound.value_and_grad(net, data, particles=4, rows=256).grads
    assert set(grads) == {"weight", "bias"}


# ---------------------------------------------------------------------- estimated densities
@program
def chain(p):
    u = sample("u", Normal(p["m"], 1.0))
    sample("x", Normal(2 * u, 1.0))


@program
def back(p, x):
    sample("u", Normal(0.4 * x, 1.0))


@pytest.mark.parametrize("proposal", [None, lambda kept, p: (back, p, kept["x"])])
def test_a_marginal_density_is_unbiased_and_so_is_its_reciprocal(proposal):
    """x = 2 u + noise, so x ~ N(2 m, 5)."""
    p = {"m": torch.tensor(0.3)}
    spread = []
    for n in (1, 4, 16):
        marginal = Marginal(chain, ["x"], SIR(n, proposal))
        at = torch.tensor(1.1)
        log_density = Objective(lambda p, one=marginal, at=at: one.density({"x": at}, p)).evaluate(p, particles=40_000)
        truth = float(Normal(0.6, math.sqrt(5.0)).log_prob(at).exp())
        density = log_density.exp()
        assert float(density.mean()) == pytest.approx(truth, abs=4 * float(density.std()) / 200)
        spread.append(float(density.std()))

        def ratio(p, one=marginal):
            choices, log_q = one.simulate(p)
            return (Normal(0.6, math.sqrt(5.0)).log_prob(choices["x"]) - log_q).exp()

        ones = Objective(ratio).evaluate(p, particles=40_000)
        assert float(ones.mean()) == pytest.approx(1.0, abs=4 * float(ones.std()) / 200)
    assert spread[0] > 1.7 * spread[1] > 2.9 * spread[2]


def test_the_posterior_of_a_program_by_resampling():
    """The more particles, the nearer; the density of what it returns tells."""
    moments = []
    for n in (1, 5, 50):
        posterior = Normalize(conjugate, SEEN, SIR(n))
        x = draws(posterior, n=8_000)["x"]
        moments.append((float(x.mean()), float(x.var())))
        assert x.shape == (8_000,)
    gaps = [abs(mean - 0.96) for mean, _ in moments]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 0.05
    assert moments[2][1] == pytest.approx(0.8, abs=0.08)
    log_density = Objective(lambda p: Normalize(conjugate, SEEN, SIR(200)).density({"x": torch.tensor(0.96)}))
    found = log_density.evaluate({"m": torch.tensor(0.0)}, particles=2_000).mean()
    assert float(found) == pytest.approx(float(Normal(0.96, math.sqrt(0.8)).log_prob(torch.tensor(0.96))), abs=0.02)


def test_sequential_monte_carlo_estimates_a_normalising_constant_without_bias():
    """A walk of three steps seen through noise; exact by the Kalman recursion."""
    ys = [torch.tensor(one) for one in (0.5, 1.5, 1.0)]

    @program
    def step(p, before):
        t = len(before)
        sample(f"x{t}", Normal(before[f"x{t - 1}"] if t else torch.zeros(()), 1.0))

    def target(t):
        def log_density(choices):
            total, last = 0.0, torch.zeros(())
            for i in range(t + 1):
                x = choices[f"x{i}"]
                total, last = total + Normal(last, 1.0).log_prob(x) + Normal(x, 1.0).log_prob(ys[i]), x
            return total

        return log_density

    covariance = torch.tensor([[min(i, j) + 1.0 for j in range(3)] for i in range(3)]) + torch.eye(3)
    truth = float(MultivariateNormal(torch.zeros(3), covariance).log_prob(torch.stack(ys)))
    proposals = [lambda before: step.simulate(None, before)] * 3
    found = [
        Objective(lambda p, n=n: sequential([target(0), target(1), target(2)], proposals, n)).evaluate({}, particles=6_000)
        for n in (2, 8)
    ]
    for one in found:
        ratio = (one - truth).exp()
        assert float(ratio.mean()) == pytest.approx(1.0, abs=4 * float(ratio.std()) / math.sqrt(6_000))
    assert found[0].mean() < found[1].mean() < truth


def test_particles_of_a_resampled_vector_stay_together():
    @program
    def pair():
        x = sample("x", Independent(Normal(torch.zeros(2), torch.ones(2)), 1))
        sample("twice", Independent(Normal(2 * x, torch.full((2,), 1e-3)), 1))
        sample("y", Normal(x.sum(-1), 1.0))

    found = draws(Normalize(pair, {"y": torch.tensor(0.0)}, SIR(6)), n=50)
    assert torch.allclose(found["twice"], 2 * found["x"], atol=0.01)


# ---------------------------------------------------------------------- the engine
def test_same_seed_same_numbers_and_the_global_generator_is_left_alone():
    bound = elbo(conjugate, normal_guide, SEEN)
    before = torch.get_rng_state()
    first, again = (bound.value_and_grad(AWAY, particles=8, random_state=3) for _ in range(2))
    other = bound.value_and_grad(AWAY, particles=8, random_state=4)
    bound.maximise(AWAY, steps=3)
    draws(normal_guide, AWAY)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first.values, again.values)
    assert torch.equal(first.grads["m"], again.grads["m"])
    assert not torch.equal(first.values, other.values)


def test_particles_side_by_side_or_one_by_one_agree():
    both = [elbo(conjugate, normal_guide, SEEN, vectorised=one).value_and_grad(AWAY, particles=800) for one in (True, False)]
    error = math.hypot(both[0].std_err, both[1].std_err)
    assert abs(both[0].value - both[1].value) < 4 * error
    assert float(both[0].grads["m"]) == pytest.approx(float(both[1].grads["m"]), abs=0.15)


def test_the_standard_error_is_that_of_the_value():
    bound = elbo(conjugate, normal_guide, SEEN)
    found = [bound.value_and_grad(AWAY, particles=50, random_state=seed) for seed in range(200)]
    assert np.std([one.value for one in found]) == pytest.approx(np.mean([one.std_err for one in found]), rel=0.15)
    assert bound.value_and_grad(AWAY).std_err == math.inf


def test_programs_inside_programs_share_addresses():
    @program
    def outer(p):
        normal_guide(p)
        sample("z", Normal(0.0, 1.0))

    assert set(draws(outer, AWAY, n=2)) == {"x", "z"}


def test_a_running_mean_is_the_weighted_mean_of_the_past():
    baseline = RunningMean(0.5)
    assert baseline.value == 0.0
    baseline.update(4.0)
    assert baseline.value == 4.0
    baseline.update(1.0)
    assert baseline.value == pytest.approx((4 * 0.25 + 1 * 0.5) / 0.75)


def test_frozen_holds_choices_fixed():
    @objective
    def square(p):
        with frozen():
            choices, _ = normal_guide.simulate(p)
        return choices["x"] ** 2 + p["m"]

    grads = square.value_and_grad(AWAY, particles=4).grads
    assert (float(grads["m"]), float(grads["s"])) == (1.0, 0.0)


# ---------------------------------------------------------------------- fidelity
def test_the_gap_to_a_known_evidence_is_the_divergence():
    bound = elbo(conjugate, normal_guide, SEEN)
    found = evidence_gap(bound, AWAY, evidence=EVIDENCE, n=20_000)
    assert found.lower < divergence(AWAY) < found.upper
    assert not found.greater_is_better
    perfect = evidence_gap(bound, AT_POSTERIOR, evidence=EVIDENCE)
    assert (perfect.lower, perfect.upper) == (pytest.approx(0, abs=1e-5), pytest.approx(0, abs=1e-5))
    looser = evidence_gap(iwelbo(conjugate, normal_guide, SEEN, 8), AWAY, evidence=EVIDENCE, n=20_000)
    assert looser.upper < found.lower


def test_the_interval_of_the_gap_covers_as_often_as_it_says():
    bound, truth = elbo(conjugate, normal_guide, SEEN), divergence(AWAY)
    found = [evidence_gap(bound, AWAY, evidence=EVIDENCE, n=300, level=0.8, random_state=seed) for seed in range(80)]
    share = np.mean([one.lower <= truth <= one.upper for one in found])
    assert 0.68 < share < 0.92


@pytest.mark.parametrize(("scale", "shape"), [(2.0, 0.0), (0.5, 0.687), (0.3, 0.8875)])
def test_pareto_k_of_a_guide_too_narrow(scale, shape):
    """Weights of N(0, 1) drawn from N(0, s) have tail shape 1 - s² for s below 1 and are bounded above it."""

    @program
    def target():
        sample("x", Normal(0.0, 1.0))

    @program
    def narrow(p):
        sample("x", Normal(0.0, p["s"]))

    found = pareto_k(elbo(target, narrow, {}), {"s": torch.tensor(scale)}, n=20_000)
    assert found.lower - 0.12 <= shape <= found.upper + 0.12
    assert not found.greater_is_better


def test_pareto_k_of_the_posterior_itself_is_zero():
    found = pareto_k(elbo(conjugate, normal_guide, SEEN), AT_POSTERIOR)
    assert (found.value, found.upper) == (0.0, 0.0)


def test_laplace_is_exact_for_a_normal_posterior_and_the_prior_is_not():
    exact = Laplace(conjugate, SEEN)
    nothing = {"unused": torch.zeros(())}
    gap = evidence_gap(elbo(conjugate, exact, SEEN), nothing, evidence=EVIDENCE)
    assert abs(gap.value) < 1e-4
    assert exact.evidence == pytest.approx(EVIDENCE, abs=1e-4)
    prior = evidence_gap(elbo(conjugate, Prior(conjugate, SEEN), SEEN), nothing, evidence=EVIDENCE, n=20_000)
    truth = 0.5 * (4 / 0.8 + 0.96**2 / 0.8 - 1 - math.log(4 / 0.8))
    assert prior.lower < truth < prior.upper
    assert float(Prior(conjugate, SEEN).density({"x": torch.tensor(0.5)})) == pytest.approx(
        float(Normal(0.0, 2.0).log_prob(torch.tensor(0.5)))
    )


def test_laplace_of_sites_with_constraints_has_a_density_that_integrates_to_one():
    @program
    def rates():
        rate = sample("rate", Gamma(2.0, 1.0))
        weights = sample("weights", torch.distributions.Dirichlet(torch.tensor([2.0, 3.0, 4.0])))
        sample("y", Normal(rate * weights[..., 0], 0.5))

    obs = {"y": torch.tensor(0.8)}
    guide = Laplace(rates, obs)
    found = draws(guide, n=2_000)
    assert found["weights"].shape == (2_000, 3)
    assert float(found["rate"].min()) > 0
    both = Objective(lambda p: (lambda c, q: guide.density(c) - q)(*guide.simulate()))
    assert torch.allclose(both.evaluate({}, particles=50), torch.zeros(50), atol=1e-3)
    weight = elbo(rates, guide, obs).evaluate({}, particles=40_000).exp()
    plain = elbo(rates, Prior(rates, obs), obs).evaluate({}, particles=40_000).exp()
    assert float(weight.mean()) == pytest.approx(float(plain.mean()), rel=0.05)


# ---------------------------------------------------------------------- bad input
@program
def coin(p):
    sample("k", Bernoulli(logits=p["a"]))


A = {"a": torch.tensor(0.1), "m": torch.tensor(0.1)}


def refused(message, run, params=A, **settings):
    with pytest.raises(InvalidData, match=message):
        (run if isinstance(run, Objective) else Objective(run, **settings)).value_and_grad(params, particles=4)


def test_a_discrete_site_without_a_strategy_names_those_that_apply():
    refused(
        r"site 'k' draws from Bernoulli, .* Reinforce\(\) or Enumerate\(\) or MeasureValued\(\)", lambda p: coin.simulate(p)[1]
    )


def drawing(law, strategy=None):
    return lambda p: program(lambda q: sample("s", law(q), strategy)).simulate(p)[1]


@pytest.mark.parametrize(
    ("law", "strategy", "message"),
    [
        (
            lambda p: Geometric(p["a"]),
            Enumerate(),
            r"support of Geometric at site 's' is not finite; it can use Reinforce\(\)$",
        ),
        (
            lambda p: Normal(p["a"], 1.0),
            Enumerate(),
            r"not finite; it can use Reparameterise\(\) or Reinforce\(\) or MeasureValued",
        ),
        (lambda p: Beta(p["a"], 1.0), MeasureValued(), "no measure-valued derivative of Beta at site 's'"),
        (lambda p: Uniform(0.0, p["a"]), Reinforce(), "support of Uniform at site 's' moves with its parameters"),
        (
            lambda p: Independent(Bernoulli(p["a"].expand(40)), 1),
            Enumerate(),
            r"2\^40 values, more than 4096; it can use Reinforce",
        ),
        (lambda p: Normal(p["a"], 1.0), "reparam", "expected a strategy such as"),
        (lambda p: Normal(torch.zeros(4) + p["a"], 1.0), None, r"batch shape \(4,\) .*Independent\(Normal\(...\), 1\)"),
    ],
)
def test_strategies_that_do_not_apply(law, strategy, message):
    refused(message, drawing(law, strategy))


def test_programs_that_do_not_fit_together():
    obs = {"y": torch.tensor(1.0)}
    refused("site 'x' cannot be evaluated: .* add it to the guide", elbo(conjugate, program(lambda p: None), obs))

    @program
    def too_many(p):
        sample("x", Normal(p["a"], 1.0))
        sample("w", Normal(p["a"], 1.0))

    refused("'conjugate' has no site 'w'.*its sites are 'x', 'y'", elbo(conjugate, too_many, obs))
    refused(
        "'conjugate' has no site 'v'",
        elbo(conjugate, program(lambda p: sample("x", Normal(p["a"], 1.0))), {**obs, "v": obs["y"]}),
    )
    refused("site 'x' is observed, and the guide draws it", elbo(conjugate, too_many, {"x": obs["y"], "y": obs["y"]}))
    refused("keep= names 'v', which is no site of 'too_many'", elbo(conjugate, Marginal(too_many, ["v"], SIR(1)), obs))

    @program
    def twice(p):
        sample("x", Normal(p["a"], 1.0))
        sample("x", Normal(p["a"], 1.0))

    refused("used once, got 'x'", elbo(conjugate, twice, obs))


def test_densities_that_are_no_numbers_name_the_site():
    @program
    def broken(p):
        x = sample("x", Normal(0.0, 1.0))
        sample("y", Normal(x, 1.0) if p["a"].item() < 1 else Normal(x, torch.tensor(math.nan), validate_args=False))

    @program
    def guide(p):
        sample("x", Normal(p["m"], 1.0))

    fine = elbo(broken, guide, SEEN)
    fine.value_and_grad(A)
    refused("log density of site 'y' is NaN", fine, {**A, "a": torch.tensor(2.0)})

    @program
    def positive(p):
        sample("x", Gamma(1.0, 1.0))

    refused(r"density of site 'x' \(Gamma\) has no value there", elbo(positive, guide, {}))
    with pytest.raises(InvalidData, match="the objective is not finite: all densities are finite"):
        Objective(lambda p: torch.log(-guide.simulate(p)[1].exp())).value_and_grad(A)


def test_objectives_that_are_not_one_number():
    refused(r"one number a particle, shape \(\), got a tensor of shape \(3,\)", lambda p: torch.ones(3) * p["a"])
    refused("one number a particle, .* got float", lambda p: 1.0)
    with pytest.raises(InvalidData, match="expected an objective to be a function"):
        Objective(3)


def test_branches_are_capped_and_control_flow_needs_to_be_declared():
    @program
    def many(p):
        for i in range(12):
            sample(f"k{i}", Bernoulli(logits=p["a"]), Enumerate())

    refused("more than max_branches=1024; nested enumerations multiply", lambda p: many.simulate(p)[1])
    refused("more than max_branches=8", lambda p: many.simulate(p)[1], max_branches=8, vectorised=False)

    def branching(p):
        x = program(lambda q: sample("x", Normal(q["a"], 1.0))).simulate(p)[0]["x"]
        return x if x > 0 else -x

    refused("vectorised=False", branching)


@pytest.mark.parametrize("params", [{}, {"a": 1.0}, {"a": torch.tensor(1)}, [torch.ones(1)]])
def test_parameters_that_cannot_be_differentiated(params):
    refused("parameter", lambda p: torch.ones(()), params)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SIR(0), "whole number of 1 or more particles"),
        (lambda: Marginal(chain, "x", SIR(1)), "list of addresses"),
        (lambda: Average(Reinforce(), 0), "runs="),
        (lambda: Average(Enumerate(), 2), "several times already"),
        (lambda: RunningMean(1.0), "decay="),
        (lambda: Reinforce("mean"), "baseline="),
        (lambda: sample("x", Normal(0.0, 1.0)), "outside a program"),
        (lambda: conjugate.simulate(), "outside an objective; .* draws"),
        (lambda: replicate(3, lambda: torch.zeros(())), "inside an objective"),
        (lambda: replicate(0, lambda: torch.zeros(())), "replicas of 1 or more"),
        (lambda: sequential([], [], 2), "as many proposals as targets"),
        (lambda: elbo(conjugate, normal_guide, SEEN).value_and_grad(AWAY, particles=0), "particles="),
        (lambda: elbo(conjugate, normal_guide, SEEN).maximise(AWAY, steps=0), "steps="),
        (lambda: elbo(conjugate, normal_guide, SEEN, vectorised=False).value_and_grad(AWAY, rows=3), "rows="),
        (lambda: check_unbiased(elbo(conjugate, normal_guide, SEEN), AWAY, batches=3), "20 batches"),
        (lambda: pareto_k(elbo(conjugate, normal_guide, SEEN), AWAY, n=10), "100 draws"),
        (lambda: Laplace(program(lambda: sample("k", Categorical(torch.ones(3)))), {}), "'k' is discrete"),
        (
            lambda: elbo(
                conjugate, program(lambda p: sample("x", Normal(p["m"], 1.0), Reinforce("leave-one-out"))), SEEN
            ).value_and_grad(AWAY),
            "two or more",
        ),
    ],
)
def test_settings_that_cannot_be_used(make, message):
    with pytest.raises(InvalidData, match=message):
        make()


def test_reparameterise_is_what_happens_without_a_strategy():
    def grads(strategy):
        guide = program(lambda p: sample("x", Normal(p["m"], p["s"].exp()), strategy))
        return elbo(conjugate, guide, SEEN).value_and_grad(AWAY, particles=5).grads["m"]

    assert torch.equal(grads(None), grads(Reparameterise()))
