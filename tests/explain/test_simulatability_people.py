"""People who take a test: order, answers on disk, going on, reading and scoring what they gave."""

from __future__ import annotations

import http.client
import io
import json
import threading
from collections import Counter

import numpy as np
import pytest

from locum.core.errors import FormatError, InvalidData
from locum.core.target import Target
from locum.explain.simulatability import SimulationTest, Study, analyse

LABELS = ("below $50K", "above $50K")


def study(kind="forward", methods=("plain", "words", "nothing"), seed=0, **settings):
    rng = np.random.default_rng(seed)
    X = rng.choice(["low", "mid", "high"], size=(500, 5)).astype(object)

    def answer(X):
        return np.where((X == "high").sum(axis=1) >= 2, LABELS[1], LABELS[0])

    said = answer(X)
    truth = np.where(rng.random(500) < 0.3, np.where(said == LABELS[1], LABELS[0], LABELS[1]), said)
    target = Target(answer, name="income", output="class", classes=sorted(LABELS))
    test = SimulationTest.build(target, X[:200], truth[:200], X[200:], truth[200:], kind=kind, n_learn=8, n_test=16)

    def words(name):
        return lambda X: [f"<{name}> of row {i}" for i in range(len(X))]

    return test.study({name: None if name == "nothing" else words(name) for name in methods}, **settings)


class Taker:
    """Types at the terminal: the answers of `answer`, which is given the study and the step."""

    def __init__(self, study, number, answer, stop_after=None):
        self.study, self.number, self.answer = study, number, answer
        self.heard, self.left = [], stop_after

    def ask(self, question):
        if self.left is not None:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
        if question.startswith("Do you agree"):
            return "yes"
        if question.startswith("Enter"):
            return ""
        if question.startswith("Does this"):
            return "5"
        return self.answer(self.heard[-1])

    def say(self, text):
        self.heard.append(text)

    def take(self, path):
        return self.study.take(self.number, path, ask=self.ask, say=self.say)


def right_answers(study):
    """What is to be typed, by the text of the item on the screen."""
    return {item["changed"] or item["shown"]: item["wanted"] for item in study.test}


def perfect(study):
    known = right_answers(study)
    return lambda heard: next(wanted for shown, wanted in known.items() if f"\n{shown}" in heard.split("Changed to:")[-1])


# ---------------------------------------------------------------------- at the terminal
@pytest.mark.parametrize("kind", ["forward", "counterfactual"])
def test_a_perfect_taker_is_all_right_and_a_random_one_about_half(kind, tmp_path):
    one = study(kind)
    rng = np.random.default_rng(0)
    files = [Taker(one, n, perfect(one)).take(tmp_path / f"{n}.csv") for n in (1, 2, 3)]
    for change in analyse(files, one).change(n_boot=200):
        assert (change.pre, change.post) == pytest.approx((1.0, 1.0), abs=1e-3)
    files = [Taker(one, n, lambda heard: LABELS[rng.integers(2)]).take(tmp_path / f"{n}.csv") for n in range(4, 34)]
    run = analyse(files, one)
    assert np.mean([r.post for r in run.responses]) == pytest.approx(0.5, abs=0.05)
    assert run.people
    assert "These readers are people" in run.text(n_boot=200)
    assert {one.accuracy for one in run.references} == {0.5}


def test_known_changes_come_out_as_they_were_typed(tmp_path):
    """Wrong before and right after what has words; wrong both times after nothing."""
    one = study()
    known = perfect(one)

    def improves(number):
        helped = one.methods[one.code(number)] != "nothing"

        def answer(heard):
            after = any("Guess again" in text for text in taker.heard)
            right = known(heard)
            return right if after and helped else next(label for label in LABELS if label != right)

        taker = Taker(one, number, answer)
        return taker

    files = [improves(n).take(tmp_path / f"{n}.csv") for n in range(1, 7)]
    found = {change.method: change for change in analyse(files, one).change(n_boot=200)}
    changes = {name: round(change.change.value, 3) for name, change in found.items()}
    assert changes == {"plain": 1.0, "words": 1.0, "nothing": 0.0}
    assert {change.n_students for change in found.values()} == {2}


