"""A request can filter by numbers, boost, limit, pin and describe the items of its list."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from recsys.catalogue.catalogue import Catalogue
from tests.support.bundles.model_kinds import random_weights, recipe_of
from tests.support.service.app_client import ClientOf
from training.export import Export, write_bundle

ASK, SIMILAR = "/v1/recommendations", "/v1/items:similar"
IDS = [f"item-{number}" for number in range(10)]
BRANDS = ["Ada", "Bob"] * 5
PRICES = ["5", "10", "15", "20", "25", "30", "35", "40", None, "1e2"]  # "1e2" is 100


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle whose items have a brand and, but for one, a price."""
    catalogue = Catalogue(IDS, np.arange(10, 0, -1), {"brand": BRANDS, "price": PRICES})
    recipe = recipe_of("gru shared")
    weights = random_weights(recipe, len(IDS))
    folder = tmp_path_factory.mktemp("priced") / "bundle"
    write_bundle(folder, Export(weights, catalogue, recipe, {}, {}, [IDS[:3], [IDS[4]]]))
    return folder


@pytest.fixture
async def priced(open_client: ClientOf, bundle: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(bundle=bundle) as client:
        yield client


async def ask(client: httpx.AsyncClient, path: str = ASK, **body: Any) -> dict[str, Any]:
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ids(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def scores(answer: dict[str, Any]) -> dict[str, float]:
    return {item["item_id"]: item["score"] for item in answer["items"]}


async def test_a_range_allows_items_whose_number_is_within(priced: httpx.AsyncClient) -> None:
    popular = {"user_id": "nobody"}

    below = await ask(priced, **popular, filter={"price": {"lt": 15}})
    between = await ask(priced, **popular, filter={"price": {"gte": 15, "lte": 25.0}})
    both = await ask(priced, **popular, filter={"price": {"gt": 30}, "brand": ["Bob"]})

    assert ids(below) == IDS[:2]
    assert ids(between) == IDS[2:5]
    assert ids(both) == [IDS[7], IDS[9]]  # the item without a price is in no range


async def test_boosts_are_added_to_the_scores(priced: httpx.AsyncClient) -> None:
    plain = scores(await ask(priced, items=[IDS[0]]))

    boosted = await ask(
        priced, items=[IDS[0]], boost={"brand": {"Ada": 0.5, "Cy": 9}, "price": {"5": -2}}
    )

    added = {i: (0.5 if b == "Ada" else 0) for i, b in zip(IDS, BRANDS, strict=True)}
    added[IDS[0]] -= 2
    expected = {item_id: score + added[item_id] for item_id, score in plain.items()}
    assert scores(boosted) == pytest.approx(expected, abs=1e-6)
    assert ids(boosted) == sorted(expected, key=lambda item_id: -expected[item_id])


async def test_at_most_so_many_items_have_one_value(priced: httpx.AsyncClient) -> None:
    answer = await ask(priced, user_id="nobody", max_per={"brand": 2})

    assert ids(answer) == IDS[:4]


async def test_pinned_items_come_first_and_count(priced: httpx.AsyncClient) -> None:
    pin = [IDS[9], "new", IDS[7], IDS[9], IDS[5]]

    answer = await ask(
        priced, user_id="nobody", pin=pin, exclude_items=[IDS[5]], max_per={"brand": 2}, k=4
    )

    assert ids(answer) == [IDS[9], IDS[7], IDS[0], IDS[2]]
    assert answer["unknown_items"] == ["new"]


async def test_more_pinned_items_than_k_are_cut(priced: httpx.AsyncClient) -> None:
    assert ids(await ask(priced, items=[IDS[0]], pin=IDS[::-1], k=3)) == IDS[:6:-1]


async def test_fields_are_the_attributes_that_an_item_has(priced: httpx.AsyncClient) -> None:
    answer = await ask(priced, user_id="nobody", pin=[IDS[8]], k=2, fields=["price", "brand"])

    described = [item["attributes"] for item in answer["items"]]
    assert described == [{"brand": "Ada"}, {"price": "5", "brand": "Ada"}]


async def test_an_empty_list_is_filled_only_on_demand(priced: httpx.AsyncClient) -> None:
    nothing: dict[str, Any] = {
        "items": [IDS[0]],
        "filter": {"price": {"gt": 1000}},
        "exclude_items": [IDS[0]],
    }

    empty = await ask(priced, **nothing)
    filled = await ask(priced, **nothing, backfill=True, max_per={"brand": 1})
    of_items = await ask(
        priced, SIMILAR, item_id=IDS[0], filter={"price": {"gt": 1000}}, backfill=True, k=2
    )

    assert (empty["source"], empty["items"]) == ("model", [])
    assert (filled["source"], ids(filled)) == ("popular", IDS[1:3])
    assert (of_items["source"], ids(of_items)) == ("popular", IDS[1:3])


async def test_a_filter_that_leaves_one_item_is_not_filled(priced: httpx.AsyncClient) -> None:
    wanted = {"price": {"gt": 40}}

    answer = await ask(priced, items=[IDS[0]], filter=wanted, backfill=True)

    assert (answer["source"], ids(answer)) == ("model", [IDS[9]])


async def test_similar_items_follow_the_rules(priced: httpx.AsyncClient) -> None:
    plain = (await priced.get(f"/v1/items/{IDS[0]}/similar")).json()
    listed = (await priced.get(f"/v1/items/{IDS[0]}/similar?filter=brand:Bob")).json()

    ruled = await ask(
        priced, SIMILAR, item_id=IDS[0], filter={"brand": ["Bob"]}, pin=[IDS[9], "new"], fields=[]
    )

    assert list(plain) == ["model_id", "item_id", "items"]
    assert list(plain["items"][0]) == ["item_id", "score"]
    bobs = [item for item in plain["items"] if item["item_id"] in IDS[1::2]]
    assert listed == {**plain, "items": bobs}
    assert ids(ruled) == [IDS[9], *(i for i in ids(listed) if i != IDS[9])]
    assert (ruled["source"], ruled["unknown_items"]) == ("model", ["new"])
    assert (await priced.post(SIMILAR, json={"item_id": "new"})).status_code == 404


async def test_rules_hold_for_users_with_stored_clicks_and_in_batches(
    priced: httpx.AsyncClient,
) -> None:
    rules: dict[str, Any] = {
        "max_per": {"brand": 1},
        "boost": {"brand": {"Bob": 1e6}},
        "fields": ["brand"],
    }
    clicked = await ask(priced, user_id="ada", item_id=IDS[0], **rules)

    again = {"user_id": "ada", **rules}
    batch = await ask(priced, f"{ASK}:batch", requests=[again, {"user_id": "ada"}])

    assert clicked["stored"]
    assert [item["attributes"]["brand"] for item in clicked["items"]] == ["Bob", "Ada"]
    assert ids(batch["responses"][0]) == ids(clicked)
    assert len(batch["responses"][1]["items"]) == len(IDS)


async def test_a_request_whose_rules_are_empty_is_answered_as_one_without(
    priced: httpx.AsyncClient,
) -> None:
    none = {"filter": {}, "backfill": True, "boost": {}, "max_per": {}, "pin": [], "fields": []}
    for session in ({"items": [IDS[0]]}, {"user_id": "nobody"}):
        plain = await priced.post(ASK, json=session)

        ruled = await priced.post(ASK, json={**session, **none})

        assert ruled.content == plain.content
        assert list(plain.json()["items"][0]) == ["item_id", "score"]


BAD_RULES: list[tuple[dict[str, Any], str, str]] = [
    ({"filter": {"prise": {"lt": 5}}}, "filter", "Did you mean 'price'?"),
    ({"filter": {"brand": {"lt": 5}}}, "filter.brand", "'brand' is text"),
    ({"filter": {"price": {}}}, "filter.price", "at least one of lt, lte, gt, gte"),
    ({"filter": {"price": {"lt": None}}}, "filter.price", "at least one"),
    ({"filter": {"price": {"lt": "5"}}}, "filter.price.lt", "valid number"),
    ({"filter": {"price": {"lt": True}}}, "filter.price.lt", "valid number"),
    ({"filter": {"price": {"below": 5}}}, "filter.price.below", "not permitted"),
    ({"filter": {"price": 5}}, "filter.price", "valid list"),
    ({"filter": {"price": [5]}}, "filter.price.0", "valid string"),
    ({"boost": {"brands": {"Ada": 1}}}, "boost", "Did you mean 'brand'?"),
    ({"boost": {"brand": {"Ada": 1e7}}}, "boost.brand.Ada", "less than or equal to 1000000"),
    ({"boost": {"brand": {"Ada": "1"}}}, "boost.brand.Ada", "valid number"),
    ({"boost": {"brand": 1}}, "boost.brand", "valid dictionary"),
    ({"boost": {"brand": {f"b{n}": 1 for n in range(21)}}}, "boost.brand", "at most 20"),
    ({"max_per": {"bran": 1}}, "max_per", "Did you mean 'brand'?"),
    ({"max_per": {"brand": 0}}, "max_per.brand", "greater than or equal to 1"),
    ({"max_per": {"brand": 1.5}}, "max_per.brand", "valid integer"),
    ({"max_per": {f"a{n}": 1 for n in range(21)}}, "max_per", "at most 20"),
    ({"pin": IDS[0]}, "pin", "valid list"),
    ({"pin": [""]}, "pin.0", "at least 1 character"),
    ({"pin": IDS * 11}, "pin", "at most 100"),
    ({"fields": ["image"]}, "fields", "They have: brand, price."),
    ({"fields": "brand"}, "fields", "valid list"),
    ({"backfill": "yes"}, "backfill", "valid boolean"),
]


@pytest.mark.parametrize(("rules", "field", "message"), BAD_RULES)
async def test_a_wrong_rule_is_422_and_names_the_field(
    priced: httpx.AsyncClient, rules: dict[str, Any], field: str, message: str
) -> None:
    for path, body, prefix in (
        (ASK, {"user_id": "ada", **rules}, ""),
        (SIMILAR, {"item_id": IDS[0], **rules}, ""),
        (
            f"{ASK}:batch",
            {"requests": [{"user_id": "ada"}, {"user_id": "a", **rules}]},
            "requests.1.",
        ),
    ):
        answer = await priced.post(path, json=body)

        assert answer.status_code == 422, (path, answer.text)
        (error,) = answer.json()["errors"]
        assert error["field"] == prefix + field
        assert message in error["message"]


@pytest.mark.parametrize("number", ["1e999", "NaN", "-Infinity"])
@pytest.mark.parametrize(
    "rule", ['{"boost": {"brand": {"Ada": %s}}}', '{"filter": {"price": {"lt": %s}}}']
)
async def test_a_number_that_is_not_finite_is_refused(
    priced: httpx.AsyncClient, rule: str, number: str
) -> None:
    body = '{"user_id": "ada", ' + (rule % number)[1:]

    answer = await priced.post(ASK, content=body, headers={"content-type": "application/json"})

    assert answer.status_code in (400, 422)


async def test_the_document_allows_a_range_of_numbers_alone(priced: httpx.AsyncClient) -> None:
    schemas = (await priced.get("/openapi.json")).json()["components"]["schemas"]

    for name in ("RecommendationRequest", "SimilarRequest"):
        fields = schemas[name]["properties"]
        assert list(fields["filter"]["properties"]) == ["brand"]
        assert fields["filter"]["properties"]["brand"]["type"] == "array"
        assert fields["fields"]["items"]["enum"] == ["brand", "price"]
        assert fields["boost"]["propertyNames"] == {"enum": ["brand", "price"]}
        assert fields["max_per"]["propertyNames"] == {"enum": ["brand", "price"]}
