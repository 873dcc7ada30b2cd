"""A server of a simulation test for this machine alone; it writes each answer to a file as it comes."""

from __future__ import annotations

import json
import threading
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from locum.core._server import PageHandler
from locum.core.errors import InvalidData

if TYPE_CHECKING:
    from locum.explain._simulation_study import Study

__all__ = ["server"]

_MOST_BYTES = 4096
_KEYS = {"taker", "block", "item", "answer", "rating", "seconds"}


def server(study: Study, folder: Path, page: str, port: int, takers: int) -> ThreadingHTTPServer:
    """See `Study.serve`."""
    if not folder.is_dir():
        raise InvalidData(f"{folder} is no folder; make it first, answers are written there")
    state = {"study": study, "folder": folder, "page": page.encode(), "takers": takers, "lock": threading.Lock()}
    handler = type("StudyHandler", (_Handler,), state)
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        raise InvalidData(f"cannot listen on port {port}: {error.strerror or error}; give another one") from error


class _Handler(PageHandler):
    study: Study
    folder: Path
    page: bytes
    takers: int
    lock: threading.Lock

    def do_GET(self) -> None:
        """The page."""
        if not self.welcome():
            return
        if self.path.partition("?")[0] in ("/", "/index.html"):
            self.give(HTTPStatus.OK, self.page, "text/html; charset=utf-8")
        else:
            self.refuse(HTTPStatus.NOT_FOUND, "there is / (the page), and /answers to post to")

    def do_POST(self) -> None:
        """One answer, written before the reply; one that was written already is not written again."""
        if not self.welcome():
            return
        length = self.headers.get("Content-Length", "")
        if self.path != "/answers" or not length.isdigit() or int(length) > _MOST_BYTES:
            self.refuse(HTTPStatus.BAD_REQUEST, f"answers of at most {_MOST_BYTES} bytes are posted to /answers")
            return
        try:
            self._keep(json.loads(self.rfile.read(int(length))))
        except (InvalidData, ValueError, TypeError, KeyError) as error:
            self.refuse(HTTPStatus.BAD_REQUEST, f"this is no answer: {error}")
            return
        self.give(HTTPStatus.OK, b"{}", "application/json")

    def _keep(self, given: Any) -> None:
        if not isinstance(given, dict) or set(given) != _KEYS:
            raise ValueError(f"expected {', '.join(sorted(_KEYS))}")
        taker = given["taker"]
        if isinstance(taker, bool) or not isinstance(taker, int) or not 1 <= taker <= self.takers:
            raise ValueError(f"expected a taker from 1 to {self.takers}")
        answer, path = self.study.checked(given), self.folder / f"answers_{taker}.csv"
        with self.lock:
            known = self.study.read(path, taker)[1] if path.exists() else {}
            if (answer.block, answer.item) not in known:
                self.study.append(path, taker, answer)
