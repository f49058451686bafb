"""Measurements of the playground: accessibility, phone, dark mode, bytes, response times.

make browser-test ARGS=-rP      # also prints the measurements
"""

import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.browsers import DESK, PHONE, breaches, visiting
from tests.browser.playground_page import Playground, playground_on
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.redis.servers import own_redis

DARK: dict[str, Any] = {"color_scheme": "dark"}
MOVING: dict[str, Any] = {"reduced_motion": "no-preference"}
MOST_BYTES = 200_000
TIMES = "performance.getEntriesByType('mark').map(mark => [mark.name, mark.startTime])"
WIDTHS = (320, 390, 600, 768, 1024, 1360, 2200)


@pytest.fixture(scope="module")
def url(trained: TrainedShop, redis_server: str) -> Iterator[str]:
    with playground_on(trained.bundle, redis_server) as opened:
        yield opened


@pytest.mark.parametrize("screen", [DESK, DESK | DARK, PHONE])
def test_the_page_is_accessible(url: str, chromium: Browser, screen: dict[str, Any]) -> None:
    with visiting(chromium, url, **screen) as page:
        play = Playground(page)
        assert breaches(page) == []
        play.visit(3)
        page.get_by_text("The same as curl").click()
        with play.answered():
            page.locator("#clicks .leave").first.click()
        page.locator("#baseline").select_option("Similar items")
        page.locator("#others .also").first.wait_for()
        page.locator("#words").fill("nothing of the kind")
        expect(page.locator("#items-empty")).to_be_visible()
        assert breaches(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_banners_and_dialogs_are_accessible(
    trained: TrainedShop, chromium: Browser, scheme: str
) -> None:
    with (
        own_redis() as redis,
        playground_on(trained.bundle, redis.url) as url,
        visiting(chromium, url, color_scheme=scheme) as page,
    ):
        play = Playground(page)
        redis.kill()
        play.visit(1)
        play.banner("Redis does not answer").wait_for()
        assert breaches(page) == []
        redis.start()
        play.banner("Redis is back").wait_for()
        assert breaches(page) == []
    keys = {"api_key_hashes": ["sha256:" + 64 * "0"]}
    with (
        playground_on(trained.bundle, redis.url, **keys) as url,
        visiting(chromium, url, tolerated="401", color_scheme=scheme) as page,
    ):
        page.get_by_role("dialog").wait_for()
        assert breaches(page) == []


def test_on_a_phone_everything_has_room_and_is_one_tap_away(url: str, chromium: Browser) -> None:
    with visiting(chromium, url, **PHONE) as page:
        play = Playground(page)
        assert _fits(page)
        with play.answered():
            page.locator("#starters button").first.tap()
        with play.answered():
            page.locator("#likely .row").nth(1).tap()
        assert _fits(page)
        likeliest = play.texts("#likely .name")[0]
        expect(page.locator("#peek")).to_have_text(likeliest)
        for part in ("catalogue", "compare", "next"):
            page.locator(f".tabs a[href='#{part}']").tap()
            expect(page.locator(f"#{part} h2")).to_be_in_viewport()
        small = page.locator("button:visible, a:visible, select:visible").evaluate_all(
            "all => all.filter(one => one.getBoundingClientRect().height < 24)"
            ".map(one => one.textContent).filter(text => !text.includes('API docs'))"
        )
        assert [text for text in small if "Skip" not in text] == []


def test_nothing_widens_the_page_at_any_width(url: str, chromium: Browser) -> None:
    with visiting(chromium, url) as page:
        play = Playground(page)
        play.visit(4)
        page.get_by_text("The same as curl").click()
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            assert _fits(page), width
            for panel in page.locator(".panel:visible, .strip").all():
                outside = panel.evaluate(
                    "one => [...one.querySelectorAll('pre, button, select, input, .what')]"
                    ".some(part => part.getBoundingClientRect().right"
                    " > one.getBoundingClientRect().right + 1"
                    " && !part.closest('.values, .clicks, .sr'))"
                )
                assert not outside, (width, panel.get_attribute("id"))


def test_it_is_there_before_200_kb_are(
    demo_bundle: Path, redis_server: str, chromium: Browser
) -> None:
    """The items of the demo shop have pictures."""
    with (
        playground_on(demo_bundle, redis_server) as url,
        visiting(chromium, url, goes=False) as page,
    ):
        network = page.context.new_cdp_session(page)
        network.send("Network.enable")
        sizes: list[float] = []
        network.on("Network.loadingFinished", lambda one: sizes.append(one["encodedDataLength"]))
        page.goto(url, wait_until="networkidle")
        Playground(page)
        painted = page.evaluate(
            "performance.getEntriesByName('first-contentful-paint')[0].startTime"
        )
    figures = f"{sum(sizes) / 1000:.0f} kB in {len(sizes)} files, painted after {painted:.0f} ms"
    sys.stdout.write(f"{figures}\n")
    assert sum(sizes) < MOST_BYTES


def test_the_list_moves_after_every_click(url: str, chromium: Browser) -> None:
    with visiting(chromium, url, **MOVING) as page:
        play = Playground(page)
        play.visit(12)
        marks = page.evaluate(TIMES)
    spans = sorted(
        shown - clicked
        for (before, clicked), (after, shown) in pairwise(marks)
        if (before, after) == ("click", "shown")
    )
    figures = f"median {median(spans):.0f} ms, {spans[0]:.0f} to {spans[-1]:.0f}"
    sys.stdout.write(f"from a click to the painted list: {figures}\n")
    assert len(spans) == 12


def _fits(page: Page) -> bool:
    """Return whether the page is no wider than the window."""
    fits: bool = page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    return fits