def test_a_test_goes_on_where_it_was_stopped(tmp_path):
    one = study()
    path, whole = tmp_path / "a.csv", tmp_path / "b.csv"
    for stop in (0, 5, 20):
        with pytest.raises(KeyboardInterrupt):
            Taker(one, 1, perfect(one), stop_after=stop).take(path)
    path.write_bytes(path.read_bytes() + one.digest[:7].encode())  # a line that the machine stopped in
    Taker(one, 1, perfect(one)).take(path)
    Taker(one, 1, perfect(one)).take(whole)

    def answers(file):
        return [line.rsplit(",", 1)[0] for line in file.read_text().splitlines()]

    assert answers(path) == answers(whole)
    before = path.read_bytes()
    again = Taker(one, 1, perfect(one), stop_after=0)
    assert again.take(path) == path
    assert path.read_bytes() == before


def test_each_answer_is_on_disk_before_the_next_is_asked(tmp_path):
    one, path = study(), tmp_path / "a.csv"
    counts = []

    class Watcher(Taker):
        def ask(self, question):
            counts.append(len(path.read_text().splitlines()) if path.exists() else 0)
            return super().ask(question)

    Watcher(one, 1, perfect(one)).take(path)
    assert counts == sorted(counts)
    assert max(np.diff(counts)) <= 2  # the header and the consent come together
    assert len(path.read_text().splitlines()) == 1 + 1 + 8 + 16 + 8 + 16


def test_without_consent_nothing_is_kept(tmp_path):
    one = study(consent="May we?", title="A study")
    heard = []
    assert one.take(1, tmp_path / "a.csv", ask=lambda question: "no", say=heard.append) is None
    assert list(tmp_path.iterdir()) == []
    assert heard[0] == "A study\n\nMay we?\n"


def test_without_ask_and_say_it_happens_at_the_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("no\n"))
    assert study(title="A [bold]study[/bold]").take(1, tmp_path / "a.csv") is None
    shown = capsys.readouterr().out
    assert "A [bold]study[/bold]" in shown
    assert "Nothing was kept." in shown


@pytest.mark.parametrize(
    ("typed", "means"),
    [
        (("above $50K",), 1), (("BELOW",), 0), (("a",), 1), (("2",), 0), (("abvoe $50K",), 1), (("belo $50k",), 0),
        (("what?", "", "3", "ab ove $ 5 0", "b"), 0),
    ],
)  # fmt: skip
def test_labels_are_understood_or_asked_for_again(typed, means, tmp_path):
    one = study()
    questions, left = [], list(typed)

    def ask(question):
        if "What does the model answer" not in question:
            return "yes" if "agree" in question else ""
        questions.append(question)
        if not left:
            raise KeyboardInterrupt
        return left.pop(0)

    heard = []
    with pytest.raises(KeyboardInterrupt):
        one.take(1, tmp_path / "a.csv", ask=ask, say=heard.append)
    _, answers = one.read(tmp_path / "a.csv")
    given = [answer.answer for (block, _), answer in answers.items() if block == "before"]
    assert given == [one.labels.index(LABELS[means])]
    assert len([text for text in heard if text.startswith("Please answer")]) == len(typed) - 1


def test_text_from_data_cannot_steer_the_terminal(tmp_path):
    one = study(methods=("plain",))
    nasty = Study.from_dict({**one.to_dict(), "texts": [["\x1b[2J[bold]hidden\x07"] * 8]})
    taker = Taker(nasty, 1, perfect(nasty))
    taker.take(tmp_path / "a.csv")
    shown = [text for text in taker.heard if "hidden" in text]
    assert len(shown) == 8
    assert all("\x1b" not in text and "\x07" not in text and "[bold]" in text for text in shown)


