"""Screenshots of the playground for the documents.

    make screenshots

trains the demo shop and writes docs/images/. Other runs take the pictures of a small model and
check only their size.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from rich.console import Console

from service.middleware.auth import hash_of, new_key
from tests.browser.browsers import DESK, PHONE, visiting
from tests.browser.playground_page import Playground, playground_on
from tests.support.redis.servers import RedisServer, own_redis
from training.demo import train_demo

KEEP = "RECSYS_PICTURES"  # variable with the folder for the pictures
MOST_BYTES = 300_000
SCREEN: dict[str, Any] = DESK | {"viewport": {"width": 1240, "height": 860}}
SCREENS: dict[str, dict[str, Any]] = {
    "light": SCREEN,
    "dark": SCREEN | {"color_scheme": "dark"},
    "phone": PHONE,
}


@pytest.fixture(scope="module")
def bundle(demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if KEEP not in os.environ:
        return demo_bundle
    out = tmp_path_factory.mktemp("demo") / "bundle"
    train_demo(out, Console())
    return out


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with own_redis() as server:
        yield server


@pytest.fixture(scope="module")
def key() -> str:
    return new_key()


@pytest.fixture(scope="module")
def url(bundle: Path, redis: RedisServer, key: str) -> Iterator[str]:
    with playground_on(bundle, redis.url, catalogue_key_hashes=[hash_of(key)]) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    out = Path(os.environ.get(KEEP, tmp_path))
    out.mkdir(parents=True, exist_ok=True)
    return out


@pytest.mark.parametrize("name", SCREENS)
def test_a_visit(url: str, chromium: Browser, folder: Path, name: str) -> None:
    with visiting(chromium, url, **SCREENS[name]) as page:
        play = Playground(page)
        play.visit(4)
        play.wait_for_state("these 4 clicks")
        page.mouse.move(1, 1)
        file = folder / f"playground-{name}.png"
        page.screenshot(path=file, animations="disabled", scale="css")
    assert 10_000 < file.stat().st_size < MOST_BYTES


def test_a_visit_with_one_click_left_out(url: str, chromium: Browser, folder: Path) -> None:
    tall = SCREEN | {"viewport": {"width": 1240, "height": 1110}}
    with visiting(chromium, url, **tall) as page:
        play = Playground(page)
        play.visit(4)
        with play.answered():
            page.locator("#clicks .leave").nth(3).click()
        page.locator("#baseline").select_option("Last click alone")
        page.locator("#others .also").first.wait_for()
        play.wait_for_state("these 3 clicks")
        page.evaluate("scrollTo(0, 0)")
        page.mouse.move(1, 1)
        file = folder / "playground-what-if.png"
        page.screenshot(path=file, animations="disabled")
    assert 10_000 < file.stat().st_size < MOST_BYTES


def test_filters_and_rules(url: str, chromium: Browser, folder: Path) -> None:
    tall = SCREEN | {"viewport": {"width": 1240, "height": 1180}}
    with visiting(chromium, url, **tall) as page:
        play = Playground(page)
        play.visit(3)
        page.get_by_text("Filters and rules").click()
        form = page.locator("#rules-form")
        for label, choice in (("Only category", "Camping"), ("At most", "2 of each brand")):
            with play.answered():
                form.get_by_label(label).select_option(choice)
        with play.answered():
            form.get_by_label("price to").fill("100")
            form.get_by_label("price to").press("Tab")
        page.locator("#likely .open").last.click()
        with play.answered():
            page.get_by_role("button", name="Pin first").click()
        page.evaluate("scrollTo(0, 0)")
        page.mouse.move(1, 1)
        file = folder / "playground-rules.png"
        page.screenshot(path=file, animations="disabled")
    assert 10_000 < file.stat().st_size < MOST_BYTES


def test_an_item_that_is_sold_out(url: str, key: str, chromium: Browser, folder: Path) -> None:
    with visiting(chromium, url, tolerated="401", **SCREEN) as page:
        play = Playground(page)
        play.visit(2)
        gone = play.likely[2]
        page.locator("#likely .open").nth(2).click()
        page.get_by_role("button", name="Mark as sold out").click()
        page.get_by_label("Catalogue key").fill(key)
        page.get_by_role("button", name="Use this key").click()
        page.locator(f"#likely:not(:has(li[data-item='{gone}']))").wait_for()
        page.locator("#likely .open").nth(2).click()
        page.mouse.move(1, 1)
        file = folder / "playground-sold-out.png"
        page.screenshot(path=file, animations="disabled")
        page.keyboard.press("Escape")
        page.locator("#sold-out button").click()
        page.locator("#sold-out:empty").wait_for(state="attached")
    assert 10_000 < file.stat().st_size < MOST_BYTES


def test_a_visit_without_redis(
    url: str, redis: RedisServer, chromium: Browser, folder: Path
) -> None:
    with visiting(chromium, url, **SCREEN) as page:
        play = Playground(page)
        play.visit(3)
        redis.kill()
        play.go_on()
        play.banner("Redis does not answer").wait_for()
        page.mouse.move(1, 1)
        file = folder / "playground-without-redis.png"
        page.screenshot(path=file, animations="disabled")
        redis.start()
        play.banner("Redis is back").wait_for()
    assert 10_000 < file.stat().st_size < MOST_BYTES
