"""Rows a second in training dictionaries of each encoder, beside what the machine multiplies.

Every training step has one product that cannot be left out, rows by encoder: 2 · rows · width · latents operations. Its share
of the rate at which this machine multiplies two square matrices of the same type is what is told, so that figures of two
machines can be compared. Rows are drawn from a planted dictionary of the same number of atoms, a sixteenth of the width
active a row. Medians of some runs, each from the tenth step on, with what feeds them; peak memory is that of the device (of the
process on a CPU).

Writes benchmarks/speed/dictionaries/<device>.json, anew after each encoder, and prints one JSON line.

    python benchmarks/speed/dictionaries.py [--device cuda] [--width 576] [--latents 18432] [--batch 4096] [--steps 200]
        [--runs 3]
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from locum.inside import BatchTopK, Gated, JumpReLU, Matryoshka, ReLU, SparseAutoencoder, TopK

HERE = Path(__file__).parent / "dictionaries"
K, WARM = 32, 10
ENCODERS = {
    "TopK": TopK(K),
    "BatchTopK": BatchTopK(K),
    "Matryoshka": Matryoshka(BatchTopK(K)),
    "ReLU": ReLU(l0=K),
    "Gated": Gated(l0=K),
    "JumpReLU": JumpReLU(l0=K),
}


def ceiling(device: str, size: int = 4096) -> float:
    """Operations a second of a product of two square float32 matrices: the best of ten."""
    a = torch.randn(size, size, device=device)
    best = 0.0
    for _ in range(10):
        wait(device)
        start = time.perf_counter()
        a @ a
        wait(device)
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if device != "cpu":
        torch.cuda.synchronize()


def rows(count: int, width: int, latents: int, seed: int) -> Any:
    """Sparse sums of planted atoms, shape (count, width), float32."""
    rng = np.random.default_rng(seed)
    atoms = rng.normal(size=(latents, width)).astype(np.float32)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    active = width // 16
    X = np.zeros((count, width), np.float32)
    for start in range(0, count, 4096):
        some = slice(start, min(start + 4096, count))
        picked = rng.integers(latents, size=(some.stop - some.start, active))
        X[some] = np.einsum("na,nad->nd", rng.exponential(size=picked.shape).astype(np.float32), atoms[picked])
    return X


def memory(device: str) -> float:
    """Peak, in GiB."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def seconds(encoder: Any, X: Any, latents: int, batch: int, device: str, seed: int) -> tuple[float, float]:
    """Of a step, from the tenth to the last of one fit on these rows; and what the last batch leaves unexplained."""
    model = SparseAutoencoder(latents, encoder, epochs=1, batch_size=batch, device=device, random_state=seed)
    noted: dict[int, float] = {}

    def note(done: int, steps: int, words: str) -> None:
        if done in (WARM, steps):
            wait(device)
            noted[done] = time.perf_counter()

    model.fit(X, progress=note)
    last = max(noted)
    return (noted[last] - noted[WARM]) / (last - WARM), float(model.record_.fvu[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    for name, default in {"width": 576, "latents": 18432, "batch": 4096, "steps": 200, "runs": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    top = ceiling(asked.device)
    X = rows(asked.batch * asked.steps, asked.width, asked.latents, 0)
    product = 2 * asked.batch * asked.width * asked.latents
    device = "cpu" if asked.device == "cpu" else torch.cuda.get_device_name(asked.device)
    told: dict[str, Any] = {}
    line = vars(asked) | {"device": device, "ceiling_TFLOPs": round(top / 1e12, 2), "encoders": told}
    line |= {"torch": torch.__version__, "python": platform.python_version()}
    HERE.mkdir(exist_ok=True)
    file = HERE / f"{re.sub('[^a-z0-9]+', '-', device.lower())}.json"
    for name, encoder in ENCODERS.items():
        if asked.device != "cpu":
            torch.cuda.reset_peak_memory_stats()
        runs = [seconds(encoder, X, asked.latents, asked.batch, asked.device, seed) for seed in range(asked.runs)]
        took = statistics.median(one for one, _ in runs)
        told[name] = {
            "rows_a_second": round(asked.batch / took),
            "range": [round(asked.batch / max(runs)[0]), round(asked.batch / min(runs)[0])],
            "share_of_ceiling": round(product / took / top, 3),
            "unexplained": round(runs[0][1], 3),
            "peak_GiB": round(memory(asked.device), 2),
        }
        print(name, told[name], flush=True)
        file.write_text(json.dumps(line, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(line))


if __name__ == "__main__":
    main()
