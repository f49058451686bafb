"""The generated parts of the documents agree with the code; `make docs` writes them."""

import json
import re

import httpx
import pytest

from service.metrics import ServiceMetrics
from service.settings import Settings
from tests.support.documents.api_page import A_PROBLEM, Example, calls, examples, render
from tests.support.documents.doc_runner import shape
from tests.support.documents.made_tables import (
    MADE,
    as_made,
    collector_metrics_table,
    metrics_table,
)
from tests.support.documents.markdown import ROOT, Page, answers_of
from tests.support.documents.write_docs import ask, page_keys
from tests.support.service.app_client import ClientOf

API = Page(ROOT / "docs" / "http-api.md")
SECRET_FILES = {f"recsys_{name}" for name in Settings.model_fields}
CLIENT = {"recsys_client", "recsys_client_"}  # a module, and the start of a wheel's name


@pytest.mark.parametrize("page", MADE)
def test_the_tables_of_the_documents_agree_with_the_code(page: str) -> None:
    assert (ROOT / page).read_text(encoding="utf-8") == as_made(page), "make docs"


def test_a_trace_begins_at_the_command_and_at_the_http_server() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    training, request = (
        re.findall(r"`(.+)`", listed)
        for listed in re.findall(r"<!-- trace: \w+ -->(.*?)<!-- /trace -->", text, re.DOTALL)
    )

    assert training[0] == "recsys/cli/main.py"
    assert request[0].startswith("service/")
    assert not any(file.startswith(("training/", "data/")) for file in request)


def test_metrics_stand_in_the_table_under_the_names_that_prometheus_reads() -> None:
    metrics = ServiceMetrics()
    metrics.requests.labels("/", "GET", "200").inc()
    sampled = set(re.findall(r"^(recsys_requests\w*)\{", metrics.exposition().decode(), re.M))

    assert sampled >= set(re.findall(r"`(recsys_requests_\w*total)`", metrics_table())) != set()


def test_every_metric_that_a_page_names_exists() -> None:
    tables = metrics_table() + "\n" + collector_metrics_table()
    known = set(re.findall(r"^\| `(\w+)`", tables, re.MULTILINE))
    parts = {f"{name}{part}" for name in known for part in ("", "_bucket", "_count", "_sum")}
    for path in ROOT.glob("docs/*.md"):
        named = set(re.findall(r"\brecsys_[a-z_]+\b(?!…)", path.read_text(encoding="utf-8")))
        assert named <= parts | SECRET_FILES | CLIENT, path


async def test_the_page_of_the_api_is_the_document_that_is_served(open_client: ClientOf) -> None:
    """The answers are taken from the page: the next test checks them."""
    async with open_client(**page_keys()[1]) as client:
        document = (await client.get("/openapi.json")).json()
    written = list(answers_on_the_page().items())
    titles = {example.curl: example.title for example in examples(document)}

    page = render(document, {titles[curl]: answer for curl, answer in written if curl in titles})

    assert page == API.text, "make docs"
    for path, method, _ in calls(document):
        assert f"### {method} {path}\n" in page
    assert len(list(calls(document))) == sum(len(m) for m in document["paths"].values())


async def test_every_example_of_the_page_is_answered_as_shown(open_client: ClientOf) -> None:
    written = answers_on_the_page()
    tried = 0
    keys, hashes = page_keys()
    async with open_client(**hashes) as client:
        document = (await client.get("/openapi.json")).json()
        for example in examples(document):
            answer = await ask(client, example, keys)
            check(example, answer, written.get(example.curl))
            tried += 1
    assert tried >= 16


def answers_on_the_page() -> dict[str, object]:
    """Return the answer below each example by its command."""
    below = answers_of(API)
    return {block.text.strip(): below[block.line] for block in API.blocks if block.line in below}


def check(example: Example, answer: httpx.Response, written: object) -> None:
    if isinstance(written, dict) and "status" in written and "title" in written:
        assert (example == A_PROBLEM) or example.path.endswith("/rollback")
        assert answer.status_code == written["status"]
    else:
        assert answer.status_code in (200, 204), (example, answer.text)
    if written is None:
        assert "json" not in answer.headers.get("content-type", "")
    else:
        assert shape(json.loads(answer.text)) == shape(written), example
