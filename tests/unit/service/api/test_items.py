"""Items can be searched by words, looked up by ids and filtered by values over HTTP."""

import asyncio
import threading
from contextlib import closing
from typing import Any

import httpx
import pytest

from recsys.errors import Overloaded
from recsys.predictor import Predictor
from service.api.dependencies import SearchThread
from tests.support.service.app_client import ClientOf

TENT = "aurora-tent"
KNOWN = {"name": "Aurora Tent", "category": "Camping", "brand": "Aurora"}


async def get(client: httpx.AsyncClient, path: str, **query: Any) -> dict[str, Any]:
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ids(found: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in found["items"]]


async def test_an_item_is_found_by_words_and_described(
    client: httpx.AsyncClient, predictor: Predictor
) -> None:
    found = await get(client, "/v1/items", q="camping TENT")

    clicks = int(predictor.catalogue.counts[predictor.catalogue.index(TENT)])
    assert found == {
        "model_id": predictor.model_id,
        "total": 1,
        "items": [{"item_id": TENT, "clicks": clicks, "attributes": KNOWN}],
    }


async def test_browsing_gives_pages_of_all_items_the_most_clicked_first(
    client: httpx.AsyncClient,
) -> None:
    pages = [await get(client, "/v1/items", limit=80, offset=at) for at in (0, 80, 160, 240)]

    items = [item for page in pages for item in page["items"]]
    assert [len(page["items"]) for page in pages] == [80, 80, 40, 0]
    assert {page["total"] for page in pages} == {200}
    assert len({item["item_id"] for item in items}) == 200
    clicks = [item["clicks"] for item in items]
    assert clicks == sorted(clicks, reverse=True)


async def test_a_filter_is_written_as_attribute_and_value(client: httpx.AsyncClient) -> None:
    wanted = ["category:Tea", "category:Coffee"]

    either = await get(client, "/v1/items", filter=wanted)
    both = await get(client, "/v1/items", filter=[*wanted, "name:Aurora Kettle"])

    assert either["total"] == 20
    assert ids(both) == ["aurora-kettle"]
    assert (await get(client, "/v1/items", filter="category:tea"))["total"] == 0


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("filter=colour:red", "filter"),
        ("filter=category", "filter"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("offset=-1", "offset"),
        (f"q={'a' * 129}", "q"),
        ("q=%FF", "q"),
    ],
)
async def test_an_invalid_search_is_422_and_names_the_parameter(
    client: httpx.AsyncClient, query: str, field: str
) -> None:
    answer = await client.get(f"/v1/items?{query}")

    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_a_look_up_describes_each_item_once_and_names_unknown_ones(
    client: httpx.AsyncClient,
) -> None:
    asked = {"item_ids": ["aurora-kettle", "mate", TENT, TENT, "mate"]}

    answer = await client.post("/v1/items:lookup", json=asked)

    found = answer.json()
    assert ids(found) == ["aurora-kettle", TENT]
    assert found["items"][1]["attributes"] == KNOWN
    assert found["unknown_items"] == ["mate"]
    for wrong in ([], ["a"] * 101, [""], [7]):
        assert (await client.post("/v1/items:lookup", json={"item_ids": wrong})).status_code == 422


async def test_attributes_have_values_with_counts_of_items(client: httpx.AsyncClient) -> None:
    found = (await get(client, "/v1/attributes"))["attributes"]

    by_name = {attribute["name"]: attribute for attribute in found}
    assert by_name["brand"] == {
        "name": "brand",
        "distinct": 1,
        "values": [{"value": "Aurora", "items": 200}],
    }
    assert {"value": "Camping", "items": 10} in by_name["category"]["values"]
    assert (by_name["name"]["distinct"], len(by_name["name"]["values"])) == (200, 100)


async def test_a_catalogue_of_ids_alone_is_searched_and_has_no_attributes(
    open_client: ClientOf, other_bundle: object
) -> None:
    async with open_client(bundle=other_bundle) as client:
        assert (await get(client, "/v1/attributes"))["attributes"] == []
        (tent,) = (await get(client, "/v1/items", q=TENT))["items"]
        assert tent["attributes"] == {}
        assert (await client.get("/v1/items?filter=a:b")).status_code == 422
        document = await get(client, "/openapi.json")
    parameters = document["paths"]["/v1/items"]["get"]["parameters"]
    assert [p["schema"]["maxItems"] for p in parameters if p["name"] == "filter"] == [0]


async def test_a_search_blocks_no_other_call_and_few_searches_may_wait() -> None:
    may_end = threading.Event()
    with closing(SearchThread(max_jobs=2)) as thread:
        jobs = [asyncio.ensure_future(thread.run(may_end.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="2 searches are in line"):
            await thread.run(may_end.wait)
        jobs[1].cancel()  # a cancelled job does not count any more
        may_end.set()
        assert await jobs[0]
        assert await thread.run(lambda: "done") == "done"
