"""What browser tests share: one Chromium."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.browsers import MISSING, STEADY, find_chromium


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """For one module at a time: while it is open, asyncio takes a loop to be running here."""
    with sync_playwright() as playwright:
        found = find_chromium(playwright)
        if found is None:
            pytest.skip(MISSING)
        browser = playwright.chromium.launch(executable_path=found, args=STEADY)
        yield browser
        browser.close()
