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
