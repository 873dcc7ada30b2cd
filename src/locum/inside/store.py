"""Activations of a network on disk: collected once, in one pass for all sites, and read again by every fit."""

from __future__ import annotations

import hashlib
import inspect
import json
import mmap
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import xxhash
from numpy.typing import NDArray

from locum.core.errors import FormatError, InvalidData, LocumError, need, require_one_of, require_whole
from locum.inside._blocks import LABELS, BlockWriter, Column, file_of, read_manifest
from locum.inside.filters import RowFilter, every_position
from locum.inside.rows import SPLITS, ActivationRows, split_documents
from locum.inside.tap import Tap

__all__ = ["ActivationStore", "SiteRows", "StoreEstimate", "StoreError", "padded", "token_batches"]

_CHUNK = 16  # batches whose sequences are sorted by length together
_DTYPES = ("float16", "float32")
_RESIDENT = 256 * 2**20  # bytes of a site's file that stay mapped


class StoreError(LocumError, RuntimeError):
    """A collection that could not go on; what was written before stays, and the same call goes on from there."""


@dataclass(frozen=True)
class StoreEstimate:
    """What a collection will take.

    Attributes
    ----------
    rows : int
        At most; a filter that reads norms may drop more.
    bytes, free : int
        On disk, needed and left.
    seconds : float
        On this machine, by a first batch.
    """

    rows: int
    bytes: int
    free: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.rows} rows, {self.bytes / 2**20:.0f} MiB of {self.free / 2**20:.0f} free, about {self.seconds:.0f} s"


