"""Collecting, serving and learning from activations, beside dictionary_learning, SAELens and overcomplete, in one process.

CPU seconds of one thread. Peers are read from a folder that holds their packages without what these ask for (they would replace
PyTorch). nnsight, which dictionary_learning imports for its model, is not needed for what is measured here; its buffer is fed
by the same plain hook. Each library does its own work from rows on: buffers are those of the peers, trainers and encoders too.

- collect: ActivationStore.collect beside a bare hook that stops early and keeps nothing.
- serve: shuffled batches of 2,048 rows of width 576, from 400,000 on disk and from buffers of 400,000 and 1,600,000 (the
  default of dictionary_learning is 3,840,000, for which there is no room here).
- sweep: twelve TopK dictionaries from the same training documents of SmolLM2, from one store, and with activations computed
  again for each, as the peers' buffers do; then the peers' own way of sharing, all trainers on one pass. All are judged on
  documents that none was trained on, after the same number of steps at the same rates; differences are over seeds.
- pursue: matching pursuit with 64 steps and 4,608 atoms.

How much memory a training from a large store takes is measured by benchmarks/speed/resident.py.

Writes benchmarks/peers/store/result.json, prints one JSON line, and exits with 1 unless all claims hold.

    make dictionaries
    python benchmarks/peers/store.py [--peers .venv-sae] [--tokens 20480] [--fits 12] [--quick]
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import sys
import tempfile
import time
import types
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import ttest_ind

from locum.inside import ActivationStore, MatchingPursuitSAE, SparseAutoencoder, Tap, TopK, from_dictionary_learning, fvu
from locum.nets import seeded, smollm2

HERE = Path(__file__).parent / "store"
LAYER, WIDTH, LATENTS, K, BATCH = 10, 576, 4608, 32, 2048
RATE = 1e-3


def peers(folder: Path) -> Any:
    """Modules of the peers, with a stand-in for what is imported and not used here."""
    sys.path.append(str(folder))
    for name in ("nnsight", "overcomplete", "sae_lens", "sae_lens.training", "dictionary_learning"):
        module = types.ModuleType(name)
        module.__path__ = [str(folder.joinpath(*name.split(".")))]
        sys.modules[name] = module
    sys.modules["nnsight"].LanguageModel = object
    sys.modules.setdefault("tqdm", types.SimpleNamespace(tqdm=lambda x, **_: x))
    names = {"buffer": "dictionary_learning.buffer", "trainers": "dictionary_learning.trainers.top_k"}
    names |= {"mixing": "sae_lens.training.mixing_buffer", "pursuit": "overcomplete.sae.mp_sae"}
    return types.SimpleNamespace(**{name: import_module(path) for name, path in names.items()})


def seconds(function: Any) -> tuple[float, Any]:
    start = time.process_time()
    found = function()
    return time.process_time() - start, found


# ---------------------------------------------------------------------- a bare hook
class Enough(Exception):
    """The layer was reached."""


def bare(model: Any, sequences: list[list[int]], batch: int = 16) -> Iterator[torch.Tensor]:
    """Activations after the layer, sequence by sequence of one length, and nothing else."""
    kept: list[torch.Tensor] = []

    def hook(_module: Any, _inputs: Any, output: Any) -> None:
        kept.append(output[0] if isinstance(output, tuple) else output)
        raise Enough

    handle = model.model.layers[LAYER].register_forward_hook(hook)
    try:
        for start in range(0, len(sequences), batch):
            with torch.inference_mode(), suppress(Enough):
                model(input_ids=torch.as_tensor(sequences[start : start + batch]), use_cache=False)
            yield kept.pop().flatten(0, 1)
    finally:
        handle.remove()


def sequences(tokenizer: Any, tokens: int) -> list[list[int]]:
    path = Path(os.environ.get("LOCUM_DATA", "data")) / "text" / "wikitext2_test.txt.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        articles = re.split(r"\n(?= = [^=].*[^=] = \n)", file.read())
    found: list[list[int]] = []
    for article in articles:
        ids = tokenizer(article, verbose=False)["input_ids"]
        found += [ids[a : a + 128] for a in range(0, len(ids) - 127, 128)]
        if len(found) * 128 >= tokens:
            return found[: tokens // 128]
    return found


# ---------------------------------------------------------------------- what is measured
def collecting(model: Any, ids: list[list[int]], folder: Path) -> tuple[dict[str, Any], ActivationStore]:
    tap = Tap(model, {"res": f"model.layers.{LAYER}"})
    settings = {"split": (0.9, 0.1, 0.0), "context": 128}
    plain, _ = seconds(lambda: sum(len(one) for one in bare(model, ids)))
    ActivationStore.estimate(tap, ids, folder, **settings)  # sees that every module is called once, which is done once a tap
    ours, store = seconds(lambda: ActivationStore.collect(tap, ids, folder, **settings))
    again, _ = seconds(lambda: sum(len(one) for one in bare(model, ids)))
    plain = (plain + again) / 2
    return {"bare hook": plain, "collect": ours, "ratio": ours / plain, "tokens": len(ids) * 128}, store


class Rows(torch.nn.Module):
    """Rows that are looked up, so that writing and reading are what is measured."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(4096, WIDTH)

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        return self.table(input_ids)