# ---------------------------------------------------------------------- who sees what
@pytest.mark.parametrize("kind", ["forward", "counterfactual"])
def test_conditions_are_dealt_evenly_and_orders_are_everybodys_own(kind):
    one = study(kind)
    for start in (1, 4, 7):
        assert sorted(one.code(n) for n in range(start, start + 3)) == [0, 1, 2]
    assert len({tuple(one.code(n) for n in range(s, s + 3)) for s in range(1, 40, 3)}) > 1
    names = ("learn", "before", "explain", "after")
    blocks = {n: {name: [s.item for s in one.steps(n) if s.block == name] for name in names} for n in (1, 2)}
    assert blocks[1]["before"] != blocks[1]["after"]
    assert blocks[1]["before"] != blocks[2]["before"]
    assert sorted(blocks[1]["before"]) == sorted(blocks[1]["after"]) == list(range(16))
    assert sorted(blocks[1]["learn"]) == list(range(8))
    assert sorted(blocks[1]["explain"]) == (list(range(8)) if kind == "forward" else [])
    assert one.steps(1) == one.steps(1)


@pytest.mark.parametrize("kind", ["forward", "counterfactual"])
def test_screens_hold_what_their_block_may_show(kind):
    one = study(kind)
    taker = next(n for n in (1, 2, 3) if one.methods[one.code(n)] == "words")
    for step in one.steps(taker):
        screen = one.screen(step, taker)
        explained = step.block == "explain" or (kind == "counterfactual" and step.block == "after")
        assert ("explanation" in screen) == explained
        assert not explained or screen["explanation"].startswith("<words> of row")
        assert ("answer" in screen) == (step.block in ("learn", "explain") or kind == "counterfactual")
        assert step.guess == (step.block in ("before", "after"))
        assert step.rate == explained
        assert not {"quadrant", "wanted", "name"} & set(screen)
    nothing = next(n for n in (1, 2, 3) if one.methods[one.code(n)] == "nothing")
    assert not any(step.rate for step in one.steps(nothing))


# ---------------------------------------------------------------------- keeping and reading
def test_a_study_survives_a_file_and_its_answers_know_it(tmp_path):
    one = study()
    back = Study.load(one.save(tmp_path / "study.json"))
    assert back.digest == one.digest
    assert back.steps(5) == one.steps(5)
    file = Taker(one, 1, perfect(one)).take(tmp_path / "a.csv")
    assert analyse([file], back).responses == analyse([file], one).responses


def test_answers_to_another_test_are_refused(tmp_path):
    one, other = study(), study(seed=1)
    file = Taker(one, 1, perfect(one)).take(tmp_path / "a.csv")
    with pytest.raises(InvalidData, match="answers to another test"):
        analyse([file], other)
    with pytest.raises(InvalidData, match="answers to another test"):
        other.take(1, file, ask=lambda question: "yes", say=lambda text: None)
    with pytest.raises(InvalidData, match="is of taker 1, not 2"):
        one.take(2, file, ask=lambda question: "yes", say=lambda text: None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("before", "during"), "is no answer: expected one of the blocks"),
        ((",5,", ",500,"), "is no answer"),
        (("explain,", "explain,-"), "is no answer"),
    ],
)
def test_lines_that_are_no_answers_are_refused_by_number(change, message, tmp_path):
    one = study(methods=("plain",))
    file = Taker(one, 1, perfect(one)).take(tmp_path / "a.csv")
    file.write_text(file.read_text().replace(*change))
    with pytest.raises(InvalidData, match=message):
        analyse([file], one)


def test_two_files_of_one_taker_none_and_a_foreign_code_are_refused(tmp_path):
    one = study()
    file = Taker(one, 1, perfect(one)).take(tmp_path / "a.csv")
    with pytest.raises(InvalidData, match="both of taker 1"):
        analyse([file, file], one)
    with pytest.raises(InvalidData, match="at least one file"):
        analyse([], one)
    code = one.code(1)
    file.write_text(file.read_text().replace(f",1,{code},", f",1,{(code + 1) % 3},"))
    with pytest.raises(InvalidData, match=f"taker 1 has {code}"):
        analyse([file], one)


