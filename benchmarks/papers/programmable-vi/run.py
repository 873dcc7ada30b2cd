"""Programmable variational inference, arXiv 2406.15742: bounds, unbiased estimators, their variance and price, and fidelity.

Cone: x, y ~ N(0, 10), z ~ N(x² + y², 0.1 + (x² + y²) / 100), z = 5 observed; guides and objectives of the paper, 64 particles.
Unbiasedness: ELBO, IWELBO, marginal and normalised guides over flips, with enumerated, measure-valued and score estimators in
every pairing, against derivatives by counting. Variance, and training at equal time: logistic regression on the breast-cancer
data of scikit-learn with a flip for each column that says whether it is in. Price: processor time of a step beside the same
by hand, and beside Pyro where that can be imported, on the cone, on that regression and on a variational autoencoder of
scikit-learn's digits. Fidelity: linear regression on the diabetes data, whose evidence is known, and logistic regression,
whose is not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

import cone  # noqa: E402
import flips  # noqa: E402
import price  # noqa: E402
import regression  # noqa: E402
import torch  # noqa: E402
from claims import Claim, main  # noqa: E402


def measure(quick: bool, seed: int) -> Iterator[Claim]:
    """All claims, the headline first."""
    torch.set_num_threads(1)
    yield from cone.claims(quick, seed)
    yield from flips.claims(quick, seed)
    yield from regression.claims(quick, seed)
    yield from price.claims(quick, seed)


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, measure))
