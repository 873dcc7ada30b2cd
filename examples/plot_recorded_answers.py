"""
No access to the model: only recorded answers
=============================================

Somebody hands over a table of applications and what was decided. Which rules would have given the same answers, and how sure is
that?
"""

import csv
import tempfile
from pathlib import Path

import locum
from locum.datasets import load
from locum.targets import read_csv, recorded

table = load("german_credit")
folder = Path(tempfile.mkdtemp())
with open(folder / "decisions.csv", "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow([*table.X.columns, "decision"])
    writer.writerows([*row, y] for row, y in zip(table.X.astype(object).to_numpy().tolist(), table.y, strict=True))

# %%
# From here on it is ten lines, and the same from the command line: ``locum frontier decisions.csv --answer decision``.

rows, answers = read_csv(folder / "decisions.csv", "decision")
target = recorded(rows, answers, name="the bank's decisions")
found = locum.frontier(target, rows, sizes=(1, 2, 4, 8), families=["tree", "rule list"])
standin = found.at_most(4)
print(standin)

# %%
# The decisions are noisy, so no simple rule follows all of them; the bound says how far this one does, and the constant
# beside it says how much of that is worth anything.

constant = next(rival for rival in standin.rivals if rival.name == "constant")
print(standin.fidelity[0].value - constant.fidelity[0].value)
assert standin.fidelity[0].lower > 0.6
