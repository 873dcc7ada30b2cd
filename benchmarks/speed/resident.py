"""A store many times larger than memory may be: how much a training from it holds.

Rows are looked up from a small table, so that writing and reading are what is measured. The store is made in one process and a
dictionary is trained from it in another, whose resident memory is watched from outside every 20 ms (``/proc``, so on Linux) and
told by the system at its end (``getrusage``, which counts what the parent held when it began too). The process is also run with
nothing but its imports, which is what it holds anyhow.

Writes benchmarks/speed/resident/result.json and prints one JSON line; exits with 1 where the training held more than the limit.

    python benchmarks/speed/resident.py [--gib 6] [--limit 2.0] [--folder F] [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from locum.inside import ActivationStore, Tap
from locum.nets import seeded

HERE = Path(__file__).parent / "resident"
WIDTH, TOKENS, LENGTH = 576, 4096, 512
GIB = 2**30

TRAINING = """
import json, resource, sys
from locum.inside import ActivationStore, SparseAutoencoder, TopK
import locum.inside._training
if len(sys.argv) > 1:
    rows = ActivationStore.open(sys.argv[1])["x"]
    model = SparseAutoencoder(64, TopK(4), learning_rate=1e-3).fit(rows)
    seen = model.record_.rows
else:
    seen = 0
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"peak GiB": peak / 2**20, "rows": seen}))
"""


class Rows(torch.nn.Module):
    """Rows that are looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(TOKENS, WIDTH)

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        return self.table(input_ids)


def written(gib: float, folder: Path) -> dict[str, float]:
    """Make a store of that size; its memory and seconds."""
    with seeded(0):
        tap = Tap(Rows().eval(), {"x": "table"})
    documents = list(np.random.default_rng(0).integers(TOKENS, size=(round(gib * GIB / (2 * WIDTH * LENGTH)), LENGTH)))
    start = time.perf_counter()
    store = ActivationStore.collect(tap, documents, folder, split=(0.99, 0.01, 0.0), batch_size=64)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return {
        "store GiB": size / GIB, "rows": sum(store["x"].count(split) for split in ("train", "val")),
        "seconds": time.perf_counter() - start,
    }  # fmt: skip


def watched(*arguments: str) -> dict[str, float]:
    """What the training process says, and the largest resident memory seen from outside."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", TRAINING, *arguments], stdout=subprocess.PIPE, text=True)
    seen, page = 0, os.sysconf("SC_PAGE_SIZE")
    while process.poll() is None:
        seen = max(seen, int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * page)
        time.sleep(0.02)
    said = process.communicate()[0]
    if process.returncode:
        raise SystemExit(f"the training ended with {process.returncode}")
    return {**json.loads(said), "seen GiB": seen / GIB, "seconds": time.perf_counter() - start}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=6.0)
    parser.add_argument("--limit", type=float, default=2.0, help="GiB that a training may hold")
    parser.add_argument("--folder", type=Path, default=None, help="where the store is put for the time")
    parser.add_argument("--quick", action="store_true", help="half a GiB, and nothing is written down")
    asked = parser.parse_args()
    gib = 0.5 if asked.quick else asked.gib
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(dir=asked.folder))
    try:
        told = {"made": written(gib, folder), "training": watched(str(folder)), "imports alone": watched()}
    finally:
        shutil.rmtree(folder)
    held = max(told["training"]["peak GiB"], told["training"]["seen GiB"])
    record = {
        "holds": held < asked.limit, "limit GiB": asked.limit, "held GiB": held,
        "held beyond imports GiB": told["training"]["seen GiB"] - told["imports alone"]["seen GiB"],
        "store over held": told["made"]["store GiB"] / held, **told, "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }  # fmt: skip
    if not asked.quick:
        HERE.mkdir(exist_ok=True)
        (HERE / "result.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record))
    return 0 if record["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
