"""A simulation test at a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from locum.explain._simulation_study import Step, Study

__all__ = ["label_of", "take"]

_MOST_EDITS = 2
_HEADS = {
    "learn": "Learn how the model answers",
    "before": "Guess what the model answers",
    "explain": "The same items again, with explanations",
    "after": "Guess again what the model answers",
}
RATING = "Does this show you why the model answered as it did? From 1 (not at all) to 7 (fully)"


def label_of(typed: str, labels: Sequence[str]) -> int | None:
    """The position of the label that somebody means; None where that is not clear.

    A number from 1, the label in any case, a beginning that only one label has, or at most two slips of the keyboard (fewer
    for short labels, which two slips could turn into one another).
    """
    text = " ".join(typed.split()).casefold()
    names = [" ".join(label.split()).casefold() for label in labels]
    if text in names:
        return names.index(text)
    if text.isdecimal() and 1 <= int(text) <= len(labels):
        return int(text) - 1
    starts = [i for i, name in enumerate(names) if text and name.startswith(text)]
    if len(starts) == 1:
        return starts[0]
    away = [_edits(text, name) for name in names]
    near = [i for i, name in enumerate(names) if away[i] <= min(_MOST_EDITS, len(name) // 2) and away[i] == min(away)]
    return near[0] if len(near) == 1 else None


def _edits(a: str, b: str) -> int:
    """Insertions, deletions and replacements between two texts."""
    last = list(range(len(b) + 1))
    for i, one in enumerate(a, 1):
        now = [i]
        for j, other in enumerate(b, 1):
            now.append(min(last[j] + 1, now[j - 1] + 1, last[j - 1] + (one != other)))
        last = now
    return last[-1]


def take(
    study: Study, taker: int, path: Path, ask: Callable[[str], str] | None, say: Callable[[str], None] | None
) -> Path | None:
    """See `Study.take`."""
    from locum.explain._simulation_study import Answer

    ask, say = ask or _ask, say or _say
    steps, done = study.steps(taker), {}
    if path.exists() and path.stat().st_size:
        _mend(path)
        done = study.read(path, taker)[1]
    if ("consent", 0) not in done:
        say(f"{study.title}\n\n{study.consent}\n")
        if label_of(ask("Do you agree? yes or no: "), ("no", "yes")) != 1:
            say("Nothing was kept.")
            return None
        study.append(path, taker, Answer("consent", 0, None, None, 0.0))
    block = ""
    for k, step in enumerate(steps, 1):
        if (step.block, step.item) in done:
            continue
        if step.block != block:
            block = step.block
            say(f"\n=== {_HEADS[block]} ===")
        say(f"\n[{k} of {len(steps)}]\n{_words(study, step, taker)}")
        start = time.monotonic()
        rating = _rating(ask, say) if step.rate else None
        answer = _guess(study, ask, say) if step.guess else None
        if not step.guess and not step.rate:
            ask("Enter to go on: ")
        study.append(path, taker, Answer(step.block, step.item, answer, rating, time.monotonic() - start))
    say(f"\nThat was all: thank you. Your answers are in {path}")
    return path


def _words(study: Study, step: Step, taker: int) -> str:
    screen = study.screen(step, taker)
    lines = [screen["shown"]]
    if "answer" in screen:
        lines += ["", f"True label: {screen['label']}", f"The model answered: {screen['answer']}"]
    if screen.get("explanation"):
        lines += ["", screen["explanation"]]
    if "changed" in screen:
        lines += ["", "Changed to:", screen["changed"]]
    return "\n".join(_printable(line) for line in "\n".join(lines).split("\n"))


def _printable(line: str) -> str:
    """Text from data without the characters that steer a terminal."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in line)


def _guess(study: Study, ask: Callable[[str], str], say: Callable[[str], None]) -> int:
    choices = ", ".join(f"{i}: {_printable(label)}" for i, label in enumerate(study.labels, 1))
    while True:
        found = label_of(ask(f"What does the model answer? {choices}: "), study.labels)
        if found is not None:
            return found
        say(f"Please answer with one of {choices}.")


def _rating(ask: Callable[[str], str], say: Callable[[str], None]) -> int:
    while True:
        typed = ask(f"{RATING}: ").strip()
        if typed in "1234567" and len(typed) == 1:
            return int(typed)
        say("Please give a whole number from 1 to 7.")


def _mend(path: Path) -> None:
    """Take away a last line that was not written to its end."""
    data = path.read_bytes()
    if not data.endswith(b"\n"):
        path.write_bytes(data[: data.rfind(b"\n") + 1])


def _ask(question: str) -> str:
    from rich.console import Console

    return Console().input(question, markup=False)


def _say(text: str) -> None:
    from rich.console import Console

    Console().print(text, markup=False, highlight=False)
