"""Dictionaries from and to other libraries: SAELens (cfg.json and safetensors) and dictionary_learning (ae.pt)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import FormatError, InvalidData, need
from locum.inside._files import build, read_tensors, write_tensors
from locum.inside.dictionary import Dictionary, SparseAutoencoder
from locum.inside.encoders import BatchTopK, EncoderSpec, Gated, JumpReLU, MatchingPursuit, Matryoshka, ReLU, TopK
from locum.inside.mp_sae import MatchingPursuitSAE

__all__ = ["from_dictionary_learning", "from_saelens", "to_saelens"]

_CFG, _WEIGHTS = "cfg.json", "sae_weights.safetensors"
_Arrays = Mapping[str, NDArray[Any]]


def from_saelens(path: Any, *, mean: ArrayLike | None = None) -> Dictionary:
    """A dictionary that SAELens saved, with codes and reconstructions equal to its own but for the lengths of atoms.

    Atoms are brought to length 1 and codes multiplied by what they had, so reconstructions stay the same; where they are ranked
    by size (TopK) only atoms that had one length to begin with are taken.

    Parameters
    ----------
    path : path
        A folder with ``cfg.json`` and ``sae_weights.safetensors``.
    mean : array-like of shape (width,) or None, default=None
        Of the rows, against which unexplained variance is measured; the decoder's bias where None.

    Raises
    ------
    FormatError
        Files that are absent or damaged, or of a kind that is not read.
    """
    folder = Path(path)
    try:
        cfg = json.loads((folder / _CFG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(f"cannot read {folder / _CFG}: {error}; expected a folder that SAELens saved") from error
    if cfg.get("normalize_activations", "none") != "none":
        raise FormatError(f"{folder} scales its inputs ({cfg['normalize_activations']}); fold the scale into the weights first")
    tensors = read_tensors(folder / _WEIGHTS)
    kind = cfg.get("architecture", "standard")
    readers = {"standard": ReLU, "topk": TopK, "jumprelu": JumpReLU, "gated": Gated, "matching_pursuit": MatchingPursuit}
    if kind not in readers:
        raise FormatError(f"expected one of {', '.join(readers)} in {folder}, got {kind!r}")
    width, latents = int(cfg["d_in"]), int(cfg["d_sae"])
    applied = bool(cfg.get("apply_b_dec_to_input", True))
    if kind == "matching_pursuit":
        made: Dictionary = MatchingPursuitSAE(latents, min(width, latents), tau=float(cfg.get("residual_threshold", 1e-2)))
        if not applied:
            raise FormatError(f"{folder} takes no bias from inputs, which a pursuit here does; add it to b_dec")
        state = {"atoms": tensors["W_dec"], "bias": tensors["b_dec"]}
    else:
        spec: EncoderSpec = TopK(int(cfg["k"])) if kind == "topk" else readers[kind](min(32, latents))
        made = SparseAutoencoder(latents, spec)
        parts = {"W_enc": tensors["W_enc"], "b_enc": tensors.get("b_enc"), **{k: tensors[k] for k in tensors if k != "W_enc"}}
        state = _state(parts, ranked=kind == "topk" and not cfg.get("rescale_acts_by_decoder_norm", False), where=folder)
    return build(made, state, _mean(mean, tensors["b_dec"]), width, tied=applied, where=folder)


def to_saelens(dictionary: Dictionary, path: Any, *, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a dictionary so that SAELens loads it; BatchTopK becomes a JumpReLU with its one threshold.

    Parameters
    ----------
    dictionary : Dictionary
        Fitted, of one site to itself.
    path : path
        A folder.
    metadata : mapping or None, default=None
        Such as ``{"model_name": ..., "hook_name": ...}``.

    Raises
    ------
    InvalidData
        A transcoder.
    """
    check_is_fitted(dictionary, "atoms_")
    net, spec = dictionary._net, dictionary.spec().inner
    if not net.tied and net.shift.any():
        raise InvalidData("expected a dictionary of one site to itself, got a transcoder, which SAELens keeps in another form")
    state = {name: one.detach().cpu().numpy() for name, one in net.state_dict().items()}
    cfg: dict[str, Any] = {
        "d_in": dictionary.n_features_in_, "d_sae": len(dictionary.atoms_), "dtype": "float32", "device": "cpu",
        "apply_b_dec_to_input": bool(net.tied), "normalize_activations": "none", "reshape_activations": "none",
        "metadata": dict(metadata or {}),
    }  # fmt: skip
    tensors = {"W_dec": state["atoms"], "b_dec": state["bias"]}
    if isinstance(spec, MatchingPursuit):
        cfg |= {"architecture": "matching_pursuit", "residual_threshold": float(net.encoder.tau)}
    else:
        tensors |= {"W_enc": state["encoder.map.weight"].T}
        bias = state["encoder.map.bias"]
        if isinstance(spec, Gated):
            size_bias = state["encoder.size_bias"]
            tensors |= {"b_gate": bias, "b_mag": size_bias, "r_mag": state["encoder.scale"]}
            cfg["architecture"] = "gated"
        else:
            tensors["b_enc"] = bias
            cfg |= {"architecture": "standard"} if isinstance(spec, ReLU) else {}
            cfg |= (
                {"architecture": "topk", "k": spec.k, "rescale_acts_by_decoder_norm": False} if isinstance(spec, TopK) else {}
            )
        if isinstance(spec, JumpReLU | BatchTopK):
            tensors["threshold"] = np.broadcast_to(state["encoder.threshold"], bias.shape).astype(np.float32)
            cfg["architecture"] = "jumprelu"
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / _WEIGHTS, tensors)
    (folder / _CFG).write_text(json.dumps(cfg, indent=1) + "\n", encoding="utf-8")


