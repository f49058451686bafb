"""Every answer has a request id and rules for browsers and caches."""

import base64
import hashlib
import re

import httpx
import pytest

from service.middleware.headers import request_id_of
from service.playground.pages import page
from tests.support.service.app_client import ClientOf

TENT = "aurora-tent"
ANSWERS = [
    ("POST", "/v1/recommendations", 200),
    ("GET", "/v1/model", 200),
    ("GET", "/v1/items/nothing/similar", 404),
    ("GET", "/v1/users/ada/recommendations?k=0", 422),
    ("PUT", "/v1/recommendations", 405),
    ("GET", "/nothing", 404),
    ("GET", "/metrics", 200),
    ("GET", "/docs", 200),
    ("GET", "/", 307),
    ("DELETE", "/v1/users/ada", 204),
]


@pytest.mark.parametrize(("method", "path", "status"), ANSWERS, ids=[p for _, p, _ in ANSWERS])
async def test_every_answer_has_a_request_id_and_forbids_sniffing_and_caching(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    body = {"items": [TENT]} if method == "POST" else None
    answer = await client.request(method, path, json=body, headers={"X-Request-ID": "mine-1"})

    assert answer.status_code == status
    assert answer.headers.get_list("x-request-id") == ["mine-1"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    if status >= 400:
        assert answer.json()["request_id"] == "mine-1"


async def test_a_request_without_an_id_gets_a_new_one(client: httpx.AsyncClient) -> None:
    named = [(await client.get("/v1/nothing")) for _ in range(50)]

    ids = {answer.headers["x-request-id"] for answer in named}
    assert len(ids) == 50
    assert {answer.json()["request_id"] for answer in named} == ids


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        (b"4bf92f3577b34da6a3ce929d0e0e4736", True),
        (b"Root=1-67891233-abcdef012345678912345678", True),
        (b"a" * 128, True),
        (b"a" * 129, False),
        (b"", False),
        (b"two words", False),
        (b'"quoted"', False),
        (b"<script>", False),
        (b"a\r\nb", False),
        ("ü".encode(), False),
    ],
)
def test_a_request_id_is_accepted_if_it_is_safe(sent: bytes, taken: bool) -> None:
    name = request_id_of({"headers": [(b"host", b"a"), (b"x-request-id", sent)]})

    assert (name.encode() == sent) is taken
    assert name


async def test_browsers_may_cache_files_of_pages_and_revalidate_them(open_client: ClientOf) -> None:
    async with open_client(playground=True) as client:
        for path in ("/static-offline-docs/swagger-ui.css", "/playground/app.js"):
            answer = await client.get(path)
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-cache"
            same = await client.get(path, headers={"If-None-Match": answer.headers["etag"]})
            assert (same.status_code, same.content) == (304, b"")


async def test_the_documentation_page_runs_only_its_own_scripts(client: httpx.AsyncClient) -> None:
    answer = await client.get("/docs")
    policy = dict(r.split(" ", 1) for r in answer.headers["content-security-policy"].split("; "))

    (script,) = re.findall("<script>(.*?)</script>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy["script-src"] == f"'self' 'sha256-{digest}'"
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["referrer-policy"] == "no-referrer"
    for file in re.findall(r'(?:src|href)="([^"]*)"', answer.text):
        assert (await client.get(f"/{file}")).status_code == 200, file


def test_each_script_of_a_page_is_allowed_by_its_digest() -> None:
    policy = page("<script>a</script><p><script>b</script>").headers["content-security-policy"]

    assert policy.count("'sha256-") == 2


async def test_only_pages_of_named_origins_may_call(open_client: ClientOf) -> None:
    shop, other = {"Origin": "https://shop.example"}, {"Origin": "https://other.example"}
    asking = {"Access-Control-Request-Method": "POST"}
    path, body = "/v1/recommendations", {"items": [TENT]}
    async with open_client() as client:
        closed = await client.post(path, json=body, headers=shop)
        assert (await client.options(path, headers=shop | asking)).status_code == 405
    async with open_client(cors_origins=["https://shop.example"]) as client:
        ours = await client.post(path, json=body, headers=shop)
        theirs = await client.post(path, json=body, headers=other)
        preflight = await client.options(path, headers=shop | asking)
        strange = await client.options(path, headers=other | asking)
        asking = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "X-A"}
        wrong = await client.options(path, headers=shop | asking)

    allowed = "access-control-allow-origin"
    assert allowed not in closed.headers
    assert allowed not in theirs.headers
    assert ours.headers[allowed] == preflight.headers[allowed] == "https://shop.example"
    assert "X-Request-ID" in ours.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in preflight.headers
    assert (preflight.status_code, strange.status_code) == (200, 400)
    assert "x-request-id" in preflight.headers
    for refused, what in ((strange, "origin"), (wrong, "method, headers")):
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["request_id"] == refused.headers["x-request-id"]
        assert f"Disallowed CORS {what}. " in refused.json()["detail"]
        assert "GET, POST, DELETE" in refused.json()["detail"]
        assert (allowed in refused.headers) is (refused is wrong)
