"""Files of a store: rows are staged, permuted block by block, and appended to one file a site."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray
from scipy.linalg import blas

from locum.core.errors import FormatError
from locum.inside.rows import SPLITS

__all__ = ["FORMAT", "LABELS", "BlockWriter", "Column", "file_of", "read_manifest"]

FORMAT = 1
LABELS = "labels"  # token, document and position of each row
_MANIFEST = "manifest.json"
_SLICE = 4096  # rows turned into float64 at a time


@dataclass(frozen=True)
class Column:
    """One file of rows."""

    width: int
    dtype: str

    @property
    def bytes(self) -> int:
        return self.width * np.dtype(self.dtype).itemsize


def file_of(folder: Path, column: str) -> Path:
    """The file with the rows of a column."""
    return folder / f"{column}.rows"


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a folder says of its store.

    Raises
    ------
    FormatError
        No store there, a damaged one, or one of another format.
    """
    try:
        found = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except OSError as error:
        raise FormatError(f"{folder} holds no activation store: there is no {_MANIFEST}; collect one first") from error
    except ValueError as error:
        raise FormatError(f"the manifest of {folder} is damaged ({error}); collect again into another folder") from error
    if found.get("format") != FORMAT:
        raise FormatError(f"expected a store of format {FORMAT} in {folder}, got {found.get('format')!r}; update locum")
    return found


@dataclass
class _Moments:
    """Sums over the training rows of one site, in float64."""

    gram: NDArray[np.float64]
    total: NDArray[np.float64]
    norms: list[NDArray[np.float32]] = field(default_factory=list)

    def add(self, rows: NDArray[Any]) -> None:
        for start in range(0, len(rows), _SLICE):
            part = rows[start : start + _SLICE].astype(np.float64)
            # BLAS reads Fortran order: the transpose of the part, of whose products one triangle is enough.
            self.gram = blas.dsyrk(1.0, part.T, beta=1.0, c=self.gram, overwrite_c=True)
            self.total += part.sum(axis=0)
            self.norms.append(np.sqrt(np.einsum("nd,nd->n", part, part)).astype(np.float32))


