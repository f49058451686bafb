"""Continuing of a bundle with content: the encoder is learned on, new items are placed by it."""

import dataclasses
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import torch
from rich.console import Console

from data.click_options import ClickOptions
from data.content import ContentColumn, ItemContent
from recsys.bundle.golden import read_golden
from recsys.bundle.layout import GOLDEN
from recsys.bundle.load import load_bundle
from recsys.content.new_items import NewItemTerm
from recsys.errors import BadInput
from tests.support.bundles.content_bundle import (
    IDS,
    RECIPE,
    content_catalogue,
    content_weights,
)
from tests.support.training import small_content
from tests.support.training.builders import words
from tests.unit.training.test_warm_start import base_model_of, begin
from training.export import Export, write_bundle
from training.finetune import FinetuneOptions, finetune
from training.model.content import ContentFeatures, ContentWeights
from training.warm_start import BaseModel, WarmStart

CLICKED = 6  # a to f; g and h are placed by their content
TERM = NewItemTerm(0.5)
QUIET = Console(quiet=True)


def items_content(*, colours: list[str | None] = small_content.COLOURS) -> ItemContent:
    texts = pa.array([[c] if c else [] for c in colours], pa.large_list(pa.string()))
    colour = ContentColumn("colour", "categorical", texts=texts)
    return ItemContent(pa.array(small_content.IDS), (colour, *small_content.COLUMNS[1:]))


def with_content() -> BaseModel:
    """Return a base model of eight items, six of them with clicks."""
    base = base_model_of("abcdefgh")
    base.catalogue.counts[CLICKED:] = 0
    features = ContentFeatures.of(items_content(), small_content.IDS, CLICKED)
    made = ContentWeights.fresh(features, base.recipe.hidden, torch.Generator().manual_seed(5))
    made.values.add_(0.1)  # so that no row is like another one
    made.new_items = TERM
    own = base.weights.matrix[:CLICKED], base.weights.bias[:CLICKED]
    encoder = made.encoder(*own, normalizes=base.recipe.scale > 0)
    return dataclasses.replace(base, content=encoder)


def test_items_with_clicks_come_first_and_those_with_content_alone_last() -> None:
    start = WarmStart(with_content(), content=items_content())

    catalogue, weights = begin(start, words("ab", "zh"))
    left = WarmStart(with_content(), drop_vanished=True, content=items_content())

    assert "".join(catalogue.item_ids) == "abcdefzhg"
    assert catalogue.counts.tolist() == [1] * 8 + [0]
    assert len(weights.bias) == 8
    assert "".join(left.catalogue(words("ab", "zh")).item_ids) == "abzhg"


def test_before_the_first_step_content_gives_what_the_bundle_gave() -> None:
    """Blue has become frequent and got a row; it begins as a value without one."""
    base = with_content()
    assert base.content is not None
    content = items_content(colours=[*"ABC", "blue", "blue", "blue", "red", "mauve"])

    catalogue, weights = begin(WarmStart(base, content=content), words("abcdef"))

    assert weights.content is not None
    assert weights.content.features.schema.fields[0].values == ("red", "blue")
    shown = [({**about, "colour": "new"}, of) for about, of in small_content.ITEMS[3:6]]
    shown += small_content.ITEMS[6:]
    found = base.content.place(weights.content.parts(3))
    torch.testing.assert_close(found, base.content.encode(shown))
    assert list(catalogue.item_ids) == small_content.IDS


def test_a_clicked_item_without_old_neighbours_begins_where_its_content_was() -> None:
    base = with_content()
    assert base.content is not None

    _, weights = begin(WarmStart(base, content=items_content()), words("ab", "hh"))

    vectors, biases = base.content.encode([small_content.ITEMS[7]])
    torch.testing.assert_close(weights.matrix[CLICKED:], vectors)
    torch.testing.assert_close(weights.bias[CLICKED:], biases - TERM.shift)


