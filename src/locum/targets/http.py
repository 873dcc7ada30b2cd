"""A target behind an HTTP endpoint that takes and gives JSON."""

from __future__ import annotations

import hashlib
import json
import math
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core._content import fingerprint_of
from locum.core.errors import InvalidData, need
from locum.core.execute import Malformed
from locum.core.target import Target
from locum.targets._files import opened_here
from locum.targets._rows import check_columns, column_names, named_columns

__all__ = ["from_http", "EndpointError", "EndpointTimeout"]

_LATER = frozenset({408, 425, 429})  # and all from 500 on: the same request may do better
_OF_ROWS = frozenset({400, 413, 422})  # these rows are refused, others may not be
_REDIRECTS = 5
_EXCERPT = 200  # first characters of a body, in errors
_BEGINNING = 1 << 16  # bytes read of a body for them, so that what must not be shown is seen whole
_PLAIN_HEADERS = {"content-type": "application/json", "accept": "application/json"}


class EndpointError(Exception):
    """A request to an endpoint that brought no answers.

    Parameters
    ----------
    message : str
    retry_after : float, default=0.0
        Seconds to wait, beyond any back-off, before it is worth asking again; infinite where it is not.
    """

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EndpointTimeout(EndpointError, TimeoutError):
    """An endpoint that did not answer in time."""


def from_http(
    url: str,
    *,
    headers: dict[str, str] | None = None,
    columns: Any = None,
    encode: Callable[[Any], Any] | None = None,
    decode: Callable[[Any], Any] | None = None,
    output: str = "auto",
    classes: Any = None,
    batch_size: int = 100,
    concurrency: int = 8,
    timeout: float = 30.0,
    retries: int = 4,
    backoff: float = 0.5,
    max_wait: float = 300.0,
    max_bytes: int = 1 << 26,
    random_state: int = 0,
    **settings: Any,
) -> Target:
    """A target behind an HTTP endpoint.

    A batch is one POST of ``{"columns": [...], "rows": [[...], ...]}``, where columns are null for rows without names and
    missing values are null; the answer is ``{"answers": [...]}``, one a row. Whatever else an endpoint speaks, `encode` and
    `decode` translate.

    Parameters
    ----------
    url : str
        Of http or https. Its query counts as part of the model's identity, so credentials belong into `headers`.
    headers : dict of str to str or None, default=None
        Sent with each request, and neither recorded nor shown anywhere.
    columns : sequence of str or None, default=None
        Names of the columns, for rows without names; rows with other names or another number of columns are refused.
    encode : callable or None, default=None
        From rows in the container they were asked in, what is sent as JSON.
    decode : callable or None, default=None
        From the JSON that came, the answers: an array of shape (m, ...).
    output : {"auto", "class", "probability", "value"}, default="auto"
        As of `Target`. JSON does not tell 2 from 2.0, so numbers are values unless this says "class".
    classes : sequence or None, default=None
    batch_size : int, default=100
        Most rows in one request.
    concurrency : int, default=8
        Most requests at once; of no effect where `executor` is given.
    timeout : float, default=30.0
        Seconds one request may take; the longest silence that is waited for, too.
    retries : int, default=4
        How often a batch is asked again after 408, 425, 429, 5xx, a lost connection, a time-out, or what is no JSON.
    backoff : float, default=0.5
        Seconds before the first retry, doubled each time; a random part of it, and what ``Retry-After`` says, come on top.
    max_wait : float, default=300.0
        The longest ``Retry-After``, in seconds, that is waited for.
    max_bytes : int, default=67108864
        The longest answer to one request, unpacked.
    random_state : int, default=0
        Of the random part of pauses.
    **settings
        Of `Target`.

    Raises
    ------
    InvalidData
        An address or headers that cannot be used. When asked: rows that JSON cannot hold, or with other columns.
    MissingExtra
        httpx is not installed.

    Notes
    -----
    A null or NaN among values marks a row without an answer; the other rows of the batch are kept. 400, 413 and 422 are not
    asked again, but ``failures="isolate"`` finds the rows that cause them; any other 4xx, a redirect to another host, and
    answers that do not fit the rows end the query, since asking on would only cost money.
    """
    need("httpx", "an HTTP endpoint", "http")
    address = _address(url)
    _check_settings(concurrency, timeout, backoff, max_wait, max_bytes)
    names = None if columns is None else [str(name) for name in columns]
    jitter = (random_state, backoff)
    endpoint = Endpoint(address, _headers(headers or {}), names, encode, decode, output, timeout, jitter, max_wait, max_bytes)
    read = {
        "name": f"{address.host}{address.path}",
        "check": endpoint.check,
        "fingerprint": endpoint.fingerprint(),
        "batch_size": batch_size,
        "timeout": 2 * timeout,  # a last resort: the limit of a request is looked at when something comes in
        "retries": retries,
        "backoff": backoff,
    }
    if "executor" not in settings and concurrency > 1:
        read["executor"] = ThreadPoolExecutor(concurrency, thread_name_prefix="locum-http")
    return Target(endpoint, output=output, classes=classes, **{**read, **settings})


