"""Words of a sentence that an encoder with a linear probe goes by: decomposition beside gradients, perturbing, and chance."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from locum.explain.cd_t import ContextualDecomposition
from locum.nets.pretrained import minilm

DELETED = (0.1, 0.2, 0.3, 0.4, 0.5)
STEPS, PERTURBED = 16, 60


def sentences() -> tuple[list[str], np.ndarray]:
    """Short sentences of film reviews, shuffled, and whether they praise."""
    file = Path(os.environ.get("LOCUM_DATA", "shared/data")) / "text" / "nltk" / "sentence_polarity.zip"
    texts, labels = [], []
    with zipfile.ZipFile(file) as packed:
        for name in sorted(packed.namelist()):
            if name.endswith((".pos", ".neg")):
                lines = packed.read(name).decode("latin1").splitlines()
                short = [line.strip() for line in lines if 6 <= len(line.split()) <= 16]
                texts += short
                labels += [int(name.endswith(".pos"))] * len(short)
    order = np.random.default_rng(0).permutation(len(texts))
    return [texts[i] for i in order], np.array(labels)[order]


class Probe:
    """MiniLM with a logistic probe on the mean of its last states."""

    def __init__(self, texts: list[str], labels: np.ndarray) -> None:
        self.model, self.tokenizer = minilm()
        X = np.stack([self.states(self.ids(text)[None]).mean(dim=1)[0].numpy() for text in texts])
        fitted = LogisticRegression(C=10, max_iter=500).fit(X, labels)
        self.head = torch.nn.Linear(X.shape[1], 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.as_tensor(np.vstack([0 * fitted.coef_, fitted.coef_])))
            self.head.bias.copy_(torch.as_tensor(np.append(0.0, fitted.intercept_)))

    def ids(self, text: str) -> torch.Tensor:
        return torch.as_tensor(self.tokenizer(text)["input_ids"])

    def states(self, ids: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.model(input_ids=ids).last_hidden_state

    def chance(self, ids: torch.Tensor) -> np.ndarray:
        """Probabilities of both classes, shape (n, 2)."""
        with torch.no_grad():
            return self.head(self.states(ids).mean(dim=1)).softmax(dim=1).numpy()


def decomposed(probe: Probe, **settings: Any) -> Callable[[torch.Tensor, int], np.ndarray]:
    cd = ContextualDecomposition(probe.model, head=probe.head, **settings)
    return lambda ids, label: cd.local_importance([ids.tolist()], labels=[label])[0].values


def integrated_gradients(probe: Probe) -> Callable[[torch.Tensor, int], np.ndarray]:
    """From mask tokens to the sentence, of the margin."""
    words, mask = probe.model.embeddings.word_embeddings, probe.tokenizer.mask_token_id

    def explain(ids: torch.Tensor, label: int) -> np.ndarray:
        end, start = words(ids).detach(), words(masked(ids, range(1, len(ids) - 1), mask)).detach()
        steps = (torch.arange(STEPS) + 0.5) / STEPS
        path = (start + steps[:, None, None] * (end - start)).requires_grad_()
        logits = probe.head(probe.model(inputs_embeds=path).last_hidden_state.mean(dim=1))
        (slopes,) = torch.autograd.grad((logits[:, label] - logits[:, 1 - label]).sum(), path)
        return (slopes.mean(dim=0) * (end - start)).sum(dim=-1).numpy()

    return explain


def perturbing(probe: Probe, seed: int) -> Callable[[torch.Tensor, int], np.ndarray]:
    """LIME: a weighted linear model of which words are there."""
    rng, mask = np.random.default_rng(seed), probe.tokenizer.mask_token_id

    def explain(ids: torch.Tensor, label: int) -> np.ndarray:
        keep = np.ones((PERTURBED, len(ids)), dtype=bool)
        keep[1:, 1:-1] = rng.random((PERTURBED - 1, len(ids) - 2)) < 0.5
        P = probe.chance(torch.where(torch.as_tensor(keep), ids, mask))[:, label].clip(1e-6, 1 - 1e-6)
        weight = np.exp(-((1 - np.sqrt(keep[:, 1:-1].mean(axis=1))) ** 2) / 0.25**2)
        return Ridge(alpha=1.0).fit(keep, np.log(P / (1 - P)), weight).coef_

    return explain


def masked(ids: torch.Tensor, places: Any, mask: int) -> torch.Tensor:
    out = ids.clone()
    out[list(places)] = mask
    return out


def deletion(quick: bool, seed: int) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Mean probability of the answer as the words of highest importance are masked, one value a sentence and method."""
    texts, labels = sentences()
    train, count = (300, 30) if quick else (1500, 200)
    probe = Probe(texts[:train], labels[:train])
    held = [probe.ids(text) for text in texts[train : train + count]]
    rng = np.random.default_rng(seed)
    methods: dict[str, Any] = {
        "decomposition": decomposed(probe, attention="fixed"),  # as the paper's code for BERT does
        "decomposition, full attention": decomposed(probe),
        "integrated gradients": integrated_gradients(probe),
        "LIME": perturbing(probe, seed),
        "random": lambda ids, label: rng.random(len(ids)),
    }
    areas: dict[str, list[float]] = {name: [] for name in methods}
    right = []
    for ids, label in zip(held, labels[train : train + count], strict=True):
        answer = int(probe.chance(ids[None])[0].argmax())
        right.append(answer == label)
        inside = len(ids) - 2
        for name, explain in methods.items():
            order = 1 + np.argsort(-explain(ids, answer)[1:-1], kind="stable")
            rows = [masked(ids, order[: max(1, round(share * inside))], probe.tokenizer.mask_token_id) for share in DELETED]
            areas[name].append(float(probe.chance(torch.stack(rows))[:, answer].mean()))
    return {name: np.array(values) for name, values in areas.items()}, {"accuracy": float(np.mean(right))}
