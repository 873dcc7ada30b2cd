"""What every ``benchmarks/papers/<slug>/run.py`` does alike: arguments, claims, result.json, one JSON line, exit code.

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from claims import Claim, main, over_seeds

    def measure(quick: bool, seed: int) -> Iterator[Claim]: ...            # or
    def measure(quick: bool, seed: int, device: str) -> Iterator[Claim]: ...    # then `run.py --device cuda` is understood

    if __name__ == "__main__":
        sys.exit(main(__file__, __doc__, measure))

The first claim is the headline: it is what the catalogue and the table of the README show. A system holds where all claims that
are `needed` hold; the others are told beside them. With --quick nothing is written.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

PACKAGES = ("numpy", "scipy", "scikit-learn", "torch")


@dataclass(frozen=True)
class Claim:
    """One effect with its interval, and the side of a threshold on which the claim says it lies.

    Parameters
    ----------
    name : str
        The claim in a few words.
    measure : str
        What `effect` is, in words and units.
    effect, lower, upper : float
    seeds : int
        Independent repeats that the interval is over.
    direction : {"greater", "less"}
    threshold : float
    decided_by : {"interval", "effect"}
        Whether the whole interval must lie on the side claimed, or the effect alone (for a level rather than a difference).
    needed : bool
        Whether the system does not hold where this does not.
    details : dict
        Anything else worth keeping, in types that JSON has.
    """

    name: str
    measure: str
    effect: float
    lower: float
    upper: float
    seeds: int
    direction: str = "greater"
    threshold: float = 0.0
    decided_by: str = "interval"
    needed: bool = True
    level: float = 0.95
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        if not all(map(math.isfinite, (self.effect, self.lower, self.upper))):
            return False
        if self.direction == "greater":
            return (self.lower if self.decided_by == "interval" else self.effect) > self.threshold
        return (self.upper if self.decided_by == "interval" else self.effect) < self.threshold


def over_seeds(values: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Mean of one value a seed, with Student's interval."""
    x = np.asarray(values, dtype=float)
    if len(x) < 2:
        return float(x.mean()), -math.inf, math.inf
    half = stats.t.ppf((1 + level) / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x))
    return float(x.mean()), float(x.mean() - half), float(x.mean() + half)


def over(name: str, measure: str, values: Sequence[float], **settings: Any) -> Claim:
    """A claim on the mean of one value a seed, with Student's interval."""
    return Claim(name, measure, *over_seeds(values), len(values), **settings)


def median_of(name: str, measure: str, values: Sequence[float], *, direction: str = "greater", **settings: Any) -> Claim:
    """A claim on the median of one value a seed, with the range."""
    v = np.asarray(values, dtype=float)
    level = 1 - 2.0 ** (1 - len(v)) if len(v) > 1 else 0.5
    return Claim(
        name, f"{measure}, median and range", float(np.median(v)), float(v.min()), float(v.max()), len(v),
        direction=direction, decided_by="effect", level=level, **settings,
    )  # fmt: skip


class Kept:
    """What was measured, one file a cell, so that a run that is stopped goes on where it ended.

    Files are in ``~/.cache/locum/<slug>``; delete the folder to start over. A quick run keeps its cells in memory alone.

    Parameters
    ----------
    slug : str
    quick : bool
    settings : list, dict or number
        What all cells depend on: cells of other settings are not taken for these.
    """

    def __init__(self, slug: str, quick: bool, settings: Any = None) -> None:
        self.folder = None if quick else Path.home() / ".cache" / "locum" / slug
        self.settings = settings
        self._found: dict[str, Any] = {}

    def key(self, name: Sequence[Any]) -> str:
        """The name of a cell's file."""
        text = json.dumps([self.settings, name], sort_keys=True, default=repr)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __call__(self, name: Sequence[Any], work: Callable[[], Any]) -> Any:
        """What `work` gives, in types that JSON has; it is called once for a name."""
        key = self.key(name)
        file = None if self.folder is None else self.folder / f"{key}.json"
        if key not in self._found and file is not None and file.exists():
            self._found[key] = json.loads(file.read_text(encoding="utf-8"))
        if key not in self._found:
            began = time.perf_counter()
            text = json.dumps(work())
            print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                beside = file.with_suffix(f".{os.getpid()}.part")
                beside.write_text(text, encoding="utf-8")
                beside.replace(file)
            self._found[key] = json.loads(text)
        return self._found[key]

    def claims(self, name: Sequence[Any], work: Callable[[], Iterable[Claim]]) -> list[Claim]:
        """The claims that `work` yields, as they were decided then: with other thresholds, delete the folder."""
        return [Claim(**one) for one in self(name, lambda: [plain(asdict(claim)) for claim in work()])]


def main(file: str, doc: str | None, measure: Callable[..., Iterable[Claim]]) -> int:
    """Measure, write, print; 0 where the system holds and 1 where it does not."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller run, within three minutes; nothing is written")
    parser.add_argument("--seed", type=int, default=0, help="the first of the seeds")
    parser.add_argument("--json", action="store_true", help="print the JSON line alone")
    takes_device = "device" in inspect.signature(measure).parameters
    if takes_device:
        parser.add_argument("--device", default="cpu", help="where networks train: cpu (default) or cuda")
    asked = parser.parse_args()
    on = {"device": asked.device} if takes_device else {}
    folder, start = Path(file).resolve().parent, time.perf_counter()
    claims = []
    for claim in measure(asked.quick, asked.seed, **on):
        claims.append(claim)
        if not asked.json:
            state = "holds" if claim.holds else "does not hold"
            interval = f"{claim.effect:.3g} [{claim.lower:.3g}, {claim.upper:.3g}]"
            print(f"{claim.name}: {claim.measure} {interval}: {state}", flush=True)
    head = claims[0]
    line = {
        "slug": folder.name,
        "holds": all(claim.holds for claim in claims if claim.needed),
        **{key: finite(getattr(head, key)) for key in ("effect", "lower", "upper")},
        "seeds": head.seeds,
        "seconds": round(time.perf_counter() - start, 1),
    }
    if not asked.quick:
        record = line | {key: getattr(head, key) for key in ("measure", "level", "direction")}
        record["claims"] = [asdict(claim) | {"holds": claim.holds} for claim in claims]
        record |= {"first_seed": asked.seed, "python": platform.python_version(), "cpus": os.cpu_count()}
        record["versions"] = versions()
        if takes_device:
            record["device"] = device_name(asked.device)
        (folder / "result.json").write_text(json.dumps(tidy(record), indent=1) + "\n", encoding="utf-8")
    print(json.dumps(line))
    return 0 if line["holds"] else 1


def versions() -> dict[str, str]:
    """Of the packages that numbers depend on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def device_name(device: str) -> str:
    """The model of the GPU, or "cpu"."""
    if device == "cpu":
        return device
    import torch

    return torch.cuda.get_device_name(device)


def finite(number: float) -> float | None:
    """None for what JSON has no number for."""
    return number if math.isfinite(number) else None


def plain(value: Any, number: Callable[[float], float | None] = float) -> Any:
    """The same in types that JSON has, with `number` of each that is not whole."""
    if isinstance(value, dict):
        return {key: plain(one, number) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one, number) for one in value]
    if isinstance(value, float | np.floating):
        return number(value)
    return value.item() if isinstance(value, np.generic) else value


def tidy(value: Any) -> Any:
    """Numbers with six digits, and None for those that are not finite."""
    return plain(value, lambda x: float(f"{x:.6g}") if math.isfinite(x) else None)


if __name__ == "__main__":
    sys.exit("run the run.py of a system instead")