class BlockWriter:
    """Rows come in, blocks go out; after every batch the manifest says how far everything has come.

    Where a process ends in between, files are cut back to what the manifest knows, so that going on gives the same bytes.
    """

    def __init__(
        self, folder: Path, columns: Mapping[str, Column], block_rows: int, facts: Mapping[str, Any], seed: int
    ) -> None:
        self.folder, self.columns, self.block_rows, self.seed = folder, dict(columns), block_rows, seed
        fresh = {"blocks": [], "staged": dict.fromkeys(SPLITS, 0), "next_batch": 0, "complete": False, "stats": None}
        self.manifest: dict[str, Any] = {"format": FORMAT, **facts, "progress": fresh}
        self.moments = {
            name: _Moments(np.zeros((c.width, c.width), order="F"), np.zeros(c.width))
            for name, c in columns.items()
            if name != LABELS
        }
        self._idle: list[Path] = []

    @property
    def progress(self) -> dict[str, Any]:
        return self.manifest["progress"]

    def resume(self, found: Mapping[str, Any]) -> None:
        """Go on from a manifest: cut files back, and read the sums."""
        self.manifest = dict(found)
        total = sum(block["rows"] for block in self.progress["blocks"])
        for name, column in self.columns.items():
            _cut(file_of(self.folder, name), total * column.bytes)
            for split in SPLITS:
                _cut(self._staging(name, split), self.progress["staged"][split] * column.bytes)
        if self.progress["stats"] is not None:
            with np.load(self.folder / self.progress["stats"], allow_pickle=False) as stats:
                for name, one in self.moments.items():
                    one.gram = np.asfortranarray(stats[f"gram.{name}"])
                    one.total, one.norms = stats[f"total.{name}"], [stats[f"norms.{name}"]]

    def append(self, split: str, rows: Mapping[str, NDArray[Any]]) -> None:
        """Stage rows; blocks that are full are written."""
        n, done = len(rows[LABELS]), 0
        while done < n:
            take = min(n - done, self.block_rows - self.progress["staged"][split])
            for name, column in self.columns.items():
                with self._staging(name, split).open("ab") as file:
                    file.write(np.ascontiguousarray(rows[name][done : done + take], dtype=column.dtype).tobytes())
            self.progress["staged"][split] += take
            done += take
            if self.progress["staged"][split] == self.block_rows:
                self._flush(split)

    def checkpoint(self, next_batch: int) -> None:
        """Write down how far everything has come, then remove what is needed no longer."""
        self.progress["next_batch"] = next_batch
        blocks = len(self.progress["blocks"])
        stats = f"stats.{blocks}.npz"
        if blocks and self.progress["stats"] != stats:
            self._write_stats(self.folder / stats)
            if self.progress["stats"] is not None:
                self._idle.append(self.folder / self.progress["stats"])
            self.progress["stats"] = stats
        self._write_manifest()
        for path in self._idle:
            path.unlink(missing_ok=True)
        self._idle.clear()

    def complete(self, facts: Mapping[str, Any]) -> None:
        """Write the last, shorter blocks, and say that nothing is missing."""
        for split in SPLITS:
            if self.progress["staged"][split]:
                self._flush(split)
        self.checkpoint(self.progress["next_batch"])
        self.manifest |= {**facts, "sums": {name: _summary(one) for name, one in self.moments.items()}}
        self.progress["complete"] = True
        self._write_manifest()

    # ------------------------------------------------------------------ one block
    def _flush(self, split: str) -> None:
        blocks, n = self.progress["blocks"], self.progress["staged"][split]
        order = np.random.default_rng([self.seed, SPLITS.index(split), len(blocks)]).permutation(n)
        sums = {}
        for name, column in self.columns.items():
            staging = self._staging(name, split)
            rows = np.fromfile(staging, dtype=column.dtype).reshape(n, column.width)[order]
            data = rows.tobytes()
            with file_of(self.folder, name).open("ab") as file:
                file.write(data)
            sums[name] = xxhash.xxh3_64(data).hexdigest()
            if split == "train" and name in self.moments:
                self.moments[name].add(rows)
            self._idle.append(staging)
        blocks.append({"split": split, "rows": n, "content": sums})
        self.progress["staged"][split] = 0

    def _staging(self, column: str, split: str) -> Path:
        done = sum(block["split"] == split for block in self.progress["blocks"])
        return self.folder / f"{column}.{split}.{done}.part"

    def _write_stats(self, path: Path) -> None:
        arrays: dict[str, Any] = {}
        for name, one in self.moments.items():
            one.norms = [np.concatenate(one.norms)] if one.norms else [np.empty(0, dtype=np.float32)]
            arrays |= {f"gram.{name}": one.gram, f"total.{name}": one.total, f"norms.{name}": one.norms[0]}
        np.savez(path, allow_pickle=False, **arrays)

    def _write_manifest(self) -> None:
        beside = self.folder / f"{_MANIFEST}.part"
        beside.write_text(json.dumps(self.manifest, indent=1) + "\n", encoding="utf-8")
        os.replace(beside, self.folder / _MANIFEST)


def _cut(path: Path, size: int) -> None:
    """Cut a file back to what is known of it."""
    found = path.stat().st_size if path.exists() else 0
    if found < size:
        raise FormatError(f"{path} has {found} bytes of the {size} its manifest knows; collect again into another folder")
    if found > size:
        os.truncate(path, size)


def _summary(one: _Moments) -> dict[str, Any]:
    """What a manifest tells of the norms."""
    norms = np.concatenate(one.norms) if one.norms else np.empty(0, dtype=np.float32)
    if not len(norms):
        return {"rows": 0}
    shares = (0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0)
    return {
        "rows": len(norms),
        "mean_squared_norm": float(np.mean(norms.astype(np.float64) ** 2)),
        "norm_quantiles": {f"{share:g}": float(np.quantile(norms, share)) for share in shares},
        "zero_rows": int(np.count_nonzero(norms == 0)),
    }
