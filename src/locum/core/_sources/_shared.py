"""What the translations of a program share."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np

from locum.core.domain import Column
from locum.core.errors import InvalidData
from locum.core.program import Program, Rule

__all__ = ["is_text", "quoted", "ready", "remark"]

_EXACT = 2**53


def ready(program: Program) -> Program:
    """The same program as translations want it: plain numbers and text, and no link where rules answer.

    Raises
    ------
    InvalidData
        Numbers that are not finite, text that is not Unicode, codes of categories too large for a float.
    """
    try:
        record = json.dumps(program.to_dict(), allow_nan=False, default=_plain, ensure_ascii=False)
        record.encode()
    except UnicodeEncodeError as error:
        raise InvalidData(f"cannot export a program whose names or categories hold half a character: {error}") from error
    except (ValueError, TypeError) as error:
        raise InvalidData(f"cannot export a program with numbers that are not finite: {error}") from error
    program = Program.from_dict(json.loads(record))
    labels = {f"column {column.name!r}": column.levels for column in program.columns} | {"the answer": program.classes or ()}
    for name, values in labels.items():
        if any(isinstance(value, int) and abs(value) > _EXACT for value in values):
            raise InvalidData(f"{name} has codes beyond 2**53, which not every language can tell apart; make them text")
    if program.body == "sum" or program.link == "identity":
        return program
    rules = tuple(replace(rule, value=_linked(program, rule.value)) for rule in program.terms if isinstance(rule, Rule))
    return replace(program, link="identity", terms=rules, base=_linked(program, program.base))


def is_text(column: Column) -> bool:
    """Whether a column holds categories that are text."""
    return any(isinstance(level, str) for level in column.levels)


def quoted(value: Any) -> str:
    """A value as JavaScript, which may stand in a page: ASCII only, and no tag."""
    return json.dumps(value).replace("<", "\\u003c")


def remark(text: str) -> str:
    """Text for a comment to the end of the line: it cannot end the line, nor a script in a page."""
    return json.dumps(text)[1:-1].replace("</", "<\\/").replace("<!", "<\\!")


def _linked(program: Program, value: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(program.linked(np.array([value], dtype=float))[0].tolist())


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} is no plain number or text")
