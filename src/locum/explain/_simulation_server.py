"""A server of a simulation test for this machine alone; it writes each answer to a file as it comes."""

from __future__ import annotations

import ipaddress
import json
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


class _Handler(BaseHTTPRequestHandler):
    study: Study
    folder: Path
    page: bytes
    takers: int
    lock: threading.Lock
    timeout = 30  # seconds that a connection may say nothing

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""

    def do_GET(self) -> None:
        """The page."""
        if not self._welcome():
            return
        if self.path.partition("?")[0] in ("/", "/index.html"):
            self._give(HTTPStatus.OK, self.page, "text/html; charset=utf-8")
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is / (the page), and /answers to post to")

    def do_POST(self) -> None:
        """One answer, written before the reply; one that was written already is not written again."""
        if not self._welcome():
            return
        length = self.headers.get("Content-Length", "")
        if self.path != "/answers" or not length.isdigit() or int(length) > _MOST_BYTES:
            self._refuse(HTTPStatus.BAD_REQUEST, f"answers of at most {_MOST_BYTES} bytes are posted to /answers")
            return
        try:
            self._keep(json.loads(self.rfile.read(int(length))))
        except (InvalidData, ValueError, TypeError, KeyError) as error:
            self._refuse(HTTPStatus.BAD_REQUEST, f"this is no answer: {error}")
            return
        self._give(HTTPStatus.OK, b"{}", "application/json")

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

    def _welcome(self) -> bool:
        """Whether the request means this machine: a page elsewhere that resolves to it does not."""
        host = self.headers.get("Host", "")
        name = host.rsplit(":", 1)[0].strip("[]")
        if (name == "localhost" or _is_loopback(name)) and self.headers.get("Origin") in (None, f"http://{host}"):
            return True
        self._refuse(HTTPStatus.FORBIDDEN, "this server answers pages of its own only")
        return False

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._give(status, json.dumps({"error": why}).encode(), "application/json")

    def _give(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), "X-Content-Type-Options": "nosniff"}
        for name, value in {**headers, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
