"""docs/architecture.md names the files that a training run and a request pass, in order."""

import pytest

from tests.support.documents.file_trace import traced, with_traces
from tests.support.documents.markdown import ROOT


@pytest.fixture(scope="module")
def lists() -> dict[str, list[str]]:
    return traced()


def test_the_page_lists_the_files_that_run_in_order_of_the_first_call(
    lists: dict[str, list[str]],
) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

    assert with_traces(page, lists) == page, "make docs"


def test_a_trace_begins_at_the_command_and_at_the_http_server(lists: dict[str, list[str]]) -> None:
    assert lists["train"][0] == "recsys/cli/main.py"
    assert lists["request"][0].startswith("service/")
    assert not any(file.startswith(("training/", "data/")) for file in lists["request"])
