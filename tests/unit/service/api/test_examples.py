"""The examples of the documentation work, and its page needs no other server."""

from typing import Any

import httpx


async def test_the_examples_of_the_documentation_work(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    tried = 0
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            named = {p["name"]: p["example"] for p in call.get("parameters", ()) if "example" in p}
            url = path.replace("{item_id}", str(named.get("item_id")))
            url = url.replace("{user_id}", str(named.get("user_id")))
            bodies: list[Any] = [None]
            if "requestBody" in call:
                examples = call["requestBody"]["content"]["application/json"]["examples"]
                bodies = [example["value"] for example in examples.values()]
            for body in bodies:
                answer = await client.request(method, url, json=body)
                assert answer.status_code in (200, 204), (method, url, body, answer.text)
                tried += 1
    assert tried >= 12


async def test_the_documentation_page_calls_no_other_host(client: httpx.AsyncClient) -> None:
    page = (await client.get("/docs")).text

    assert "swagger-ui" in page
    assert "https://" not in page
    assert (await client.get("/static-offline-docs/swagger-ui-bundle.js")).status_code == 200
    assert (await client.get("/")).headers["location"] == "docs"