class Endpoint:
    """Answers rows with requests.

    Parameters
    ----------
    address : httpx.URL
    headers, columns, encode, decode, output, timeout, max_wait, max_bytes
        Those of `from_http`.
    jitter : (int, float)
        Seed, and longest random pause in seconds.
    """

    def __init__(
        self,
        address: Any,
        headers: dict[str, str],
        columns: list[str] | None,
        encode: Callable[[Any], Any] | None,
        decode: Callable[[Any], Any] | None,
        output: str,
        timeout: float,
        jitter: tuple[int, float],
        max_wait: float,
        max_bytes: int,
    ) -> None:
        self.address, self.headers, self.columns, self.output = address, headers, columns, output
        self.encode, self.decode, self.jitter = encode, decode, jitter
        self.timeout, self.max_wait, self.max_bytes = timeout, max_wait, max_bytes

    def __repr__(self) -> str:
        return f"Endpoint({_shown(self.address)})"  # without headers, which may hold credentials

    def __call__(self, X: Any) -> Any:
        said = self._post(self._body(X))
        if self.decode is None:
            return _answers(said, len(X), self.output, self._excerpt)
        try:
            return self.decode(said)
        except Exception as error:
            told = f"decode= raised {type(error).__name__}: {self._redacted(str(error))}"
            raise Malformed(f"{told}, given {self._excerpt(json.dumps(said))}") from error

    def check(self, X: Any) -> None:
        """Refuse rows that JSON cannot hold, or with other columns."""
        if self.columns is not None:
            check_columns(X, len(self.columns), self.columns)
        if self.encode is None:
            for values in (named_columns(X) or {"": np.asarray(X)}).values():
                if values.dtype.kind == "f" and np.isinf(values).any():
                    raise InvalidData("JSON holds no infinite numbers; replace them by missing (NaN) or by a bound")

    def fingerprint(self) -> str:
        """What tells this endpoint from another; nothing of it comes from the headers."""
        parts = (str(self.address), self.columns, fingerprint_of(self.encode), fingerprint_of(self.decode))
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]

    # ------------------------------------------------------------------ one request
    def _body(self, X: Any) -> bytes:
        try:
            asked = _table(X, self.columns) if self.encode is None else self.encode(X)
            return json.dumps(asked, allow_nan=False).encode()
        except Exception as error:  # nothing was sent, and other rows will fare no better
            what = "the rows cannot be sent as JSON" if self.encode is None else "encode= does not give what JSON can hold"
            raise Malformed(f"{what}: {type(error).__name__}: {error}") from error

    def _post(self, body: bytes) -> Any:
        import httpx

        random_part = random.Random(f"{self.jitter[0]} {hashlib.sha256(body).hexdigest()}").uniform(0, self.jitter[1])
        deadline = time.monotonic() + self.timeout
        address = self.address
        try:
            for _ in range(_REDIRECTS + 1):
                with _client().stream("POST", address, content=body, headers=self.headers, timeout=self.timeout) as response:
                    if response.has_redirect_location:
                        address = self._redirected(response)
                        continue
                    if response.status_code >= 300:
                        raise self._refusal(response, deadline, random_part)
                    return self._parsed(self._read(response, deadline, self.max_bytes), random_part)
        except (httpx.TimeoutException, TimeoutError):
            raise EndpointTimeout(f"no answer within {self.timeout} s", random_part) from None
        except httpx.HTTPError as error:
            raise EndpointError(f"{type(error).__name__}: {error}", random_part) from None
        raise Malformed(f"the endpoint redirects more than {_REDIRECTS} times")

    def _read(self, response: Any, deadline: float, most: int) -> bytes:
        data = bytearray()
        for piece in response.iter_bytes():
            data += piece
            if len(data) > most:
                raise Malformed(f"expected at most {most:,} bytes of answer, got more; raise max_bytes= or lower batch_size=")
            if time.monotonic() > deadline:
                raise TimeoutError
        return bytes(data)

    def _parsed(self, data: bytes, random_part: float) -> Any:
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            shown = self._excerpt(data.decode("utf-8", "replace"))
            raise EndpointError(f"expected JSON, got {shown} ({error})", random_part) from None

    def _refusal(self, response: Any, deadline: float, random_part: float) -> Exception:
        """What to raise for a status that brings no answers."""
        status = response.status_code
        message = f"the endpoint said {status} {response.reason_phrase}: {self._excerpt(self._beginning(response, deadline))}"
        if status in _LATER or status >= 500:
            pause = _retry_after(response)
            if pause > self.max_wait:
                return EndpointError(f"{message}; it asks to wait {pause:,.0f} s, more than max_wait={self.max_wait}", math.inf)
            return EndpointError(message, pause + random_part)
        if status in _OF_ROWS:
            return EndpointError(message, math.inf)
        return Malformed(message)

    def _beginning(self, response: Any, deadline: float) -> str:
        data = b""
        for piece in response.iter_bytes():
            data += piece
            if len(data) > _BEGINNING or time.monotonic() > deadline:
                break
        return data.decode("utf-8", "replace")

    def _redirected(self, response: Any) -> Any:
        try:
            there = response.url.join(response.headers["location"])
        except Exception as error:
            raise Malformed(f"the endpoint redirects to an address that is none: {type(error).__name__}") from error
        if (there.scheme, there.host, there.port) != (response.url.scheme, response.url.host, response.url.port):
            raise Malformed(f"the endpoint redirects to another host, {_shown(there)}; if you trust it, give that address")
        if response.status_code not in (307, 308):
            raise Malformed(f"the endpoint answers {response.status_code}, which drops the rows; give {_shown(there)} itself")
        return there

    def _excerpt(self, text: str) -> str:
        """The beginning of a text on one line, without anything that was sent as a header."""
        text = self._redacted(text)
        line = "".join(letter if letter.isprintable() else " " for letter in text[:_EXCERPT]).strip()
        return repr(line + ("..." if len(text) > _EXCERPT else ""))

    def _redacted(self, text: str) -> str:
        values = [value for name, value in self.headers.items() if name not in _PLAIN_HEADERS]
        parts = {part for value in values for part in (value, *value.split()) if len(part) > 3}
        spelt = parts | {json.dumps(part)[1:-1] for part in parts} | {part.replace("/", "\\/") for part in parts}
        for secret in sorted(spelt, key=len, reverse=True):
            text = text.replace(secret, "[redacted]")
        return text


