"""Every function of the playground works in a real browser on a trained shop."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from recsys_client import Client
from tests.browser.browsers import visiting
from tests.browser.playground_page import Playground, playground_on
from tests.support.bundles.trained_shop import TrainedShop

SHOWN = 12
MOVED_MS = 700  # the bars have come to rest
WATCH_STATE = """() => {
  window.frames_seen = new Set();
  const look = () => {
    window.frames_seen.add(document.getElementById("state").toDataURL());
    requestAnimationFrame(look);
  };
  look();
}"""


@pytest.fixture(scope="module")
def url(trained: TrainedShop, redis_server: str) -> Iterator[str]:
    with playground_on(trained.bundle, redis_server) as opened:
        yield opened


@pytest.fixture
def play(url: str, chromium: Browser) -> Iterator[Playground]:
    with visiting(chromium, url, permissions=["clipboard-read", "clipboard-write"]) as page:
        yield Playground(page)


def recommended(client: Client, *items: str, exclude_seen: bool = False) -> list[str]:
    """Return the recommendations after these clicks, as many as the page shows."""
    answer = client.recommend(items=items, k=SHOWN, exclude_seen=exclude_seen)
    return [item.item_id for item in answer.items]


def user_of(page: Page) -> str:
    """Return the user id of the page, from its curl command."""
    match = re.search(r'"user_id":"(.*?)"', page.locator("#curl").text_content() or "")
    assert match
    return match[1]


def test_a_click_grows_the_visit_and_the_list_moves_at_once(
    play: Playground, client: Client
) -> None:
    assert play.pills[0] == "popular items"
    popular = play.likely
    play.begin()
    first = play.likely
    clicked = popular[0]
    play.wait_for_state("this click")
    one_click = play.state
    second = next(item for item in first if item != clicked)

    play.go_on()
    play.wait_for_state("these 2 clicks")

    assert len(play.clicked) == 2
    assert first == recommended(client, clicked)
    assert play.likely == recommended(client, clicked, second)
    source, took, *_, stored = play.pills
    assert (source, stored) == ("model", "stored")
    assert re.fullmatch(r"\d+\.\d ms", took)
    assert play.state != one_click
    assert int(play.page.locator("#state").get_attribute("data-moved") or 0) > 0


def test_the_strip_of_the_hidden_state_visibly_moves(url: str, chromium: Browser) -> None:
    with visiting(chromium, url, reduced_motion="no-preference") as page:
        play = Playground(page)
        play.visit(1)
        page.wait_for_timeout(MOVED_MS)
        page.evaluate(WATCH_STATE)
        play.go_on()
        play.wait_for_state("these 2 clicks")
        page.wait_for_function("() => window.frames_seen.size > 3")


def test_rows_have_scores_and_say_how_their_rank_changed(play: Playground, client: Client) -> None:
    play.begin()
    ranks = {item.item_id: rank for rank, item in enumerate(_deep(client, play, 1), start=1)}
    play.go_on()

    rows = _deep(client, play, 2)[:SHOWN]
    scores = play.page.locator("#likely .score").evaluate_all("all => all.map(one => one.title)")
    for place, (item, score) in enumerate(zip(rows, scores, strict=True), start=1):
        shown = f"{item.score:.3f}" if abs(item.score) < 2 else f"{item.score:.2f}"
        assert score == f"score {shown}"
        note = play.page.locator("#likely li").nth(place - 1).locator(".row > .note")
        was = ranks.get(item.item_id)
        if was is None:
            expect(note).to_have_text("new")
        elif was == place:
            expect(note).to_contain_text("same rank")
        else:
            expect(note).to_have_attribute("title", re.compile(rf"was {was}\D"))
            expect(note).to_contain_text(f"{'up' if was > place else 'down'} {abs(was - place)}")


def _deep(client: Client, play: Playground, clicks: int) -> list:  # type: ignore[type-arg]
    names = {item.attributes["name"]: item.item_id for item in client.search(limit=100).items}
    names |= {i.attributes["name"]: i.item_id for i in client.search(limit=100, offset=100).items}
    items = [names[name] for name in play.clicked[:clicks]]
    return client.recommend(items=items, k=50).items


def test_what_if_a_click_had_not_been_made(play: Playground, client: Client) -> None:
    play.visit(3)
    user, whole = user_of(play.page), play.likely
    stored = [click.item_id for click in client.user(user).clicks]
    leave = play.page.locator("#clicks .leave").nth(1)

    with play.answered():
        leave.click()
    without = play.likely
    expect(leave).to_have_attribute("aria-pressed", "true")
    assert play.pills[0] == "model"
    assert play.pills[-1] == "what if: without 1"
    with play.answered():
        leave.click()

    assert without == recommended(client, stored[0], stored[2])
    assert play.likely == whole == recommended(client, *stored)
    assert [click.item_id for click in client.user(user).clicks] == stored


def test_a_click_while_something_is_left_out_is_stored_with_the_others(
    play: Playground, client: Client
) -> None:
    play.visit(2)
    user = user_of(play.page)
    with play.answered():
        play.page.locator("#clicks .leave").first.click()
    play.go_on()
    with play.answered():
        play.page.locator("#clicks .leave").first.click()

    expect(play.page.locator("#clicks .waiting")).to_have_count(0)
    stored = [click.item_id for click in client.user(user).clicks]
    assert len(stored) == 3
    assert play.likely == recommended(client, *stored)


def test_the_second_column_answers_with_something_simpler(play: Playground, client: Client) -> None:
    play.visit(2)
    last = client.user(user_of(play.page)).clicks[-1].item_id
    choice = play.page.locator("#baseline")

    play.wait_for_list("#others", recommended(client))
    choice.select_option("Last click alone")
    play.wait_for_list("#others", recommended(client, last))
    choice.select_option("Similar items")
    similar = [item.item_id for item in client.similar(last, k=SHOWN).items]
    play.wait_for_list("#others", similar)
    first = play.page.locator("#others li").first
    place = play.likely.index(similar[0]) + 1
    expect(first.locator(".also")).to_contain_text(f"model: {place}")
    with play.answered():
        first.locator(".row").click()
    assert len(play.clicked) == 3


def test_the_catalogue_is_searched_and_browsed(play: Playground) -> None:
    page, count = play.page, play.page.locator("#found")
    expect(count).to_have_text("200 items")
    assert re.fullmatch(r"[\d,]+ clicks", play.texts("#items .count")[0])
    page.locator("#more").click()
    expect(page.locator("#items li")).to_have_count(40)

    page.locator("#values button", has_text="Camping").click()
    expect(count).to_have_text("10 items")
    page.locator("#words").fill("sleeping BAG")
    expect(count).to_have_text("1 item")
    with play.answered():
        page.locator("#items .row").click()
    assert play.clicked == ["Aurora Sleeping bag"]

    page.locator("#words").fill("nothing of the kind")
    expect(page.locator("#items-empty")).to_contain_text("nothing of the kind")
    page.get_by_role("button", name="Show everything").click()
    expect(count).to_have_text("200 items")


def test_starting_over_forgets_the_visit_here_and_in_redis(
    play: Playground, client: Client
) -> None:
    popular = play.likely
    play.visit(2)
    user = user_of(play.page)
    assert len(client.user(user).clicks) == 2

    with play.answered():
        play.page.locator("#over").click()

    expect(play.page.locator("#strip")).to_be_hidden()
    expect(play.page.locator("#starters button").first).to_be_focused()
    assert (play.likely, play.pills[0]) == (popular, "popular items")
    assert client.user(user).clicks == []
    play.begin()
    assert user_of(play.page) != user


def test_the_list_says_how_many_of_its_items_were_clicked_before(play: Playground) -> None:
    play.visit(3)

    again = len(set(play.clicked) & set(play.texts("#likely .name")))
    said = [pill for pill in play.pills if pill.endswith("clicked before")]

    assert said == ([f"{again} of {len(play.likely)} clicked before"] if again else [])


def test_what_was_clicked_can_be_left_out(play: Playground, client: Client) -> None:
    play.visit(2)
    seen = [click.item_id for click in client.user(user_of(play.page)).clicks]
    assert set(seen) & set(play.likely)

    with play.answered():
        play.page.get_by_label("Leave out what was clicked").check()

    assert play.likely == recommended(client, *seen, exclude_seen=True)


def test_the_same_call_as_curl_gives_the_same_list(play: Playground) -> None:
    play.visit(2)
    with play.answered():
        play.page.locator("#clicks .leave").first.click()
    play.page.get_by_text("The same as curl").click()
    play.page.locator("#copy").click()
    expect(play.page.locator("#copy")).to_have_text("Copied")

    copied = play.page.evaluate("navigator.clipboard.readText()")

    assert copied == play.page.locator("#curl").text_content()
    if shutil.which("curl") is None:
        pytest.skip("There is no curl here to paste it into a shell for.")
    output = subprocess.run(
        ["sh", "-c", copied], capture_output=True, check=True, timeout=20
    ).stdout
    items = [item["item_id"] for item in json.loads(output)["items"]]
    assert items[:SHOWN] == play.likely


def test_a_visit_can_be_watched_and_stopped(play: Playground) -> None:
    play.page.get_by_role("button", name="Watch a visit").click()
    stop = play.page.get_by_role("button", name="Stop")
    expect(play.page.locator("#clicks li")).to_have_count(2)
    stop.click()
    expect(play.page.locator("#clicks .waiting")).to_have_count(0)  # a third may be on its way
    play.go_on()

    clicked = play.clicked
    assert len(clicked) == len(set(clicked))
    expect(play.page.get_by_role("button", name="Walk on")).to_be_visible()


def test_the_page_works_by_keyboard_and_screen_reader(play: Playground) -> None:
    keys = play.page.keyboard
    keys.press("Tab")
    expect(play.page.get_by_text("Skip to what is likely next")).to_be_focused()
    keys.press("Enter")
    expect(play.page.locator("#next")).to_be_focused()
    keys.press("Tab")
    expect(play.page.get_by_text("Filters and rules")).to_be_focused()
    keys.press("Tab")
    with play.answered():
        keys.press("Enter")
    expect(play.page.locator("#likely button").first).to_be_focused()
    with play.answered():
        keys.press("Enter")

    assert len(play.clicked) == 2
    names = play.texts("#likely .name")[:3]
    expect(play.page.locator("#said")).to_have_text(f"Likely next: {', '.join(names)}.")
    for _ in range(40):  # back to the last click's button, and out with it
        keys.press("Shift+Tab")
        if play.page.evaluate("document.activeElement.matches('.leave')"):
            break
    with play.answered():
        keys.press("Space")
    assert play.pills[-1] == "what if: without 1"
