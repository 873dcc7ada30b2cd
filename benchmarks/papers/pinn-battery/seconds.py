"""Seconds a curve on some device of an emulator that is there, beside the solver, tables and PyBaMM on all of its threads.

    python benchmarks/papers/pinn-battery/seconds.py EMULATOR.npz [--device cuda] [--batch 10000] [--threads 16]

`EMULATOR.npz` is what `PINNEmulator.save` wrote; run.py keeps its own in ~/.cache/locum/pinn-battery. Writes
seconds-<device>.json beside this file and prints what it measured.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch
from run import FULL, speed

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from claims import device_name, tidy, versions

from locum.emulate import PINNEmulator
from locum.problems.battery import graphite_nmc


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("emulator", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    emulator = PINNEmulator.load(asked.emulator, device=asked.device)
    claims = []
    for claim in speed(graphite_nmc(), emulator, replace(FULL, batch=asked.batch), None, asked.threads):
        claims.append(claim)
        print(f"{claim.name}: {claim.effect:.4g} [{claim.lower:.4g}, {claim.upper:.4g}] {claim.details}", flush=True)
    device = device_name(asked.device)
    record = {"device": device, "threads": asked.threads, "batch": asked.batch, "versions": versions()}
    record["claims"] = [asdict(claim) | {"holds": claim.holds} for claim in claims]
    file = Path(__file__).with_name(f"seconds-{re.sub('[^a-z0-9]+', '-', device.lower()).strip('-')}.json")
    file.write_text(json.dumps(tidy(record), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
