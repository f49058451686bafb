"""The playground in bad conditions: hostile names, no names, no Redis, no service, keys."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Route, expect
from rich.console import Console

from data.click_options import ClickOptions
from recsys_client import Client
from service.middleware.auth import hash_of, new_key
from tests.browser.browsers import visiting
from tests.browser.playground_page import Playground, playground_on
from tests.support.bundles.trained_shop import SMALL, TrainedShop
from tests.support.redis.servers import RedisServer, own_redis
from training.pipeline import TrainOptions, train

ATTACKS = (
    "<img src=x onerror=alert(1)>",
    "<script>window.taken=1</script>",
    "\"><svg onload='window.taken=1'>",
    "'; echo taken; '",
    "$(touch taken)`touch taken`",
    "javascript:window.taken=1",
    "{{7*7}}${7*7}%s%n",
    "../../etc/passwd?a=b#c&d",
    "\u202egnp.esrever",
    "a\u0301" * 60,
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundle whose item ids, names and categories are attacks on the page."""
    import pandas as pd

    folder = tmp_path_factory.mktemp("hostile")
    session = [item for at in range(40) for item in ATTACKS[at % 5 : at % 5 + 4]]
    clicks = {
        "session_id": [f"s{at // 4}" for at in range(len(session))],
        "item_id": session,
        "timestamp": [1_767_225_600 + at for at in range(len(session))],
    }
    kinds = [*ATTACKS[1:], ATTACKS[0]]
    items = {"item_id": ATTACKS, "name": [f"{a} {a}"[:128] for a in ATTACKS], "category": kinds}
    pd.DataFrame(clicks).to_csv(folder / "clicks.csv", index=False)
    pd.DataFrame(items).to_csv(folder / "items.csv", index=False)
    options = TrainOptions(
        ClickOptions(folder / "clicks.csv"), folder / "bundle", SMALL, folder / "items.csv"
    )
    return train(options, Console(quiet=True))


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    with own_redis() as server:
        yield server


def test_names_of_items_stay_text(hostile: Path, redis_server: str, chromium: Browser) -> None:
    with playground_on(hostile, redis_server) as url, visiting(chromium, url) as page:
        page.on("dialog", lambda _: pytest.fail("an item's name ran"))
        play = Playground(page)
        with Client(url) as client:
            names = {i.item_id: i.attributes["name"] for i in client.search(limit=100).items}
        elements = page.locator("img, script:not([src]), svg:not(.mark), iframe")
        play.begin()
        for _ in range(len(names) - 1):  # every item once
            play.go_on()
        assert sorted(play.clicked) == sorted(" ".join(name.split()) for name in names.values())
        shown = page.locator("#likely .name").all_text_contents()
        assert shown == [names[item_id] for item_id in play.likely]
        for baseline in ("Last click alone", "Similar items"):
            page.locator("#baseline").select_option(baseline)
            expect(page.locator("#others li").first).to_be_visible()
        for kind in page.locator("#values button").all():
            kind.click()
        page.locator("#values button", has_text="All").click()
        page.locator("#words").fill(ATTACKS[1])
        expect(page.locator("#found")).to_have_text("2 items")  # by its id, by a category
        expect(page.locator("#items .name").first).to_have_text(names[ATTACKS[1]])
        assert elements.count() == 0
        assert page.evaluate("window.taken") is None
        width, room = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width <= room
        assert page.evaluate("JSON.stringify(localStorage) + document.cookie") == "{}"


def test_items_without_names_are_called_by_their_ids(
    other_bundle: Path, redis_server: str, chromium: Browser
) -> None:
    with playground_on(other_bundle, redis_server) as url, visiting(chromium, url) as page:
        play = Playground(page)
        play.visit(2)
        assert play.texts("#likely .name") == play.likely
        assert all("-" in item_id for item_id in play.clicked)
        expect(page.locator("#values")).to_be_hidden()
        page.locator("#words").fill("tent")
        expect(page.locator("#found")).to_have_text("1 item")


def test_redis_goes_and_comes_back_while_the_page_is_open(
    trained: TrainedShop, own_server: RedisServer, chromium: Browser
) -> None:
    with (
        playground_on(trained.bundle, own_server.url) as url,
        visiting(chromium, url) as page,
        Client(url, retries=5) as client,
    ):
        play = Playground(page)
        play.visit(2)
        own_server.kill()
        play.go_on()

        expect(play.banner("Redis does not answer.")).to_be_visible()
        assert play.pills[0] == "degraded: this click alone"
        expect(page.locator("#clicks .waiting")).to_have_count(1)
        play.go_on()
        expect(page.locator("#clicks .waiting")).to_have_count(2)

        with play.answered():
            own_server.start()
        expect(play.banner("Redis is back")).to_be_visible()
        expect(page.locator("#clicks .waiting")).to_have_count(0)
        expect(page.locator("#meta .pill").first).to_have_text("model")
        expect(page.locator("#banner")).to_be_hidden()
        items = client.search(limit=100).items + client.search(limit=100, offset=100).items
        ids = {item.attributes["name"]: item.item_id for item in items}
        visit = [ids[name] for name in play.clicked]
        answer = client.recommend(items=visit, k=12)
        assert play.likely == [item.item_id for item in answer.items]
        play.go_on()
        assert play.pills[-1] == "stored"


