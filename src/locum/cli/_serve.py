"""A small server of one card: its page, its record, and the stand-in's answers."""

from __future__ import annotations

import json
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from typing import Any

import numpy as np

from locum.core._server import PageHandler, is_loopback
from locum.core.errors import InvalidData
from locum.core.report import Card, plain

__all__ = ["server"]

_MOST_BYTES = 16 * 2**20


def server(card: Card, host: str = "127.0.0.1", port: int = 0, *, anyone: bool = False) -> ThreadingHTTPServer:
    """A server that is bound, and serves once its ``serve_forever`` is called.

    ``GET /`` gives the page and ``GET /card.json`` the record. ``POST /predict`` takes
    ``{"columns": [...], "rows": [[...], ...]}``, the card's columns in their order where none are named, and gives
    ``{"answers": [...], "inside": [...]}``; so what is served can be a target itself. Only pages of the server's own may post
    to it, and only this machine reaches it unless `anyone`.

    Parameters
    ----------
    card : Card
    host : str, default="127.0.0.1"
    port : int, default=0
        0 takes any that is free.
    anyone : bool, default=False
        Whether an address that other machines reach may be listened on.

    Raises
    ------
    InvalidData
        Such an address without `anyone`, or a port that is taken.
    """
    if not anyone and not is_loopback(host):
        raise InvalidData(f"{host} lets other machines in; say --anyone if that is meant, or leave the address alone")
    handler = type("CardHandler", (_Handler,), {"card": card, "page": card.to_html().encode(), "open_": anyone})
    try:
        return ThreadingHTTPServer((host, port), handler)
    except OSError as error:
        raise InvalidData(f"cannot listen on {host}:{port}: {error.strerror or error}; give another --port") from error


class _Handler(PageHandler):
    card: Card
    page: bytes

    def do_GET(self) -> None:
        """The page, or the record."""
        if not self.welcome():
            return
        path = self.path.partition("?")[0]
        if path in ("/", "/index.html"):
            self.give(HTTPStatus.OK, self.page, "text/html; charset=utf-8")
        elif path == "/card.json":
            self.give(HTTPStatus.OK, self.card.to_json().encode(), "application/json")
        else:
            self.refuse(HTTPStatus.NOT_FOUND, "there is / (the page), /card.json, and /predict to post rows to")

    def do_POST(self) -> None:
        """Answers to rows."""
        if not self.welcome():
            return
        if self.path != "/predict":
            self.refuse(HTTPStatus.NOT_FOUND, "rows are posted to /predict")
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > _MOST_BYTES:
            self.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected a Content-Length of at most {_MOST_BYTES} bytes")
            return
        try:
            given = json.loads(self.rfile.read(int(length)))
            body = json.dumps(_answers(self.card, given), allow_nan=False).encode()
        except (InvalidData, ValueError, TypeError, KeyError) as error:
            self.refuse(HTTPStatus.BAD_REQUEST, f"{error}" if isinstance(error, InvalidData) else f"not such rows: {error!r}")
            return
        self.give(HTTPStatus.OK, body, "application/json")


def _answers(card: Card, given: Any) -> dict[str, Any]:
    if card.program is None:
        raise InvalidData("this card has no stand-in that can be run")
    names, rows = card.region.domain.names, given["rows"]
    columns = list(names if given.get("columns") is None else given["columns"])
    lost = [name for name in names if name not in columns]
    if lost:
        raise InvalidData(f"expected columns {', '.join(names)}; {lost[0]!r} is missing")
    cells = np.empty((len(rows), len(names)), dtype=object)
    for i, row in enumerate(rows):
        if len(row) != len(columns):
            raise InvalidData(f"expected rows of {len(columns)} values, row {i} has {len(row)}")
        cells[i] = [row[columns.index(name)] for name in names]
    Z = card.region.domain.encode(cells)
    answers = card.program.values(Z) if card.target.get("output") == "probability" else card.program.predict(Z)
    return {"answers": plain(answers), "inside": plain(card.region.inside(cells))}
