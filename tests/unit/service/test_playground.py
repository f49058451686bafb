"""The playground is off by default, loads only files of the service and shows hidden states."""

import re
from pathlib import Path

import httpx
import pytest
import torch

from recsys.predictor import Predictor, SessionState
from service.middleware.auth import hash_of, new_key
from service.playground.pages import PLAYGROUND
from service.settings import Settings
from tests.support.documents.html_page import Page
from tests.support.service.app_client import ClientOf

TENT, BAG = "aurora-tent", "aurora-sleeping-bag"
SCRIPTS = sorted(PLAYGROUND.glob("assets/*.js"))
FILES = sorted(path for path in PLAYGROUND.rglob("*") if path.suffix in (".js", ".css", ".html"))
LONGEST_SCRIPT = 200


async def test_the_playground_is_off_by_default(client: httpx.AsyncClient) -> None:
    assert Settings.model_fields["playground"].default is False
    assert (await client.get("/")).headers["location"] == "docs"
    assert (await client.get("/playground/app.js")).status_code == 404
    assert (await client.post("/v1/playground/state", json={"items": [TENT]})).status_code == 404
    assert "/v1/playground/state" not in (await client.get("/openapi.json")).text


async def test_all_files_that_the_page_names_exist(open_client: ClientOf) -> None:
    async with open_client(playground=True) as client:
        page = await client.get("/")
        named = {
            found
            for element in Page(page.text).elements
            for found in (element.attributes.get("src"), element.attributes.get("href"))
            if found and not found.startswith("#")
        }
        for path in SCRIPTS:
            imported = re.findall(r'from "\./(.*?)"', path.read_text())
            named |= {f"playground/{name}" for name in imported}
        assert f"playground/{SCRIPTS[-1].name}" in named
        for name in named:
            answer = await client.get(f"/{name}")
            assert answer.status_code == 200, name
            assert "cookie" not in "".join(answer.headers)


async def test_the_page_may_run_and_load_only_files_of_the_service(open_client: ClientOf) -> None:
    async with open_client(playground=True) as client:
        headers = (await client.get("/")).headers
    policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))

    assert policy.pop("default-src") == policy.pop("base-uri") == "'none'"
    assert policy.pop("frame-ancestors") == policy.pop("form-action") == "'none'"
    assert policy.pop("require-trusted-types-for") == "'script'"  # no text becomes markup
    assert policy.pop("img-src") == "'self' data:"
    assert set(policy.values()) == {"'self'"}
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_makes_markup_from_text_or_stores_data_or_names_another_host(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    found = re.findall(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function"
        r"|localStorage|sessionStorage|indexedDB|document\.cookie|serviceWorker"
        r"|https?://(?!www\.w3\.org/)|//cdn|@import| style=| on\w+=",
        text,
    )
    assert not found
    assert text.count("\n") < (600 if path.suffix == ".css" else LONGEST_SCRIPT)
    if path.suffix == ".js":
        assert text.startswith("// "), "a file opens by saying what it is"


async def test_a_state_equals_the_replay_of_the_clicks(
    open_client: ClientOf, predictor: Predictor
) -> None:
    async with open_client(playground=True) as client:
        answer = await client.post("/v1/playground/state", json={"items": [TENT, "mate", BAG]})
        blank = (await client.post("/v1/playground/state", json={"items": []})).json()
        assert (await client.post("/v1/playground/state", json={})).status_code == 422

    clicks = [predictor.catalogue.index(item_id) for item_id in (TENT, BAG)]
    expected = predictor.advance([SessionState(clicks)])[:, 0]
    found = answer.json()
    torch.testing.assert_close(torch.tensor(found["layers"]), expected)
    assert (found["model_id"], found["unknown_items"]) == (predictor.model_id, ["mate"])
    assert blank["layers"] == [[0.0] * predictor.state_width]


async def test_with_keys_the_page_is_open_but_its_calls_are_not(open_client: ClientOf) -> None:
    key = new_key()
    async with open_client(playground=True, api_key_hashes=[hash_of(key)]) as client:
        for path in ("/", "/playground/app.js", "/playground/inter.woff2"):
            assert (await client.get(path)).status_code == 200, path
        for path in ("/v1/items", "/v1/attributes", "/v1/model"):
            assert (await client.get(path)).status_code == 401, path
        body, keyed = {"items": [TENT]}, {"Authorization": f"Bearer {key}"}
        refused = await client.post("/v1/playground/state", json=body)
        allowed = await client.post("/v1/playground/state", json=body, headers=keyed)

    assert (refused.status_code, allowed.status_code) == (401, 200)
