"""A problem in a file: what may be changed, what is asked, and which way is better."""

from __future__ import annotations

import math
import os
import subprocess
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locum.core._imported import imported
from locum.core.errors import FormatError, InvalidData
from locum.core.target import Target
from locum.optimize.objective import objective
from locum.optimize.space import Point, Space

__all__ = ["Problem", "command"]

_KEYS = {"direction", "target", "command", "parameters", "budget", "initial", "ledger", "price", "timeout", "seed", "batch"}


def command(
    arguments: Sequence[str], *, timeout: float | None = None, folder: str | os.PathLike[str] | None = None
) -> Callable[[Point], float]:
    """A programme as an objective: it is run for each point, and the last line that it prints is the value.

    Parameters
    ----------
    arguments : sequence of str
        The programme and its arguments; ``{name}`` stands for the value of a parameter, and an argument that names one that
        does not matter in a point is left out, with the option before it. No shell reads them.
    timeout : float or None, default=None
        Seconds it may take.
    folder : path or None, default=None
        Where it runs.

    Returns
    -------
    callable
        Takes a point; raises where the programme fails, takes too long, or prints no number.

    Examples
    --------
    >>> import sys
    >>> square = command([sys.executable, "-c", "import sys; print(float(sys.argv[1]) ** 2)", "{x}"])
    >>> square({"x": 3})
    9.0
    """
    if isinstance(arguments, str) or not arguments or not all(isinstance(one, str) for one in arguments):
        raise InvalidData(f"expected a command as a list of text, programme first, got {arguments!r}")

    def run(point: Point) -> float:
        filled = _filled(arguments, point)
        done = subprocess.run(filled, capture_output=True, text=True, timeout=timeout, cwd=folder, check=False)
        if done.returncode:
            raise RuntimeError(f"the command ended with {done.returncode}: {done.stderr.strip()[-200:] or 'it said nothing'}")
        lines = done.stdout.split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        try:
            return float(last)
        except ValueError:
            raise RuntimeError(f"expected a number as the last line of output, got {last[:80]!r}") from None

    run.__name__ = Path(arguments[0]).name
    return run


def _filled(arguments: Sequence[str], point: Mapping[str, Any]) -> list[str]:
    out: list[str] = []
    for one in arguments:
        try:
            out.append(one.format_map(point))
        except KeyError:  # does not matter in this point, so its option is not given either
            if out and len(out) > 1 and out[-1].startswith("-"):
                out.pop()
        except (ValueError, IndexError, AttributeError) as error:
            raise InvalidData(f"cannot fill in {one!r}: {error}; braces that stand for themselves are written twice") from error
    return out


@dataclass(frozen=True)
class Problem:
    """What `Problem.load` reads from a TOML file.

    Parameters
    ----------
    space : Space
    function : callable
        Takes a point.
    name : str
        What is asked, in words; part of what tells its ledger from others.
    direction : {"minimize", "maximize"}
    budget : int or None, default=None
    initial : int or None, default=None
    batch : int, default=1
    seed : int, default=0
    price : float, default=0.0
    ledger : Path or None, default=None
    """

    space: Space
    function: Callable[[Point], float]
    name: str
    direction: str
    budget: int | None = None
    initial: int | None = None
    batch: int = 1
    seed: int = 0
    price: float = 0.0
    ledger: Path | None = None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Problem:
        """Read a problem.

        Parameters
        ----------
        path : path
            A TOML file with `direction`; `target` ("module:function", of a point) or `command` (a list, see `command`); a table
            ``[[parameters]]`` for each parameter, with name and kind (real, integer or categorical) and what that takes; and
            perhaps `budget`, `initial`, `batch`, `seed`, `price`, `timeout` (seconds, of a command) and `ledger` (a file beside
            it; by default it has the name of the problem). Modules are looked for beside the file first.

        Raises
        ------
        FormatError
            No TOML, or keys that are missing or unknown.
        InvalidData
            Parameters that make no space, or a target that is not there.
        """
        path = Path(path)
        try:
            record = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FormatError(f"{path} is no problem file: {error}") from error
        strange = sorted(set(record) - _KEYS)
        if strange:
            raise FormatError(f"{path} has {strange[0]!r}, which is unknown; expected {', '.join(sorted(_KEYS))}")
        if ("target" in record) == ("command" in record):
            raise FormatError(f'{path} needs either target = "module:function" or command = ["programme", ...]')
        if record.get("direction") not in ("minimize", "maximize"):
            raise FormatError(f'{path} needs direction = "minimize" or "maximize", got {record.get("direction")!r}')
        space = Space.from_dict({"parameters": record.get("parameters", [])})
        if "target" in record:
            function, name = _imported(record["target"], path.parent), str(record["target"])
        else:
            function = command(record["command"], timeout=record.get("timeout"), folder=path.parent)
            name = " ".join(record["command"])
        settings = {key: record[key] for key in ("budget", "initial", "batch", "seed", "price") if key in record}
        ledger = path.parent / str(record.get("ledger", path.stem + ".ledger"))
        return cls(space, function, name, record["direction"], ledger=ledger, **settings)

    def target(self, **settings: Any) -> Target:
        """The objective, with its ledger; see `objective`."""
        if not 0 <= self.price < math.inf:
            raise InvalidData(f"expected a price of 0 or more, got {self.price!r}")
        return objective(self.function, self.space, name=self.name, **{"ledger": self.ledger, "price": self.price, **settings})


def _imported(text: Any, folder: Path) -> Callable[[Point], float]:
    found = imported(str(text), folder)
    if not callable(found):
        raise InvalidData(f"expected {text} to be a function of a point, got {type(found).__name__}")
    return found
