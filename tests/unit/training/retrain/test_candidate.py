"""A model with content is continued with the same content, and trained anew with another one."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from data.click_options import ClickOptions
from data.content import ContentOptions
from data.sessions import sessionise
from recsys.bundle.golden import open_predictor
from recsys.bundle.manifest import read_manifest
from tests.support.bundles.content_bundle import IDS, write_content_bundle
from tests.support.training.builders import log_of
from training.retrain.candidate import candidate_training
from training.retrain.current import Current
from training.retrain.options import RetrainOptions
from training.retrain.work import Work

IMAGES = "image=images.parquet"


@pytest.fixture(scope="module")
def current(tmp_path_factory: pytest.TempPathFactory) -> Current:
    folder = write_content_bundle(tmp_path_factory.mktemp("content") / "bundle")
    return Current(folder, read_manifest(folder), open_predictor(folder))


@pytest.mark.parametrize(
    ("content", "way"),
    [
        (ContentOptions(("price", "brand:categorical"), (IMAGES,)), "finetune"),
        (ContentOptions(("brand",), (IMAGES,)), "train"),
        (ContentOptions(("brand", "price:categorical"), (IMAGES,)), "train"),
        (ContentOptions(("brand", "price", "colour"), (IMAGES,)), "train"),
    ],
)
def test_equal_content_is_learned_on(
    current: Current, tmp_path: Path, content: ContentOptions, way: str
) -> None:
    options = RetrainOptions(
        tmp_path, tmp_path, way="finetune", items=Path("items.csv"), content=content
    )
    sessions = sessionise(log_of([("s", IDS[0], 5), ("s", IDS[1], 6)]), None)
    source, shown = ClickOptions(tmp_path / "clicks.parquet"), StringIO()

    training, chosen = candidate_training(
        options, Work(tmp_path), source, current, sessions, Console(file=shown, width=200)
    )

    assert chosen == way
    if way == "finetune":
        columns = ("brand:categorical", "price:numeric")  # in the order of the bundle
        assert training.content == ContentOptions(columns, (IMAGES,))
    else:
        assert training.content == content
        assert "The current model learned from the content brand, price, image" in shown.getvalue()
