"""Every public method keeps the contract: the checks of `locum.testing`, with the tiny settings of `settings.toml`."""

from __future__ import annotations

import datetime
import importlib
import importlib.util
import inspect
import tomllib
from pathlib import Path

import pytest

from locum.catalogue import papers
from locum.testing import surrogate_checks

ROOMS = sorted({one.room for one in papers()})
SETTINGS = tomllib.loads((Path(__file__).parent / "settings.toml").read_text(encoding="utf-8"))
SKIP_KEYS = {"check", "reason", "issue", "until"}


def learning_classes():
    """Classes that learn, by the path that a user imports them from: those a room names, and those of the catalogue."""
    paths = {one.class_path for one in papers() if one.class_path}
    for room in ROOMS:
        if importlib.util.find_spec(f"locum.{room}") is not None:
            loaded = importlib.import_module(f"locum.{room}")
            paths |= {f"locum.{room}.{name}" for name in getattr(loaded, "__all__", ())}
    classes = {path: found(path) for path in paths if inspect.isclass(found(path))}
    return sorted(path for path, one in classes.items() if hasattr(one, "fit") and not inspect.isabstract(one))


def public_classes():
    """Those of them that predict from rows alone, and so can stand in for something that answers rows."""
    return [path for path in learning_classes() if answers_rows(found(path))]


def answers_rows(one):
    """Whether it learns from rows and answers, and predicts from rows alone; some want actions, slopes or pictures."""
    asked = inspect.signature(one.fit).parameters
    if not hasattr(one, "predict") or {"gradients", "images"} & set(asked):
        return False
    return len(required(one.fit)) <= 3 and len(required(one.predict)) == 2


def required(function):
    return [name for name, each in inspect.signature(function).parameters.items() if each.default is each.empty]


def found(path):
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def checks(path):
    entry = SETTINGS[path]
    left_out = [one["check"] for one in entry.get("skip", ())]
    return surrogate_checks(found(path)(**entry["settings"]), limit=entry.get("limit"), skip=left_out)


def test_every_public_class_has_settings_and_every_entry_a_class():
    known = set(public_classes())
    assert {path.split(".")[1] for path in known} >= {"explain"}, "locum.explain names no class: fill its __all__"
    assert known - set(SETTINGS) == set(), "public classes without an entry in settings.toml"
    assert set(SETTINGS) - known == set(), "entries in settings.toml for what is not public"


@pytest.mark.parametrize("path", SETTINGS)
def test_what_is_skipped_has_a_reason_an_issue_and_an_end(path):
    for one in SETTINGS[path].get("skip", ()):
        assert set(one) == SKIP_KEYS
        assert one["reason"].strip()
        assert one["issue"].strip()
        assert one["until"] >= datetime.date.today(), f"{path} may skip {one['check']!r} no longer: {one['issue']}"


RUNS = [(path, name, run) for path in public_classes() if path in SETTINGS for name, run in checks(path)]


@pytest.mark.parametrize(("path", "name", "run"), RUNS, ids=[f"{path.rpartition('.')[2]}, {name}" for path, name, _ in RUNS])
def test_contract(path, name, run):
    run()


@pytest.mark.parametrize("path", learning_classes())
def test_making_one_only_stores_what_it_was_given(path):
    """Nothing is checked, changed or copied before `fit`, so that a clone is the same again."""
    names = [name for name in inspect.signature(found(path)).parameters if name not in ("args", "kwargs")]
    given = {name: object() for name in names}
    made = found(path)(**given)
    assert made.get_params(deep=False).keys() == given.keys()
    assert all(getattr(made, name) is value for name, value in given.items())