# ---------------------------------------------------------------------- private
@opened_here
def _client() -> Any:
    """The connections that all endpoints share; cookies are not kept."""
    import httpx

    jar = CookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))
    return httpx.Client(cookies=jar, limits=httpx.Limits(max_connections=None))


def _check_settings(concurrency: int, timeout: float, backoff: float, max_wait: float, max_bytes: int) -> None:
    if not (isinstance(concurrency, int) and concurrency >= 1):
        raise InvalidData(f"expected concurrency= of at least one request, got {concurrency!r}")
    if not (isinstance(timeout, int | float) and 0 < timeout < math.inf):
        raise InvalidData(f"expected timeout= in seconds above zero, got {timeout!r}: an endpoint can hang")
    for name, value in (("backoff", backoff), ("max_wait", max_wait), ("max_bytes", max_bytes)):
        if not value >= 0:
            raise InvalidData(f"expected {name}= of zero or more, got {value!r}")


def _address(url: str) -> Any:
    import httpx

    try:
        address = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise InvalidData(f"expected the address of an endpoint, such as https://host/predict: {error}") from None
    if address.scheme not in ("http", "https") or not address.host:
        raise InvalidData(f"expected an address such as https://host/predict, got one of scheme {address.scheme!r}")
    if address.userinfo:
        raise InvalidData("leave user and password out of the address: give them as headers={'Authorization': ...}")
    return address


