"""A real Chromium for pages; without one the tests that want it skip and say so."""

from __future__ import annotations

from pathlib import Path

import pytest

CHROMIUM = Path("/usr/bin/chromium")
QUIET = ["quic", "background-networking", "component-update", "sync"]
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", *(f"--disable-{what}" for what in QUIET)]


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="the page tests need playwright: pip install playwright")
    if not CHROMIUM.exists():
        pytest.skip(f"the page tests need a browser at {CHROMIUM}: apt-get install --no-install-recommends chromium")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser):
    """Opens a file in a page; at the end of the test nothing may have gone to the console or the network, or popped up."""
    contexts, complaints, requests = [], [], []

    def open_file(path, hash_="", **settings):
        contexts.append(browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **settings}))
        page = contexts[-1].new_page()
        page.set_default_timeout(5000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: requests.append(request.url.split("#")[0]))
        page.goto(path.as_uri() + hash_)
        return page

    open_file.complaints, open_file.requests, open_file.contexts = complaints, requests, contexts
    yield open_file
    for context in contexts:
        context.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith("file://")] == []
    assert len(requests) == len(contexts)  # the page itself, and nothing else
