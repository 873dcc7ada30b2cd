"""Targets behind HTTP: a real local server that misbehaves as it is told, and what the ledger shows of it."""

from __future__ import annotations

import gzip
import json
import pickle
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from locum.core.errors import InvalidData, TargetError, TargetTimeout
from locum.core.ledger import Ledger
from locum.targets import from_http
from locum.targets.http import EndpointError, EndpointTimeout
from locum.testing import check_target

pytest.importorskip("httpx", reason="needs httpx: pip install 'locum[http]'")

SECRET = "Bearer s3cr3t/token+41d8"
ROWS = np.arange(24.0).reshape(12, 2)
SUMS = ROWS.sum(axis=1)


# ------------------------------------------------------------------ a server that does as it is told
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            self.server.asked.append(asked)
            self.server.sent.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            self.server.times.append(time.monotonic())
            act = self.server.script.pop(0) if self.server.script else self.server.usual
        act(self, asked)

    def reply(self, status, body=b"", **headers):
        self.send_response_only(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    """An endpoint that adds up rows, after going through a script of misdeeds."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock, self.script, self.usual = threading.Lock(), [], adds_up
        self.asked, self.sent, self.times = [], [], []

    def handle_error(self, *_):  # clients that hang up are part of the tests
        pass

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/predict"

    @property
    def rows(self):
        """All rows that were asked, request by request."""
        return [asked["rows"] for asked in self.asked]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def says(value, status=200, **headers):
    return lambda handler, asked: handler.reply(status, json.dumps(value).encode(), **headers)


def says_raw(body, status=200, **headers):
    return lambda handler, asked: handler.reply(status, body, **headers)


def adds_up(handler, asked):
    answers = [sum(value or 0 for value in row) for row in asked["rows"]]
    handler.reply(200, json.dumps({"answers": answers}).encode(), content_type="application/json")


def hangs_up(handler, asked):
    handler.close_connection = True


def sleeps(handler, asked):
    time.sleep(0.6)
    adds_up(handler, asked)


def trickles(handler, asked):
    handler.send_response_only(200)
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        time.sleep(0.05)


def fails_with_what_came(said):
    raise ValueError(repr(said))


def made(server, **settings):
    return from_http(server.url, **{"backoff": 0.01, **settings})


def failures(target):
    return [message for _, message in target.ledger.failures()]


# ------------------------------------------------------------------ what is said, and what is heard
def test_a_batch_is_one_post_of_the_documented_json(server):
    named = np.array([(1.5, "red"), (np.nan, "")], dtype=[("size", float), ("colour", "U4")])
    server.usual = says({"answers": [1.0, 2.0]})
    np.testing.assert_array_equal(made(server).query(named), [1.0, 2.0])
    np.testing.assert_array_equal(made(server).query([[1, 2.5], [3, None]]), [1.0, 2.0])
    np.testing.assert_array_equal(made(server, columns=["a", "b"]).query(np.array([[1, 2], [3, 4]])), [1.0, 2.0])
    assert server.asked == [
        {"columns": ["size", "colour"], "rows": [[1.5, "red"], [None, ""]]},
        {"columns": None, "rows": [[1, 2.5], [3, None]]},
        {"columns": ["a", "b"], "rows": [[1, 2], [3, 4]]},
    ]
    path, headers = server.sent[0]
    assert path == "/predict"
    assert headers["content-type"] == "application/json"


def test_frames_and_rows_of_more_dimensions(server):
    pl = pytest.importorskip("polars")
    server.usual = says({"answers": [0.5]})
    schema = {"a": pl.Float64, "b": pl.Utf8, "c": pl.Boolean}
    made(server).query(pl.DataFrame({"a": [None], "b": ["x"], "c": [True]}, schema=schema))
    made(server).query(np.zeros((1, 2, 2), np.float32))
    assert server.asked == [
        {"columns": ["a", "b", "c"], "rows": [[None, "x", True]]},
        {"columns": None, "rows": [[[0.0, 0.0], [0.0, 0.0]]]},
    ]


def test_it_behaves_as_a_target_must(server):
    check_target(partial(made, server, columns=["a", "b"]), ROWS, refused=[ROWS[:, :1], np.full((1, 2), np.inf)])


def test_batches_are_asked_at_the_same_time(server):
    together = threading.Barrier(4)

    def waits_for_the_others(handler, asked):
        together.wait(timeout=10)  # a request that comes alone breaks it
        adds_up(handler, asked)

    server.usual = waits_for_the_others
    target = made(server, batch_size=3, concurrency=4, retries=0)
    np.testing.assert_array_equal(target.query(ROWS), SUMS)
    assert sorted(map(len, server.rows)) == [3, 3, 3, 3]
    assert target.account().paid == 12


def test_numbers_are_values_however_json_writes_them(server):
    server.script = [says({"answers": [1, 2]}), says({"answers": [0.5, 3]})]
    target = made(server, batch_size=2, executor=None)
    np.testing.assert_array_equal(target.query(ROWS[:4]), [1.0, 2.0, 0.5, 3.0])
    assert target.output == "value"
    server.script = [says({"answers": [1, 0.0]}), says({"answers": ["no", "yes"]}), says({"answers": [[1, 0], [0.25, 0.75]]})]
    classes = made(server, output="class").query(ROWS[:2])
    assert classes.dtype == np.int64
    assert classes.tolist() == [1, 0]
    texts = made(server)
    assert texts.query(ROWS[:2]).tolist() == ["no", "yes"]
    assert texts.output == "class"
    probabilities = made(server)
    np.testing.assert_array_equal(probabilities.query(ROWS[:2]), [[1, 0], [0.25, 0.75]])
    assert probabilities.output == "probability"


def test_hooks_speak_whatever_the_endpoint_speaks(server):
    server.usual = says({"out": [{"p": 0.25}, {"p": 0.75}]})
    target = made(
        server,
        encode=lambda X: {"instances": X.tolist()},
        decode=lambda said: [one["p"] for one in said["out"]],
    )
    np.testing.assert_array_equal(target.query(ROWS[:2]), [0.25, 0.75])
    assert server.asked == [{"instances": ROWS[:2].tolist()}]


# ------------------------------------------------------------------ misdeeds that pass
@pytest.mark.parametrize(
    "misdeeds",
    [
        [says("busy", 503), says("busy", 503)],
        [hangs_up],
        [says_raw(b"<html>garbage"), says_raw(b""), says_raw(b"\xff\xfe"), says({"detail": "loading"})],
        [says("late", 408), says("early", 425), says("slow down", 429), says("oh", 500)],
        [says_raw(b'{"answers": [1,', content_length="400")],
        [says_raw(b"not gzip", content_encoding="gzip")],
        [sleeps],
        [trickles],
    ],
    ids=["503 twice", "hangs up", "garbage", "later, please", "cut off", "bad gzip", "sleeps", "trickles"],
)
def test_what_passes_is_asked_again_and_each_row_paid_once(server, tmp_path, misdeeds):
    server.script = list(misdeeds)
    with Ledger(tmp_path / "answers.ledger") as ledger:
        target = made(server, ledger=ledger, batch_size=6, executor=None, timeout=0.3, price=0.1)
        np.testing.assert_array_equal(target.query(ROWS, "fit"), SUMS)
        assert len(server.asked) == 2 + len(misdeeds)
        account = ledger.account()
        assert (account.paid, account.failed, account.in_doubt) == (12, 0, 0)
        assert account.money == pytest.approx(1.2)
        assert ledger.failures() == []
    again = made(server, ledger=tmp_path / "answers.ledger")
    np.testing.assert_array_equal(again.query(ROWS), SUMS)
    assert again.account().paid == 0
    assert len(server.asked) == 2 + len(misdeeds)
    again.ledger.close()


def test_a_row_without_an_answer_is_asked_again_alone(server):
    server.script = [says_raw(b'{"answers": [1, NaN, 9]}'), says({"answers": [None]}), says({"answers": [5]})]
    target = made(server)
    np.testing.assert_array_equal(target.query(ROWS[:3]), [1.0, 5.0, 9.0])
    assert server.rows == [ROWS[:3].tolist(), ROWS[1:2].tolist(), ROWS[1:2].tolist()]
    assert target.account().paid == 3
    server.script = [says({"answers": [[0.25, 0.75], None]}), says({"answers": [[0.5, 0.5]]})]
    np.testing.assert_array_equal(made(server).query(ROWS[:2]), [[0.25, 0.75], [0.5, 0.5]])


@pytest.mark.parametrize(
    ("date", "said"),
    [(None, "0.3"), ("Mon, 06 Jul 2026 12:00:00 GMT", "Mon, 06 Jul 2026 12:00:01 GMT")],
    ids=["seconds", "date"],
)
def test_retry_after_is_waited_for(server, date, said):
    headers = {"retry_after": said} | ({} if date is None else {"date": date})
    server.script = [says("slow down", 429, **headers)]
    assert made(server).query(ROWS[:1]).tolist() == [1.0]
    assert server.times[1] - server.times[0] >= (0.3 if date is None else 1.0)


@pytest.mark.parametrize("said", ["soon", "-3", "nan", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_a_retry_after_that_says_nothing_is_left_aside(server, said):
    server.script = [says("slow down", 503, retry_after=said)]
    assert made(server).query(ROWS[:1]).tolist() == [1.0]


# ------------------------------------------------------------------ misdeeds that do not
def test_what_does_not_pass_is_given_up_after_the_retries_and_the_rest_is_kept(server, tmp_path):
    server.script = [says({"answers": SUMS[:6].tolist()}), *[says("down", 503)] * 3]
    target = made(server, ledger=tmp_path / "answers.ledger", batch_size=6, executor=None, retries=2)
    with pytest.raises(TargetError, match="503 Service Unavailable: '\"down\"'; 6 of the 12 rows asked have no answer") as lost:
        target.query(ROWS)
    assert lost.value.rows == tuple(range(6, 12))
    assert (target.account().paid, target.account().failed, len(server.asked)) == (6, 6, 4)
    np.testing.assert_array_equal(target.query(ROWS), SUMS)
    assert target.account().paid == 12
    assert server.rows[-1] == ROWS[6:].tolist()
    target.ledger.close()


def test_an_endpoint_that_never_answers_is_a_time_out(server):
    server.usual = sleeps
    with pytest.raises(TargetTimeout, match=r"no answer within 0.1 s"):
        made(server, timeout=0.1, retries=1).query(ROWS)
    assert len(server.asked) == 2


def test_an_endpoint_that_trickles_is_a_time_out(server):
    server.usual = trickles
    with pytest.raises(TargetTimeout, match=r"no answer within 0.3 s"):
        made(server, timeout=0.3, retries=0).query(ROWS)


def test_an_endpoint_that_is_not_there(server):
    server.server_close()
    with pytest.raises(TargetError, match="ConnectError"):
        made(server, retries=1).query(ROWS)


def test_a_wait_too_long_is_not_begun(server):
    server.script = [says("quota", 429, retry_after="86400")]
    with pytest.raises(TargetError, match="asks to wait 86,400 s, more than max_wait=300"):
        made(server).query(ROWS)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (401, {}, "401 Unauthorized: '\"who are you\"'"),
        (404, {}, "404 Not Found"),
        (302, {"location": "/elsewhere"}, "302, which drops the rows; give http://127.0.0.1:[0-9]*/elsewhere itself"),
        (307, {"location": "http://localhost:1/x?key=hidden"}, r"another host, http://localhost:1/x; if you trust"),
        (307, {"location": "https://127.0.0.1/x"}, "another host, https://127.0.0.1/x"),
        (307, {"location": "/predict"}, "redirects more than 5 times"),
        (304, {}, "304 Not Modified"),
    ],
)
def test_a_refusal_ends_the_query_at_once(server, status, headers, message):
    server.usual = says("who are you", status, **headers)
    target = made(server, batch_size=6, executor=None)
    with pytest.raises(TargetError, match=message) as refused:
        target.query(ROWS)
    assert "hidden" not in str(refused.value)
    assert len(server.asked) == (6 if "5 times" in message else 1)
    assert target.account().paid == 0


def test_a_redirect_on_the_same_host_is_followed(server):
    server.script = [says("", 307, location="/predict/")]
    np.testing.assert_array_equal(made(server).query(ROWS), SUMS)
    assert [path for path, _ in server.sent] == ["/predict", "/predict/"]


def test_rows_that_are_refused_are_found_among_the_others(server):
    def picky(handler, asked):
        bad = any(row == [10.0, 11.0] for row in asked["rows"])
        says({"detail": "bad row"}, 422)(handler, asked) if bad else adds_up(handler, asked)

    server.usual = picky
    target = made(server, failures="isolate", executor=None)
    with pytest.raises(TargetError, match="422 Unprocessable") as lost:
        target.query(ROWS)
    assert lost.value.rows == (5,)
    assert target.account().paid == 11
    assert len({str(rows) for rows in server.rows}) == len(server.rows)  # no batch was asked as it was before
    answered = [tuple(row) for rows in server.rows for row in rows if [10.0, 11.0] not in rows]
    assert len(answered) == len(set(answered)) == 11  # no row was paid for twice


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"answers": [1, 2]}', "expected one answer a row, 12 of them, got 2"),
        (b'{"answers": [' + b"1, " * 12 + b"1]}", "12 of them, got 13"),
        (json.dumps({"answers": [[1]] * 11 + [[1, 2]]}).encode(), "expected answers of one length"),
        (json.dumps({"answers": [{}] * 12}).encode(), "of numbers or text"),
        (json.dumps({"answers": [1] * 11 + ["x"]}).encode(), "all text or all numbers"),
        (b" " * 3000, "at most 2,000 bytes"),
    ],
)
def test_answers_that_do_not_fit_end_the_query(server, body, message):
    server.usual = says_raw(body)
    target = made(server, max_bytes=2000)
    with pytest.raises(TargetError, match=message):
        target.query(ROWS)
    assert len(server.asked) == 1
    assert target.account().paid == 0


def test_a_small_answer_that_unpacks_to_a_large_one_is_refused(server):
    server.usual = says_raw(gzip.compress(b" " * 10_000_000), content_encoding="gzip")
    with pytest.raises(TargetError, match="at most 1,000,000 bytes"):
        made(server, max_bytes=1_000_000).query(ROWS)


def test_null_for_a_class_is_no_answer(server):
    server.usual = says({"answers": ["yes", None]})
    with pytest.raises(TargetError, match="1 of the 2 rows, the first at 1, have null"):
        made(server).query(ROWS[:2])
    assert len(server.asked) == 1


def test_hooks_that_fail_are_told(server):
    with pytest.raises(TargetError, match="encode= does not give what JSON can hold: TypeError"):
        made(server, encode=lambda X: X).query(ROWS)
    assert server.asked == []
    with pytest.raises(TargetError, match=r"decode= raised KeyError: 'out', given '\{\"answers\": \[1.0"):
        made(server, decode=lambda said: said["out"]).query(ROWS)
    assert len(server.asked) == 1


# ------------------------------------------------------------------ credentials
def test_headers_are_sent_and_never_kept(server, tmp_path):
    path = tmp_path / "answers.ledger"
    as_php = says_raw(json.dumps(SECRET).replace("/", "\\/").encode(), 500)  # which escapes the slash
    server.script = [says({"echo": SECRET}, 500), says(f"no access for {SECRET.split()[1]}", 403), as_php]
    target = made(server, headers={"Authorization": SECRET}, ledger=path, batch_size=4, executor=None)
    with pytest.raises(TargetError, match=r"403 Forbidden: '\"no access for \[redacted\]\"'") as refused:
        target.query(ROWS)
    with pytest.raises(TargetError, match=r"500 Internal Server Error: '\"\[redacted\]\"'"):
        made(server, headers={"Authorization": SECRET}, retries=0).query(ROWS)
    assert server.sent[0][1]["authorization"] == SECRET
    server.script = [says(SECRET)]
    undecoding = made(server, headers={"Authorization": SECRET}, decode=fails_with_what_came)
    with pytest.raises(TargetError, match=r"decode= raised ValueError: '\[redacted\]', given") as undecoded:
        undecoding.query(ROWS)
    shown = [str(refused.value), str(undecoded.value), repr(target), *failures(target), json.dumps(target.ledger.target)]
    assert "41d8" not in "".join(shown)
    target.ledger.close()
    assert all(b"41d8" not in file.read_bytes() for file in tmp_path.iterdir())
    renewed = made(server, headers={"Authorization": "Bearer another"}, ledger=path)  # the same model to the ledger
    np.testing.assert_array_equal(renewed.query(ROWS), SUMS)
    renewed.ledger.close()


def test_cookies_are_not_kept(server):
    server.script = [says({"answers": [1.0]}, set_cookie="session=abc")]
    target = made(server)
    target.query(ROWS[:1])
    target.query(ROWS[1:2])
    assert all("cookie" not in headers for _, headers in server.sent)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"headers": {"Authorization": "Bearer s3cr3t\nX: y"}}, "header 'Authorization' to be one line of ASCII"),
        ({"headers": {"Authorization": "Bearer s3cr3t€"}}, "header 'Authorization' to be one line of ASCII"),
        ({"url": "http://me:s3cr3t@127.0.0.1/"}, "leave user and password out"),
        ({"url": "ftp://127.0.0.1/"}, "got one of scheme 'ftp'"),
        ({"url": "http://"}, "such as https://host/predict"),
        ({"concurrency": 0}, "at least one request"),
        ({"timeout": None}, "an endpoint can hang"),
        ({"max_wait": -1}, "max_wait= of zero or more"),
    ],
)
def test_settings_that_cannot_be_used(server, settings, message):
    with pytest.raises(InvalidData, match=message) as refused:
        from_http(**{"url": server.url, **settings})
    assert "s3cr3t" not in str(refused.value)


# ------------------------------------------------------------------ identity and pools
def test_another_endpoint_or_hook_is_another_model(server, tmp_path):
    def fingerprint(url, **settings):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.ledger"
        return from_http(url, ledger=path, **settings).ledger.target["fingerprint"]

    prints = [
        fingerprint("http://a/m"),
        fingerprint("http://b/m"),
        fingerprint("http://a/m?v=2"),
        fingerprint("http://a/m", decode=lambda said: said["y"]),
        fingerprint("http://a/m", decode=lambda said: said["z"]),
    ]
    assert len(set(prints)) == 5
    assert fingerprint("http://a/m", headers={"X-Key": "1"}) == prints[0]


def test_rows_are_refused_before_anything_is_sent(server):
    target = made(server, columns=["a", "b"])
    named = np.zeros(2, dtype=[("a", float), ("c", float)])
    for rows, message in [(named, "takes the columns a, b, and got a, c"), (ROWS[:, :1], "2 columns")]:
        with pytest.raises(InvalidData, match=message):
            target.query(rows)
    with pytest.raises(InvalidData, match="no infinite numbers"):
        made(server).query([[np.inf, 1.0]])
    assert server.asked == []


def test_a_process_pool_asks_too(server):
    with ProcessPoolExecutor(2) as pool:
        target = made(server, batch_size=4, executor=pool, headers={"Authorization": SECRET})
        np.testing.assert_array_equal(target.query(ROWS), SUMS)
    assert target.account().paid == 12
    assert {headers["authorization"] for _, headers in server.sent} == {SECRET}


def test_errors_keep_what_they_say_between_processes():
    for kind in (EndpointError, EndpointTimeout):
        error = pickle.loads(pickle.dumps(kind("wait", 2.5)))
        assert (type(error), str(error), error.retry_after) == (kind, "wait", 2.5)
