"""Every estimator, alone and composed, against the exact derivative; estimators broken on purpose must show."""

from __future__ import annotations

import itertools
import math

import pytest

torch = pytest.importorskip("torch")

from torch.distributions import (  # noqa: E402
    Bernoulli,
    Beta,
    Categorical,
    Exponential,
    Gamma,
    Independent,
    Normal,
    Poisson,
    Uniform,
)

from locum.core.errors import InvalidData  # noqa: E402
from locum.infer.programmable_vi import (  # noqa: E402
    SIR,
    Average,
    Choice,
    Enumerate,
    Marginal,
    MeasureValued,
    Normalize,
    Objective,
    Reinforce,
    Reparameterise,
    RunningMean,
    Strategy,
    check_unbiased,
    elbo,
    iwelbo,
    program,
    sample,
    sequential,
)

CASES = {}


def case(name, run, expectation, params, n=20_000, **settings):
    """A case: the objective's function of params, and its expectation in closed form."""
    CASES[name] = (Objective(run, **settings), expectation, {key: torch.tensor(one) for key, one in params.items()}, n)


def exact(expectation, params):
    """The derivative of a closed form, in double precision."""
    free = {key: one.double().requires_grad_() for key, one in params.items()}
    grads = torch.autograd.grad(expectation(free), list(free.values()))
    return {key: grad.numpy() for key, grad in zip(free, grads, strict=True)}


def checked_against_exact(name):
    objective, expectation, params, n = CASES[name]
    return check_unbiased(objective, params, exact=exact(expectation, params), n=n, batches=20)


SCORES = {
    "REINFORCE": Reinforce(),
    "constant baseline": Reinforce(1.5),
    "leave-one-out baseline": Reinforce("leave-one-out"),
    "running baseline": Reinforce(RunningMean()),
    "average of REINFORCE": Average(Reinforce(), 3),
}


# ---------------------------------------------------------------------- one choice
def one(law, of, strategy):
    @program
    def draw(p):
        sample("x", law(p), strategy)

    return lambda p: of(draw.simulate(p)[0]["x"], p)


for kind, strategy in {
    **SCORES,
    "reparameterised": None,
    "average of reparameterised": Average(Reparameterise(), 2),
    "measure-valued": MeasureValued(),
}.items():
    case(
        f"normal, {kind}",
        one(lambda p: Normal(p["m"], p["s"].exp()), lambda x, p: x**3 + p["m"] * x**2, strategy),
        lambda p: p["m"] ** 3 + 3 * p["m"] * (2 * p["s"]).exp() + p["m"] * (p["m"] ** 2 + (2 * p["s"]).exp()),
        {"m": 0.7, "s": -0.3},
    )
for kind, strategy in {**SCORES, "enumerated": Enumerate(), "measure-valued": MeasureValued()}.items():
    case(
        f"flip, {kind}",
        one(lambda p: Bernoulli(logits=p["a"]), lambda x, p: (x - p["a"]) ** 2, strategy),
        lambda p: p["a"].sigmoid() * (1 - p["a"]) ** 2 + (1 - p["a"].sigmoid()) * p["a"] ** 2,
        {"a": 0.4},
    )
TABLE = torch.tensor([1.0, -2.0, 0.5, 3.0])
HIDDEN = torch.linspace(-1.0, 1.0, 12).reshape(4, 3)
for kind, strategy in {**SCORES, "enumerated": Enumerate()}.items():
    case(
        f"categorical of a network, {kind}",
        one(
            lambda p: Categorical(logits=HIDDEN @ torch.tanh(p["w"])),
            lambda k, p: TABLE[k.long()] * p["w"].sum(),
            strategy,
        ),
        lambda p: (torch.softmax(HIDDEN.double() @ torch.tanh(p["w"]), 0) * TABLE).sum() * p["w"].sum(),
        {"w": [0.3, -0.8, 1.1]},
    )
for kind, strategy in {"REINFORCE": Reinforce(8.0), "measure-valued": MeasureValued()}.items():
    case(
        f"Poisson, {kind}",
        one(lambda p: Poisson(p["r"]), lambda x, p: x**2, strategy),
        lambda p: p["r"] ** 2 + p["r"],
        {"r": 2.0},
    )
