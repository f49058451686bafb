"""Training with content: items without a click are recommended, reported and placed alike."""

import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

import pandas as pd
import pytest
import torch
from rich.console import Console

import recsys
from data.click_options import ClickOptions
from data.content import ContentOptions
from data.items import items_text
from data.prepare import read_sessions
from recsys.bundle.golden import open_predictor
from recsys.bundle.layout import CONTENT, CONTENT_MODEL, MANIFEST
from recsys.cli.catalogue import overlay_of
from recsys.errors import BadInput, BadRecipe, BundleRefused
from recsys.live.entry import ItemEntry
from recsys.predictor import Predictor
from recsys.retrieval.exact import RankingQuery
from training.additions.new_items import SHIFTS, choose_new_item_term
from training.evaluate_bundle import evaluate_bundle, overlaid
from training.pipeline import TrainOptions, train
from training.recipe import Recipe

COLOURS = ("red", "blue", "green")
OLD, NEW = 12, 3  # items of each colour, with and without clicks in training
RECIPE = Recipe(hidden=16, epochs=6, batch=8, negatives=12, warmup=0.0)
DAY = 86_400


def name(colour: str, number: int) -> str:
    return f"{colour}-{number}"


def sessions() -> Iterator[str]:
    """Yield clicks: visits stay in one colour, and those of the last days meet new items."""
    random = Random(1)
    yield "session_id,item_id,timestamp"
    for visit in range(300):
        colour, late = COLOURS[visit % 3], visit >= 240
        for click in range(4):
            number = random.randrange(OLD + NEW if late and click > 1 else OLD)
            yield f"s{visit},{name(colour, number)},{visit * 3600 + click}"


def item_rows() -> Iterator[str]:
    yield "item_id,colour,weight,since"
    for colour in COLOURS:
        for number in range(OLD + NEW):
            yield f"{name(colour, number)},{colour},{number if number % 3 else ''},{number * 60}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("content")
    (folder / "clicks.csv").write_text("\n".join(sessions()) + "\n")
    (folder / "items.csv").write_text("\n".join(item_rows()) + "\n")
    return folder


def options(folder: Path, out: str, recipe: Recipe = RECIPE) -> TrainOptions:
    columns = ContentOptions(("colour", "weight", "since:time"))
    clicks = ClickOptions(folder / "clicks.csv", test_fraction=0.2)
    return TrainOptions(clicks, folder / out, recipe, folder / "items.csv", content=columns)


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Path:
    return train(options(folder, "bundle"), Console(quiet=True))


@pytest.fixture(scope="module")
def predictor(bundle: Path) -> Predictor:
    return open_predictor(bundle)


def test_items_without_a_click_are_in_the_catalogue_with_a_count_of_zero(
    predictor: Predictor,
) -> None:
    catalogue = predictor.catalogue

    assert len(catalogue) == len(COLOURS) * (OLD + NEW)
    assert (catalogue.counts == 0).sum() == len(COLOURS) * NEW
    assert catalogue.counts[catalogue.index(name("red", OLD))] == 0


def test_a_visit_gets_new_items_of_its_colour_before_those_of_others(predictor: Predictor) -> None:
    catalogue = predictor.catalogue
    clicks = catalogue.known([name("blue", 1), name("blue", 8)])

    ranked = predictor.recommend(clicks, RankingQuery(len(catalogue))).items

    new = [catalogue.item_ids[item] for item in ranked if catalogue.counts[item] == 0]
    assert {item_id.partition("-")[0] for item_id in new[:NEW]} == {"blue"}


