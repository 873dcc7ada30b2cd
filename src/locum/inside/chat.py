"""Names from a language model behind HTTP: any endpoint with the usual form of chat completions."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Sequence
from typing import Any, final
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, LocumError, need, require_positive, require_whole
from locum.inside.naming import Context

__all__ = ["ChatDetector", "ChatEndpoint", "ChatError", "ChatNamer"]

_EXCERPT = 200
_LATER = (408, 409, 425, 429)


class ChatError(LocumError, RuntimeError):
    """An endpoint that gave no answer that could be used."""


@final
class ChatEndpoint:
    """Asks a language model over HTTP, in the form of chat completions that many servers have.

    Parameters
    ----------
    url : str
        Up to ``/v1``; ``/chat/completions`` is added.
    model : str
    key : str or None, default=None
        Sent as a bearer token. It is in no error and no representation.
    timeout : float, default=60.0
        Seconds for an answer as a whole.
    retries : int, default=2
        Where the endpoint is busy, breaks off or does not answer in time.
    pause : float, default=1.0
        Seconds before the first repetition; doubled each time.
    temperature : float, default=0.0
    max_tokens : int, default=200
    max_bytes : int, default=1000000
        Of an answer.

    Raises
    ------
    InvalidData
        An address that is none, or settings that cannot be used.
    """

    def __init__(
        self, url: str, model: str, *, key: str | None = None, timeout: float = 60.0, retries: int = 2, pause: float = 1.0,
        temperature: float = 0.0, max_tokens: int = 200, max_bytes: int = 1_000_000,
    ) -> None:  # fmt: skip
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidData("expected url= as an address that begins with http:// or https://")
        if parts.username or parts.password or parts.query:
            raise InvalidData("expected url= without a user, password or query; give the key as key=")
        require_positive(timeout=timeout, pause=pause)
        require_whole(0, retries=retries)
        require_whole(1, max_tokens=max_tokens, max_bytes=max_bytes)
        if not isinstance(temperature, int | float) or not 0 <= temperature < math.inf:
            raise InvalidData(f"expected temperature= of 0 or more, got {temperature!r}")
        if key is not None and (not key.isascii() or not key.isprintable()):
            raise InvalidData("expected key= in letters that a header can hold")
        need("httpx", "an HTTP endpoint", "http")
        self.url, self.model, self.timeout, self.retries, self.pause = url.rstrip("/"), model, timeout, retries, pause
        self.temperature, self.max_tokens, self.max_bytes = temperature, max_tokens, max_bytes
        self._key = key

    def __repr__(self) -> str:
        return f"ChatEndpoint({self.url!r}, {self.model!r})"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_key": None}  # a key does not belong in files

    def ask(self, prompt: str, *, system: str = "") -> str:
        """What the model answers.

        Parameters
        ----------
        prompt : str
        system : str, default=""

        Raises
        ------
        ChatError
            No answer in time, one that refuses, or one of another form.
        """
        messages = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": prompt})
        asked = {
            "model": self.model, "messages": messages, "temperature": self.temperature, "max_tokens": self.max_tokens,
        }  # fmt: skip
        for attempt in range(self.retries + 1):
            said, problem, again = self._post(asked)
            if said is not None:
                return said
            if not again or attempt == self.retries:
                break
            time.sleep(self.pause * 2**attempt)
        tried = f" ({attempt + 1} times)" if attempt else ""
        raise ChatError(f"{self!r}: {problem}{tried}")

    def _post(self, asked: Any) -> tuple[str | None, str, bool]:
        """An answer, or what went wrong and whether it is worth asking again."""
        import httpx

        headers = {"authorization": f"Bearer {self._key}"} if self._key else {}
        deadline, data = time.monotonic() + self.timeout, bytearray()
        address = f"{self.url}/chat/completions"
        try:
            with (
                httpx.Client(follow_redirects=False) as client,
                client.stream("POST", address, json=asked, headers=headers, timeout=self.timeout) as response,
            ):
                for piece in response.iter_bytes():
                    data += piece
                    if len(data) > self.max_bytes:
                        return None, f"an answer of more than {self.max_bytes:,} bytes", False
                    if time.monotonic() > deadline:
                        return None, f"no answer within {self.timeout:g} s", True
                status = response.status_code
        except httpx.TimeoutException:
            return None, f"no answer within {self.timeout:g} s", True
        except httpx.HTTPError as error:
            return None, self._safe(f"{type(error).__name__}: {error}"), True
        if status != 200:
            told = self._safe(data.decode("utf-8", "replace"))
            return None, f"status {status}: {told}", status in _LATER or status >= 500
        return self._content(bytes(data))

    def _content(self, data: bytes) -> tuple[str | None, str, bool]:
        try:
            said = json.loads(data)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError):
            said = None
        if not isinstance(said, str):
            return None, f"expected choices[0].message.content, got {self._safe(data.decode('utf-8', 'replace'))}", False
        return said, "", False

    def _safe(self, text: str) -> str:
        """The beginning of a text on one line, without the key."""
        if self._key:
            for spelt in {self._key, json.dumps(self._key)[1:-1]}:
                text = text.replace(spelt, "[redacted]")
        line = "".join(letter if letter.isprintable() else " " for letter in text[:_EXCERPT]).strip()
        return repr(line + ("..." if len(text) > _EXCERPT else ""))


_NAMING = (
    "You explain what one unit of a network responds to. You are given texts that excite the unit, the strongest first, and "
    "texts that do not. Where a part of a text is in <<double angle brackets>>, the unit was read at that part. Answer with a "
    "single short phrase that says what the exciting texts share and the others lack, and nothing else."
)
_JUDGING = (
    "A unit of a network responds to what a description says. You are given the description and numbered texts; where a part "
    "of a text is in <<double angle brackets>>, the unit is read at that part. Answer with a JSON list of the numbers of the "
    "texts that excite the unit, such as [2, 5], and nothing else."
)


@final
class ChatNamer:
    """Lets a language model behind HTTP name latents.

    Parameters
    ----------
    chat : ChatEndpoint
    longest : int, default=120
        Letters of a name; what is beyond is cut off.
    """

    def __init__(self, chat: ChatEndpoint, *, longest: int = 120) -> None:
        require_whole(1, longest=longest)
        self.chat, self.longest = chat, longest

    def __call__(self, active: Sequence[Context], inactive: Sequence[Context], /) -> str:
        if not active or not inactive:
            raise InvalidData("expected contexts that excite the latent and ones that do not, got none of one sort")
        prompt = f"Texts that excite the unit:\n{_numbered(active)}\n\nTexts that do not:\n{_numbered(inactive)}"
        said = " ".join(self.chat.ask(prompt, system=_NAMING).split()).strip("\"' ")
        if not said:
            raise ChatError(f"{self.chat!r}: an empty name")
        return said[: self.longest]


@final
class ChatDetector:
    """Lets a language model behind HTTP say which contexts a name fits.

    Parameters
    ----------
    chat : ChatEndpoint
    together : int, default=10
        Contexts in a question; they are shuffled before.
    random_state : int, default=0
    """

    def __init__(self, chat: ChatEndpoint, *, together: int = 10, random_state: int = 0) -> None:
        require_whole(1, together=together)
        self.chat, self.together, self.random_state = chat, together, random_state

    def __call__(self, name: str, contexts: Sequence[Context], /) -> NDArray[np.bool_]:
        said = np.zeros(len(contexts), dtype=bool)
        order = np.random.default_rng([self.random_state, 13]).permutation(len(contexts))
        for start in range(0, len(order), self.together):
            part = order[start : start + self.together]
            prompt = f"Description: {name}\n\nTexts:\n{_numbered([contexts[i] for i in part])}"
            said[part[self._numbers(self.chat.ask(prompt, system=_JUDGING), len(part))]] = True
        return said

    def _numbers(self, answer: str, n: int) -> list[int]:
        found = re.search(r"\[[\d,\s]*\]", answer)
        if found is None:
            raise ChatError(f"{self.chat!r}: expected a list of numbers such as [2, 5], got {answer[:_EXCERPT]!r}")
        numbers = [int(one) for one in re.findall(r"\d+", found.group())]
        wrong = [one for one in numbers if not 1 <= one <= n]
        if wrong:
            raise ChatError(f"{self.chat!r}: expected numbers from 1 to {n}, got {wrong[0]}")
        return [one - 1 for one in numbers]


def _numbered(contexts: Sequence[Context]) -> str:
    """One line a context: what is quoted cannot pass for another line of the question."""
    return "\n".join(f"{i}. {json.dumps(one.marked, ensure_ascii=False)}" for i, one in enumerate(contexts, 1))
