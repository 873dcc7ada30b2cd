"""Tables and sentences for the run: black boxes of the paper's kind on data that ships in a package, or that was fetched."""

from __future__ import annotations

import csv
import os
import zipfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.domain import Column, Domain
from locum.core.target import Target
from locum.datasets import load
from locum.nets import seeded, train

ACCIDENTS = (
    "age", "sex", "person_type", "seat", "restraint", "air_bag", "ejection", "extrication", "location", "alcohol_reported",
    "drugs_reported", "taken_to_hospital",
)  # fmt: skip
SIZES = (12_545, 1_568, 1_569)  # of the paper's three parts
AGES = (0, 18, 30, 45, 60, 200)


@dataclass
class World:
    """A black box, its data in three parts of encoded rows or sentences, and what is true."""

    name: str
    target: Target
    domain: Domain | None
    parts: tuple[tuple[Any, NDArray[Any]], ...]
    accuracy: float


def folder(name: str) -> Path | None:
    """A folder of data that was fetched: beside the shared data, or where $LOCUM_DATA says."""
    root = os.environ.get("LOCUM_DATA")
    found = Path(root, name) if root else None
    return found if found and found.is_dir() else None


# ---------------------------------------------------------------------- tables
def accidents(seed: int, quick: bool) -> World:
    """Fatal accidents: who of the people in them died."""
    table = load("fatal_accidents")
    frame = table.X.loc[:, list(ACCIDENTS)].astype(object)
    age = table.X["age"].to_numpy(dtype=float)
    place = np.clip(np.digitize(np.nan_to_num(age), AGES) - 1, 0, len(AGES) - 2)
    names = np.array([f"{low} to {high - 1}" if high < 200 else f"{low} or more" for low, high in pairwise(AGES)])
    frame["age"] = np.where(np.isnan(age), "unknown", names[place])
    rows = frame.where(frame.notna(), "unknown").to_numpy(dtype=object)
    picked = _balanced(table.y == "fatal", seed)
    rows = np.array([[str(cell).replace("_", " ") for cell in row] for row in rows[picked]], dtype=object)
    truth = np.where(table.y[picked] == "fatal", "died", "survived")
    return _table_world("fatal accidents", rows, truth, ACCIDENTS, seed, quick)


def adult(seed: int, quick: bool) -> World | None:
    """UCI Adult, cut into categories; None where the file is not there."""
    place = folder("simulatability")
    if place is None or not (place / "adult.data").exists():
        return None
    with (place / "adult.data").open(encoding="utf-8", newline="") as file:
        lines = [[cell.strip() for cell in line] for line in csv.reader(file) if len(line) == 15]
    cells = np.array(lines, dtype=object)
    names = ("age", "workclass", "education", "marital status", "occupation", "relationship", "race", "sex", "capital gain",
             "capital loss", "hours per week", "country")  # fmt: skip
    age, gain, loss, hours = (cells[:, j].astype(float) for j in (0, 10, 11, 12))
    ages = np.array(["28 or less", "29 to 37", "38 to 48", "49 or more"])[np.digitize(age, [28.5, 37.5, 48.5])]
    some = [np.array(["none", "low", "high"])[np.where(v == 0, 0, 1 + (v > np.median(v[v > 0])))] for v in (gain, loss)]
    week = np.array(["40 or less", "41 to 45", "46 or more"])[np.digitize(hours, [40.5, 45.5])]
    kept = (1, 3, 5, 6, 7, 8, 9)
    rows = np.column_stack([ages, *(cells[:, j] for j in kept), *some, week, cells[:, 13]]).astype(object)
    rows[:, 11] = np.where(rows[:, 11] == "United-States", "United-States", "other")
    over = cells[:, 14] == ">50K"
    picked = _balanced(over, seed)
    return _table_world("adult", rows[picked], np.where(over, "above $50K", "below $50K")[picked], names, seed, quick)


