"""Reports with and without charts, which take most of a second."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from training.report import charts, render

CHARTS = ("result_charts", "difference_charts", "slice_charts", "training_charts", "data_charts")


@contextmanager
def reports_without_charts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in CHARTS:
            patch.setattr(render, name, lambda *_: [])
        yield


@contextmanager
def reports_with_charts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in CHARTS:
            patch.setattr(render, name, getattr(charts, name))
        yield
