"""Time of a training step beside the same step written by hand, and beside Pyro."""

from __future__ import annotations

import importlib.util
import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import regression
import torch
from claims import Claim, over_seeds
from cone import BOUNDS, OBS, start
from scipy import stats
from sklearn.datasets import load_digits
from torch.distributions import Bernoulli, Independent, Normal

from locum.infer.programmable_vi import elbo, iwelbo, program, sample
from locum.nets import seeded, train

LATENT = 8


class Autoencoder(torch.nn.Module):
    def __init__(self, hidden: int = 128) -> None:
        super().__init__()
        layers = torch.nn.Linear(64, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 2 * LATENT)
        self.encoder = torch.nn.Sequential(*layers)
        back = torch.nn.Linear(LATENT, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 64)
        self.decoder = torch.nn.Sequential(*back)


def entries(law: Any) -> Independent:
    return Independent(law, 1)


@program
def decode(net, x):
    z = sample("z", entries(Normal(torch.zeros(len(x), LATENT), torch.ones(len(x), LATENT))))
    sample("x", entries(Bernoulli(logits=net.decoder(z))))


@program
def encode(net, x):
    mean, log_scale = net.encoder(x).chunk(2, -1)
    sample("z", entries(Normal(mean, log_scale.exp())))


def digits() -> torch.Tensor:
    return torch.tensor(load_digits().data >= 8, dtype=torch.float32)


def autoencoder_steps(batch: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """One step of Adam, ours and by hand."""
    x = digits()[torch.arange(batch) % 1797]
    with seeded(0):
        nets = [Autoencoder(), Autoencoder()]
    climbs = [torch.optim.Adam(net.parameters(), lr=1e-3) for net in nets]
    bound = elbo(decode, encode, lambda x: {"x": x})

    def ours() -> None:
        climbs[0].zero_grad(set_to_none=True)
        (-bound.surrogate(nets[0], x, rows=batch)).backward()
        climbs[0].step()

    def hand() -> None:
        climbs[1].zero_grad(set_to_none=True)
        mean, log_scale = nets[1].encoder(x).chunk(2, -1)
        q = entries(Normal(mean, log_scale.exp()))
        z = q.rsample()
        p = entries(Normal(torch.zeros(batch, LATENT), torch.ones(batch, LATENT)))
        log_x = entries(Bernoulli(logits=nets[1].decoder(z))).log_prob(x)
        (-(p.log_prob(z) + log_x - q.log_prob(z)).mean()).backward()
        climbs[1].step()

    return ours, hand


def cone_steps() -> tuple[Callable[[], None], Callable[[], None]]:
    free = [{key: one.clone().requires_grad_() for key, one in start(0, True).items()} for _ in range(2)]
    climbs = [torch.optim.Adam(list(one.values()), lr=1e-3) for one in free]

    def ours() -> None:
        climbs[0].zero_grad(set_to_none=True)
        (-BOUNDS["ELBO"].surrogate(free[0], particles=64)).backward()
        climbs[0].step()

    def hand() -> None:
        p = free[1]
        climbs[1].zero_grad(set_to_none=True)
        qx, qy = Normal(p["mx"], p["sx"].exp()), Normal(p["my"], p["sy"].exp())
        x, y = qx.rsample((64,)), qy.rsample((64,))
        r = x * x + y * y
        log_p = Normal(0.0, 10.0).log_prob(x) + Normal(0.0, 10.0).log_prob(y) + Normal(r, 0.1 + r / 100).log_prob(OBS["z"])
        (-(log_p - qx.log_prob(x) - qy.log_prob(y)).mean()).backward()
        climbs[1].step()

    return ours, hand


def flip_steps() -> tuple[Callable[[], None], Callable[[], None]]:
    """REINFORCE with a leave-one-out baseline on the 30 flips of the selection model."""
    X, y = regression.cancer()
    free = [{key: one.clone().requires_grad_() for key, one in regression.begin(30).items()} for _ in range(2)]
    climbs = [torch.optim.Adam(list(one.values()), lr=1e-3) for one in free]
    guide = regression.slab(regression.ESTIMATORS["REINFORCE, leave-one-out"])
    bound, n = elbo(regression.selection(X), guide, {"y": y}), 16

    def ours() -> None:
        climbs[0].zero_grad(set_to_none=True)
        (-bound.surrogate(free[0], particles=n)).backward()
        climbs[0].step()

    def hand() -> None:
        p = free[1]
        climbs[1].zero_grad(set_to_none=True)
        flips, slab = entries(Bernoulli(logits=p["k"])), entries(Normal(p["m"], p["s"].exp()))
        kept, weights = flips.sample((n,)), slab.rsample((n,))
        score = flips.log_prob(kept)
        log_p = entries(Bernoulli(torch.full((30,), 0.2))).log_prob(kept)
        log_p = log_p + entries(Normal(torch.zeros(30), torch.ones(30))).log_prob(weights)
        f = log_p + entries(Bernoulli(logits=(kept * weights) @ X.T)).log_prob(y) - score - slab.log_prob(weights)
        known = f.detach()
        others = (known.sum() - known) / (n - 1)
        (-(f + (known - others) * score).mean()).backward()
        climbs[1].step()

    return ours, hand


def ratio(ours: Callable[[], None], hand: Callable[[], None], rounds: int) -> tuple[float, list[float], list[float]]:
    """Median ratio of turns of ten steps each, its interval by order statistics, and the median times in ms.

    Processor time, since other work on the machine would be in the other.
    """
    times = np.empty((rounds, 2))
    with seeded(0):
        for row in range(-3, rounds):
            for column in (0, 1) if row % 2 else (1, 0):
                at = time.process_time()
                for _ in range(10):
                    (ours, hand)[column]()
                times[max(row, 0), column] = (time.process_time() - at) / 10
    ratios = np.sort(times[:, 0] / times[:, 1])
    low = int(stats.binom.ppf(0.025, rounds, 0.5))
    interval = [float(ratios[low - 1]), float(ratios[rounds - low])]
    return float(np.median(ratios)), interval, (1e3 * np.median(times, axis=0)).tolist()


def pyro_step() -> Callable[[], None] | None:
    """The cone in Pyro, 64 particles side by side; None where it cannot be imported."""
    if importlib.util.find_spec("pyro") is None:
        return None
    import pyro
    import pyro.distributions as dist

    def model() -> None:
        x, y = (pyro.sample(key, dist.Normal(0.0, 10.0)) for key in "xy")
        r = x * x + y * y
        pyro.sample("z", dist.Normal(r, 0.1 + r / 100), obs=OBS["z"])

    def guide() -> None:
        for key in "xy":
            mean = pyro.param(f"m{key}", start(0, True)[f"m{key}"])
            pyro.sample(key, dist.Normal(mean, pyro.param(f"s{key}", torch.tensor(-2.0)).exp()))

    loss = pyro.infer.Trace_ELBO(num_particles=64, vectorize_particles=True)
    return pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), loss).step


