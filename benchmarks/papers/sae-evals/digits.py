"""A second task: digits of 8 x 8 pixels, a small network that names them, and two attributes, the digit and how thick it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from locum.inside import (
    CrossSection,
    DictionaryEval,
    PrincipalComponents,
    SparseAutoencoder,
    SupervisedDictionary,
    Tap,
    TaskInputs,
    TopK,
)
from locum.nets import LogitDifference, seeded, train

KS = (2, 4, 6, 12, 32)


def network(X: np.ndarray, y: np.ndarray, seed: int, device: str) -> torch.nn.Module:
    with seeded(seed):
        net = torch.nn.Sequential(
            torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)
        )
    data = (torch.as_tensor(X), torch.as_tensor(y))
    loss = lambda net, x, y: torch.nn.functional.cross_entropy(net(x), y)  # noqa: E731
    train(net, loss, data, epochs=40, batch_size=64, device=device, random_state=seed)
    return net


def partners(labels: dict[str, np.ndarray], attribute: str, rng: np.random.Generator) -> np.ndarray:
    """For each row another one that differs in the attribute and in no other."""
    found = []
    for i in range(len(labels[attribute])):
        fits = np.ones(len(labels[attribute]), dtype=bool)
        for name, values in labels.items():
            fits &= (values != values[i]) if name == attribute else (values == values[i])
        found.append(rng.choice(np.flatnonzero(fits)))
    return np.array(found)


def measured(seed: int, quick: bool, device: str) -> dict[str, Any]:
    """Sufficiency, necessity and control of four dictionaries at the second hidden layer."""
    rng = np.random.default_rng([seed, 9])
    data = load_digits()
    X, y = (data.data / 16).astype(np.float32), data.target
    ink = X.sum(axis=1)
    labels = {"digit": y, "thickness": np.searchsorted(np.quantile(ink, [1 / 3, 2 / 3]), ink)}
    order = rng.permutation(len(X))
    fit, test = order[:1200], order[1200:]
    net = network(X[fit], y[fit], seed, device).eval()
    section = CrossSection(Tap(net, {"hidden": "3"}), {"hidden": "hidden"}, batch_size=512)

    def inputs(rows: np.ndarray) -> TaskInputs:
        return TaskInputs(X[rows], {name: values[rows] for name, values in labels.items()})

    told = inputs(test)
    rows = section.read(inputs(fit))["hidden"]
    settings: dict[str, Any] = {"epochs": 20 if quick else 60, "batch_size": 64, "learning_rate": 1e-3, "random_state": seed}
    dictionaries = {
        "supervised": SupervisedDictionary().fit(rows, inputs(fit).labels),
        "task SAE": SparseAutoencoder(512, TopK(6), **settings, device=device).fit(rows),
        "frozen SAE": SparseAutoencoder(512, TopK(6), **settings, device=device, learn_atoms=False).fit(rows),
        "PCA": PrincipalComponents().fit(rows),
    }
    pairs = {name: partners({key: values[test] for key, values in labels.items()}, name, rng) for name in labels}
    other = y[test][pairs["digit"]]
    ev = DictionaryEval(section, told, LogitDifference(y[test], other))
    goals = [ev.counterfactual(name, told.take(at)) for name, at in pairs.items()]
    found = ev.compare(dictionaries, goals, KS)
    digit = {name: one["digit"] for name, one in found.control.items()}
    labelled = ev.control(dictionaries["supervised"], goals[0], KS, by="labels")
    return {
        "accuracy": float((ev.clean.label == y[test]).mean()), "none": digit["supervised"].none.value,
        "by labels": labelled.agreement(2).value,
        "sufficiency": {name: one.value for name, one in found.sufficiency.items()},
        "necessity": {name: one.value for name, one in found.necessity.items()},
        "agreement": {name: {k: one.agreement(k).value for k in KS} for name, one in digit.items()},
        "recovered": {name: one.recovered().value for name, one in digit.items()},
        "thickness, no edit": found.control["supervised"]["thickness"].none.value,
        "optimality gap": {name: gap(ev, dictionaries[name], goals[0]) for name in ("supervised", "task SAE")},
        "variance unexplained by labels": dictionaries["supervised"].fidelity(ev.activations["hidden"], told.labels).value,
    }  # fmt: skip


def gap(ev: DictionaryEval, dictionary: Any, goal: Any) -> list[float]:
    found = ev.optimality_gap(dictionary, goal, 4)
    return [found.value, found.lower, found.upper, found.n]
