"""Keys, hosts and origins decide which calls are answered."""

import hmac
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from recsys.cli.app import app
from recsys.errors import BadInput
from service.middleware import auth as access
from service.middleware.auth import Keys, hash_of, new_key
from service.serve import read_settings
from service.settings import Settings
from tests.support.service.app_client import ClientOf

KEY, NEXT, ADMIN, OTHER = (new_key() for _ in range(4))
KEYED = {"api_key_hashes": [hash_of(KEY), hash_of(NEXT)], "admin_key_hashes": [hash_of(ADMIN)]}
PROBLEM = "application/problem+json"
CALLS = [
    ("POST", "/v1/recommendations"),
    ("POST", "/v1/recommendations:batch"),
    ("POST", "/v1/users/ada/clicks"),
    ("GET", "/v1/users/ada/recommendations"),
    ("GET", "/v1/users/ada"),
    ("DELETE", "/v1/users/ada"),
    ("GET", "/v1/items/aurora-tent/similar"),
    ("GET", "/v1/model"),
    ("GET", "/metrics"),
    ("GET", "/no/such/path"),
    ("GET", "/docs/../v1/model"),
    ("GET", "/docs/"),
]


def bearer(key: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"Authorization": f"{scheme} {key}"}


@pytest.mark.parametrize(("method", "path"), CALLS, ids=[path for _, path in CALLS])
async def test_every_call_needs_a_key_if_one_is_set(
    open_client: ClientOf, method: str, path: str
) -> None:
    async with open_client(**KEYED) as client:
        for headers in ({}, bearer(OTHER), bearer(KEY, "Basic"), bearer("")):
            refused = await client.request(method, path, headers=headers)
            assert refused.status_code == 401
            assert refused.headers["content-type"] == PROBLEM
            assert refused.headers["www-authenticate"].startswith('Bearer realm="session-recsys"')
            assert ("invalid_token" in refused.headers["www-authenticate"]) == (
                headers == bearer(OTHER)
            )
            assert OTHER not in refused.text
        allowed = await client.request(method, path, headers=bearer(KEY))
        assert allowed.status_code not in (401, 403)


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/docs", "/", "/openapi.json"])
async def test_health_and_pages_need_no_key(open_client: ClientOf, path: str) -> None:
    """A browser cannot send a key when it opens a page. The calls of the page need one."""
    async with open_client(**KEYED) as client:
        assert (await client.get(path)).status_code in (200, 307)


async def test_two_keys_are_valid_at_once_and_a_removed_key_is_not(open_client: ClientOf) -> None:
    async with open_client(**KEYED) as client:
        for key in (KEY, NEXT):
            headers = bearer(key, "bearer")  # the scheme's case does not matter
            assert (await client.get("/v1/model", headers=headers)).status_code == 200
    async with open_client(api_key_hashes=[hash_of(NEXT)]) as client:
        assert (await client.get("/v1/model", headers=bearer(KEY))).status_code == 401
        assert (await client.get("/v1/model", headers=bearer(NEXT))).status_code == 200


async def test_admin_calls_need_an_admin_key_which_opens_no_other_call(
    open_client: ClientOf,
) -> None:
    path = "/v1/admin/nothing"
    async with open_client(**KEYED) as client:
        assert (await client.post(path)).status_code == 401
        assert (await client.post(path, headers=bearer(OTHER))).status_code == 401
        refused = await client.post(path, headers=bearer(KEY))
        assert (await client.post(path, headers=bearer(ADMIN))).status_code == 404
        strange = await client.get("/v1/model", headers=bearer(ADMIN))

    assert (refused.status_code, strange.status_code) == (403, 403)
    assert "needs an admin key" in refused.json()["detail"]
    assert "needs an API key" in strange.json()["detail"]
    assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]


async def test_without_an_admin_key_admin_calls_are_off(open_client: ClientOf) -> None:
    async with open_client() as client:
        refused = await client.post("/v1/admin/nothing", headers=bearer(ADMIN))
        assert (await client.get("/v1/model")).status_code == 200  # no key is set: the API is open

    assert refused.status_code == 403
    assert "RECSYS_ADMIN_KEY_HASHES" in refused.json()["detail"]


async def test_a_preflight_needs_no_key_and_pages_can_read_refusals(open_client: ClientOf) -> None:
    shop = {"Origin": "https://shop.example"}
    asking = {**shop, "Access-Control-Request-Method": "POST"}
    async with open_client(**KEYED, cors_origins=["https://shop.example"]) as client:
        preflight = await client.options("/v1/recommendations", headers=asking)
        refused = await client.post("/v1/recommendations", headers=shop)

    assert preflight.status_code == 200
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://shop.example"


async def test_a_page_can_read_that_its_host_is_refused(open_client: ClientOf) -> None:
    shop = "https://shop.example"
    async with open_client(cors_origins=[shop], allowed_hosts=["api.shop.example"]) as client:
        refused = await client.get("/v1/model", headers={"Origin": shop, "Host": "evil.example"})

    assert refused.status_code == 421
    assert refused.headers["access-control-allow-origin"] == shop


def test_every_key_is_compared_with_every_hash_in_constant_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared = []

    def recording(sent: bytes, known: bytes) -> bool:
        compared.append(known)
        return hmac.compare_digest(sent, known)

    monkeypatch.setattr(access, "compare_digest", recording)
    keys = Keys.of([hash_of(KEY), hash_of(NEXT)])

    assert keys.hold(keys.digests[0])
    assert compared == list(keys.digests)


