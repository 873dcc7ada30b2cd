"""Cards opened in a real browser."""

from __future__ import annotations

import pytest


@pytest.fixture
def show(opened, tmp_path):
    """Opens a card from disk."""

    def open_page(card, *, hash_="", **settings):
        path = tmp_path / f"card-{len(opened.contexts)}.html"
        path.write_bytes(card.to_html().encode())
        return opened(path, hash_, **settings)

    open_page.complaints, open_page.requests = opened.complaints, opened.requests
    return open_page
