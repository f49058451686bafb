"""Fixture of the browser tests: one Chromium for each module."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.browsers import MISSING, STEADY, find_chromium


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Run one Chromium per module; while it is open, asyncio sees a running event loop."""
    with sync_playwright() as playwright:
        program = find_chromium(playwright)
        if program is None:
            pytest.skip(MISSING)
        browser = playwright.chromium.launch(executable_path=program, args=STEADY)
        yield browser
        browser.close()
