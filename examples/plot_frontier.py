"""
How simple can a stand-in be before it lies?
============================================

A boosted model of daily bike rentals is replaced by readable ones of many sizes; the picture shows fidelity against the number
of statements one has to read, with bounds that hold for whichever point one picks.
"""

from sklearn.ensemble import HistGradientBoostingRegressor

import locum
from locum.datasets import load
from locum.plots import plot_frontier

table = load("bike_sharing")
parts = table.split(0)
model = HistGradientBoostingRegressor(categorical_features="from_dtype", random_state=0).fit(parts.train.X, parts.train.y)

# %%
# The target counts, caches and prices every question. Queries are chosen once; all stand-ins share the answers.

target = locum.target(model, name="boosted trees")
found = locum.frontier(
    target, parts.ask.X, fresh=parts.score.X, domain=table.domain, budget=600, sizes=(1, 2, 4, 8, 16),
    families=["tree", "additive model", "sparse linear"],
)  # fmt: skip
plot_frontier(found)

# %%
# The point where more statements stop paying, and the best of at most sixteen, with the rivals beside it.

print(found.knee())
print(found.at_most(16))

assert found.at_most(16).fidelity[0].lower > 0.6
