"""Write the generated parts of the documents: tables, traces, and the page of the HTTP API.

    make docs

Trains the small shop of the tests and requests the answers to all examples from a real service.
"""

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path

import httpx
from rich.console import Console

from data.click_options import ClickOptions
from data.synthetic import write_shop
from service.app import create_app
from service.middleware.auth import hash_of, new_key
from service.serve import read_settings
from service.server.embedded_redis import private_redis
from tests.support.bundles.trained_shop import SMALL
from tests.support.documents.api_page import (
    ADMIN_KEY,
    CATALOGUE_KEY,
    Answers,
    Document,
    Example,
    examples,
    render,
)
from tests.support.documents.file_trace import traced, with_traces
from tests.support.documents.made_tables import MADE, as_made
from tests.support.documents.markdown import ROOT
from tests.support.service.app_client import client_of
from training.pipeline import TrainOptions, train

PAGE = ROOT / "docs" / "http-api.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"


async def answers_to(
    client: httpx.AsyncClient, document: Document, keys: Mapping[str, str]
) -> tuple[dict[str, object], dict[str, int]]:
    """Return JSON bodies and statuses by the title of the example."""
    bodies, statuses = {}, {}
    for example in examples(document):
        answer = await ask(client, example, keys)
        statuses[example.title] = answer.status_code
        if "json" in answer.headers.get("content-type", ""):
            bodies[example.title] = answer.json()
    return bodies, statuses


async def ask(
    client: httpx.AsyncClient, example: Example, keys: Mapping[str, str]
) -> httpx.Response:
    headers = {"Authorization": f"Bearer {keys[example.key]}"} if example.key else {}
    return await client.request(example.method, example.path, json=example.body, headers=headers)


async def page_of(bundle: Path, redis: str) -> str:
    keys, hashes = page_keys()
    app = create_app(read_settings({"bundle": bundle, "redis": redis, **hashes}))
    async with client_of(app) as client:
        document = app.openapi()
        bodies, _ = await answers_to(client, document, keys)
        return render(document, shortened(bodies))


def page_keys() -> tuple[dict[str, str], dict[str, str]]:
    """Return the keys of the examples by their variables, and the settings with their hashes."""
    admin, catalogue = new_key(), new_key()
    hashes = {"admin_key_hashes": hash_of(admin), "catalogue_key_hashes": hash_of(catalogue)}
    return {ADMIN_KEY: admin, CATALOGUE_KEY: catalogue}, hashes


def shortened(bodies: Answers) -> dict[str, object]:
    """Empty the metrics of the manifest, which would fill a page."""
    shorter = dict(bodies)
    for title, body in bodies.items():
        if isinstance(body, dict) and "metrics" in body:
            shorter[title] = body | {"metrics": {}, "training": {}}
    return shorter


def main() -> None:
    for page in MADE:
        (ROOT / page).write_text(as_made(page), encoding="utf-8")
    ARCHITECTURE.write_text(
        with_traces(ARCHITECTURE.read_text(encoding="utf-8"), traced()), encoding="utf-8"
    )
    with tempfile.TemporaryDirectory() as temporary, private_redis() as redis:
        folder = Path(temporary)
        write_shop(folder, makers=1, sessions=4000)
        options = TrainOptions(
            ClickOptions(folder / "clicks.csv"), folder / "bundle", SMALL, folder / "items.csv"
        )
        train(options, Console(quiet=True))
        PAGE.write_text(asyncio.run(page_of(folder / "bundle", redis)), encoding="utf-8")


if __name__ == "__main__":
    main()
