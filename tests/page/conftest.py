"""Cards opened in a real browser."""

from __future__ import annotations

import pytest


@pytest.fixture
def show(browser, tmp_path):
    """Opens a card from disk; at the end of the test nothing may have gone to the console or the network, or popped up."""
    contexts, complaints, requests = [], [], []

    def open_page(card, *, hash_="", **settings):
        path = tmp_path / f"card-{len(contexts)}.html"
        path.write_bytes(card.to_html().encode())
        contexts.append(browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **settings}))
        page = contexts[-1].new_page()
        page.set_default_timeout(5000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: requests.append(request.url.split("#")[0]))
        page.goto(path.as_uri() + hash_)
        return page

    open_page.complaints, open_page.requests = complaints, requests
    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith("file://")] == []
    assert len(requests) == len(contexts)  # the page itself, and nothing else
