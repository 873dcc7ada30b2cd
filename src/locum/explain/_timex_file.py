"""A fitted time-series explainer as a file of tensors and plain values: nothing in it is code."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import torch

from locum.core.errors import FormatError, InvalidData
from locum.explain import _timex_training as training
from locum.explain._timex_variant import TimeXVariant
from locum.nets import History, Reference
from locum.nets.checkpoint import write_whole

__all__ = ["Kept", "read", "rebuilt", "write"]

_FORMAT = 1
_SAME = 1e-3  # of the spread of embeddings


class Kept(NamedTuple):
    """What a file holds: settings, how values are hidden, history, series with the classifier's embedding, and weights."""

    settings: dict[str, Any]
    variant: TimeXVariant | None
    hiding: training.Hiding
    history: History
    X: Any
    times: Any
    held: Any
    embedding: Any
    state: dict[str, Any]


def write(path: str | os.PathLike[str], kept: Kept) -> None:
    """Whole or not at all."""
    record = {"format": _FORMAT, **kept._asdict()}
    record["variant"] = None if kept.variant is None else asdict(kept.variant)
    record |= {"hiding": list(kept.hiding), "history": asdict(kept.history)}
    record |= {name: torch.as_tensor(getattr(kept, name)) for name in ("X", "times", "held", "embedding")}
    write_whole(path, record)


def read(path: str | os.PathLike[str]) -> Kept:
    """What `write` wrote.

    Raises
    ------
    FormatError
        Another kind of file.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise  # no such file, or no right to read it
    except Exception as error:
        raise FormatError(f"{path} is no saved time-series explainer ({error})") from error
    if not isinstance(found, Mapping) or found.get("format") != _FORMAT or set(found) != {"format", *Kept._fields}:
        raise FormatError(f"{path} is no time-series explainer of format {_FORMAT}: update Locum to read it")
    record = {name: found[name] for name in Kept._fields}
    record["variant"] = None if found["variant"] is None else TimeXVariant(**found["variant"])
    record |= {"hiding": training.Hiding(*found["hiding"]), "history": History(**found["history"])}
    return Kept(**record | {name: found[name].numpy() for name in ("X", "times", "held")})


def rebuilt(kept: Kept, reference: Reference) -> tuple[Any, training.Answers]:
    """The trained networks, and what the classifier makes of the series of the fit.

    Raises
    ------
    InvalidData
        Another classifier than that of the fit.
    """
    told = training.answers(reference, kept.X, kept.times, kept.hiding.with_times)
    alike = told.embedding.shape == kept.embedding.shape
    if not alike or float((told.embedding - kept.embedding).abs().max()) > _SAME * float(kept.embedding.std()):
        raise InvalidData("this is another classifier than that of the fit: it embeds the series of the fit differently")
    variant = TimeXVariant() if kept.variant is None else kept.variant
    net = training.assemble(reference, kept.X, kept.times, told, kept.hiding, variant, kept.settings)
    net.load_state_dict(kept.state)
    return net.eval(), told
