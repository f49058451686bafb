"""Pictures, prices, rules and details of items in the playground, on the demo shop."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Route, expect

from recsys_client import Client
from service.middleware.auth import hash_of, new_key
from tests.browser.browsers import PHONE, breaches, visiting
from tests.browser.playground_page import Playground, playground_on

SHOWN = 12


@pytest.fixture(scope="module")
def url(demo_bundle: Path, redis_server: str) -> Iterator[str]:
    with playground_on(demo_bundle, redis_server) as opened:
        yield opened


@pytest.fixture
def play(url: str, chromium: Browser) -> Iterator[Playground]:
    with visiting(chromium, url) as page:
        yield Playground(page)


def recommended(client: Client, **rules: Any) -> list[str]:
    """Return the popular items by these rules, as many as the page shows."""
    return [item.item_id for item in client.recommend(items=[], k=SHOWN, **rules).items]


def set_rules(play: Playground) -> Locator:
    play.page.get_by_text("Filters and rules").click()
    return play.page.locator("#rules-form")


def test_items_have_pictures_and_prices(play: Playground, client: Client) -> None:
    row = play.page.locator("#likely li").first
    item = client.look_up([play.likely[0]]).items[0]

    expect(row.locator(".price")).to_have_text(f"{float(item.attributes['price']):,.2f}")
    picture = row.locator("img")
    expect(picture).to_have_attribute("src", item.attributes["image"])
    assert picture.evaluate("one => one.decode().then(() => one.naturalWidth)") > 0
    for part in ("#starters", "#others", "#items"):
        expect(play.page.locator(f"{part} img").first).to_be_visible()
    play.begin()
    expect(play.page.locator("#clicks img")).to_have_count(1)


def test_a_picture_of_another_host_is_not_loaded(url: str, chromium: Browser) -> None:
    def elsewhere(route: Route) -> None:
        answer = route.fetch()
        found = answer.json()
        for item in found["items"]:
            item["attributes"]["image"] = "https://pictures.example/1.png"
        route.fulfill(response=answer, json=found)

    with visiting(chromium, url, goes=False) as page:
        page.route(re.compile(r"/v1/items(:lookup|\?)"), elsewhere)
        page.goto(url)
        Playground(page)
        expect(page.locator("#likely span.picture")).to_have_count(SHOWN)
        assert page.locator("#likely img").count() == 0


def test_filters_and_rules_change_all_lists(play: Playground, client: Client) -> None:
    form, count = set_rules(play), play.page.locator("#rules-count")
    rules = {
        "filter": {"category": ["Camping"], "price": {"gte": 20, "lte": 99.5}},
        "max_per": {"brand": 2},
        "boost": {"brand": {"Fjord": 4}},
    }
    with play.answered():
        form.get_by_label("Only category").select_option("Camping")
    for bound, value in (("price from", "20"), ("price to", "99.5")):
        with play.answered():
            form.get_by_label(bound).fill(value)
            form.get_by_label(bound).press("Tab")
    with play.answered():
        form.get_by_label("At most").select_option("2 of each brand")
    with play.answered():
        form.get_by_label("How much more").select_option("much")
    with play.answered():
        form.get_by_label("Show more of").select_option("Fjord")

    expect(count).to_have_text("4 set")
    assert play.likely == recommended(client, **rules)
    play.wait_for_list("#others", play.likely)
    with play.answered():
        form.get_by_label("Only category").select_option("Tea")
    with play.answered():
        form.get_by_label("price from").fill("5000")
        form.get_by_label("price from").press("Tab")
    expect(play.page.get_by_text("No item is left by these rules.")).to_be_visible()
    with play.answered():
        form.get_by_label("Popular items if nothing is left").check()
    assert len(play.likely) == SHOWN

    with play.answered():
        form.get_by_role("button", name="Remove all rules").click()
    expect(count).to_be_hidden()
    assert play.likely == recommended(client)


def test_an_item_is_pinned_and_left_out_in_its_details(play: Playground, client: Client) -> None:
    page, last, second = play.page, play.likely[-1], play.likely[1]
    score = client.recommend(items=[], k=SHOWN).items[-1].score

    page.locator("#likely .open").last.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(f"{score:.3f}")
    expect(dialog).to_contain_text(last)
    with play.answered():
        dialog.get_by_role("button", name="Pin first").click()
    expect(page.locator("#likely li").first.locator(".been")).to_have_text("pinned")
    page.locator(f"#likely li[data-item='{second}'] .open").click()
    with play.answered():
        dialog.get_by_role("button", name="Leave out").click()

    assert play.likely == recommended(client, pin=[last], exclude_items=[second])
    set_rules(play)
    with play.answered():
        page.locator("#rules-items").get_by_text("first:").click()
    assert play.likely == recommended(client, exclude_items=[second])


def test_an_item_that_is_sold_out_leaves_all_lists_and_comes_back(
    demo_bundle: Path, redis_server: str, chromium: Browser
) -> None:
    key = new_key()
    with (
        playground_on(demo_bundle, redis_server, catalogue_key_hashes=[hash_of(key)]) as url,
        visiting(chromium, url, tolerated="401") as page,
    ):
        play = Playground(page)
        play.begin()
        gone, dialog = play.likely[0], page.locator("#item")
        page.locator("#likely .open").first.click()
        expect(dialog).to_contain_text("in stock")
        dialog.get_by_role("button", name="Mark as sold out").click()
        page.get_by_role("button", name="Cancel").click()
        expect(play.banner("Nothing was changed.")).to_be_visible()
        assert gone in play.likely

        page.locator("#likely .open").first.click()
        dialog.get_by_role("button", name="Mark as sold out").click()
        page.get_by_label("Catalogue key").fill(key)
        page.get_by_role("button", name="Use this key").click()
        for part in ("#likely", "#others", "#items"):
            expect(page.locator(f"{part} li[data-item='{gone}']")).to_have_count(0)
        assert breaches(page) == []

        page.locator("#sold-out button").click()
        expect(page.locator(f"#likely li[data-item='{gone}']")).to_have_count(1)
        expect(page.locator("#sold-out button")).to_have_count(0)


def test_without_a_catalogue_key_items_cannot_be_marked(play: Playground) -> None:
    play.page.locator("#likely .open").first.click()

    expect(play.page.locator("#item-pin")).to_be_visible()
    expect(play.page.locator("#item-stock")).to_be_hidden()


@pytest.mark.parametrize("screen", [{}, {"color_scheme": "dark"}, PHONE])
def test_rules_and_details_are_accessible_and_have_room(
    url: str, chromium: Browser, screen: dict[str, Any]
) -> None:
    with visiting(chromium, url, **screen) as page:
        play = Playground(page)
        form = set_rules(play)
        with play.answered():
            form.get_by_label("Only category").select_option("Camping")
        assert breaches(page) == []
        page.locator("#likely .open").first.click()
        assert breaches(page) == []
        page.keyboard.press("Escape")
        expect(page.locator("#likely .open").first).to_be_focused()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