def from_dictionary_learning(path: Any, *, mean: ArrayLike | None = None) -> SparseAutoencoder:
    """A dictionary that dictionary_learning saved; its file is read as tensors alone.

    Parameters
    ----------
    path : path
        A folder with ``config.json`` and ``ae.pt``.
    mean : array-like of shape (width,) or None, default=None
        Of the rows, against which unexplained variance is measured; the decoder's bias where None.

    Raises
    ------
    FormatError
        Files that are absent or damaged, or of a kind that is not read.
    """
    torch = need("torch", "a dictionary", "nets")
    folder = Path(path)
    try:
        trainer = json.loads((folder / "config.json").read_text(encoding="utf-8"))["trainer"]
        found = torch.load(folder / "ae.pt", map_location="cpu", weights_only=True)
        arrays = {name: one.detach().float().numpy() for name, one in found.items()}
    except Exception as error:
        raise FormatError(f"cannot read {folder}: {error}; expected a folder with config.json and ae.pt") from error
    kind = trainer.get("dict_class", "AutoEncoder")
    spec = _their_spec(kind, arrays, folder)
    parts = {
        "W_enc": arrays["W_enc"] if "W_enc" in arrays else arrays["encoder.weight"].T,
        "W_dec": arrays["W_dec"] if "W_dec" in arrays else arrays["decoder.weight"].T,
        "b_dec": next(arrays[name] for name in ("b_dec", "bias", "decoder_bias", "decoder.bias") if name in arrays),
        "b_enc": next((arrays[name] for name in ("b_enc", "encoder.bias") if name in arrays), None),
        "b_gate": arrays.get("gate_bias"), "b_mag": arrays.get("mag_bias"), "r_mag": arrays.get("r_mag"),
        "threshold": arrays.get("threshold") if isinstance(spec.inner, JumpReLU | BatchTopK) else None,
    }  # fmt: skip
    state = _state(parts, ranked=isinstance(spec, TopK), where=folder)
    width = parts["W_enc"].shape[0]
    tied = kind not in ("JumpReluAutoEncoder", "AutoEncoderNew")
    made = SparseAutoencoder(parts["W_enc"].shape[1], spec)
    build(made, state, _mean(mean, parts["b_dec"]), width, tied=tied, where=folder)
    return made


def _their_spec(kind: str, arrays: _Arrays, folder: Path) -> EncoderSpec:
    if kind in ("AutoEncoder", "AutoEncoderNew"):
        return ReLU(1.0)
    if kind == "GatedAutoEncoder":
        return Gated(1.0)
    if kind == "JumpReluAutoEncoder":
        return JumpReLU(1.0)
    if kind in ("AutoEncoderTopK", "BatchTopKSAE", "MatryoshkaBatchTopKSAE"):
        k = int(arrays["k"])
        if kind == "AutoEncoderTopK":
            return TopK(k)
        if float(arrays["threshold"]) < 0:
            raise FormatError(
                f"the training in {folder} ended before its threshold was set, so rows cannot be encoded by themselves"
            )
        if kind == "BatchTopKSAE":
            return BatchTopK(k)
        sizes = arrays["group_sizes"].astype(float)
        return Matryoshka(BatchTopK(k), tuple((sizes / sizes.sum()).tolist()))
    raise FormatError(f"{folder} holds a {kind}, which is not read here")


def _mean(mean: ArrayLike | None, bias: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(bias if mean is None else mean, dtype=np.float64)


def _state(parts: Mapping[str, Any], *, ranked: bool, where: Path) -> dict[str, NDArray[Any]]:
    """Our weights from theirs, with atoms of length 1: what an atom was longer, its code becomes larger."""
    lengths = np.linalg.norm(parts["W_dec"], axis=1)
    if lengths.min() <= 0:
        raise FormatError(f"atom {int(lengths.argmin())} in {where} is zero; drop it first")
    if ranked and lengths.max() / lengths.min() > 1.001:
        raise FormatError(
            f"the atoms in {where} have lengths from {lengths.min():g} to {lengths.max():g}, and codes are ranked by size"
        )
    state = {
        "atoms": parts["W_dec"] / lengths[:, None], "bias": parts["b_dec"],
        "encoder.map.weight": parts["W_enc"].T * lengths[:, None],
    }  # fmt: skip
    if parts.get("r_mag") is not None:
        state |= {"encoder.map.bias": parts["b_gate"] * lengths, "encoder.size_bias": parts["b_mag"] * lengths}
        state["encoder.scale"] = parts["r_mag"]
    else:
        state["encoder.map.bias"] = parts["b_enc"] * lengths
    threshold = parts.get("threshold")
    if threshold is not None:
        if np.ndim(threshold) == 0 and lengths.max() / lengths.min() > 1.001:
            raise FormatError(f"the atoms in {where} have several lengths, and one threshold cannot follow them")
        state["encoder.threshold"] = np.asarray(threshold * (lengths if np.ndim(threshold) else lengths[0]))
    if state["encoder.map.bias"].shape != lengths.shape:
        raise InvalidData(f"expected a bias for each of {len(lengths)} latents in {where}")
    return {name: np.ascontiguousarray(one, dtype=np.float32) for name, one in state.items()}
