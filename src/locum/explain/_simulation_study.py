"""A simulation test for people: what they are shown and in which order, their answers, and what comes of them.

A study is plain text and numbers. Whoever takes it is told neither the name of the condition nor any answer that is asked.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from locum.core.errors import FormatError, InvalidData, require_whole
from locum.explain._simulation_analysis import Reference, Response, SimulationRun
from locum.explain._simulation_page import page
from locum.explain._simulation_server import server
from locum.explain._simulation_terminal import take

if TYPE_CHECKING:
    from http.server import ThreadingHTTPServer

    from locum.explain.simulatability import SimulationTest

__all__ = ["COLUMNS", "Answer", "Step", "Study", "analyse"]

_FORMAT = 1
_TITLE = "Can you foretell what a model answers?"
_CONSENT = (
    "You will see items and what a model answered for them, and then guess its answers to others, twice. Guess what the model "
    "answers, not what is true. Your answers, ratings and the time each takes are written to a file on this machine under your "
    "number; nothing else is kept. Taking part is voluntary: you can stop at any time, and go on later where you stopped. How "
    "well you did is told only by whoever runs the study, after the end."
)
COLUMNS = ("test", "taker", "code", "block", "item", "answer", "rating", "seconds")
_BLOCKS = ("consent", "learn", "before", "explain", "after")
_GUESSED = ("before", "after")


class Step(NamedTuple):
    """One screen: its block, the item's position, and what is wanted.

    Parameters
    ----------
    block : {"learn", "before", "explain", "after"}
    item : int
    guess, rate : bool
        Whether an answer, and a rating, are asked.
    """

    block: str
    item: int
    guess: bool
    rate: bool


class Answer(NamedTuple):
    """One line of an answers file: the position of a label, a rating from 1 to 7, seconds; None where there is none."""

    block: str
    item: int
    answer: int | None
    rating: int | None
    seconds: float


@dataclass(frozen=True, eq=False)
class Study:
    """What people are shown, and how their answers are read.

    Parameters
    ----------
    kind : {"forward", "counterfactual"}
    labels : tuple of str
        The two answers there are.
    title, consent : str
    learn, test : tuple of dict
        Items, as text: `name`, `shown`, `label`, `answer`; of those asked also `quadrant`, `changed` and `wanted`.
    methods : tuple of str
        One for each code, in the order of the codes.
    texts : tuple of tuple of str
        By code, one explanation for each item that is explained.
    random_state : int
    """

    kind: str
    labels: tuple[str, str]
    title: str
    consent: str
    learn: tuple[Mapping[str, str], ...]
    test: tuple[Mapping[str, str], ...]
    methods: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...]
    random_state: int

    @classmethod
    def of(cls, test: SimulationTest, texts: Mapping[str, Sequence[str]], *, title: str = "", consent: str = "") -> Self:
        """The study of a test with the explanations of each condition."""
        if not texts:
            raise InvalidData("expected at least one condition; None shows items without explanations")
        # Codes are dealt at random, so that the first letter is not always the condition named first.
        order = np.random.default_rng([test.random_state, len(texts)]).permutation(len(texts))
        names = [list(texts)[i] for i in order]
        base = ("name", "shown", "label", "answer")
        learn = tuple({key: getattr(item, key) for key in base} for item in test.learn)
        asked = tuple(
            {key: getattr(item, key) for key in (*base, "quadrant", "wanted")} | {"changed": item.changed_shown}
            for item in test.test
        )
        shown = tuple(tuple(texts[name]) for name in names)
        return cls(
            test.kind, test.labels, title or _TITLE, consent or _CONSENT, learn, asked, tuple(names), shown, test.random_state
        )  # fmt: skip

    # ------------------------------------------------------------------ keeping it
    def to_dict(self) -> dict[str, Any]:
        """The study as JSON-ready values, with a format number."""
        record = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {"format": _FORMAT, **json.loads(json.dumps(record))}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """The study that `to_dict` described.

        Raises
        ------
        FormatError
            A record of another format, or with parts that are missing or of the wrong kind.
        """
        if not isinstance(record, Mapping) or record.get("format") != _FORMAT:
            found = record.get("format") if isinstance(record, Mapping) else type(record).__name__
            raise FormatError(f"expected a study of format {_FORMAT}, got {found!r}: update Locum to read it")
        try:
            items = {
                name: tuple({str(k): str(v) for k, v in one.items()} for one in record[name]) for name in ("learn", "test")
            }
            study = cls(
                str(record["kind"]), (str(record["labels"][0]), str(record["labels"][1])), str(record["title"]),
                str(record["consent"]), items["learn"], items["test"], tuple(map(str, record["methods"])),
                tuple(tuple(map(str, texts)) for texts in record["texts"]), int(record["random_state"]),
            )  # fmt: skip
        except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
            raise FormatError(f"this is not a study: {error!r} while reading it") from error
        explained = len(study.learn if study.kind == "forward" else study.test)
        if len(study.methods) != len(study.texts) or {len(texts) for texts in study.texts} != {explained}:
            raise FormatError(f"expected a text for each of {explained} items and each method; the study is damaged")
        return study

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the study as JSON. It holds the right answers: give takers the page, or let them sit at this machine."""
        path = Path(path)
        path.write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The study in a file.

        Raises
        ------
        FormatError
            No study, or a damaged one.
        """
        try:
            record = json.loads(Path(path).read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise FormatError(f"{path} is no study: {error}") from error
        return cls.from_dict(record)

    @cached_property
    def digest(self) -> str:
        """What tells this study from any other: answers carry it."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]

    # ------------------------------------------------------------------ who sees what
    def code(self, taker: int) -> int:
        """The condition of a taker, from 0: each comes once among as many takers as there are conditions."""
        require_whole(1, taker=taker)
        turn, place = divmod(taker - 1, len(self.methods))
        return int(np.random.default_rng([self.random_state, 1, turn]).permutation(len(self.methods))[place])

    def steps(self, taker: int) -> tuple[Step, ...]:
        """The screens of a taker, in their order; every block has one of its own."""
        texts = self.texts[self.code(taker)]
        rng = np.random.default_rng([self.random_state, 2, taker])
        plan = [("learn", len(self.learn)), ("before", len(self.test))]
        plan += [("explain", len(self.learn))] if self.kind == "forward" else []
        plan += [("after", len(self.test))]
        explaining = "explain" if self.kind == "forward" else "after"
        return tuple(
            Step(block, int(i), block in _GUESSED, block == explaining and bool(texts[i]))
            for block, count in plan
            for i in rng.permutation(count)
        )

    def screen(self, step: Step, taker: int) -> dict[str, str]:
        """What a taker sees at a step: `shown` and, where they are given away, `label`, `answer`, `explanation`, `changed`."""
        item = (self.learn if step.block in ("learn", "explain") else self.test)[step.item]
        out = {"shown": item["shown"]}
        if step.block in ("learn", "explain") or self.kind == "counterfactual":
            out |= {"label": item["label"], "answer": item["answer"]}
        if step.guess and self.kind == "counterfactual":
            out["changed"] = item["changed"]
        if step.block == "explain" or (step.block == "after" and self.kind == "counterfactual"):
            out["explanation"] = self.texts[self.code(taker)][step.item]
        return out

    # ------------------------------------------------------------------ taking it
    def take(
        self,
        taker: int,
        path: str | os.PathLike[str] | None = None,
        *,
        ask: Callable[[str], str] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> Path | None:
        """Take the study at a terminal. Each answer is saved at once; a study that was stopped goes on where it was.

        Parameters
        ----------
        taker : int
            Number of the taker, from 1.
        path : path or None, default=None
            Where the answers go; ``answers_<taker>.csv`` where None.
        ask, say : callable or None, default=None
            Instead of the terminal.

        Returns
        -------
        Path or None
            The answers; None where no consent was given.

        Raises
        ------
        InvalidData
            A file of answers to another study, or of another taker.
        """
        return take(self, taker, Path(path or f"answers_{taker}.csv"), ask, say)

    def to_html(self, path: str | os.PathLike[str] | None = None, *, takers: int = 60) -> str:
        """One page that works from disk, without the answers that are asked; they cannot be read out of it.

        Parameters
        ----------
        path : path or None, default=None
            Where the page is written as well.
        takers : int, default=60
            Numbers from 1 to this can take it.
        """
        require_whole(1, takers=takers)
        text = page(self, takers, served=False)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def serve(self, folder: str | os.PathLike[str], *, port: int = 0, takers: int = 60) -> ThreadingHTTPServer:
        """A server of the page for this machine alone, which writes answers to a folder once ``serve_forever`` is called.

        Parameters
        ----------
        folder : path
        port : int, default=0
            0 takes any that is free.
        takers : int, default=60
        """
        require_whole(1, takers=takers)
        return server(self, Path(folder), page(self, takers, served=True), port, takers)

    # ------------------------------------------------------------------ answers
    def read(self, path: str | os.PathLike[str], taker: int | None = None) -> tuple[int, dict[tuple[str, int], Answer]]:
        """The taker of a file of answers, and the answers.

        Raises
        ------
        InvalidData
            Answers to another study, of another taker, or a line that cannot be read.
        """
        with Path(path).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        if not rows:
            raise InvalidData(f"{path} holds no answers")
        out: dict[tuple[str, int], Answer] = {}
        owner = taker
        for line, row in enumerate(rows, 2):
            if row.get("test") != self.digest:
                raise InvalidData(
                    f"{path} holds answers to another test ({str(row.get('test'))[:16]!r}, not {self.digest!r}); read them "
                    "with the study they were given for"
                )
            try:
                number, code = int(row["taker"]), int(row["code"])
                found = self.checked(row)
            except (KeyError, TypeError, ValueError) as error:
                raise InvalidData(f"line {line} of {path} is no answer: {error}") from error
            owner = number if owner is None else owner
            if number != owner:
                raise InvalidData(f"line {line} of {path} is of taker {number}, not {owner}; one file a taker")
            if code != self.code(owner):
                raise InvalidData(f"line {line} of {path} has the code {code}, and taker {owner} has {self.code(owner)}")
            out[found.block, found.item] = found
        assert owner is not None
        return owner, out

    def checked(self, row: Mapping[str, Any]) -> Answer:
        """One answer from the cells of a line; a ValueError where it cannot be one."""
        block, item = str(row["block"]), int(row["item"])
        answer, rating = (None if row[name] in ("", None) else int(row[name]) for name in ("answer", "rating"))
        most = {"consent": 1, "learn": len(self.learn), "explain": len(self.learn)}.get(block, len(self.test))
        seconds = float(row["seconds"])
        if block not in _BLOCKS or not 0 <= item < most:
            raise ValueError(f"expected one of the blocks {', '.join(_BLOCKS)} and its items, got {block[:20]!r} and {item}")
        if answer not in (None, 0, 1) or rating not in (None, *range(1, 8)) or not 0 <= seconds < 1e9:
            got = f"{answer}, {rating}, {seconds}"
            raise ValueError(f"expected an answer of 0 or 1, a rating of 1 to 7, and seconds, got {got}")
        return Answer(block, item, answer, rating, seconds)

    def line(self, taker: int, answer: Answer) -> str:
        """An answer as a line of a file: numbers and plain words alone, so that no programme takes a cell for a formula."""
        cells: list[Any] = [self.digest, taker, self.code(taker), *answer[:4], f"{answer.seconds:.2f}"]
        return ",".join("" if cell is None else str(cell) for cell in cells)

    def append(self, path: Path, taker: int, answer: Answer) -> None:
        """Write an answer to the end of a file, and see to it that it is on the disk."""
        new = not path.exists() or path.stat().st_size == 0
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write((",".join(COLUMNS) + "\n" if new else "") + self.line(taker, answer) + "\n")
            file.flush()
            os.fsync(file.fileno())


def analyse(paths: Iterable[str | os.PathLike[str]], study: Study) -> SimulationRun:
    """What people's answers say, with the same statistics as those of machine students.

    A guess that is missing before or after counts as missing there; it is no wrong guess.

    Parameters
    ----------
    paths : iterable of path
        One file a taker.
    study : Study

    Raises
    ------
    InvalidData
        No file; answers to another study; two files of one taker.
    """
    responses: list[Response] = []
    takers: dict[int, Any] = {}
    for path in paths:
        taker, answers = study.read(path)
        if taker in takers:
            raise InvalidData(f"{takers[taker]} and {path} are both of taker {taker}; give one of them")
        takers[taker] = path
        ratings = [a.rating for a in answers.values() if a.rating is not None]
        mean = float(np.mean(ratings)) if ratings else float("nan")
        for i, item in enumerate(study.test):
            pre, post = (_right(answers.get((block, i)), study.labels, item["wanted"]) for block in _GUESSED)
            own = answers.get(("after", i))
            rating = mean if own is None or own.rating is None else float(own.rating)
            method = study.methods[study.code(taker)]
            responses.append(Response(method, "person", str(taker), item["name"], item["quadrant"], pre, post, rating))
    if not responses:
        raise InvalidData("expected at least one file of answers, got none")
    words = {m: float(np.mean([len(t.split()) for t in texts])) for m, texts in zip(study.methods, study.texts, strict=True)}
    floors = {"floor, the true label": "label"}
    if study.kind == "counterfactual":
        floors["floor, the answer before the change"] = "answer"
    right = {name: [item[key] == item["wanted"] for item in study.test] for name, key in floors.items()}
    references = tuple(Reference(name, float(np.mean(hits)), len(hits)) for name, hits in right.items())
    return SimulationRun(tuple(responses), True, study.kind, references, words)


def _right(answer: Answer | None, labels: tuple[str, str], wanted: str) -> float:
    if answer is None or answer.answer is None:
        return float("nan")
    return float(labels[answer.answer] == wanted)
