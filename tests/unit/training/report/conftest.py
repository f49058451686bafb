"""Reports have their charts here."""

from collections.abc import Iterator

import pytest

from tests.support.training.report import reports_with_charts


@pytest.fixture(scope="module", autouse=True)
def with_charts() -> Iterator[None]:
    with reports_with_charts():
        yield