def _balanced(positive: NDArray[np.bool_], seed: int) -> NDArray[np.intp]:
    rng = np.random.default_rng(seed)
    count = sum(SIZES) // 2
    halves = [rng.permutation(np.flatnonzero(positive == side))[:count] for side in (True, False)]
    return rng.permutation(np.concatenate(halves))


def _table_world(name: str, rows: Any, truth: Any, names: tuple[str, ...], seed: int, quick: bool) -> World:
    columns = tuple(Column(n, "categorical", levels=tuple(sorted(set(rows[:, j])))) for j, n in enumerate(names))
    domain = Domain(columns, "object", ("O",) * len(names))
    cuts = np.cumsum((np.array(SIZES[:2]) / sum(SIZES) * len(rows)).astype(int))
    parts = tuple(zip(np.split(rows, cuts), np.split(truth, cuts), strict=True))
    target = network(parts[0], parts[1], domain, name, seed, 15 if quick else 60)
    return World(name, target, domain, parts, float(np.mean(_said(target, parts[2][0]) == parts[2][1])))


def _said(target: Target, rows: Any) -> NDArray[Any]:
    return np.asarray(target.classes)[target.query(rows).argmax(axis=1)]


def network(fit: Any, dev: Any, domain: Domain, name: str, seed: int, epochs: int) -> Target:
    """The paper's black box: two layers of 50 rectified units on one-hot columns, best epoch on the second part."""
    import torch

    sizes = [len(column.levels) for column in domain.columns]

    def read(rows: Any) -> torch.Tensor:
        Z = torch.tensor(domain.encode(rows)).long()
        return torch.cat([torch.nn.functional.one_hot(Z[:, j], size) for j, size in enumerate(sizes)], dim=1).float()

    classes = np.unique(fit[1])
    (x, y), (x_dev, y_dev) = ((read(X), torch.tensor(np.searchsorted(classes, t))) for X, t in (fit, dev))
    with seeded(seed):
        hidden = [torch.nn.Linear(sum(sizes), 50), torch.nn.ReLU(), torch.nn.Linear(50, 50), torch.nn.ReLU()]
        model = torch.nn.Sequential(*hidden, torch.nn.Linear(50, 2))
    train(
        model,
        lambda m, x, y: torch.nn.functional.cross_entropy(m(x), y),
        [x, y],
        epochs=epochs,
        batch_size=1000,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
        validate=lambda m: float((m(x_dev).argmax(dim=1) != y_dev).float().mean()),
        random_state=seed,
    )

    def answer(rows: Any) -> NDArray[np.float64]:
        with torch.no_grad():
            return torch.softmax(model(read(rows)).double(), dim=1).numpy()

    return Target(answer, name=name, output="probability", classes=classes)


# ---------------------------------------------------------------------- sentences
def reviews(seed: int, quick: bool) -> tuple[World, dict[str, tuple[str, ...]]] | None:
    """Sentences of film reviews and the neighbours of their words; None where the file is not there."""
    place = folder("text/nltk")
    if place is None or not (place / "sentence_polarity.zip").exists():
        return None
    texts, truth = [], []
    with zipfile.ZipFile(place / "sentence_polarity.zip") as files:
        for label in ("neg", "pos"):
            lines = files.read(f"sentence_polarity/rt-polarity.{label}").decode("latin-1").splitlines()
            kept = [" ".join(line.split()) for line in lines if len(line.split()) >= 4]
            texts += kept
            truth += [label] * len(kept)
    order = np.random.default_rng(seed).permutation(len(texts))[: 3000 if quick else None]
    sentences, labels = np.array(texts, dtype=object)[order], np.array(truth)[order]
    cuts = (np.array([0.7, 0.8]) * len(order)).astype(int)
    parts = tuple(zip(np.split(sentences, cuts), np.split(labels, cuts), strict=True))
    target = recurrent(parts[0], parts[1], seed, 2 if quick else 6)
    world = World("film reviews", target, None, parts, float(np.mean(_said(target, parts[2][0]) == parts[2][1])))
    return world, neighbours(parts[0][0])


