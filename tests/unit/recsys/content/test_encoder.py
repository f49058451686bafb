"""Encoder of content: what it accepts, and that it places an item as training does."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from data.content import ItemContent
from recsys.content.encoder import ContentEncoder
from recsys.content.file import read_encoder, write_encoder
from recsys.content.model import ContentSum
from recsys.content.new_items import NewItemTerm
from recsys.errors import BundleRefused, WrongContent
from tests.support.training.small_content import COLUMNS, IDS, ITEMS
from training.model.content import ContentFeatures, ContentWeights

HIDDEN = 4
CLICKED = 6  # of the items


@pytest.fixture(scope="module")
def weights() -> ContentWeights:
    content = ItemContent(pa.array(IDS), COLUMNS)
    features = ContentFeatures.of(content, IDS, CLICKED)
    made = ContentWeights.fresh(features, HIDDEN, torch.Generator().manual_seed(1))
    made.values[:, -1] = 0.5
    return replace(made, new_items=NewItemTerm(0.25))


@pytest.fixture(scope="module")
def encoder(weights: ContentWeights) -> ContentEncoder:
    generator = torch.Generator().manual_seed(2)
    matrix, bias = torch.randn(CLICKED, HIDDEN, generator=generator), torch.arange(CLICKED) / 10
    return weights.encoder(matrix, bias, normalizes=True, others=["name"])


def test_items_are_placed_as_in_training(encoder: ContentEncoder, weights: ContentWeights) -> None:
    expected = encoder.place(weights.parts(0))

    vectors, biases = encoder.encode(ITEMS)

    torch.testing.assert_close(vectors, expected[0])
    torch.testing.assert_close(biases, expected[1])


def test_a_bundle_without_similar_items_places_by_the_content_part(
    encoder: ContentEncoder, weights: ContentWeights, tmp_path: Path
) -> None:
    """So did older versions."""
    path = tmp_path / "content.safetensors"
    old = ContentEncoder(
        encoder.schema,
        encoder.tables,
        ContentSum(),
        normalizes=True,
        new_items=weights.new_items,
        others=["name"],
    )
    write_encoder(path, old)

    found = read_encoder(path, ContentSum(), hidden=HIDDEN, normalizes=True, others=["name"])

    vectors, biases = found.encode(ITEMS)
    parts = weights.parts(0)
    torch.testing.assert_close(vectors, torch.nn.functional.normalize(parts[:, :-1]))
    torch.testing.assert_close(biases, 0.25 + parts[:, -1])


def test_a_value_of_few_items_shares_its_row_with_others(encoder: ContentEncoder) -> None:
    """Three items are red, one is blue, none is mauve."""
    red, blue, mauve = ({"colour": name} for name in ("red", "blue", "mauve"))

    vectors, _ = encoder.encode([(red, {}), (blue, {}), (mauve, {})])

    assert torch.equal(vectors[1], vectors[2])
    assert not torch.equal(vectors[0], vectors[1])


def test_an_extreme_number_moves_an_item_no_further_than_five_deviations(
    encoder: ContentEncoder,
) -> None:
    (far, further), _ = encoder.encode([({"price": 1e6}, {}), ({"price": 1e9}, {})])

    assert torch.equal(far, further)


@pytest.mark.parametrize(
    ("attributes", "vectors", "field", "problem"),
    [
        ({"color": "red"}, {}, "attributes.color", "Did you mean 'colour'"),
        ({"colour": ["red"]}, {}, "attributes.colour", "must be a text"),
        ({"tags": [["x"]]}, {}, "attributes.tags", "must be a text"),
        ({"price": "12"}, {}, "attributes.price", "must be a number, got '12'"),
        ({"price": True}, {}, "attributes.price", "must be a number"),
        ({"price": math.inf}, {}, "attributes.price", "must be a finite number"),
        ({"since": "yesterday"}, {}, "attributes.since", "ISO 8601"),
        ({"image": [1.0, 2.0]}, {}, "attributes.image", "is not among the attributes"),
        ({}, {"picture": [1.0]}, "vectors.picture", "They have: image"),
        ({}, {"image": [1.0]}, "vectors.image", "must have 2 numbers, got 1"),
        ({}, {"image": [1.0, math.nan]}, "vectors.image", "number 1 must be finite"),
        ({}, {"image": ["x", "y"]}, "vectors.image", "must be a list of 2 numbers"),
    ],
)
def test_wrong_content_is_named(
    encoder: ContentEncoder,
    attributes: dict[str, object],
    vectors: dict[str, list[float]],
    field: str,
    problem: str,
) -> None:
    with pytest.raises(WrongContent) as caught:
        encoder.check(attributes, vectors)

    assert caught.value.field == field
    assert problem in str(caught.value)


def test_right_content_is_accepted(encoder: ContentEncoder) -> None:
    for attributes, vectors in ITEMS:
        encoder.check(attributes, vectors)
    encoder.check({"colour": None, "name": ["any", "thing"], "price": 3}, {"image": [0, 1]})


def test_a_file_gives_the_same_encoder(
    encoder: ContentEncoder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("content") / "content.safetensors"
    write_encoder(path, encoder)

    found = read_encoder(path, ContentSum(), hidden=HIDDEN, normalizes=True, others=["name"])

    for read, written in zip(found.encode(ITEMS), encoder.encode(ITEMS), strict=True):
        assert torch.equal(read, written)
    with pytest.raises(BundleRefused, match="not those of its fields"):
        read_encoder(path, ContentSum(), hidden=5, normalizes=True, others=[])


@pytest.mark.parametrize(
    "wrong",
    [
        {"crosses": [{"names": ["colour", "size"], "values": []}]},
        {"crosses": [{"names": ["colour", "colour"], "values": []}]},
        {"crosses": [{"names": "ab", "values": []}]},
        {"crosses": [{"names": ["colour", "tags"], "values": [1]}]},
        {"placing": {"contents": 0}},
        {"placing": {"width": 3}},
    ],
)
def test_a_damaged_file_is_refused(
    encoder: ContentEncoder, tmp_path: Path, wrong: dict[str, object]
) -> None:
    path = tmp_path / "content.safetensors"
    write_encoder(path, encoder)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in list(file.keys())}
        about = json.loads(file.metadata()["content"])
    placing = {**about["placing"], **wrong.pop("placing", {})}  # type: ignore[dict-item]
    about = {**about, **wrong, "placing": placing}
    save_file(tensors, path, metadata={"content": json.dumps(about)})

    with pytest.raises(BundleRefused, match="Train it anew"):
        read_encoder(path, ContentSum(), hidden=HIDDEN, normalizes=True, others=["name"])
