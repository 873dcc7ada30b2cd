"""The command line: arguments in, library calls out."""

from locum.cli._app import main

__all__ = ["main"]
