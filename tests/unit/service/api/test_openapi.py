"""The OpenAPI document describes all refusals and keys of the service correctly."""

from typing import Any

import httpx
import pytest

from service.app import create_app
from service.settings import Settings
from tests.soak import fuzz_api
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.service.app_client import PATIENT, ClientOf
from tests.support.service.servers import listening

PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
ASK, USER = "/v1/recommendations", "/v1/users/{user_id}"


async def document(client: httpx.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get("/openapi.json")).json()
    return found


def refusals(found: dict[str, Any], path: str, method: str) -> set[str]:
    """Return the status codes of the problems that are documented for a call."""
    responses = found["paths"][path][method]["responses"]
    for status, response in responses.items():
        if status >= "400":
            reference = response["$ref"].rsplit("/", 1)[-1]
            assert found["components"]["responses"][reference]["content"] == PROBLEM
    return {status for status in responses if status >= "400"}


async def test_the_document_names_all_problems_of_each_call(client: httpx.AsyncClient) -> None:
    found = await document(client)

    assert refusals(found, ASK, "post") == {"400", "413", "415", "421", "422", "429", "503"}
    assert refusals(found, USER, "get") == {"421", "422", "429", "503"}
    similar = {"404", "421", "422", "429", "503"}
    assert refusals(found, "/v1/items/{item_id}/similar", "get") == similar
    assert refusals(found, "/v1/items:similar", "post") == {*similar, "400", "413", "415"}
    assert refusals(found, "/v1/items", "get") == {"421", "422", "429", "503"}
    assert refusals(found, "/v1/items:lookup", "post") == {"400", "413", "415", "421", "422", "429"}
    assert refusals(found, "/v1/attributes", "get") == {"421", "422", "429", "503"}
    assert refusals(found, "/health/live", "get") == set()
    assert "HTTPValidationError" not in found["components"]["schemas"]
    assert "request_id" in found["components"]["schemas"]["Problem"]["properties"]
    assert "securitySchemes" not in found["components"]


async def test_the_document_names_the_calls_that_need_a_key(open_client: ClientOf) -> None:
    async with open_client(
        **{"api_key_hashes": [fuzz_api.KEYED["RECSYS_API_KEY_HASHES"]]}
    ) as client:
        found = await document(client)

    assert found["components"]["securitySchemes"] == {"key": {"type": "http", "scheme": "bearer"}}
    assert found["paths"][ASK]["post"]["security"] == [{"key": []}]
    assert found["paths"]["/metrics"]["get"]["security"] == [{"key": []}]
    assert {"401", "403"} <= refusals(found, ASK, "post")
    assert "security" not in found["paths"]["/health/ready"]["get"]


async def test_a_filter_may_name_only_attributes_of_the_catalogue(
    client: httpx.AsyncClient,
) -> None:
    asked = (await document(client))["components"]["schemas"]["RecommendationRequest"]

    assert asked["properties"]["filter"]["propertyNames"] == {"enum": ["brand", "category", "name"]}
    parameters = (await document(client))["paths"]["/v1/items"]["get"]["parameters"]
    (words,) = [p["schema"]["items"] for p in parameters if p["name"] == "filter"]
    assert words["pattern"] == "^(brand|category|name):"


async def test_a_405_names_the_methods_of_the_path(client: httpx.AsyncClient) -> None:
    allowed = {
        "/v1/users/ada": "DELETE, GET",
        "/v1/users/ada/clicks": "POST",
        "/v1/recommendations": "POST",
        "/health/live": "GET",
    }
    for path, methods in allowed.items():
        answer = await client.request("PATCH", path)
        assert (answer.status_code, answer.headers["allow"]) == (405, methods), path


@pytest.mark.parametrize(
    "path",
    [
        "/v1/users/ada%2Frecommendations",
        "/v1/users/ada%2frecommendations",
        "/v1/users%2Fada",
        "/v1/users/%2Fada/clicks",
        "/v1/users/a%2Fb%2Frecommendations",
        "/v1/users/a%2Fb/recommendations",
    ],
)
async def test_an_encoded_slash_in_a_user_id_is_refused(
    client: httpx.AsyncClient, path: str
) -> None:
    for method in ("GET", "POST", "DELETE"):
        answer = await client.request(method, path, json={"clicks": [{"item_id": "a"}]})
        assert 400 <= answer.status_code < 500, (method, answer.text)
    named = await client.get("/v1/users/ada%2Frecommendations")
    assert named.json()["errors"] == [
        {"field": "user_id", "message": "must not contain '/', not even as %2F"}
    ]


async def test_other_user_ids_are_returned_unchanged(client: httpx.AsyncClient) -> None:
    for user in ("ada%2Fclicks", "ä ö?#&=+;", "a\\b", "..a", "\x00\n", "%", "\U0001f9a6"):
        path = f"/v1/users/{httpx.QueryParams({'u': user})['u']}"
        url = "/v1/users/" + "".join(f"%{byte:02X}" for byte in user.encode())
        answer = await client.get(url)
        assert answer.status_code == 200, path
        assert answer.json()["user_id"] == user


async def test_item_ids_may_have_slashes(client: httpx.AsyncClient) -> None:
    for path in ("/v1/items/a/b/similar", "/v1/items/a%2Fb/similar"):
        assert "'a/b' is not in the catalogue" in (await client.get(path)).json()["detail"]


async def test_an_unknown_attribute_in_a_batch_names_its_request(client: httpx.AsyncClient) -> None:
    requests = [{"user_id": "ada"}, {"user_id": "ada", "filter": {"colour": ["red"]}}]

    answer = await client.post("/v1/recommendations:batch", json={"requests": requests})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "requests.1.filter"


async def test_a_float_without_a_fraction_is_an_integer(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        ASK, content=b'{"user_id": "ada", "k": 3.0}', headers={"content-type": "application/json"}
    )

    assert len(answer.json()["items"]) == 3


@pytest.mark.long
def test_generated_requests_find_no_contradiction_to_the_document(
    trained: TrainedShop, redis_url: str
) -> None:
    """This sends a few requests; `make fuzz` sends thousands."""
    given = {
        **PATIENT,
        "playground": True,
        "api_key_hashes": [fuzz_api.KEYED["RECSYS_API_KEY_HASHES"]],
    }
    settings = Settings(bundle=trained.bundle, redis=redis_url, **given)  # type: ignore[arg-type]
    with listening(create_app(settings), settings) as (host, port):
        clean, cases, report = fuzz_api.fuzz(f"http://{host}:{port}", "--phases", "coverage")

    assert clean, report
    assert cases > 100