def test_an_item_that_appears_later_is_placed_as_the_same_item_of_the_bundle(
    predictor: Predictor,
) -> None:
    assert predictor.content is not None
    catalogue, exact = predictor.catalogue, predictor.exact_retrieval
    item = catalogue.index(name("green", OLD + 1))
    attributes = {"colour": "green", "weight": float(OLD + 1), "since": (OLD + 1) * 60}

    vectors, biases = predictor.content.encode([(attributes, {})])

    torch.testing.assert_close(vectors[0], exact.matrix[item], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(biases[0], exact.bias[item], atol=1e-4, rtol=1e-4)


def test_new_items_are_lifted_as_far_as_their_cost_allows(
    predictor: Predictor, folder: Path
) -> None:
    clicks = read_sessions(ClickOptions(folder / "clicks.csv")).sessions

    def shift(cost: float) -> float:
        recipe = dataclasses.replace(RECIPE, new_item_cost=cost)
        term = choose_new_item_term(recipe, predictor, clicks).term
        assert term is not None
        return term.shift

    assert shift(0.0) < shift(0.99) == SHIFTS[-1]


def test_new_targets_are_reported_beside_baselines(
    bundle: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    clicks = ClickOptions(folder / "clicks.csv", test_fraction=0.2)

    evaluate_bundle(bundle, clicks, Console(quiet=True), every_session=False, print_json=True)

    reported = manifest["metrics"]["new_items"]
    assert reported["items"] == len(COLOURS) * NEW
    baselines = ["similar content", "newest", "newest, same colour"]
    assert list(reported["recall@20"]) == ["model", *baselines]
    assert json.loads(capsys.readouterr().out)["new_items"] == reported
    assert "9 items without a click have content alone" in manifest["training"]["content"]
    page = (bundle / "report.html").read_text()
    assert "next clicks on items without a training click" in page


def test_an_overlay_is_measured_as_items_of_the_bundle(
    bundle: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An item that another one replaces, with the same content, changes no rank."""
    old, clicks, items = name("red", OLD + 2), tmp_path / "clicks.csv", tmp_path / "items.csv"
    clicks.write_text((folder / "clicks.csv").read_text().replace(f",{old},", ",another,"))
    row = f"red,{OLD + 2},{(OLD + 2) * 60}"
    items.write_text(f"item_id,colour,weight,since,available\nanother,{row},1\n{old},{row},0\n")
    overlay = overlay_of(items, "item_id", items_text(None), [])

    def measured(path: Path, overlay: Mapping[str, ItemEntry]) -> tuple[dict[str, float], int]:
        given = ClickOptions(path, test_fraction=0.2)
        quiet = Console(quiet=True)
        evaluate_bundle(bundle, given, quiet, every_session=False, print_json=True, overlay=overlay)
        result = json.loads(capsys.readouterr().out)
        del result["model"]["coverage@20"]  # of one more item
        return result["model"], result["unseen_targets"]

    before, changed = measured(folder / "clicks.csv", {}), measured(clicks, overlay)

    assert changed[0] == pytest.approx(before[0])
    assert changed[1] == before[1] == 0
    assert measured(clicks, {})[1] > 0


def test_an_overlay_that_the_service_would_refuse_is_refused(
    predictor: Predictor, tmp_path: Path
) -> None:
    (tmp_path / "items.csv").write_text("item_id,color\nanother,red\n")
    with pytest.raises(BadInput, match="item 'another': 'color' is not an attribute"):
        overlaid(predictor, overlay_of(tmp_path / "items.csv", "item_id", items_text(None), []))


def test_content_needs_a_shared_embedding(folder: Path) -> None:
    with pytest.raises(BadRecipe, match="embedding must be shared with --content"):
        train(options(folder, "none", Recipe(embedding="none")), Console(quiet=True))


def test_a_bundle_without_its_content_file_is_refused(bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy")
    (copy / CONTENT).unlink()

    with pytest.raises(BundleRefused, match=CONTENT):
        open_predictor(copy)
    assert (copy / CONTENT_MODEL).exists()


def test_the_python_api_takes_content(folder: Path) -> None:
    items = pd.read_csv(folder / "items.csv")
    vectors = pd.DataFrame(
        {"item_id": items.item_id, "image": [[float(len(c)), 1.0] for c in items.colour]}
    )

    model = recsys.fit(
        folder / "clicks.csv",
        items=items,
        content=["colour"],
        vectors={"image": vectors},
        recipe="default",
        settings={"hidden": 8, "epochs": 1, "negatives": 12, "refit": False},
        progress=False,
    )

    assert len(model.recommend([name("red", 1)], k=100)) == len(COLOURS) * (OLD + NEW)
