"""The type of the next clicks is chosen in the playground, where the model distinguishes types."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, expect

from recsys.catalogue.catalogue import Catalogue
from recsys_client import Client
from tests.browser.browsers import visiting
from tests.browser.playground_page import Playground, playground_on
from tests.support.bundles.model_kinds import ModelKinds

SHOWN = 12
ITEMS = 30
CHOICE = "Type of the next clicks"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = [f"item-{number}" for number in range(ITEMS)]
    kinds = ModelKinds(tmp_path_factory.mktemp("typed"), Catalogue(names, np.arange(ITEMS, 0, -1)))
    return kinds.typed_bundle("gru shared cosine")


@pytest.fixture(scope="module")
def url(bundle: Path, redis_server: str) -> Iterator[str]:
    with playground_on(bundle, redis_server) as opened:
        yield opened


def test_a_chosen_type_belongs_to_the_next_clicks(
    url: str, chromium: Browser, client: Client
) -> None:
    with visiting(chromium, url) as page:
        play, choice = Playground(page), page.get_by_label(CHOICE)
        play.begin()
        expect(choice.locator("option")).to_have_text(["view", "cart", "order"])
        expect(choice).to_have_value("view")
        lists = [play.likely]
        for name in ("cart", "order"):
            choice.select_option(name)
            play.go_on()
            lists.append(play.likely)
        expect(page.locator("#curl")).to_contain_text('"event_type":"order"')
        clicked = play.clicked

    def recommended(*types: str, k: int = SHOWN) -> list[str]:
        answer = client.recommend(items=clicked[: len(types)], event_types=types, k=k)
        return [item.item_id for item in answer.items]

    of_view, of_cart, of_order = lists
    assert of_view == recommended("view")
    assert of_cart == recommended("view", "cart") != recommended("view", "view")
    assert of_order == recommended("view", "cart", "order")
    assert clicked[2] not in recommended("view", "cart", "order", k=ITEMS)  # an order excludes it
    assert clicked[2] in recommended("view", "cart", "view", k=ITEMS)