for kind, strategy in {"implicit": None, "REINFORCE": Reinforce("leave-one-out")}.items():
    case(
        f"gamma, {kind}",
        one(lambda p: Gamma(p["a"], p["b"]), lambda x, p: x**2, strategy),
        lambda p: p["a"] * (p["a"] + 1) / p["b"] ** 2,
        {"a": 1.7, "b": 1.3},
    )
    case(
        f"beta, {kind}",
        one(lambda p: Beta(p["a"], p["b"]), lambda x, p: x**2, strategy),
        lambda p: p["a"] * (p["a"] + 1) / ((p["a"] + p["b"]) * (p["a"] + p["b"] + 1)),
        {"a": 1.4, "b": 2.3},
    )
    case(
        f"exponential, {kind}",
        one(lambda p: Exponential(p["r"]), lambda x, p: x**2, strategy),
        lambda p: 2 / p["r"] ** 2,
        {"r": 1.2},
    )
case(
    "uniform",
    one(lambda p: Uniform(-p["b"], p["b"] ** 2), lambda x, p: x**2, None),
    lambda p: (p["b"] ** 6 + p["b"] ** 3) / (3 * (p["b"] ** 2 + p["b"])),
    {"b": 1.4},
)
for kind, strategy in {
    "enumerated": Enumerate(),
    "measure-valued": MeasureValued(),
    "REINFORCE": Reinforce("leave-one-out"),
}.items():
    case(
        f"three flips at once, {kind}",
        one(
            lambda p: Independent(Bernoulli(logits=p["a"]), 1),
            lambda x, p: x[..., 0] * x[..., 1] - 2 * x[..., 2] * x[..., 0],
            strategy,
        ),
        lambda p: p["a"].sigmoid()[0] * (p["a"].sigmoid()[1] - 2 * p["a"].sigmoid()[2]),
        {"a": [0.3, -0.5, 1.0]},
    )
for kind, strategy in {"reparameterised": None, "measure-valued": MeasureValued()}.items():
    case(
        f"two normals at once, {kind}",
        one(lambda p: Independent(Normal(p["m"], p["s"]), 1), lambda x, p: (x[..., 0] * x[..., 1]) ** 2, strategy),
        lambda p: (p["m"] ** 2 + p["s"] ** 2).prod(),
        {"m": [0.5, -1.0], "s": [0.8, 1.2]},
    )


# ---------------------------------------------------------------------- several choices
MIXED = list(itertools.product([Enumerate(), MeasureValued(), Reinforce(0.5)], [None, Reinforce(1.5), MeasureValued()]))


def branching(first, second):
    """A flip says which normal is drawn, by control flow of Python."""

    @program
    def draw(p):
        if sample("up", Bernoulli(logits=p["a"]), first) > 0:
            return sample("x", Normal(p["m"], 1.0), second)
        return sample("y", Normal(0.0, p["m"].exp()), None if second is None else Reinforce())

    def run(p):
        choices, _ = draw.simulate(p)
        return choices["x"] ** 2 if "x" in choices else choices["y"] ** 2

    return run


def chosen(first, second):
    @program
    def draw(p):
        up = sample("up", Bernoulli(logits=p["a"]), first)
        sample("x", Normal(up * p["m"], torch.where(up > 0, torch.ones(()), p["m"].exp())), second)

    return lambda p: draw.simulate(p)[0]["x"] ** 2


def two_normals(p):
    return p["a"].sigmoid() * (p["m"] ** 2 + 1) + (1 - p["a"].sigmoid()) * (2 * p["m"]).exp()


for number, (first, second) in enumerate(MIXED):
    kinds = f"{type(first).__name__} then {type(second).__name__ if second else 'Reparameterise'}"
    case(f"which normal by where, {kinds}", chosen(first, second), two_normals, {"a": 0.3, "m": 0.4})
    if number % 2 == 0:
        case(f"which normal by if, {kinds}", branching(first, second), two_normals, {"a": 0.3, "m": 0.4}, 300, vectorised=False)


def walk(*strategies):
    @program
    def draw(p):
        x = torch.zeros(())
        for step, strategy in enumerate(strategies):
            x = sample(f"x{step}", Normal(p["a"] * x + 0.5, p["s"]), strategy)

    return lambda p: draw.simulate(p)[0]["x2"] ** 2


def walked(p):
    mean = 0.5 * (1 + p["a"] + p["a"] ** 2)
    return mean**2 + p["s"] ** 2 * (1 + p["a"] ** 2 + p["a"] ** 4)


