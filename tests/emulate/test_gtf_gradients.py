"""The hand-written reverse pass against automatic differentiation of the same recursion, written out in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from locum.emulate._gtf_cells import CELLS, OBSERVATIONS
from locum.emulate._gtf_engine import ESTIMATORS, Flat, Problem, loss_and_gradient


def features(cell, p, z):
    relu = torch.relu
    return {
        "shplrnn": lambda: relu(z @ p["W2"].T + p["h2"]),
        "clipped-shplrnn": lambda: relu(z @ p["W2"].T + p["h2"]) - relu(z @ p["W2"].T),
        "plrnn": lambda: relu(z),
        "mean-centred-plrnn": lambda: relu(z - z.mean(dim=-1, keepdim=True)),
        "dendritic-plrnn": lambda: torch.einsum("b,sbm->sm", p["a"], relu(z[:, None] - p["H"])),
    }[cell]()


def written_out(cell, observation, flat, vector, x, s, alpha, partial, penalties):
    """The loss by torch, step by step."""
    p, at = {}, 0
    for name, shape in flat.shapes.items():
        size = int(np.prod(shape))
        p[name] = vector[at : at + size].reshape(shape)
        at += size
    N, M = x.shape[-1], flat.cell.latent
    if observation == "affine":
        b = p.get("b", torch.zeros(N))
        signal = ((x - b) @ torch.linalg.pinv(p["B"]).T).detach()
        first, decode = signal[0], lambda z: z @ p["B"].T + b
        s_values = torch.linalg.svdvals(p["B"])
        kept_small = (1 - s_values[0] / (s_values[-1] + 1e-8)) ** 2
    else:
        begin = torch.cat([x, x @ p["L"].T], dim=-1) if M > N else x
        signal, first, decode = begin.detach(), begin[0], lambda z: z[..., :N]
        kept_small = (p["L"] ** 2).sum() if M > N else torch.zeros(())
    W = p["W"] - torch.diag(torch.diag(p["W"])) if flat.cell.hollow else p["W"]
    z, total = first, 0.0
    for t in range(len(x) - 1):
        said = p["A"] * z + features(cell, p, z) @ W.T + p["h"]
        if s is not None:
            said = said + s[t] @ p["C"].T
        total = total + ((decode(said) - x[t + 1]) ** 2).mean()
        share = torch.full((M,), float(alpha[t]), dtype=x.dtype)
        if partial:
            share[N:] = 0.0
        z = (1 - share) * said + share * signal[t + 1]
    lam = sum(((p[name] - (1.0 if name == "A" else 0.0)) ** 2).sum() for name in flat.cell.shapes if name != "W") + (W**2).sum()
    return total / (len(x) - 1) + penalties[0] * lam + penalties[1] * kept_small


@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("M", "N", "K", "partial"), [(3, 3, 0, False), (4, 2, 2, False), (4, 2, 0, True)])
def test_the_reverse_pass_is_that_of_automatic_differentiation(cell, observation, M, N, K, partial):
    if partial and observation == "affine":
        pytest.skip("no latent state is observed by itself")
    rng = np.random.default_rng(1)
    flat = Flat(CELLS[cell](M, 5, K), OBSERVATIONS[observation](N, M, True))
    named = flat.named(flat.initial(rng) + 0.1 * rng.normal(size=flat.size))
    vector = flat.vector({name: flat.cell.allowed(name, one) for name, one in named.items()})
    x, alpha = rng.normal(size=(8, 4, N)), rng.uniform(0, 1, 7)
    s = rng.normal(size=(7, 4, K)) if K else None
    problem = Problem(flat, partial, 1e-2, 3e-2)
    loss, gradient = loss_and_gradient(problem, vector, x, s, alpha)
    leaf = torch.tensor(vector, requires_grad=True)
    tensors = torch.tensor(x), None if s is None else torch.tensor(s)
    expected = written_out(cell, observation, flat, leaf, *tensors, alpha, partial, (1e-2, 3e-2))
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-10)
    np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=1e-8, atol=1e-10)


def test_the_loss_is_of_the_unforced_prediction():
    """With full forcing it is the mean one-step error, not what is left of it after the state was put right."""
    rng = np.random.default_rng(0)
    flat = Flat(CELLS["plrnn"](2, 1, 0), OBSERVATIONS["identity"](2, 2, False))
    vector, x = flat.initial(rng), rng.normal(size=(6, 3, 2))
    loss, _ = loss_and_gradient(Problem(flat, False, 0.0, 0.0), vector, x, None, np.ones(5))
    said = flat.cell.step(flat.named(vector), x[:-1])
    assert loss == pytest.approx(float(((said - x[1:]) ** 2).mean()), rel=1e-12)


@pytest.mark.parametrize("latent", [2, 3, 5])
def test_sizes_of_jacobians_are_spectral_norms(latent):
    rng = np.random.default_rng(0)
    cell = CELLS["clipped-shplrnn"](latent, 7, 0)
    p = cell.initial(rng)
    z = rng.normal(size=(6, 4, latent))
    norms = np.linalg.norm(cell.jacobian(p, z), ord=2, axis=(-2, -1))
    assert ESTIMATORS["batch_maximum"](cell, p, z) == pytest.approx(norms.max(), rel=1e-9)
    assert ESTIMATORS["product_upper_bound"](cell, p, z) == pytest.approx(np.exp(np.log(norms).mean(axis=0)).max(), rel=1e-9)
    assert ESTIMATORS["jacobian_upper_bound"](cell, p, z) >= norms.max()