def served(theirs: Any, n: int) -> float:
    """Rows a second from the peer's buffer of so many rows, over the half after which it is filled anew."""
    data = torch.zeros(n, WIDTH)
    buffer = theirs.buffer.ActivationBuffer.__new__(theirs.buffer.ActivationBuffer)
    held = {"activations": data, "read": torch.zeros(n, dtype=torch.bool)}
    buffer.__dict__.update(held, activation_buffer_size=n, out_batch_size=BATCH)
    batches = min(n // 2 // BATCH, 100)
    buffer.read[: n // 2 - batches * BATCH] = True  # as after those that came before
    took, rows = seconds(lambda: sum(len(next(buffer)) for _ in range(batches)))
    return rows / took


def serving(theirs: Any, n: int, large: int, folder: Path) -> dict[str, Any]:
    with seeded(0):
        rows = Rows().eval()
    documents = np.random.default_rng(0).integers(4096, size=(n // 500, 500))
    tap = Tap(rows, {"x": "table"})
    wrote, store = seconds(lambda: ActivationStore.collect(tap, list(documents), folder, split=(1.0, 0.0, 0.0), batch_size=64))
    read, count = seconds(lambda: sum(len(batch) for batch in store["x"].batches(BATCH)))
    data = torch.from_numpy(store["x"].rows())
    pieces = data.split(len(data) // 8)
    mixed, third = seconds(lambda: sum(len(one) for one in theirs.mixing.mixing_buffer(len(data) // 2, BATCH, iter(pieces))))
    rates = {"Locum": count / read, "SAELens": third / mixed}
    rates |= {f"dictionary_learning, buffer of {size}": served(theirs, size) for size in (n, large)}
    slowest = rates[f"dictionary_learning, buffer of {large}"]  # its default is 3,840,000 rows
    return {"rows a second": rates, "written a second": n / wrote, "ratio": rates["Locum"] / slowest}


def their_trainer(theirs: Any, steps: int, seed: int) -> Any:
    return theirs.trainers.TopKTrainer(
        steps=steps, activation_dim=WIDTH, dict_size=LATENTS, k=K, layer=LAYER, lm_name="", lr=RATE, seed=seed, device="cpu",
        warmup_steps=max(1, steps // 20), threshold_start_step=steps,
    )  # fmt: skip


def their_batches(theirs: Any, rows: Iterator[torch.Tensor], n: int) -> Iterator[torch.Tensor]:
    """Batches from their buffer, which is filled by the same hook."""
    data = torch.cat([one.clone() for one in rows])
    data = data / data.norm(dim=1).square().mean().sqrt() * WIDTH**0.5
    yield from theirs.mixing.mixing_buffer(len(data), BATCH, iter([data]), mix_fraction=0.01)


def sweeping(
    theirs: Any, model: Any, ids: list[list[int]], store: ActivationStore, collected: float, fits: int
) -> dict[str, Any]:
    rows, held = store["res"], store["res"].rows("val")
    ids = [ids[i] for i in store.documents_of("train")]  # what is judged on is held back from everybody
    steps = len(ids) * 128 // BATCH

    def ours(seed: int) -> SparseAutoencoder:
        settings = {"batch_size": BATCH, "learning_rate": RATE, "random_state": seed, "decay": 0.01}
        return SparseAutoencoder(LATENTS, TopK(K), **settings).fit(rows)

    def again(seed: int) -> Any:
        trainer, step = their_trainer(theirs, steps + 1, seed), 0
        with torch.enable_grad():
            for batch in their_batches(theirs, bare(model, ids), steps):
                trainer.update(step, batch.clone())
                step += 1
        return trainer, step

    def together() -> None:
        trainers = [their_trainer(theirs, steps + 1, seed) for seed in range(fits)]
        for step, batch in enumerate(their_batches(theirs, bare(model, ids), steps)):
            for trainer in trainers:
                trainer.update(step, batch.clone())

    fitted, mine = seconds(lambda: [ours(seed) for seed in range(fits)])
    alone, other = seconds(lambda: [again(seed) for seed in range(fits)])
    shared, _ = seconds(together)
    scale = float(WIDTH**0.5 / np.sqrt(rows.mean_squared_norm_))
    x = torch.from_numpy(held) * scale
    with torch.no_grad():
        errors = [fvu(x, trainer.ae(x), rows.mean_ * scale).value for trainer, _ in other]
    own = [one.fidelity(held)["FVU"].value for one in mine]
    return {
        "fits": fits, "steps a fit": {"Locum": -(-rows.count() // BATCH), "dictionary_learning": other[0][1]},
        "Locum, collecting": collected, "Locum, fitting": fitted,
        "computed again for each fit": alone, "all trainers on one pass": shared,
        "share of regeneration": (collected + fitted) / alone, "share of one pass": (collected + fitted) / shared,
        "FVU": {"Locum": own, "dictionary_learning": errors}, "FVU, less that of dictionary_learning": difference(own, errors),
        "codes differ by": parity(other[0][0], held),
    }  # fmt: skip


def difference(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Mean difference over seeds, with Welch's interval of level 95 %."""
    found = ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    return {"mean": float(np.mean(ours) - np.mean(theirs)), "lower": float(found.low), "upper": float(found.high)}


def parity(trainer: Any, held: np.ndarray) -> float:
    """Largest difference of our reconstructions from theirs, with their weights."""
    with tempfile.TemporaryDirectory() as folder:
        torch.save(trainer.ae.state_dict(), Path(folder) / "ae.pt")
        (Path(folder) / "config.json").write_text(json.dumps({"trainer": {"dict_class": "AutoEncoderTopK"}}))
        mine = from_dictionary_learning(folder)
    x = torch.from_numpy(held[:500]) / float(np.abs(held).mean())
    with torch.no_grad():
        return float((torch.from_numpy(mine.reconstruct(x)) - trainer.ae(x)).abs().max())


def pursuing(theirs: Any, n: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, WIDTH)).astype(np.float32)
    mine = MatchingPursuitSAE(LATENTS, 64, batch_size=n, dropout=0.0).fit(X)
    other = theirs.pursuit.MpSAE(WIDTH, LATENTS, k=64)
    with torch.no_grad():
        other.dictionary._weights.copy_(torch.from_numpy(mine.atoms_))
        x = torch.from_numpy(X - mine.bias_)
        slow, (_, codes) = seconds(lambda: other.encode(x))
    fast, Z = seconds(lambda: mine.encode(X))  # with the products of atoms, which later calls find made
    later, _ = seconds(lambda: mine.encode(X))
    same = np.abs(Z.toarray() - codes.numpy()).max(axis=1) < 1e-4  # near ties of random rows fall either way
    return {
        "Locum": fast,
        "Locum, later calls": later,
        "overcomplete": slow,
        "ratio": slow / fast,
        "rows with equal codes": float(same.mean()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, default=Path(__file__).parents[2] / ".venv-sae")
    parser.add_argument("--tokens", type=int, default=20_480, help="in sequences of 128")
    parser.add_argument("--fits", type=int, default=12)
    parser.add_argument("--quick", action="store_true", help="smaller, and nothing is written")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    theirs = peers(asked.peers)
    model, tokenizer = smollm2()
    ids = sequences(tokenizer, 10_240 if asked.quick else asked.tokens)
    with tempfile.TemporaryDirectory() as folder:
        collected, store = collecting(model, ids, Path(folder) / "collect")
        told: dict[str, Any] = {"collect": collected}
        told["pursue"] = pursuing(theirs, 512)
        told["serve"] = serving(theirs, *((100_000, 200_000) if asked.quick else (400_000, 1_600_000)), Path(folder) / "serve")
        told["sweep"] = sweeping(theirs, model, ids, store, collected["collect"], 2 if asked.quick else asked.fits)
    holds = {
        "collect at most 1.1 of a bare hook": told["collect"]["ratio"] <= 1.1,
        "serve at least 5 times dictionary_learning": told["serve"]["ratio"] >= 5.0,
        "sweep at most a third of regeneration": told["sweep"]["share of regeneration"] <= 1 / 3,
        "FVU no worse than dictionary_learning": told["sweep"]["FVU, less that of dictionary_learning"]["lower"] <= 0.0,
        "pursue at least 5 times overcomplete": told["pursue"]["ratio"] >= 5.0,
    }
    line = {"holds": all(holds.values()), "claims": holds, **told}
    if not asked.quick:
        HERE.mkdir(exist_ok=True)
        line["versions"] = {"torch": version("torch"), "numpy": version("numpy")}
        (HERE / "result.json").write_text(json.dumps(line, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(line))
    return 0 if line["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