for order in itertools.permutations([Reparameterise(), Reinforce("leave-one-out"), MeasureValued()]):
    case("a loop of " + ", ".join(type(one).__name__ for one in order), walk(*order), walked, {"a": 0.6, "s": 0.9})


def runs_of_heads(strategy):
    """How many heads before the first tail, four at most."""

    @program
    def draw(p):
        count = 0
        while count < 4 and sample(f"heads{count}", Bernoulli(p["p"]), strategy) > 0:
            count += 1
        return count

    def run(p):
        choices, _ = draw.simulate(p)
        return torch.as_tensor(float(sum(choices.values())))

    return run


for kind, strategy in {"enumerated": Enumerate(), "measure-valued": MeasureValued(), "REINFORCE": Reinforce(1.0)}.items():
    case(
        f"a while loop, {kind}",
        runs_of_heads(strategy),
        lambda p: sum(p["p"] ** k for k in range(1, 5)),
        {"p": 0.6},
        100,
        vectorised=False,
    )


def four_kinds(p):
    flip = sample("flip", Bernoulli(logits=p["a"]), Enumerate())
    count = sample("count", Poisson((p["r"] + flip).exp()), Reinforce("leave-one-out"))
    other = sample("other", Bernoulli(torch.sigmoid(p["a"] - flip)), MeasureValued())
    sample("x", Normal(count * p["r"], 1.0 + other))


FOUR = program(four_kinds)


def four_expected(p):
    total = 0.0
    for flip in (0.0, 1.0):
        chance, rate = p["a"].sigmoid() if flip else 1 - p["a"].sigmoid(), (p["r"] + flip).exp()
        other = torch.sigmoid(p["a"] - flip)
        total = total + chance * (p["r"] ** 2 * (rate + rate**2) + (1 - other) + 4 * other)
    return total


case("four strategies in one program", lambda p: FOUR.simulate(p)[0]["x"] ** 2, four_expected, {"a": 0.2, "r": 0.3}, 100_000)


# ---------------------------------------------------------------------- objectives on flips, exact by counting
@program
def burglary():
    thief = sample("thief", Bernoulli(0.2))
    alarm = sample("alarm", Bernoulli(0.1 + 0.7 * thief))
    sample("call", Bernoulli(0.05 + 0.9 * alarm))


def joint(thief, alarm):
    """p(thief, alarm, call = 1)."""
    a = 0.1 + 0.7 * thief
    return (0.2 if thief else 0.8) * (a if alarm else 1 - a) * (0.05 + 0.9 * alarm)


CALL = {"call": torch.tensor(1.0)}
LOGITS = {"t": -0.3, "a": 0.8, "c": 0.5}
FLIPS = list(itertools.product((0, 1), repeat=2))


def two_flips(first, second):
    @program
    def guide(p):
        thief = sample("thief", Bernoulli(logits=p["t"]), first)
        sample("alarm", Bernoulli(logits=p["a"] + p["c"] * thief), second)

    return guide


def chance(p, thief, alarm):
    t, a = p["t"].sigmoid(), (p["a"] + p["c"] * thief).sigmoid()
    return (t if thief else 1 - t) * (a if alarm else 1 - a)


def expected_bound(k):
    def bound(p):
        total = 0.0
        for drawn in itertools.product(FLIPS, repeat=k):
            weights = [joint(*one) / chance(p, *one) for one in drawn]
            total = total + math.prod(chance(p, *one) for one in drawn) * torch.log(sum(weights) / k)
        return total

    return bound


PAIRS = {
    "enumerated": (Enumerate(), Enumerate()),
    "measure-valued": (MeasureValued(), MeasureValued()),
    "REINFORCE": (Reinforce("leave-one-out"), Reinforce()),
    "mixed": (MeasureValued(), Enumerate()),
}
RESAMPLING = {
    "enumerated": Enumerate(),
    "mixed": Enumerate(),
    "measure-valued": Reinforce(),
    "REINFORCE": Reinforce("leave-one-out"),
}
for kind, pair in PAIRS.items():
    case(f"ELBO, {kind}", elbo(burglary, two_flips(*pair), CALL).function, expected_bound(1), LOGITS)
    case(f"IWELBO(2), {kind}", iwelbo(burglary, two_flips(*pair), CALL, 2).function, expected_bound(2), LOGITS)
    case(
        f"ELBO of a normalised guide, {kind}",  # the mean log of the average weight, as IWELBO
        elbo(burglary, Normalize(burglary, CALL, SIR(2, two_flips(*pair)), RESAMPLING[kind]), CALL).function,
        expected_bound(2),
        LOGITS,
    )