def test_a_missing_guess_is_missing_and_not_wrong(tmp_path):
    one = study(methods=("plain",))
    file = Taker(one, 1, perfect(one)).take(tmp_path / "a.csv")
    lines = [line for line in file.read_text().splitlines(keepends=True) if ",after,3," not in line]
    file.write_text("".join(lines))
    run = analyse([file], one)
    assert Counter(np.isnan(r.post) for r in run.responses) == {False: 15, True: 1}
    assert run.change(n_boot=200)[0].post == pytest.approx(1.0)


def test_a_damaged_study_is_refused(tmp_path):
    record = study(methods=("plain",)).to_dict()
    for wrong in ({"format": 9}, {"texts": [["one"]]}, {"learn": 3}, {"labels": []}):
        with pytest.raises(FormatError):
            Study.from_dict({**record, **wrong})
    with pytest.raises(FormatError, match="is no study"):
        Study.load(tmp_path / "none.json")
    with pytest.raises(InvalidData, match="at least one condition"):
        study(methods=())


# ---------------------------------------------------------------------- the page and its server
def test_the_page_holds_no_answer_that_is_asked_and_no_name_of_a_condition():
    one = study("counterfactual")
    page = one.to_html(takers=3)
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert {key for item in data["test"] for key in item} == {"shown", "label", "answer", "changed"}
    forward = json.loads(study().to_html(takers=3).split('id="data">')[1].split("</script>")[0])
    assert {key for item in forward["test"] for key in item} == {"shown"}
    assert not {"methods", "random_state", "wanted"} & set(forward)
    assert "nothing" not in json.dumps(forward["codes"])


def test_markup_in_texts_stays_text():
    one = study(methods=("plain",), title="<b>&</b>", consent="</main><script>alert(1)</script>")
    record = one.to_dict()
    record["texts"] = [["</script><script>alert(2)</script>"] * 8]
    page = Study.from_dict(record).to_html(takers=1)
    assert page.count("<script") == 2
    assert "&lt;b&gt;&amp;&lt;/b&gt;" in page
    assert "alert(2)" in page
    assert "<script>alert" not in page


@pytest.fixture
def served(tmp_path):
    one = study()
    server = one.serve(tmp_path, takers=3)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield one, server.server_address[1], tmp_path
    server.shutdown()
    server.server_close()


def post(port, body, **headers):
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    link.request("POST", "/answers", body if isinstance(body, str) else json.dumps(body), headers)
    status = link.getresponse().status
    link.close()
    return status


def test_the_server_writes_each_answer_once_and_answers_its_own_pages_only(served):
    one, port, folder = served
    row = {"taker": 2, "block": "before", "item": 4, "answer": 1, "rating": None, "seconds": 1.5}
    assert post(port, row) == 200
    assert post(port, {**row, "answer": 0}) == 200
    taker, answers = one.read(folder / "answers_2.csv")
    assert taker == 2
    assert [answer.answer for answer in answers.values()] == [1]
    for wrong in (
        {**row, "taker": 9}, {**row, "taker": "../x"}, {**row, "answer": 7}, {**row, "block": "x"}, {**row, "item": 99},
        {**row, "seconds": float("nan")}, {**row, "more": 1}, [1], "{", "x" * 5000,
    ):  # fmt: skip
        assert post(port, wrong) == 400
    assert post(port, row, Origin="http://example.org") == 403
    assert post(port, row, Host="example.org") == 403
    assert [path.name for path in folder.iterdir()] == ["answers_2.csv"]


def test_the_server_listens_to_this_machine_and_gives_the_page(served, tmp_path):
    one, port, _ = served
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    link.request("GET", "/")
    reply = link.getresponse()
    text = reply.read().decode()
    link.close()
    assert reply.status == 200
    assert "connect-src 'self'" in text
    assert "connect-src 'none'" in one.to_html(takers=1)
    with pytest.raises(InvalidData, match="is no folder"):
        one.serve(tmp_path / "none")
