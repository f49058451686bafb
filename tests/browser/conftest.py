"""Fixtures of the browser tests: one Chromium for each module, a small model of the demo shop."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright
from rich.console import Console

from data.click_options import ClickOptions
from data.shop.files import write_demo_shop
from recsys_client import Client
from tests.browser.browsers import MISSING, PATIENCE_MS, STEADY, find_chromium
from tests.support.bundles.trained_shop import SMALL
from tests.support.shared_folders import SharedFolders
from training.pipeline import TrainOptions, train


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Run one Chromium per module; while it is open, asyncio sees a running event loop."""
    with sync_playwright() as playwright:
        program = find_chromium(playwright)
        if program is None:
            pytest.skip(MISSING)
        expect.set_options(timeout=PATIENCE_MS)
        browser = playwright.chromium.launch(executable_path=program, args=STEADY)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def demo_bundle(shared_folders: SharedFolders) -> Path:
    """Train on a few visits to the demo shop, whose items have pictures and prices."""
    return shared_folders.made_once("demo shop", _train) / "bundle"


def _train(folder: Path) -> None:
    write_demo_shop(folder, visits=1000)
    recipe = dataclasses.replace(SMALL, epochs=1, refit=False)
    clicks, items = ClickOptions(folder / "clicks.csv"), folder / "items.csv"
    train(TrainOptions(clicks, folder / "bundle", recipe, items), Console(quiet=True))


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Client]:
    """Yield a client of the service whose address the module's fixture `url` has."""
    with Client(url) as opened:
        yield opened