@program
def thief_alone():
    thief = sample("thief", Bernoulli(0.2))
    sample("call", Bernoulli(0.1 + 0.6 * thief))


def given_alarm(first, second):
    """The alarm as an auxiliary choice of a guide for the thief."""

    @program
    def guide(p):
        alarm = sample("alarm", Bernoulli(logits=p["a"]), first)
        sample("thief", Bernoulli(logits=p["t"] + p["c"] * alarm), second)

    return guide


def expected_marginal(k):
    def bound(p):
        total, on = 0.0, p["a"].sigmoid()
        for thief, *alarms in itertools.product((0, 1), repeat=k + 1):
            given = [(p["t"] + p["c"] * alarm).sigmoid() for alarm in alarms]
            each = [one if thief else 1 - one for one in given]
            weight = math.prod(on if alarm else 1 - on for alarm in alarms) * each[0]
            called = 0.1 + 0.6 * thief
            total = total + weight * (math.log(called * (0.2 if thief else 0.8)) - torch.log(sum(each) / k))
        return total

    return bound


for kind, pair in PAIRS.items():
    for k in (1, 2):
        guide = Marginal(given_alarm(*pair), ["thief"], SIR(k))
        case(f"ELBO of a marginal, SIR({k}), {kind}", elbo(thief_alone, guide, CALL).function, expected_marginal(k), LOGITS)


def smc(strategy, resampling):
    @program
    def first(p):
        sample("thief", Bernoulli(logits=p["t"]), strategy)

    @program
    def second(p, before):
        sample("alarm", Bernoulli(logits=p["a"] + p["c"] * before["thief"]), strategy)

    def log_joint(choices):
        return burglary.density({**choices, **CALL})

    def log_first(choices):
        return Bernoulli(0.2).log_prob(choices["thief"])

    def run(p):
        proposals = [lambda before: first.simulate(p), lambda before: second.simulate(p, before)]
        return sequential([log_first, log_joint], proposals, 2, resampling)

    return run


def expected_smc(p):
    total = 0.0
    for thieves in FLIPS:
        odds = [p["t"].sigmoid() if one else 1 - p["t"].sigmoid() for one in thieves]
        weights = [(0.2 if one else 0.8) / odd for one, odd in zip(thieves, odds, strict=True)]
        for parents in FLIPS:
            picked = math.prod(weights[one] / sum(weights) for one in parents)
            for alarms in FLIPS:
                pairs = [(thieves[parent], alarm) for parent, alarm in zip(parents, alarms, strict=True)]
                then = [chance(p, *one) / (p["t"].sigmoid() if one[0] else 1 - p["t"].sigmoid()) for one in pairs]
                grown = [joint(*one) / (0.2 if one[0] else 0.8) / q for one, q in zip(pairs, then, strict=True)]
                log_z = torch.log(sum(weights) / 2) + torch.log(sum(grown) / 2)
                total = total + math.prod(odds) * picked * math.prod(then) * log_z
    return total


case(
    "sequential Monte Carlo, REINFORCE",
    smc(Reinforce("leave-one-out"), Reinforce("leave-one-out")),
    expected_smc,
    LOGITS,
    50_000,
)
case("sequential Monte Carlo, measure-valued, resampling enumerated", smc(MeasureValued(), Enumerate()), expected_smc, LOGITS)


@program
def one_row(weights):
    sample("row", Categorical(weights), Reinforce())


ROWS = torch.tensor([0.5, -1.0, 2.0, 0.3])
case(
    "a minibatch of one row",
    lambda p: 4 * (ROWS[one_row.simulate(torch.full((4,), 0.25))[0]["row"]] - p["m"]) ** 2,
    lambda p: ((ROWS - p["m"]) ** 2).sum(),
    {"m": 0.4},
)


@pytest.mark.parametrize("name", CASES)
def test_the_mean_of_the_estimate_is_the_derivative(name):
    found = checked_against_exact(name)
    assert found.unbiased, f"{found}: {found.gradient} for {found.reference}"


