"""The commands, and how each of them ends.

Exit codes: 0 done; 1 what was asked for does not hold (a fidelity below ``--at-least``, a claim that fails); 2 arguments or
data that cannot be used; 3 the target failed; 4 the budget ran out; 5 a ledger or file that cannot be used; 130 interrupted.
"""

from __future__ import annotations

import sys

import typer

from locum.cli import _catalogue, _optimize, _standins, _use
from locum.cli._emulate import emulate
from locum.cli._explain import explain
from locum.cli._infer import infer
from locum.cli._inside import inside
from locum.cli._simulate import simulate
from locum.core.errors import BudgetExhausted, FormatError, LedgerError, LocumError, TargetError

__all__ = ["app", "main"]

app = typer.Typer(
    name="locum",
    help="Stand-ins you can check: fit a readable model of a black box, and say how faithful it is, with a bound.",
    epilog="Exit codes: 0 done; 1 what was asked for does not hold; 2 arguments or data that cannot be used; 3 the target "
    "failed; 4 the budget ran out; 5 a ledger or file that cannot be used; 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (*_standins.COMMANDS, *_use.COMMANDS, *_optimize.COMMANDS, *_catalogue.COMMANDS):
    app.command()(command)

app.add_typer(emulate)
app.add_typer(explain)
app.add_typer(infer)
app.add_typer(inside)
app.add_typer(simulate)

_CODES = ((BudgetExhausted, 4), (TargetError, 3), (LedgerError, 5), (FormatError, 5), (LocumError, 2))


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit with its code."""
    try:
        code = app(arguments, standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        _say("interrupted; what was answered is in the ledger, where --ledger names one")
        code = 130
    except LocumError as error:
        _say(str(error))
        code = next(code for kind, code in _CODES if isinstance(error, kind))
    except typer.TyperException as error:  # an unknown option, a value that is none
        _say(f"{error.format_message()}; see locum --help")
        code = 2
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


def _say(message: str) -> None:
    sys.stderr.write(f"locum: {message}\n")
