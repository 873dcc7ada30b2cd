"""The network of prototypes. It is a class made in a function, since its base comes from a package that is not always there."""

from __future__ import annotations

from typing import Any

from locum.core.errors import need

__all__ = ["prototype_network"]

_FAR = 4.0


def prototype_network(features: int, hidden: int, latent: int, count: int, classes: int) -> Any:
    """A module from features to a latent point between 0 and 1, which is compared with prototypes of each class.

    Parameters
    ----------
    features, hidden, latent : int
        Widths.
    count : int
        Prototypes of each class.
    classes : int
    """
    torch = need("torch", "a network of prototypes", "nets")
    nn: Any = torch.nn

    class PrototypeNetwork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            inner = [nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
            self.body = nn.Sequential(*inner, nn.Linear(hidden, latent), nn.Sigmoid())
            self.prototypes = nn.Parameter(torch.zeros(classes, count, latent))
            # Which training row a prototype is; kept with the weights, so that the best weights bring their cases back.
            self.register_buffer("cases", torch.full((classes, count), -1, dtype=torch.long))

        def distances(self, latent: Any) -> Any:
            """Squared distances to the prototypes, shape (n, classes, count)."""
            return ((latent[:, None, None, :] - self.prototypes[None]) ** 2).sum(dim=-1)

        def forward(self, x: Any) -> Any:
            """Similarity to the nearest prototype of each class, shape (n, classes)."""
            return torch.exp(-self.distances(self.body(x)).amin(dim=2))

        def loss(self, x: Any, y: Any, scale: float, separation: float) -> Any:
            """Cross-entropy, less a share of the distance to the nearest prototype of another class (as far as 4)."""
            away = self.distances(self.body(x)).amin(dim=2)
            own = nn.functional.one_hot(y, classes).bool()
            other = away.masked_fill(own, torch.inf).amin(dim=1)
            return nn.functional.cross_entropy(scale * torch.exp(-away), y) - separation * other.clamp(max=_FAR).mean()

        def push(self, x: Any, y: Any) -> None:
            """Put each prototype on the nearest latent training row of its class that none has taken."""
            latent = self.body(x)
            for label in range(classes):
                rows = torch.nonzero(y == label).flatten()
                away = torch.cdist(self.prototypes[label], latent[rows])
                for place in range(count):
                    best = int(away[place].argmin())
                    self.prototypes.data[label, place] = latent[rows[best]]
                    self.cases[label, place] = rows[best]
                    away[:, best] = torch.inf

    return PrototypeNetwork()
