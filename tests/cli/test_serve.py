"""A card behind an address: its page, its answers, and whom it refuses."""

from __future__ import annotations

import http.client
import json
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from locum.cli._serve import server
from locum.core.domain import Domain
from locum.core.errors import InvalidData
from locum.core.surrogate import fit
from locum.core.target import Target
from locum.explain.tree import TreeClassifier


@pytest.fixture(scope="module")
def card():
    from locum.core.report import card as card_of

    rng = np.random.default_rng(0)
    rows = np.empty((300, 2), dtype=object)
    rows[:, 0], rows[:, 1] = rng.uniform(size=300).round(3), rng.choice(["red", "blue"], 300)
    target = Target(lambda X: np.where((X[:, 0].astype(float) > 0.4) & (X[:, 1] == "red"), "yes", "no"), name="box")
    standin = fit(TreeClassifier(max_rules=4), target, rows[:200], domain=Domain.of(rows, names=["size", "colour"]))
    fresh = rows[200:]
    return card_of(standin, target, fresh[target.fresh(fresh)])


@contextmanager
def served(card, **settings):
    made = server(card, **settings)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    try:
        yield made.server_address[1]
    finally:
        made.shutdown()
        made.server_close()


def ask(port, method, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, body if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_the_page_the_record_and_the_answers(card):
    with served(card) as port:
        assert ask(port, "GET", "/")[1].decode() == card.to_html()
        assert json.loads(ask(port, "GET", "/card.json")[1]) == json.loads(card.to_json())
        rows = [["red", 0.9, 1], ["red", 0.1, 2], ["blue", 0.9, 3], ["green", None, 4]]
        status, body = ask(port, "POST", "/predict", {"columns": ["colour", "size", "other"], "rows": rows})
        record = json.loads(body)
        assert status == 200
        assert record["answers"][:3] == ["yes", "no", "no"]
        assert record["inside"][3] is False


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"columns": ["size"], "rows": [[1]]}, "'colour' is missing"),
        ({"columns": ["size", "colour"], "rows": [[1]]}, "row 0 has 1"),
        ({"columns": ["size", "colour"], "rows": [["big", "red"]]}, "expected numbers"),
        ({"columns": ["size", "colour"]}, "rows"),
        ([], "not such rows"),
    ],
)
def test_rows_that_are_none_are_refused_in_words(card, body, message):
    with served(card) as port:
        status, said = ask(port, "POST", "/predict", body)
        assert status == 400
        assert message in json.loads(said)["error"]


def test_pages_from_elsewhere_are_refused(card):
    with served(card) as port:
        assert ask(port, "GET", "/", Host="evil.example")[0] == 403
        assert ask(port, "POST", "/predict", {}, Origin="http://evil.example")[0] == 403
        assert ask(port, "GET", "/nothing")[0] == 404


def test_only_this_machine_unless_told(card):
    with pytest.raises(InvalidData, match="--anyone"):
        server(card, "0.0.0.0")


def test_a_port_that_is_taken_is_said(card):
    with served(card) as port, pytest.raises(InvalidData, match="another --port"):
        server(card, port=port)


def test_it_can_be_a_target_itself(card):
    from locum.targets import target

    with served(card) as port:
        box = target(f"http://127.0.0.1:{port}/predict", domain=card.region.domain)
        rows = np.array([[0.9, "red"], [0.1, "red"]], dtype=object)
        assert box.query(rows).tolist() == ["yes", "no"]