@dataclasses.dataclass(frozen=True)
class NextDay:
    """Bundle with content, the files of the next day, and the item that is new on it."""

    bundle: Path
    clicks: Path
    items: Path
    vectors: Path
    new: str = "brand-new"

    def options(self, out: Path, **given: object) -> FinetuneOptions:
        known = {"items": self.items, "vectors": [f"image={self.vectors}"], **given}
        return FinetuneOptions(self.bundle, ClickOptions(self.clicks), out, **known)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def next_day(tmp_path_factory: pytest.TempPathFactory) -> NextDay:
    folder = tmp_path_factory.mktemp("content")
    day = NextDay(
        folder / "bundle", folder / "clicks.csv", folder / "items.csv", folder / "image.parquet"
    )
    weights = content_weights().with_new_items(TERM)
    golden = [IDS[:3], [IDS[4]]]
    write_bundle(day.bundle, Export(weights, content_catalogue(), RECIPE, {}, {}, golden))
    clicks = [(n, IDS[(n + at) % 12], 10 * n + at) for n in range(60) for at in range(4)]
    names = ["session_id", "item_id", "timestamp"]
    pd.DataFrame(clicks, columns=names).to_csv(day.clicks, index=False)
    ids = [*IDS, day.new]
    items = {"item_id": ids, "brand": (["Ada", "Bob", "Cy"] * 5)[:13], "price": range(13)}
    pd.DataFrame(items).to_csv(day.items, index=False)
    pd.DataFrame({"item_id": ids, "v": [[0.5, 1.0]] * 13}).to_parquet(day.vectors)
    return day


def test_a_finetuned_bundle_places_the_new_items_of_its_day(
    next_day: NextDay, tmp_path: Path
) -> None:
    old = load_bundle(next_day.bundle)

    new = load_bundle(finetune(next_day.options(tmp_path / "out", settings=["warmup=0"]), QUIET))

    assert list(new.catalogue.item_ids) == [*IDS, next_day.new]
    assert new.catalogue.counts[-1] == 0
    assert new.content is not None
    assert old.content is not None
    about = ({"brand": "Ada", "price": 12.0}, {"image": [0.5, 1.0]})
    torch.testing.assert_close((new.matrix[-1:], new.bias[-1:]), new.content.encode([about]))
    assert new.content.new_items == TERM
    assert not torch.equal(new.content.tables.projection, old.content.tables.projection)
    assert new.manifest.training["lineage"] == [old.manifest.model_id]


def test_a_bundle_with_new_items_in_its_lists_is_finetuned_twice(
    next_day: NextDay, tmp_path: Path
) -> None:
    """The item that is new on the first day is in golden lists of the second bundle."""
    first = finetune(next_day.options(tmp_path / "first", settings=["warmup=0"]), QUIET)
    again = dataclasses.replace(next_day, bundle=first)

    second = load_bundle(finetune(again.options(tmp_path / "second"), QUIET))

    lists = [list(one.items) for one in read_golden(first / GOLDEN)]
    assert any(next_day.new in items for items in lists)
    assert second.catalogue.counts[-1] == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"items": None, "vectors": []}, r"learned from brand .* Give the items file with --items"),
        ({"vectors": []}, r"Give them with --vectors image=FILE"),
        ({"vectors": ["image=a", "text=b"]}, r"--vectors text=b: .* did not learn from such"),
        ({"vectors": ["image=a", "image=b"]}, "given twice"),
    ],
)
def test_what_the_bundle_learned_from_must_be_given(
    next_day: NextDay, tmp_path: Path, given: dict[str, object], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        finetune(next_day.options(tmp_path / "out", **given), QUIET)


def test_vectors_of_another_length_are_refused(next_day: NextDay, tmp_path: Path) -> None:
    longer = tmp_path / "longer.parquet"
    pd.DataFrame({"item_id": IDS, "v": [[1.0, 2.0, 3.0]] * 12}).to_parquet(longer)

    with pytest.raises(BadInput, match=r"'image' have 3 numbers, and those of the bundle 2"):
        finetune(next_day.options(tmp_path / "out", vectors=[f"image={longer}"]), QUIET)
    assert not list(tmp_path.glob("out*"))