def test_the_service_goes_and_comes_back_while_the_page_is_open(
    trained: TrainedShop, redis_server: str, chromium: Browser
) -> None:
    with (
        playground_on(trained.bundle, redis_server) as url,
        visiting(chromium, url, tolerated="ERR_INTERNET_DISCONNECTED") as page,
    ):
        play = Playground(page)
        play.visit(1)
        page.context.set_offline(True)
        page.locator("#likely li:not(:has(.been)) button").first.click()
        expect(play.banner("The service does not answer.")).to_be_visible()
        expect(page.locator("#clicks .waiting")).to_have_count(1)

        with play.answered():
            page.context.set_offline(False)
        expect(play.banner("The service is back.")).to_be_visible()
        expect(page.locator("#clicks .waiting")).to_have_count(0)
        assert len(play.clicked) == 2


def test_a_key_is_asked_for_and_kept_in_memory_alone(
    trained: TrainedShop, redis_server: str, chromium: Browser
) -> None:
    key = new_key()
    keys = {"api_key_hashes": [hash_of(key)]}
    with (
        playground_on(trained.bundle, redis_server, **keys) as url,
        visiting(chromium, url, tolerated="401") as page,
    ):
        field = page.get_by_label("API key")
        for typed in ("recsys_wrong", key):
            field.fill(typed)
            page.get_by_role("button", name="Use this key").click()
        play = Playground(page)
        play.visit(1)

        page.get_by_text("The same as curl").click()
        expect(page.locator("#curl")).to_contain_text("Bearer $RECSYS_API_KEY")
        assert key not in page.content()
        assert key not in page.url
        stored = page.evaluate("JSON.stringify([localStorage, sessionStorage]) + document.cookie")
        assert stored == "[{},{}]"


def test_the_page_reports_a_low_rate_limit(
    trained: TrainedShop, redis_server: str, chromium: Browser
) -> None:
    """At one request an hour, the page loads and shows a sentence instead of lists."""
    with (
        playground_on(trained.bundle, redis_server, rate_limit="1/hour") as url,
        visiting(chromium, url, tolerated="429") as page,
    ):
        limited = page.locator("#banner", has_text="limits how often this page may ask")
        expect(limited).to_be_visible()
        expect(limited).to_contain_text("It asks again in 60 minutes.")


def test_a_page_that_was_limited_goes_on_by_itself(
    trained: TrainedShop, redis_server: str, chromium: Browser
) -> None:
    """The first call to each path is refused, as by a busy service."""
    refused: list[str] = []
    problem = {"status": 429, "title": "Too Many Requests", "detail": "Too many.", "errors": []}

    def refuse_once(route: Route) -> None:
        path = urlsplit(route.request.url).path
        if path in refused:
            route.continue_()
        else:
            refused.append(path)
            route.fulfill(status=429, json=problem, headers={"Retry-After": "1"})

    with (
        playground_on(trained.bundle, redis_server) as url,
        visiting(chromium, url, tolerated="429", goes=False) as page,
    ):
        page.route("**/v1/**", refuse_once)
        page.goto(url)
        play = Playground(page)
        play.visit(2)
        expect(page.locator("#clicks .waiting")).to_have_count(0)
        expect(page.locator("#banner")).to_be_hidden()
        assert len(play.clicked) == 2
        assert {"/v1/model", "/v1/attributes", "/v1/items", "/v1/recommendations"} <= set(refused)


def test_another_model_takes_over_while_the_page_is_open(
    trained: TrainedShop, other_bundle: Path, redis_server: str, chromium: Browser, tmp_path: Path
) -> None:
    admin = new_key()
    for name, bundle in {"a": trained.bundle, "b": other_bundle}.items():
        shutil.copytree(bundle, tmp_path / name)
    given = {"admin_key_hashes": [hash_of(admin)]}
    with (
        playground_on(tmp_path / "a", redis_server, **given) as url,
        visiting(chromium, url) as page,
    ):
        play = Playground(page)
        play.visit(2)
        with Client(url, api_key=admin, timeout=60) as client:
            model_id = client.reload("b").model_id
        play.go_on()

        expect(page.locator("#model code")).to_have_text(model_id)
        play.wait_for_state("16 numbers")
        expect(page.locator("#values")).to_be_hidden()
        play.go_on()  # the other model's items have no names
        assert play.texts("#likely .name") == play.likely
