"""Networks that recommend items from ids alone; in each, the module `state` is where scores are made from."""

from __future__ import annotations

import math

import torch
from torch import nn

__all__ = ["AttentionNet", "GraphNet", "InterestNet", "softmax_loss"]

Tensor = torch.Tensor


def softmax_loss(states: Tensor, items: Tensor, wanted: Tensor, negatives: int | None) -> Tensor:
    """Cross-entropy of the item wanted among all; or what some others, drawn alike, say of it.

    Parameters
    ----------
    states : tensor of shape (n, width)
    items : tensor of shape (items, width)
    wanted : tensor of int, shape (n,)
    negatives : int or None
        Items drawn for all n together; each stands for as many as there are for one drawn.
    """
    if negatives is None or negatives >= len(items):
        return nn.functional.cross_entropy(states @ items.T, wanted)
    drawn = torch.randint(len(items), (negatives,), device=wanted.device)
    others = states @ items[drawn].T + math.log((len(items) - 1) / negatives)
    others = others.masked_fill(wanted[:, None] == drawn, -torch.inf)
    own = (states * items[wanted]).sum(dim=1, keepdim=True)
    return (torch.cat([own, others], dim=1).logsumexp(dim=1) - own[:, 0]).mean()


class _Block(nn.Module):
    """Causal attention and a small network, each on normalised inputs and added to them."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.network = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor, later: Tensor) -> Tensor:
        seen = self.first(x)
        x = x + self.attention(seen, seen, seen, attn_mask=later, need_weights=False)[0]
        return x + self.network(self.second(x))


class AttentionNet(nn.Module):
    """Self-attentive sequential recommendation (Kang and McAuley, 2018): a state after each item of a history.

    Histories are filled up on the right with the number of items, which is no item; attention is causal, so what is filled
    up is never seen.
    """

    def __init__(self, n_items: int, width: int, blocks: int, heads: int, history: int, dropout: float) -> None:
        super().__init__()
        self.n_items = n_items
        self.items = nn.Embedding(n_items + 1, width, padding_idx=n_items)
        self.places = nn.Embedding(history, width)
        nn.init.normal_(self.items.weight, std=width**-0.5)
        nn.init.normal_(self.places.weight, std=width**-0.5)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(_Block(width, heads, dropout) for _ in range(blocks))
        self.last = nn.LayerNorm(width)
        self.state = nn.Identity()

    def table(self) -> Tensor:
        """Of the items, shape (items, width)."""
        return self.items.weight[: self.n_items]

    def states(self, histories: Tensor) -> Tensor:
        """Shape (n, length, width), from histories of shape (n, length)."""
        length = histories.shape[1]
        x = self.dropout(self.items(histories) + self.places.weight[:length])
        later = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        for block in self.blocks:
            x = block(x, later)
        return self.last(x)

    def forward(self, histories: Tensor) -> Tensor:
        """Scores of all items, shape (n, items), after histories of shape (n, length)."""
        ends = (histories < self.n_items).sum(dim=1) - 1
        found = self.states(histories)[torch.arange(len(ends), device=ends.device), ends]
        return self.score(self.state(found))

    def score(self, states: Tensor) -> Tensor:
        return states @ self.table().T


class InterestNet(nn.Module):
    """Several interests a user, each by an attention of its own over the history (ComiRec-SA: Cen and others, 2020)."""

    def __init__(self, n_items: int, width: int, interests: int, history: int, dropout: float) -> None:
        super().__init__()
        self.n_items = n_items
        self.items = nn.Embedding(n_items + 1, width, padding_idx=n_items)
        self.places = nn.Embedding(history, width)
        nn.init.normal_(self.items.weight, std=width**-0.5)
        nn.init.normal_(self.places.weight, std=width**-0.5)
        self.weights = nn.Sequential(nn.Linear(width, 4 * width), nn.Tanh(), nn.Linear(4 * width, interests))
        self.dropout = nn.Dropout(dropout)
        self.state = nn.Identity()

    def table(self) -> Tensor:
        """Of the items, shape (items, width)."""
        return self.items.weight[: self.n_items]

    def states(self, histories: Tensor) -> Tensor:
        """Shape (n, interests, width), from histories of shape (n, length); the last item has place 0."""
        there = histories < self.n_items
        place = (there.sum(dim=1, keepdim=True) - 1 - torch.arange(histories.shape[1], device=histories.device)).clamp(min=0)
        x = self.dropout(self.items(histories))
        logits = self.weights(x + self.places(place)).masked_fill(~there[..., None], -torch.inf)
        return logits.softmax(dim=1).transpose(1, 2) @ x

    def forward(self, histories: Tensor) -> Tensor:
        """Scores of all items, shape (n, items), after histories of shape (n, length)."""
        return self.score(self.state(self.states(histories)))

    def score(self, states: Tensor) -> Tensor:
        """That of the interest which likes the item best."""
        return (states @ self.table().T).amax(dim=-2)


class GraphNet(nn.Module):
    """Vectors of users and items, averaged over neighbours in the graph of who took what (LightGCN: He and others, 2020).

    Without layers it is matrix factorisation.
    """

    edges: Tensor
    sizes: Tensor

    def __init__(self, pairs: Tensor, n_users: int, n_items: int, width: int, layers: int) -> None:
        super().__init__()
        self.n_users, self.layers = n_users, layers
        self.vectors = nn.Parameter(torch.randn(n_users + n_items, width) * 0.1)
        user, item = pairs[:, 0], pairs[:, 1] + n_users
        self.register_buffer("edges", torch.stack([torch.cat([user, item]), torch.cat([item, user])]))
        degree = torch.bincount(self.edges[0], minlength=n_users + n_items).clamp(min=1).float()
        self.register_buffer("sizes", (degree[self.edges[0]] * degree[self.edges[1]]).rsqrt())
        self.state = nn.Identity()

    def propagated(self) -> tuple[Tensor, Tensor]:
        """Vectors of users and of items, the mean over layers."""
        x: Tensor = self.vectors
        total = x
        if self.layers:
            graph = torch.sparse_coo_tensor(self.edges, self.sizes, (len(x), len(x)), check_invariants=False).coalesce()
            for _ in range(self.layers):
                x = torch.sparse.mm(graph, x)
                total = total + x
        total = total / (self.layers + 1)
        return total[: self.n_users], total[self.n_users :]

    def table(self) -> Tensor:
        """Of the items, shape (items, width)."""
        return self.propagated()[1]

    def states(self, users: Tensor) -> Tensor:
        """Shape (n, width)."""
        return self.propagated()[0][users]

    def forward(self, users: Tensor) -> Tensor:
        """Scores of all items, shape (n, items), for users by number."""
        return self.score(self.state(self.states(users)))

    def score(self, states: Tensor) -> Tensor:
        return states @ self.table().T