def test_there_are_enough_cases():
    assert len(CASES) >= 80


def test_enumeration_leaves_no_noise():
    objective, expectation, params, _ = CASES["ELBO, enumerated"]
    estimate = objective.value_and_grad(params)
    derivative = exact(expectation, params)
    assert all(abs(estimate.grads[key].item() - derivative[key]) < 1e-5 for key in params)
    assert estimate.value == pytest.approx(float(expectation({key: one.double() for key, one in params.items()})), abs=1e-5)


# ---------------------------------------------------------------------- broken on purpose
class StraightThrough(Strategy):
    """Known to be biased."""

    def choices(self, address, law, shape):
        value = law.sample(shape)
        return [Choice(value + law.probs - law.probs.detach())]


class WrongSign(MeasureValued):
    def choices(self, address, law, shape):
        main, other = super().choices(address, law, shape)
        return [main, Choice(other.value, other.width, -other.weight, pure=True)]


class SeesItself(Strategy):
    """A baseline that depends on the value drawn."""

    def choices(self, address, law, shape):
        value = law.sample(shape)
        log_density = law.log_prob(value)
        coefficient = log_density - log_density.detach()
        return [Choice(value, coefficient=coefficient, offset=coefficient * value)]


@pytest.mark.parametrize("strategy", [StraightThrough(), WrongSign(), SeesItself()])
def test_a_broken_estimator_is_found(strategy):
    run = Objective(one(lambda p: Bernoulli(logits=p["a"]), lambda x, p: (x - 0.2) ** 3, strategy))
    params = {"a": torch.tensor(0.4)}
    derivative = exact(lambda p: p["a"].sigmoid() * 0.8**3 - (1 - p["a"].sigmoid()) * 0.2**3, params)
    found = check_unbiased(run, params, exact=derivative, n=20_000, batches=20)
    assert not found.unbiased
    assert "biased in a" in str(found)
    assert not check_unbiased(run, params, n=100_000, batches=25, step=0.1).unbiased  # by differences of values alone


def test_a_branch_on_a_reparameterised_value_is_found():
    def above(x, p):
        return torch.where(x > 0, x + 2.0, x)

    def checked(strategy):
        return check_unbiased(
            Objective(one(lambda p: Normal(p["m"], 1.0), above, strategy)), {"m": torch.tensor(0.3)}, n=20_000, batches=30
        )

    assert not checked(Reparameterise()).unbiased
    assert checked(Reinforce("leave-one-out")).unbiased
    assert checked(MeasureValued()).unbiased


def test_differences_agree_with_exact_derivatives():
    objective, expectation, params, _ = CASES["normal, reparameterised"]
    found = check_unbiased(objective, params, n=20_000, batches=20)
    derivative = exact(expectation, params)
    assert found.unbiased
    assert all(abs(found.reference[key] - derivative[key]) < 0.2 for key in params)


def test_the_test_itself_errs_as_often_as_it_says():
    objective, expectation, params, _ = CASES["flip, REINFORCE"]
    derivative = exact(expectation, params)
    passed = [
        check_unbiased(objective, params, exact=derivative, n=1_000, batches=20, level=0.8, random_state=i) for i in range(30)
    ]
    share = sum(one.unbiased for one in passed) / len(passed)
    assert 0.6 < share < 0.97


def test_infinite_variance_is_refused():
    heavy = Objective(one(lambda p: Normal(p["m"], 1.0), lambda x, p: (x**2 / 2.2).exp(), None))
    with pytest.raises(InvalidData, match="variance is infinite"):
        check_unbiased(heavy, {"m": torch.tensor(0.0)}, n=20_000)


def test_variances_are_in_the_order_of_the_work():
    def variance(first, second):
        bound = elbo(burglary, two_flips(first, second), CALL)
        params = {key: torch.tensor(one) for key, one in LOGITS.items()}
        grads = [bound.value_and_grad(params, particles=4, random_state=seed).grads for seed in range(60)]
        return sum(float(torch.stack([one[key] for one in grads]).var()) for key in LOGITS)

    order = [variance(one, one) for one in (Enumerate(), MeasureValued(), Reinforce("leave-one-out"), Reinforce())]
    assert order[0] < 1e-10
    assert order == sorted(order)
