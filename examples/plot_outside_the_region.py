"""
Where does it stop being true?
==============================

A simulator of a borehole's water flow is replaced by a sum of shape functions. Inside the region where it was checked it is
close; outside, it says so.
"""

import numpy as np

import locum
from locum.explain import AdditiveRegressor
from locum.problems import borehole

world = borehole()
target = locum.target(world.answer, name="borehole", price=0.05)
standin = locum.fit(AdditiveRegressor(max_statements=60), target, world.sample(600, 0), budget=500)
standin = standin.check(target, world.sample(300, 1))
print(standin.fidelity[0])
print(target.account())

# %%
# Rows from elsewhere: a radius ten times as large as any that was checked.

rows = world.sample(5, 2)
rows[:, 0] *= 10
answers = standin.predict(rows, outside="abstain")
print(answers, standin.region.reasons(rows)[0])

# %%
# Intervals cover fresh rows as often as they say.

fresh = world.sample(500, 3)
ends = standin.predict_interval(fresh, level=0.9)
inside = (ends[:, 0] <= world.answer(fresh)) & (world.answer(fresh) <= ends[:, 1])
print(inside.mean())

assert np.ma.is_masked(answers)
assert answers.mask.all()
assert 0.8 < inside.mean() < 0.99
