"""What servers of pages for this machine share: who is welcome, and how an answer is given."""

from __future__ import annotations

import ipaddress
import json
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

__all__ = ["PageHandler", "is_loopback"]


def is_loopback(host: str) -> bool:
    """Whether a host, as written in an address, is this machine and reached by no other."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class PageHandler(BaseHTTPRequestHandler):
    """Answers requests that mean this machine; a final class says what to."""

    open_: bool = False  # to anyone
    timeout = 30  # seconds that a connection may say nothing

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""

    def welcome(self) -> bool:
        """Whether the request means this machine, or is refused: a page elsewhere that resolves to it does not."""
        host = self.headers.get("Host", "")
        name = host.rsplit(":", 1)[0].strip("[]")
        if self.open_ or (is_loopback(name) and self.headers.get("Origin") in (None, f"http://{host}")):
            return True
        self.refuse(HTTPStatus.FORBIDDEN, "this server answers pages of its own only")
        return False

    def refuse(self, status: HTTPStatus, why: str) -> None:
        """Answer with an error in words."""
        self.give(status, json.dumps({"error": why}).encode(), "application/json")

    def give(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        """Answer with a body of a content type, which nobody is to keep."""
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), "X-Content-Type-Options": "nosniff"}
        for name, value in {**headers, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