def claims(quick: bool, seed: int) -> Iterator[Claim]:
    rounds = 60 if quick else 150
    pairs = {"cone, ELBO": cone_steps(), "30 flips, REINFORCE": flip_steps()}
    pairs |= {f"autoencoder, batch {batch}": autoencoder_steps(batch) for batch in (64, 256, 1024)}
    found = {name: ratio(*pair, rounds) for name, pair in pairs.items()}
    worst = max(found, key=lambda name: found[name][0])
    details: dict[str, Any] = {
        name: {"ratio": one[0], "interval": one[1], "ms ours": one[2][0], "ms by hand": one[2][1]}
        for name, one in found.items()
    }
    peer = pyro_step()
    if peer is not None:
        ours = cone_steps()[0]
        details["cone, ours to Pyro"] = ratio(ours, peer, rounds)[0]
    yield Claim(
        "Generality costs little time",
        f"processor time of a training step to that of the same written by hand, the dearest of five ({worst})",
        found[worst][0],
        *found[worst][1],
        seeds=rounds,
        direction="less",
        threshold=1.2,
        decided_by="effect",
        details=details,
    )
    yield trained_by_bounds(quick, seed)


def trained_by_bounds(quick: bool, seed: int) -> Claim:
    """Autoencoders of digits trained on the ELBO and on IWELBO(10), scored by IWELBO(200) on rows held out."""
    rows, bounds = digits(), {"ELBO": elbo(decode, encode, observe), "IWELBO(10)": iwelbo(decode, encode, observe, 10)}
    fine, scores, epochs = iwelbo(decode, encode, observe, 200), {name: [] for name in bounds}, 8 if quick else 20
    for one in range(seed, seed + (2 if quick else 5)):
        order = torch.from_numpy(np.random.default_rng(one).permutation(len(rows)))
        fitting, held = rows[order[:1400]], rows[order[1400:]]
        for name, bound in bounds.items():
            with seeded(one):
                net = Autoencoder()

            def loss(net: Any, x: Any, bound: Any = bound) -> Any:
                return -bound.surrogate(net, x, rows=len(x))

            train(net, loss, [fitting], epochs=epochs, batch_size=64, random_state=one)
            scores[name].append(float(fine.evaluate(net, held, rows=len(held), random_state=one).mean()))
    return Claim(
        "An importance-weighted objective trains the better autoencoder",
        "nats an image by which IWELBO(10) raises the held-out log likelihood, digits",
        *over_seeds(np.subtract(scores["IWELBO(10)"], scores["ELBO"])),
        seeds=len(scores["ELBO"]),
        needed=False,
        details={name: statistics.fmean(each) for name, each in scores.items()} | {"uniform": -64 * math.log(2)},
    )


def observe(x: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"x": x}
