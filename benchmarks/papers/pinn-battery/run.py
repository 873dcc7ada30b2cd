"""A network over time, radius and two parameters for the single-particle model of a cell: how right, how quick, of what use?

First the reference: the solver under refinement, and beside PyBaMM. Then networks from the equations alone, by seed: the error
of the voltage over an 8 x 8 grid of parameters and 100 times; a second level on top of the first, against one network that was
given as many seconds of the processor, and one of twice the width; the paper's way of training, with as many iterations; and
four solved discharges beside the equations. Then use: calibration from a noisy discharge against the same with the solver, its
coverage over simulated truths, a bound on the error, and seconds a curve in batches of 1,000, against the solver and PyBaMM's
fastest in the same run. The cheapest rival, Gaussian processes on principal components of solved discharges, is told beside.

PyBaMM runs in `.venv-battery` at the top of the repository (`make battery`); without it, agreement is measured against the
voltages in pybamm.json, which this script writes where PyBaMM is there, and no time of it is told. What networks learned is
kept in ~/.cache/locum/pinn-battery.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from claims import Claim, Kept, main, median_of
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from locum.core.errors import OutsideRegion
from locum.emulate import Level, PINNEmulator, calibrate, chebyshev_interpolant, simulation_check
from locum.problems.battery import SingleParticle, graphite_nmc

HERE = Path(__file__).resolve().parent
PEER = HERE.parents[2] / ".venv-battery" / "bin" / "python"
TIMES = np.linspace(10.0, 1350.0, 100)
FAST = {"shells": 32, "steps": 80}  # right to 0.1 mV, as claimed below
NOISE = 3e-3
MV = 1e3


@dataclass(frozen=True)
class Size:
    """How much is computed."""

    iterations: int
    inner: int
    edge: int
    width: int
    seeds: int
    truths: int
    batch: int
    chains: dict[str, int]


FULL = Size(4000, 512, 256, 16, 3, 40, 1000, {"walkers": 16, "burn": 120, "steps": 200})
QUICK = Size(250, 128, 64, 8, 1, 5, 200, {"walkers": 8, "burn": 60, "steps": 80})


def settings(size: Size, seed: int, device: str) -> dict[str, Any]:
    return {"inner": size.inner, "edge": size.edge, "refresh": 250, "random_state": seed, "device": device}


class Grid:
    """Parameters on a grid with their solved discharges."""

    def __init__(self, cell: SingleParticle) -> None:
        first, second = (np.linspace(*ends, 8) for ends in cell.bounds.values())
        self.rows = np.stack(np.meshgrid(first, second, indexing="ij"), axis=-1).reshape(-1, 2)
        self.solved = cell.solve(self.rows, TIMES)

    def errors(self, emulator: PINNEmulator) -> dict[str, float]:
        """Of the voltage in mV, and of concentrations as a share of their mean, over times and radii."""
        radii = np.linspace(0.05, 0.95, 10)
        said, d = emulator.fields(self.rows, TIMES, radii), self.solved
        off = []
        for ours, theirs in ((said.negative, d.negative), (said.positive, d.positive)):
            at = np.apply_along_axis(lambda x: np.interp(radii, d.radii, x), 2, theirs[::8])
            off.append(float(np.abs(ours[::8] - at).mean() / at.mean()))
        wrong = np.abs(said.voltage - d.voltage) * MV
        return {"voltage": float(wrong.mean()), "voltage, most": float(wrong.max()),
                "percent of the voltage, most": float((wrong / d.voltage).max() * 100 / MV),
                "concentrations": float(np.mean(off)), "bias": float((said.voltage - d.voltage).mean() * MV)}  # fmt: skip


# ---------------------------------------------------------------------- the reference
def reference(cell: SingleParticle) -> Iterator[Claim]:
    rows = np.vstack([cell.sample(20, 1), [[0.5, 1.0], [4.0, 10.0]]])
    fine = cell.voltage(rows, TIMES, shells=128)
    for name, coarse in (("from 64 to 128 shells", {"shells": 64}), ("from 32 shells and 80 steps to 128 and 160", FAST)):
        off = np.abs(cell.voltage(rows, TIMES, **coarse) - fine).max(axis=1) * MV
        yield Claim(f"the solver agrees with itself {name}", "largest difference of the voltage in mV, most and range",
                    float(off.max()), float(off.min()), float(off.max()), len(off), "less", 0.1, "effect")  # fmt: skip


def with_pybamm(rows: np.ndarray, times: np.ndarray, threads: int = 1) -> dict[str, Any] | None:
    """Voltages and seconds, or None where PyBaMM is not there."""
    if not PEER.exists():
        return None
    cell = graphite_nmc(kinetics="butler-volmer")
    x = np.linspace(0.005, 0.995, 4000)
    given: dict[str, Any] = {"x": x, "rows": rows, "times": times, "threads": threads, "temperature": cell.temperature,
                             "current": cell.current, "area": cell.area}  # fmt: skip
    for side, one in (("n", cell.negative), ("p", cell.positive)):
        given |= {f"{k}_{side}": getattr(one, k) for k in ("thickness", "radius", "fraction", "capacity", "start")}
        given |= {f"{k}_{side}": getattr(one, k)(x) for k in ("ocp", "exchange", "diffusivity")}
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(source, **given)
        alone = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": str(threads)}
        alone |= {"PYBAMM_DISABLE_TELEMETRY": "true"}
        subprocess.run([PEER, HERE / "peer.py", source, result], check=True, capture_output=True, env=alone, cwd=folder)
        with np.load(result) as found:
            return {name: found[name] for name in found.files}


def beside_pybamm(quick: bool) -> Claim:
    cell = graphite_nmc(kinetics="butler-volmer")
    rows, kept = cell.sample(5, 3), HERE / "pybamm.json"
    found = with_pybamm(rows, TIMES)
    if found is not None and not quick:
        record = {"version": str(found["version"]), "rows": rows.tolist(), "voltage": found["voltage"].round(7).tolist()}
        kept.write_text(json.dumps(record) + "\n", encoding="utf-8")
    record = json.loads(kept.read_text(encoding="utf-8")) if found is None else {"version": str(found["version"])}
    theirs = np.array(record["voltage"]) if found is None else found["voltage"]
    off = np.sqrt(((cell.voltage(rows, TIMES) - theirs) ** 2).mean(axis=1)) * MV
    return Claim("the solver agrees with PyBaMM", "root mean square difference in mV, most and range over 5 random cells",
                 float(off.max()), float(off.min()), float(off.max()), 5, "less", 1.0, "effect",
                 details={"version": record["version"], "run now": found is not None})  # fmt: skip


# ---------------------------------------------------------------------- learning
@dataclass(frozen=True)
class Lesson:
    """All networks of one seed; what is learned is kept, so that a run that is stopped goes on."""

    cell: SingleParticle
    grid: Grid
    size: Size
    seed: int
    device: str
    folder: Path

    @property
    def usual(self) -> dict[str, Any]:
        return settings(self.size, self.seed, self.device)

    @property
    def file(self) -> Path:
        size = self.size
        return self.folder / f"two levels, seed {self.seed}, {size.iterations} of width {size.width} on {self.device}.npz"

    def learn(self, kept: Kept) -> tuple[dict[str, Any], PINNEmulator]:
        """Errors and seconds, and the network of two levels."""
        out = kept(["levels", self.seed], self.levels)
        spent = out["seconds"]["two levels"]
        for name, width in (("one long", self.size.width), ("one wide", 2 * self.size.width)):
            out[name], out["seconds"][name] = kept([name, self.seed], partial(self.flat, width, spent))
        out["four discharges"] = kept(["four discharges", self.seed], self.told)
        out |= kept(["as in the paper", self.seed], self.as_in_the_paper)
        return out, PINNEmulator.load(self.file)

    def levels(self) -> dict[str, Any]:
        size, curve = self.size, []

        def watch(one: PINNEmulator, seconds: float) -> None:
            wrong = np.abs(one.predict(self.grid.rows, TIMES) - self.grid.solved.voltage).mean() * MV
            curve.append([float(seconds), float(wrong)])

        two = PINNEmulator(self.cell, levels=[Level(40, size.iterations, size.width)], **self.usual).fit(monitor=watch)
        out: dict[str, Any] = {"seed": self.seed, "one level": self.grid.errors(two)}
        two.extend(Level(0, size.iterations, size.width), monitor=watch)
        out["two levels"], out["error by seconds"] = self.grid.errors(two), curve
        spent = sum(one.seconds[-1] for one in two.history_)
        out["seconds"] = {"one level": two.history_[0].seconds[-1], "two levels": spent}
        out["residual"] = float(sum(two.history_[-1].residuals[-1:]))
        self.folder.mkdir(parents=True, exist_ok=True)
        two.save(self.file)
        return out

    def flat(self, width: int, seconds: float) -> tuple[dict[str, float], float]:
        """One network that learns for as many seconds."""
        other = PINNEmulator(self.cell, levels=[Level(40, 100_000, width)], max_seconds=seconds, **self.usual).fit()
        return self.grid.errors(other), other.history_[0].seconds[-1]

    def told(self) -> dict[str, float]:
        """One level that is told four solved discharges beside the equations."""
        four = self.cell.solve(np.array([[0.8, 1.5], [0.8, 8.0], [3.2, 1.5], [3.2, 8.0]]), TIMES)
        level = Level(40, self.size.iterations, self.size.width)
        return self.grid.errors(PINNEmulator(self.cell, levels=[level], **self.usual).fit(four))

    def as_in_the_paper(self) -> dict[str, Any]:
        """From an even start, all at once, on points that stay: one level, two, and one with as many seconds as two."""
        size = self.size
        kind = self.usual | {"ansatz": "flat", "joint": True, "weights": (10.0, 1.0, 1.0, 250.0, 1.0), "refresh": 0}
        joint = PINNEmulator(self.cell, levels=[Level(40, size.iterations, size.width)], **kind).fit()
        out = {"paper, one level": self.grid.errors(joint)}
        joint.extend(Level(0, size.iterations, size.width))
        out["paper, two levels"] = self.grid.errors(joint)
        spent = sum(one.seconds[-1] for one in joint.history_)
        longer = PINNEmulator(self.cell, levels=[Level(40, 100_000, size.width)], max_seconds=spent, **kind).fit()
        out["paper, one long"] = self.grid.errors(longer)
        return out


def errors_of(rows: list[dict[str, Any]], name: str, what: str = "voltage") -> np.ndarray:
    return np.array([row[name][what] for row in rows])


def learning(rows: list[dict[str, Any]], quick: bool) -> Iterator[Claim]:
    v = {name: errors_of(rows, name) for name in rows[0] if isinstance(rows[0][name], dict) and "voltage" in rows[0][name]}
    gain = 1 - v["two levels"] / v["one level"]
    yield median_of("a second level lowers the error of the voltage", "share less mean error than one level", gain,
                    threshold=0.3, needed=not quick, details={"seeds": rows})  # fmt: skip
    c = {name: errors_of(rows, name, "concentrations") for name in ("one level", "two levels", "one long")}
    yield median_of("and that of concentrations", "share less mean error than one level", 1 - c["two levels"] / c["one level"],
                    threshold=0.3, needed=not quick)  # fmt: skip
    for name, words in (("one long", "one network of the same width"), ("one wide", "one of twice the width")):
        yield median_of(f"two levels are no worse than {words} after as many seconds", "error of two levels over its",
                        v["two levels"] / v[name], direction="less", threshold=1.0,
                        needed=name == "one long" and not quick)  # fmt: skip
    worst = v["one level"]
    ends = float(worst.max()), float(worst.min()), float(worst.max())
    yield Claim("equations alone teach the voltage, each seed", "mean error in mV, most and range over seeds", *ends,
                len(worst), "less", 10.0, "effect", not quick)  # fmt: skip
    percent = errors_of(rows, "two levels", "percent of the voltage, most")
    ends = float(percent.max()), float(percent.min()), float(percent.max())
    yield Claim("two levels are within 1 % of the voltage everywhere inside", "largest error in percent, most and range over"
                " seeds", *ends, len(percent), "less", 1.0, "effect", not quick)  # fmt: skip
    yield median_of("four solved discharges beside the equations", "mean error in mV off them", v["four discharges"],
                    direction="less", threshold=3.0, needed=not quick)  # fmt: skip
    yield median_of("departures pay: trained as in the paper, with as many iterations", "error over that of one level",
                    v["paper, one level"] / v["one level"], threshold=1.0, needed=False)  # fmt: skip
    yield median_of("trained as in the paper, a second level lowers the error of the voltage", "share less mean error",
                    1 - v["paper, two levels"] / v["paper, one level"], threshold=0.3, needed=False)  # fmt: skip
    yield median_of("trained as in the paper, two levels are no worse than one after as many seconds", "error over its",
                    v["paper, two levels"] / v["paper, one long"], direction="less", threshold=1.0, needed=False)  # fmt: skip


def rivals(cell: SingleParticle, grid: Grid, ours: np.ndarray, quick: bool) -> Iterator[Claim]:
    """Gaussian processes on eight principal components of solved discharges."""
    low, high = np.array(list(cell.bounds.values())).T
    for n in (16,) if quick else (16, 64):
        found = []
        for seed in range(1 if quick else 3):
            unit = stats.qmc.Sobol(2, rng=np.random.default_rng(seed)).random(n)
            curves = cell.voltage(low + (high - low) * unit, TIMES, **FAST)
            pca = PCA(min(8, n - 1)).fit(curves)
            scores = pca.transform(curves)
            scale = scores.std(axis=0)
            kernel = ConstantKernel() * RBF([0.5, 0.5], (0.05, 50.0)) + WhiteKernel(1e-8, (1e-12, 1e-2))
            said = []
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a hyperparameter at its end
                for k in range(scores.shape[1]):
                    process = GaussianProcessRegressor(kernel, random_state=0).fit(unit, scores[:, k] / scale[k])
                    said.append(process.predict((grid.rows - low) / (high - low)) * scale[k])
            wrong = pca.inverse_transform(np.stack(said, axis=1)) - grid.solved.voltage
            found.append(float(np.abs(wrong).mean() * MV))
        yield median_of(f"two levels against Gaussian processes on {n} solved discharges", "their mean error less ours, in mV",
                        np.array(found) - np.median(ours), needed=False, details={"their error in mV": found})  # fmt: skip


# ---------------------------------------------------------------------- use
def calibrations(cell: SingleParticle, emulator: PINNEmulator, size: Size, quick: bool, seed: int) -> Iterator[Claim]:
    truth, rng = np.array([2.0, 2.0]), np.random.default_rng([seed, 5])
    seen = cell.voltage([truth], TIMES)[0] + NOISE * rng.normal(size=len(TIMES))

    def solver(rows: np.ndarray) -> np.ndarray:
        return cell.voltage(rows, TIMES, shells=24, steps=60)

    def network(rows: np.ndarray) -> np.ndarray:
        return emulator.predict(rows, TIMES)

    both, seconds = {}, {}
    for name, curves in (("network", network), ("solver", solver)):
        start = time.perf_counter()
        both[name] = calibrate(curves, seen, cell.bounds, guess=NOISE, random_state=seed, **size.chains)
        seconds[name] = time.perf_counter() - start
    apart = np.abs(both["network"].mean - both["solver"].mean) / both["solver"].deviation
    details = {name: {"mean": one.mean.tolist(), "deviation": one.deviation.tolist(), "interval": one.interval().tolist(),
                      "sigma in mV": one.sigma * MV, "steps apart": one.steps_apart, "seconds": seconds[name]}
               for name, one in both.items()}  # fmt: skip
    yield Claim("calibration with the network agrees with that by the solver",
                "distance of posterior means over the solver's posterior deviation, most and range over parameters",
                float(apart.max()), float(apart.min()), float(apart.max()), 1, "less", 0.5, "effect", not quick,
                details=details)  # fmt: skip
    for fitted in (True, False):
        sigma = {"guess": NOISE} if fitted else {"sigma": NOISE}
        check = simulation_check(network, solver, cell.bounds, noise=NOISE, n=size.truths, random_state=seed, **sigma,
                                 **size.chains)  # fmt: skip
        for name in cell.bounds:
            covered = check.coverage(name)
            words = "sigma that absorbs the network's error" if fitted else "sigma of the noise alone"
            width = [float(np.ptp(one.interval(), axis=1)[check.names.index(name)]) for one in check.calibrations]
            told = {"coverage": [covered.value, covered.lower, covered.upper], "evenness of ranks, p": check.evenness(name),
                    "share of the range that intervals take": float(np.median(width) / np.ptp(cell.bounds[name])),
                    "sigma in mV": float(np.median([one.sigma for one in check.calibrations]) * MV)}  # fmt: skip
            off = [abs(one - 0.89) for one in (covered.value, covered.lower, covered.upper)]
            yield Claim(f"intervals of 90 % for {name} cover 80 to 98 % of truths, {words}",
                        "how far coverage is from 0.89", off[0], 0.0, max(off), size.truths, "less", 0.0901, "effect",
                        fitted and not quick, details=told)  # fmt: skip


def audits(cell: SingleParticle, emulator: PINNEmulator, quick: bool, seed: int) -> Iterator[Claim]:
    held = cell.solve(cell.sample(240, 1000 + seed), TIMES, **FAST)
    errors = np.abs(emulator.predict(held.parameters, TIMES) - held.voltage).max(axis=1)
    rng, shares = np.random.default_rng(seed), []
    for _ in range(200):
        order = rng.permutation(240)
        bound = np.sort(errors[order[:40]])[36]  # the 37th of 40: ceil(41 x 0.9)
        shares.append(float((errors[order[40:]] <= bound).mean()))
    mean, low, high = float(np.mean(shares)), *np.quantile(shares, [0.025, 0.975])
    first = type("Solved", (), {"parameters": held.parameters[:40], "times": TIMES, "voltage": held.voltage[:40]})
    emulator.audit(first, 0.9)
    assert emulator.bound_ == np.sort(errors[:40])[36]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutsideRegion)
        outside = np.isinf(emulator.interval([[5.0, 5.0]], TIMES, extrapolate=True)).all()
    yield Claim("a bound of 90 % from 40 discharges holds for 200 others",
                "how far coverage, mean over 200 splits, is from 0.905",
                abs(mean - 0.905), 0.0, max(abs(low - 0.905), abs(high - 0.905)), 200, "less", 0.045, "effect", not quick,
                details={"coverage": [mean, low, high], "first bound in mV": emulator.bound_ * MV,
                         "no bound outside": bool(outside)})  # fmt: skip


def speed(cell: SingleParticle, emulator: PINNEmulator, size: Size, trained: float | None, threads: int = 1) -> Iterator[Claim]:
    """Seconds a curve of 100 times, in one batch, one after another in one run; tables are of Chebyshev polynomials."""
    rows = cell.sample(size.batch, 9)
    calls: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "network": partial(emulator.predict, times=TIMES), "solver": partial(cell.voltage, times=TIMES, **FAST)}  # fmt: skip
    tables, built = {}, {}
    for name, curves in list(calls.items()):
        start = time.perf_counter()
        tables[name] = chebyshev_interpolant(curves, cell.bounds)
        built[name] = time.perf_counter() - start
        calls[f"{name} in a table"] = tables[name]
    each: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call(rows)
    for _ in range(5):
        for name, call in calls.items():
            start = time.perf_counter()
            call(rows)
            each[name].append((time.perf_counter() - start) / len(rows))
    told: dict[str, Any] = {"tables": {}}
    told["microseconds a curve"] = {name: 1e6 * float(np.median(x)) for name, x in each.items()}
    truth = cell.voltage(rows[:200], TIMES)
    for name, table in tables.items():
        told["tables"][name] = {
            "seconds to build": built[name], "curves asked for": table.calls, "error in mV": table.error * MV,
            "nodes": table.coefficients.shape[:-1],
            "mean error of the voltage in mV": float(np.abs(table(rows[:200]) - truth).mean() * MV),
        }  # fmt: skip
    yield paid(f"the network is quicker than the solver, batches of {len(rows)}", np.array(each["solver"]), each["network"],
               trained, threshold=1.0, needed=False, details=told)  # fmt: skip
    peer = with_pybamm(rows, TIMES, threads)
    for name in ("network in a table", "network", "solver in a table") if peer is not None else ():
        alone = {"its microseconds a curve": 1e6 * peer["seconds"] / len(rows), "one alone": 1e6 * float(peer["alone"])}
        yield paid(f"the {name} is quicker than PyBaMM's fastest solver in the same batch", peer["seconds"] / len(rows),
                   each[name], trained, threshold=1000.0, details=alone,
                   needed=name == "network in a table" and len(rows) >= FULL.batch)  # fmt: skip


def paid(name: str, theirs: Any, ours: list[float], trained: float | None, **settings: Any) -> Claim:
    """Times as quick, and after how many curves training has paid."""
    saved = float(np.median(theirs) - np.median(ours))
    if trained is not None:
        settings["details"]["curves until training has paid"] = trained / saved if saved > 0 else None
    return median_of(name, "times as quick", theirs / np.array(ours), **settings)


def measure(quick: bool, seed: int, device: str) -> Iterator[Claim]:
    import torch

    torch.set_num_threads(1)
    cell, size = graphite_nmc(), QUICK if quick else FULL
    grid = Grid(cell)
    kept = Kept("pinn-battery", quick, [asdict(size), device])
    with tempfile.TemporaryDirectory() as scratch:
        folder = kept.folder or Path(scratch)
        learned = [Lesson(cell, grid, size, seed + i, device, folder).learn(kept) for i in range(size.seeds)]
    rows = [row for row, _ in learned]
    yield from learning(rows, quick)
    emulator = learned[int(np.argmin([row["residual"] for row in rows]))][1]
    yield from reference(cell)
    yield beside_pybamm(quick)
    yield from audits(cell, emulator, quick, seed)
    yield from calibrations(cell, emulator, size, quick, seed)
    yield from speed(cell, emulator, size, rows[0]["seconds"]["two levels"])
    yield from rivals(cell, grid, errors_of(rows, "two levels"), quick)


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, measure))