def recurrent(fit: Any, dev: Any, seed: int, epochs: int) -> Target:
    """A recurrent network of 50 units each way with attention, on word vectors that it learns itself."""
    import torch

    counts: dict[str, int] = {}
    for text in fit[0]:
        for word in text.split():
            counts[word] = counts.get(word, 0) + 1
    place = {word: i + 2 for i, word in enumerate(sorted(word for word, count in counts.items() if count > 1))}

    def read(texts: Any) -> torch.Tensor:
        out = np.zeros((len(texts), 40), dtype=np.int64)
        for i, text in enumerate(texts):
            words = [place.get(word, 1) for word in text.split()[:40]] or [1]
            out[i, : len(words)] = words
        return torch.tensor(out)

    class Reader(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = torch.nn.Embedding(len(place) + 2, 64, padding_idx=0)
            self.lstm = torch.nn.LSTM(64, 50, batch_first=True, bidirectional=True)
            self.attend, self.out = torch.nn.Linear(100, 1), torch.nn.Linear(100, 2)
            self.drop = torch.nn.Dropout(0.5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            states, _ = self.lstm(self.drop(self.words(x)))
            weights = self.attend(torch.tanh(states)).squeeze(-1).masked_fill(x == 0, -torch.inf).softmax(dim=1)
            return self.out(self.drop((weights[..., None] * states).sum(dim=1)))

    classes = np.array(["neg", "pos"])
    (x, y), (x_dev, y_dev) = ((read(X), torch.tensor(np.searchsorted(classes, t))) for X, t in (fit, dev))
    with seeded(seed):
        model = Reader()
    train(
        model,
        lambda m, x, y: torch.nn.functional.cross_entropy(m(x), y),
        [x, y],
        epochs=epochs,
        batch_size=64,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=2e-3),
        validate=lambda m: float((m(x_dev).argmax(dim=1) != y_dev).float().mean()),
        random_state=seed,
    )

    def answer(texts: Any) -> NDArray[np.float64]:
        with torch.no_grad():
            return torch.softmax(model(read(texts)).double(), dim=1).numpy()

    return Target(answer, name="film reviews", output="probability", classes=classes, batch_size=2000)


def neighbours(texts: Any) -> dict[str, tuple[str, ...]]:
    """For each frequent word the ten that stand among the same words, told from the sentences themselves."""
    from scipy import sparse
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import CountVectorizer

    reader = CountVectorizer(token_pattern=r"[a-z]{3,}", min_df=8)
    near: dict[tuple[int, int], float] = {}
    reader.fit(texts)
    place = reader.vocabulary_
    for text in texts:
        found = [place.get(word, -1) for word in text.split()]
        for i, a in enumerate(found):
            for b in found[max(0, i - 3) : i]:
                if a >= 0 and b >= 0:
                    near[a, b] = near.get((a, b), 0.0) + 1.0
                    near[b, a] = near.get((b, a), 0.0) + 1.0
    at = np.array(list(near)).T
    counts = sparse.csr_matrix((list(near.values()), (at[0], at[1])), shape=(len(place), len(place)))
    total, rows, columns = counts.sum(), np.asarray(counts.sum(axis=1)).ravel(), np.asarray(counts.sum(axis=0)).ravel()
    counts = counts.tocoo()
    values = np.maximum(0, np.log(counts.data * total / (rows[counts.row] * columns[counts.col])))
    told = sparse.csr_matrix((values, (counts.row, counts.col)), counts.shape)
    vectors = TruncatedSVD(50, random_state=0).fit_transform(told)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-12
    like = vectors @ vectors.T
    np.fill_diagonal(like, -1)
    names = reader.get_feature_names_out()
    best = np.argsort(-like, axis=1)[:, :10]
    return {str(name): tuple(str(names[j]) for j in row) for name, row in zip(names, best, strict=True)}