def test_the_key_command_prints_a_new_key_and_its_hash() -> None:
    outputs = [CliRunner().invoke(app, ["key"]).stdout.split("\n")[:2] for _ in range(2)]
    (first, first_hash), (second, _) = ([line.split()[1] for line in lines] for lines in outputs)

    assert first != second
    assert len(first) > 40
    assert first_hash == hash_of(first)
    assert Keys.of([first_hash])


HOSTS: list[tuple[dict[str, Any], set[str]]] = [
    ({}, {"localhost", "127.0.0.1", "[::1]", "10.0.0.7"}),
    ({"host": "Shop-7"}, {"localhost", "127.0.0.1", "[::1]", "10.0.0.7", "shop-7"}),
    ({"allowed_hosts": ["shop.example"]}, {"shop.example"}),
    ({"allowed_hosts": ["*.shop.example", "[::1]"]}, {"a.shop.example", "[::1]"}),
    ({"allowed_hosts": ["[0:0:0:0:0:0:0:1]"]}, {"[::1]"}),
    ({"allowed_hosts": ["*"]}, {"any"}),
    ({"api_key_hashes": [hash_of(KEY)]}, {"any"}),
]
NAMES = {
    "localhost", "127.0.0.1", "[::1]", "10.0.0.7", "shop-7", "shop.example", "a.shop.example",
    "evil.example", "shop.example.evil", "ashop.example", "localhost.evil.example",
    "127.0.0.1.evil", "[::1].evil", "a@localhost", "localhost:80:80", "", "0x7f.1",
    ".shop.example", "a..shop.example", "localhost..", "[127.0.0.1]", "[::1", "::1",
}  # fmt: skip


@pytest.mark.parametrize(("given", "allowed"), HOSTS, ids=[str(list(given)) for given, _ in HOSTS])
async def test_only_hosts_of_the_service_are_answered(
    open_client: ClientOf, given: dict[str, Any], allowed: set[str]
) -> None:
    """A page whose name is rebound to this machine sends this name."""
    async with open_client(**given) as client:
        client.headers.update(bearer(KEY))

        async def status(path: str, host: str) -> int:
            request = client.build_request("GET", path)
            request.headers["host"] = host
            answer = await client.send(request)
            assert (answer.headers["content-type"] == PROBLEM) == (answer.status_code == 421)
            return answer.status_code

        answered = {name for name in NAMES if await status("/v1/model", name) == 200}
        ports = {name for name in NAMES if await status("/openapi.json", f"{name}:8000") == 200}
        assert {await status("/health/live", name) for name in NAMES} == {200}

    assert answered == (NAMES if "any" in allowed else allowed)
    assert ports == answered


@pytest.mark.parametrize(
    "host",
    ["localhost:", "localhost.", "LOCALHOST.:8000", "127.0.0.1.", "localhost ", "[0:0::1]:8000"],
)
async def test_equivalent_forms_of_a_host_are_allowed(open_client: ClientOf, host: str) -> None:
    """Forms with an empty port, the dot of the root or a trailing space are equivalent."""
    async with open_client() as client:
        assert (await client.get("/v1/model", headers={"Host": host})).status_code == 200


def test_allowed_hosts_must_be_hosts_without_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_ALLOWED_HOSTS", "Shop.example, *.shop.example,[::1]")
    assert settings().allowed_hosts == ("shop.example", "*.shop.example", "[::1]")
    for wrong in ("shop.example:8000", "https://shop.example", "a*.example", "::1", "büch.example",
                  "[127.0.0.1]", "*.[::1]", ".shop.example"):  # fmt: skip
        with pytest.raises(BadInput, match=r"RECSYS_ALLOWED_HOSTS: must be hosts without a port"):
            settings(allowed_hosts=wrong)


def settings(**options: Any) -> Settings:
    return read_settings({"bundle": Path("none"), **options})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("api_key_hashes", KEY, id="key"),
        pytest.param("api_key_hashes", f"{hash_of(KEY)};{hash_of(NEXT)}", id="semicolon"),
        pytest.param("admin_key_hashes", hash_of(KEY)[:-1], id="short hash"),
        ("cors_origins", "shop.example"),
        ("cors_origins", "https://shop.example/path"),
        ("rate_limit", "100"),
        ("rate_limit", "0/second"),
        ("log_level", "loud"),
        ("read_seconds", "inf"),
        ("read_seconds", "1e300"),
    ],
)
def test_an_invalid_setting_is_named_and_a_key_in_it_is_not_shown(name: str, value: str) -> None:
    with pytest.raises(BadInput) as refused:
        settings(**{name: value})

    assert f"RECSYS_{name.upper()}: " in str(refused.value)
    assert KEY not in str(refused.value)
    assert hash_of(KEY)[:-1] not in str(refused.value)


def test_a_key_cannot_open_both_api_and_admin_calls() -> None:
    with pytest.raises(BadInput, match="RECSYS_ADMIN_KEY_HASHES: must not hold a key of"):
        settings(api_key_hashes=hash_of(KEY), admin_key_hashes=f"{hash_of(ADMIN)},{hash_of(KEY)}")


def test_hashes_in_the_environment_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_API_KEY_HASHES", f" {hash_of(KEY)}, {hash_of(NEXT)},")

    assert settings().api_key_hashes == (hash_of(KEY), hash_of(NEXT))


async def test_a_key_of_arbitrary_bytes_is_refused(open_client: ClientOf) -> None:
    async with open_client(**KEYED) as client:
        request = client.build_request("GET", "/v1/model")
        request.headers = httpx.Headers([(b"Authorization", b"Bearer \xff\x00\xfe")])
        assert (await client.send(request)).status_code == 401