def _headers(given: dict[str, str]) -> dict[str, str]:
    headers = dict(_PLAIN_HEADERS)
    for name, value in given.items():
        plain = isinstance(name, str) and isinstance(value, str) and (name + value).isascii() and (name + value).isprintable()
        if not plain or not name or value != value.strip():
            raise InvalidData(f"expected header {name!r} to be one line of ASCII without spaces around it; its value is not")
        headers[name.lower()] = value
    return headers


def _shown(address: Any) -> str:
    """An address without its query, which may hold credentials."""
    return str(address.copy_with(query=None, fragment=None, userinfo=b""))


def _retry_after(response: Any) -> float:
    """Seconds to wait as the response says, in seconds or as a date; 0 where it does not say."""
    said = response.headers.get("retry-after", "")
    try:
        seconds = float(said)
    except ValueError:
        try:
            now = response.headers.get("date")
            now = time.time() if now is None else parsedate_to_datetime(now).timestamp()
            seconds = parsedate_to_datetime(said).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0


def _table(X: Any, names: list[str] | None) -> dict[str, Any]:
    """Rows as the default request holds them."""
    columns = named_columns(X)
    if columns is None:
        return {"columns": names, "rows": _plain(np.asarray(X))}
    rows = [list(row) for row in zip(*(_plain(values) for values in columns.values()), strict=True)]
    return {"columns": column_names(X), "rows": rows}


def _plain(values: NDArray[Any]) -> list[Any]:
    """Values as JSON can hold them: NaN is null."""
    if values.dtype.kind == "S":
        values = values.astype(str)
    simple = values.dtype.kind in "biuU" or (values.dtype.kind == "f" and not np.isnan(values).any())
    return values.tolist() if simple else [_item(value) for value in values.tolist()]


def _item(value: Any) -> Any:
    if isinstance(value, list):
        return [_item(inner) for inner in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and math.isnan(value) else value


def _answers(said: Any, n: int, output: str, shown: Callable[[str], str]) -> NDArray[Any]:
    """The answers in what came; numbers as floats, unless classes are expected."""
    answers = said.get("answers") if isinstance(said, dict) else None
    if not isinstance(answers, list):
        raise EndpointError(f'expected JSON like {{"answers": [...]}}, got {shown(json.dumps(said))}')
    if len(answers) != n:
        raise Malformed(f"expected one answer a row, {n} of them, got {len(answers)}")
    wide = next((len(answer) for answer in answers if isinstance(answer, list)), 0)
    absent = [i for i, answer in enumerate(answers) if answer is None]
    text = any(isinstance(answer, str) for answer in answers)
    if absent and (output == "class" or text):  # unlike NaN, it cannot be told row by row
        raise EndpointError(f"{len(absent)} of the {n} rows, the first at {absent[0]}, have null for an answer", math.inf)
    for i in absent:
        answers[i] = [math.nan] * wide if wide else math.nan
    try:
        array = np.asarray(answers)
        numbers = array.astype(float) if array.dtype.kind in "iufO" else None
    except (ValueError, TypeError) as error:
        raise Malformed(f"expected answers of one length, of numbers or text, got {shown(json.dumps(said))}") from error
    if text and not all(isinstance(answer, str) for answer in answers):
        raise Malformed(f"expected answers that are all text or all numbers, got {shown(json.dumps(said))}")
    if numbers is None:
        return array
    whole = output == "class" and (numbers == np.round(numbers)).all()
    return numbers.astype(np.int64) if whole else numbers
