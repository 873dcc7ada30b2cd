"""A process killed with -9 at any moment loses nothing and pays nothing twice: a short edition of benchmarks/speed/kill.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "speed" / "kill.py"


def test_ten_kills_lose_nothing_and_pay_nothing_twice():
    spec = importlib.util.spec_from_file_location("kill", SCRIPT)
    kill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kill)
    found = kill.campaign(10, seed=7)
    assert kill.holds(found, 10), found
    assert found["in_doubt"] >= found["asked_again"]