class ActivationStore:
    """A folder of activations: one file a site, blocks permuted when they were written, documents split into parts.

    Made by :meth:`collect`, opened by :meth:`open`. ``store[site]`` gives the rows of a site; all sites hold the same tokens in
    the same order.

    Parameters
    ----------
    folder : Path
    manifest : dict
        As in the folder.
    """

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        self.folder, self.manifest = folder, manifest

    # ------------------------------------------------------------------ making one
    @classmethod
    def collect(
        cls,
        tap: Tap,
        documents: Sequence[Any],
        path: Any,
        *,
        tokenizer: Any = None,
        rows: int | None = None,
        dtype: str = "float16",
        keep: RowFilter = every_position,
        split: tuple[float, float, float] = (0.8, 0.1, 0.1),
        context: int | None = None,
        batch_size: int = 16,
        block_rows: int = 32_768,
        random_state: int = 0,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> ActivationStore:
        """Run a model over documents and write its activations at all sites, in one pass that stops after the deepest.

        Where the folder holds a collection of the same settings that was cut short, it goes on; the store that results is the
        same, to the bit, as one without the interruption. A finished one is opened.

        Parameters
        ----------
        tap : Tap
        documents : sequence
            Texts, with `tokenizer`, or token ids of shape (length,) each. They are the units of the split.
        path : path
            The folder.
        tokenizer : tokenizer of transformers or None, default=None
        rows : int or None, default=None
            How many to keep; all where None.
        dtype : {"float16", "float32"}, default="float16"
        keep : RowFilter, default=every position
            Which tokens become rows.
        split : tuple of three floats, default=(0.8, 0.1, 0.1)
            Shares of documents for train, val and test.
        context : int or None, default=None
            Longest sequence; longer documents are cut into several, in which positions begin anew. The model's own limit where
            None, and a longer document is then refused.
        batch_size : int, default=16
            Sequences in a pass.
        block_rows : int, default=32768
        random_state : int, default=0
            Of the split, the order of sequences and the order within blocks.
        progress : callable or None, default=None
            Called with (batches done, batches in all, words).

        Returns
        -------
        ActivationStore

        Raises
        ------
        InvalidData
            Empty documents, ones longer than the model reads, more rows than there are, non-finite activations (named by batch
            and row), too little room on the disk.
        FormatError
            The folder holds a store of other settings.
        StoreError
            The disk was full; what is there stays.

        Notes
        -----
        Cost: a forward pass to the deepest site over all tokens, about 3 % more for the sums of products, and
        ``rows * width * bytes of dtype`` on disk a site, of which a block a site and split is there twice for a time.
        """
        start = time.perf_counter()
        job = _Job(tap, documents, tokenizer, rows, dtype, keep, split, context, batch_size, block_rows, random_state)
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "manifest.json").exists():
            found = read_manifest(folder)
            _check_same(found, job.facts, folder)
            if found["progress"]["complete"]:
                return cls(folder, found)
        else:
            found = None
        columns, batch = job.columns(found)
        writer = BlockWriter(folder, columns, block_rows, job.facts, random_state)
        if found is not None:
            writer.resume(found)
        left = job.most_rows - sum(block["rows"] for block in writer.progress["blocks"])
        _check_room(folder, left * sum(column.bytes for column in columns.values()))
        try:
            job.write(writer, batch, progress)
            writer.complete({"seconds": round(time.perf_counter() - start, 1)})
        except OSError as error:
            raise StoreError(
                f"cannot write on in {folder}: {error.strerror or error}; make room and call collect again, which goes on, "
                f"or open it as it is: {len(read_manifest(folder)['progress']['blocks'])} blocks are whole"
            ) from error
        return cls(folder, writer.manifest)

    @classmethod
    def estimate(cls, tap: Tap, documents: Sequence[Any], path: Any, **settings: Any) -> StoreEstimate:
        """What :meth:`collect` with the same arguments will take, by running one batch.

        Parameters
        ----------
        tap : Tap
        documents : sequence
        path : path
        **settings
            As for :meth:`collect`.
        """
        known = inspect.signature(cls.collect).parameters
        usual = {name: one.default for name, one in known.items() if one.default is not inspect.Parameter.empty}
        usual.pop("progress")
        job = _Job(tap, documents, **(usual | settings))
        columns, _ = job.columns(None)
        start = time.perf_counter()
        tokens = job.tokens_of(job.batches[0])
        job.activations(0)
        every = sum(job.tokens_of(one) for one in job.batches)
        seconds = (time.perf_counter() - start) * every / tokens * job.most_rows / job.available
        size = job.most_rows * sum(column.bytes for column in columns.values())
        return StoreEstimate(job.most_rows, size, _free(Path(path)), seconds)

    # ------------------------------------------------------------------ reading one
    @classmethod
    def open(cls, path: Any, *, tap: Tap | None = None) -> ActivationStore:
        """Open a store; of one that was cut short, the blocks that are whole.

        Parameters
        ----------
        path : path
        tap : Tap or None, default=None
            Checks that the store is of this model and these sites.

        Raises
        ------
        FormatError
            No store, one cut short on disk, or one of another model.
        """
        folder = Path(path)
        found = read_manifest(folder)
        if tap is not None and found["model"] != tap.model_hash:
            raise FormatError(f"{folder} is of another model ({found['model'][:8]}, not {tap.model_hash[:8]}); collect again")
        if tap is not None:
            strange = [name for name, site in tap.sites.items() if found["sites"].get(name, {}).get("site") != str(site)]
            if strange:
                raise FormatError(
                    f"{folder} has no site {strange[0]!r} at {tap.sites[strange[0]]}; it has {', '.join(found['sites'])}"
                )
        total = sum(block["rows"] for block in found["progress"]["blocks"])
        for name, one in found["sites"].items():
            size = Column(one["width"], one["dtype"]).bytes * total
            there = file_of(folder, name).stat().st_size if file_of(folder, name).exists() else 0
            if there < size:
                raise FormatError(f"{file_of(folder, name)} is cut short: {there} bytes of {size}; use another copy")
        return cls(folder, found)

    @property
    def complete(self) -> bool:
        """Whether the collection came to its end."""
        return bool(self.manifest["progress"]["complete"])

    @cached_property
    def hash(self) -> str:
        """Of all that the manifest says but the time it took: equal for equal content."""
        told = {key: value for key, value in self.manifest.items() if key != "seconds"}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites."""
        return tuple(self.manifest["sites"])

    def __getitem__(self, site: str) -> SiteRows:
        if site not in self.manifest["sites"]:
            raise InvalidData(f"there is no site {site!r} in {self.folder}; there is {', '.join(self.sites)}")
        return SiteRows(self, site)

    def blocks(self, split: str) -> list[tuple[int, int]]:
        """First row and row after the last of each block of a part.

        Parameters
        ----------
        split : {"train", "val", "test"}
        """
        require_one_of(SPLITS, split=split)
        found, start = [], 0
        for block in self.manifest["progress"]["blocks"]:
            if block["split"] == split:
                found.append((start, start + block["rows"]))
            start += block["rows"]
        return found

    @cached_property
    def _labels(self) -> NDArray[np.int32]:
        return _mapped(file_of(self.folder, LABELS), Column(3, "int32"))

    def labels(self, split: str) -> NDArray[np.int32]:
        """Token id, document and position of each row of a part, shape (n, 3).

        Parameters
        ----------
        split : {"train", "val", "test"}
        """
        parts = [self._labels[start:stop] for start, stop in self.blocks(split)]
        return np.concatenate(parts) if parts else np.empty((0, 3), dtype=np.int32)

    def documents_of(self, split: str) -> NDArray[np.int64]:
        """Numbers of the documents that went to a part, in the order they were given in.

        Parameters
        ----------
        split : {"train", "val", "test"}
        """
        require_one_of(SPLITS, split=split)
        parts = split_documents(self.manifest["documents"]["count"], self.manifest["split"], self.manifest["random_state"])
        return np.flatnonzero(parts == SPLITS.index(split))


@final
class SiteRows(ActivationRows):
    """Rows of one site of a store on disk, read through a memory map.

    Parameters
    ----------
    store : ActivationStore
    name : str
    """

    def __init__(self, store: ActivationStore, name: str) -> None:
        told = store.manifest["sites"][name]
        self.store, self.name, self.width = store, name, told["width"]
        self._column = Column(told["width"], told["dtype"])
        self._touched = 0

    @cached_property
    def _sums(self) -> dict[str, NDArray[Any]]:
        stats = self.store.manifest["progress"]["stats"]
        if stats is None:
            raise InvalidData(f"{self.store.folder} has no whole block yet, so nothing is known of {self.name!r}; collect on")
        with np.load(self.store.folder / stats, allow_pickle=False) as found:
            upper = found[f"gram.{self.name}"]
            norms = found[f"norms.{self.name}"]
            gram = (np.triu(upper) + np.triu(upper, 1).T) / len(norms)
            return {"gram": gram, "mean": found[f"total.{self.name}"] / len(norms), "norms": norms}

    def blocks(self, split: str) -> list[tuple[int, int]]:
        return self.store.blocks(split)

    @cached_property
    def _file(self) -> mmap.mmap:
        with file_of(self.store.folder, self.name).open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    def read_into(self, start: int, out: NDArray[np.float32]) -> None:
        torch = need("torch", "reading activations", "nets")  # ten times as fast as numpy from half precision
        told = self._column
        found = np.frombuffer(self._file, dtype=told.dtype, count=out.size, offset=start * told.bytes)
        torch.from_numpy(out).copy_(torch.from_numpy(found.reshape(out.shape)))
        self._touched += found.nbytes
        if self._touched > _RESIDENT:  # pages that were read count as this process's until they are given back
            self._file.madvise(mmap.MADV_DONTNEED)
            self._touched = 0

    def documents(self, split: str) -> NDArray[np.int64]:
        return self.store.labels(split)[:, 1].astype(np.int64)

    @property
    def mean_(self) -> NDArray[np.float64]:
        return self._sums["mean"]

    @property
    def gram_(self) -> NDArray[np.float64]:
        return self._sums["gram"]

    @property
    def norms_(self) -> NDArray[np.float32]:
        """Norms of the training rows, in no order."""
        return self._sums["norms"]


def _mapped(path: Path, column: Column) -> NDArray[Any]:
    return np.memmap(path, dtype=column.dtype, mode="r").reshape(-1, column.width)


# ---------------------------------------------------------------------- sequences and batches
def token_batches(
    documents: Sequence[NDArray[np.int64]], context: int, batch_size: int, random_state: int = 0
) -> list[list[tuple[int, int, int]]]:
    """Documents cut into sequences, and those put into batches of about equal length, in random order.

    Parameters
    ----------
    documents : sequence of ndarray
        Token ids.
    context : int
        Longest sequence.
    batch_size : int
    random_state : int, default=0

    Returns
    -------
    list of list of tuple
        Document, first token and token after the last of each sequence.
    """
    windows = [(i, a, min(a + context, len(ids))) for i, ids in enumerate(documents) for a in range(0, len(ids), context)]
    rng = np.random.default_rng([random_state, 2])
    order, batches = rng.permutation(len(windows)), []
    for first in range(0, len(order), _CHUNK * batch_size):
        chunk = sorted(order[first : first + _CHUNK * batch_size], key=lambda i: windows[i][2] - windows[i][1])
        cuts = [chunk[i : i + batch_size] for i in range(0, len(chunk), batch_size)]
        batches += [[windows[i] for i in cuts[at]] for at in rng.permutation(len(cuts))]
    return batches


def padded(
    model: Any, documents: Sequence[NDArray[np.int64]], batch: Sequence[tuple[int, int, int]]
) -> tuple[dict[str, Any], Any]:
    """Sequences of one batch as a model takes them, padded on the right.

    Parameters
    ----------
    model : torch.nn.Module
    documents : sequence of ndarray
        Token ids.
    batch : sequence of tuple
        One of those that `token_batches` gives.

    Returns
    -------
    inputs : dict
        Named arguments of the model, without a cache where it would keep one.
    there : boolean tensor of shape (sequences, longest)
        False for padding.
    """
    torch = need("torch", "running a model over text", "nets")
    shape = (len(batch), max(stop - start for _, start, stop in batch))
    ids, mask = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for line, (i, start, stop) in enumerate(batch):
        ids[line, : stop - start], mask[line, : stop - start] = documents[i][start:stop], 1
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    inputs = {"input_ids": torch.as_tensor(ids, device=device), "attention_mask": torch.as_tensor(mask, device=device)}
    if "use_cache" in inspect.signature(model.forward).parameters:
        inputs["use_cache"] = False
    return inputs, inputs["attention_mask"].bool()


class _Job:
    """What a collection does, checked before anything is paid."""

    def __init__(
        self, tap: Tap, documents: Sequence[Any], tokenizer: Any, rows: int | None, dtype: str, keep: RowFilter, split: Any,
        context: int | None, batch_size: int, block_rows: int, random_state: int,
    ) -> None:  # fmt: skip
        require_one_of(_DTYPES, dtype=dtype)
        require_whole(1, batch_size=batch_size, block_rows=block_rows, **({} if rows is None else {"rows": rows}))
        require_whole(0, random_state=random_state)
        if not isinstance(keep, RowFilter):
            raise InvalidData(f"expected keep= to be a RowFilter, such as ~first_position, got {keep!r}")
        strange = sorted(keep.sites - set(tap.sites))
        if strange:
            raise InvalidData(f"the filter reads norms at {strange[0]!r}, which is no site of the tap")
        self.tap, self.keep, self.dtype, self.rows = tap, keep, dtype, rows
        self.ids = [_ids(i, one, tokenizer) for i, one in enumerate(documents)]
        self.part = split_documents(len(self.ids), split, random_state)
        limit = _limit(tap.model, self.ids, context)
        self.batches = token_batches(self.ids, limit, batch_size, random_state)
        self.available = available = sum(self._picked(batch) for batch in self.batches)
        if rows is not None and rows > available:
            raise InvalidData(
                f"expected at most {available} rows=, which is what the documents hold, got {rows}; give more text"
            )
        if not available:
            raise InvalidData(f"the filter {keep} leaves no token of {len(self.ids)} documents")
        self.most_rows = available if rows is None else rows
        digest = xxhash.xxh3_128()
        for ids in self.ids:
            digest.update(ids.tobytes() + b"|")
        self.facts: dict[str, Any] = {
            "model": tap.model_hash, "model_class": type(tap.model).__name__, "dtype": dtype, "filter": str(keep),
            "tokenizer": None if tokenizer is None else str(getattr(tokenizer, "name_or_path", type(tokenizer).__name__)),
            "split": list(map(float, split)), "random_state": random_state, "rows": rows, "context": limit,
            "batch_size": batch_size, "block_rows": block_rows,
            "documents": {"count": len(self.ids), "content": digest.hexdigest()},
            "sites": {name: {"site": str(s)} for name, s in tap.sites.items()},
        }  # fmt: skip

    def tokens_of(self, batch: Sequence[tuple[int, int, int]]) -> int:
        return sum(stop - start for _, start, stop in batch)

    def _picked(self, batch: Sequence[tuple[int, int, int]]) -> int:
        """Rows of a batch, at most, where the filter reads norms."""
        if self.keep.sites:
            return self.tokens_of(batch)
        tokens, positions = self._labels(batch)[:, [0, 2]].T
        return int(self.keep.picks(tokens, positions, {}).sum())

    def _labels(self, batch: Sequence[tuple[int, int, int]]) -> NDArray[np.int32]:
        parts = [np.column_stack([self.ids[i][a:b], np.full(b - a, i), np.arange(b - a)]).astype(np.int32) for i, a, b in batch]
        return np.concatenate(parts)

    def columns(self, found: Mapping[str, Any] | None) -> tuple[dict[str, Column], int]:
        """Files and their widths, and the first batch to run; widths come from a short pass."""
        if found is not None:
            widths = {name: one["width"] for name, one in found["sites"].items()}
        else:
            i, a, b = min(self.batches[0], key=lambda window: window[2] - window[1])
            shapes = self._run([(i, a, min(b, a + 8))])
            widths = {name: rows.shape[1] for name, rows in shapes.items()}
        for name, width in widths.items():
            self.facts["sites"][name] |= {"width": width, "dtype": self.dtype}
        columns = {name: Column(width, self.dtype) for name, width in widths.items()} | {LABELS: Column(3, "int32")}
        return columns, 0 if found is None else found["progress"]["next_batch"]

    def write(self, writer: BlockWriter, first: int, progress: Callable[[int, int, str], None] | None) -> None:
        """Run the batches that are left, until there are enough rows."""
        for at in range(first, len(self.batches)):
            kept = sum(block["rows"] for block in writer.progress["blocks"]) + sum(writer.progress["staged"].values())
            room = self.most_rows - kept
            if room <= 0:
                break
            found = {name: rows[:room] for name, rows in self.activations(at).items()}
            part = self.part[found[LABELS][:, 1]]
            for i in np.unique(part):
                writer.append(SPLITS[i], {name: rows[part == i] for name, rows in found.items()})
            writer.checkpoint(at + 1)
            if progress is not None:
                progress(at + 1, len(self.batches), f"{kept + len(part)} rows")

    def activations(self, at: int) -> dict[str, NDArray[Any]]:
        """Rows of a batch that the filter picks, by site, with their labels."""
        labels, found = self._labels(self.batches[at]), self._run(self.batches[at])
        norms = {name: np.linalg.norm(found[name], axis=1) for name in self.keep.sites}
        picked = self.keep.picks(labels[:, 0], labels[:, 2], norms)
        out: dict[str, NDArray[Any]] = {LABELS: labels[picked]}
        for name, rows in found.items():
            with np.errstate(over="ignore"):  # what does not fit is found, and named, below
                out[name] = rows[picked].astype(self.dtype)
            bad = ~np.isfinite(out[name]).all(axis=1)
            if bad.any():
                row = int(np.argmax(bad))
                token, document, position = out[LABELS][row]
                largest = np.abs(rows[picked][row]).max()
                hint = (
                    f"{largest:g} does not fit float16: take dtype='float32', or drop it with keep="
                    if np.isfinite(largest)
                    else "drop it with keep="
                )
                raise InvalidData(
                    f"activations at {name!r} are not finite in batch {at}, row {row} (document {document}, "
                    f"position {position}, token {token}); {hint}"
                )
        return out

    def _run(self, batch: Sequence[tuple[int, int, int]]) -> dict[str, NDArray[np.float32]]:
        """Activations of the tokens of a batch, without those of the padding."""
        torch = need("torch", "collecting activations", "nets")
        inputs, there = padded(self.tap.model, self.ids, batch)
        with torch.inference_mode():
            found = self.tap.read(**inputs)
            return {name: one[there].flatten(1).float().cpu().numpy() for name, one in found.items()}


def _ids(i: int, document: Any, tokenizer: Any) -> NDArray[np.int64]:
    if isinstance(document, str):
        if tokenizer is None:
            raise InvalidData("expected token ids, got text; give tokenizer=")
        document = tokenizer(document, verbose=False)["input_ids"]
    ids = np.asarray(document, dtype=np.int64)
    if ids.ndim != 1 or not ids.size:
        raise InvalidData(
            f"expected documents with at least one token each, got document {i} with shape {ids.shape}: leave it out"
        )
    return ids


def _limit(model: Any, ids: Sequence[NDArray[np.int64]], context: int | None) -> int:
    """The longest sequence."""
    own = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if context is not None:
        require_whole(1, context=context)
        if own is not None and context > own:
            raise InvalidData(f"expected context= of at most {own}, which is all the model reads, got {context}")
        return context
    longest = max(map(len, ids))
    if own is not None and longest > own:
        at = int(np.argmax([len(one) for one in ids]))
        raise InvalidData(f"document {at} has {longest} tokens and the model reads {own}; give context= to cut documents")
    return longest


def _free(path: Path) -> int:
    there = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free


def _check_room(folder: Path, size: int) -> None:
    free = _free(folder)
    if size > free:
        raise InvalidData(
            f"the store needs {size / 2**20:.0f} MiB and {folder} has {free / 2**20:.0f} MiB left; take fewer rows= or sites"
        )


def _check_same(found: Mapping[str, Any], facts: Mapping[str, Any], folder: Path) -> None:
    def plain(told: Mapping[str, Any]) -> dict[str, Any]:
        return told | {"sites": {name: one["site"] for name, one in told["sites"].items()}}  # type: ignore[operator]

    ours = plain(facts)
    theirs = plain({key: found.get(key) for key in facts})
    wrong = [key for key in facts if ours[key] != theirs[key]]
    if wrong:
        raise FormatError(
            f"{folder} holds a store with another {wrong[0]} ({theirs[wrong[0]]!r}, not {ours[wrong[0]]!r}); "
            "give another folder"
        )
