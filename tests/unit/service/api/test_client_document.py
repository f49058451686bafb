"""The document that clients are generated from has all calls, under the Python client's names."""

import json

from recsys_client.http import Endpoints
from service.api.openapi import Document
from tests.support.documents.write_docs import page_keys
from tests.support.service.app_client import ClientOf
from tests.support.typescript_client import DOCUMENT, FOLDER, as_text, document

OTHERS = {"operations", "playground"}  # tags of calls of orchestrators and of the playground


def names(found: Document) -> set[str]:
    calls = [call for methods in found["paths"].values() for call in methods.values()]
    return {call["operationId"] for call in calls if not OTHERS & set(call["tags"])}


def test_the_document_in_the_repository_is_that_of_the_service() -> None:
    """The browser tests compare the code that the generator makes of it."""
    assert DOCUMENT.read_text(encoding="utf-8") == as_text(document()), "make ts-client"


async def test_the_document_has_all_calls_of_the_service(open_client: ClientOf) -> None:
    async with open_client(**page_keys()[1], playground=True) as client:
        served = (await client.get("/openapi.json")).json()

    assert names(served) == names(document())


def test_calls_have_the_names_of_the_methods_of_the_python_client() -> None:
    methods = {name for name in vars(Endpoints) if not name.startswith("_")}

    assert names(document()) == methods | {"recommendations_of"}


def test_the_package_has_the_version_of_the_service() -> None:
    package = json.loads((FOLDER / "package.json").read_text(encoding="utf-8"))

    assert package["version"] == document()["info"]["version"]


def test_a_field_of_an_answer_that_is_always_there_is_required() -> None:
    problem = document()["components"]["schemas"]["Problem"]

    assert set(problem["required"]) == set(problem["properties"])
