"""`recsys finetune` from bundle to bundle: new and vanished items, resuming, refusals, serving."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from rich.console import Console

from data.click_options import ClickOptions
from recsys.bundle.golden import open_predictor
from recsys.bundle.layout import MANIFEST, WEIGHTS
from recsys.bundle.load import load_bundle
from recsys.bundle.manifest import read_manifest
from recsys.errors import BadInput, BadRecipe
from recsys.retrieval.exact import RankingQuery
from service.app import create_app
from service.settings import Settings
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.service.app_client import PATIENT, client_of
from tests.support.training.builders import Quiet, words
from tests.support.training.command_line import run
from training.checkpoint import EpochResult
from training.finetune import FINETUNE_SETTINGS, FinetuneOptions, continued_recipe, finetune
from training.recipe import Recipe
from training.trainer import Trainer, TrainingResult
from training.warm_start import WarmStart, read_base_model

NEW = "brand-new"
QUIET = Console(quiet=True)


@dataclasses.dataclass(frozen=True)
class NextDay:
    """New clicks in which one product has another id, and the item before it."""

    clicks: Path
    renamed: str
    before: str


@pytest.fixture(scope="module")
def next_day(trained: TrainedShop, tmp_path_factory: pytest.TempPathFactory) -> NextDay:
    path = tmp_path_factory.mktemp("next") / "clicks.csv"
    ids = trained.shop.table()["item_id"].to_numpy()
    clicks = trained.shop.walk(1500, seed=2)
    before = clicks["item"].mode().to_numpy()[:1]
    renamed = ids[trained.shop.successor(before)[0]]
    clicks["item_id"] = ids[clicks["item"]]
    clicks["item_id"] = clicks["item_id"].replace(renamed, NEW)
    clicks[["session_id", "item_id", "timestamp"]].to_csv(path, index=False)
    return NextDay(path, renamed, ids[before[0]])


@pytest.fixture(scope="module")
def tuned(
    trained: TrainedShop, next_day: NextDay, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("tuned") / "bundle"
    return finetune(FinetuneOptions(trained.bundle, ClickOptions(next_day.clicks), out), QUIET)


def test_old_items_keep_their_indices_and_new_ones_follow(
    trained: TrainedShop, tuned: Path
) -> None:
    old, new = (load_bundle(folder).catalogue for folder in (trained.bundle, tuned))

    assert list(new.item_ids) == [*old.item_ids, NEW]


def test_a_new_item_is_recommended_and_its_row_is_finite(next_day: NextDay, tuned: Path) -> None:
    predictor = open_predictor(tuned)
    clicked = predictor.catalogue.index(next_day.before)

    ranking = predictor.recommend([clicked], RankingQuery(k=5))

    assert NEW in [predictor.catalogue.item_ids[item] for item in ranking.items]
    assert torch.isfinite(load_bundle(tuned).matrix).all()


def test_vanished_items_are_kept_or_dropped(
    trained: TrainedShop, next_day: NextDay, tuned: Path, tmp_path: Path
) -> None:
    options = FinetuneOptions(
        trained.bundle, ClickOptions(next_day.clicks), tmp_path / "out", drop_vanished=True
    )
    kept, dropped = load_bundle(tuned), load_bundle(finetune(options, QUIET))
    left = dropped.catalogue.item_ids

    assert next_day.renamed in kept.catalogue.item_ids
    assert next_day.renamed not in left
    assert [item for item in kept.catalogue.item_ids if item in left] == list(left)
    assert dropped.manifest.training["vanished_items"] == len(kept.catalogue) - len(left)


def test_the_manifest_names_the_parent_and_what_it_reached(
    trained: TrainedShop, tuned: Path
) -> None:
    old, new = read_manifest(trained.bundle), read_manifest(tuned)

    assert new.model_id != old.model_id
    assert new.training["parent"] == old.model_id
    assert new.training["lineage"] == [old.model_id]
    assert new.recipe == {**old.recipe, **FINETUNE_SETTINGS}
    assert "mrr@20" in new.metrics["baselines"]["parent"]


def test_attributes_stay_and_new_items_have_none(trained: TrainedShop, tuned: Path) -> None:
    old, new = (load_bundle(folder).catalogue for folder in (trained.bundle, tuned))

    assert old.attributes
    for name, texts in old.attributes.items():
        assert list(new.attributes[name]) == [*texts, None]


def test_an_items_file_names_new_items(
    trained: TrainedShop, next_day: NextDay, tmp_path: Path
) -> None:
    items = tmp_path / "items.csv"
    items.write_text(f"item_id,brand\n{NEW},Novel\n")
    options = FinetuneOptions(
        trained.bundle, ClickOptions(next_day.clicks), tmp_path / "out", items=items
    )
    old, new = (
        load_bundle(trained.bundle).catalogue,
        load_bundle(finetune(options, QUIET)).catalogue,
    )

    assert list(new.attributes["brand"]) == [*old.attributes["brand"], "Novel"]


async def test_a_finetuned_bundle_serves(next_day: NextDay, tuned: Path, redis_url: str) -> None:
    settings = {"bundle": tuned, "redis": redis_url, **PATIENT}
    async with client_of(create_app(Settings(**settings))) as client:  # type: ignore[arg-type]
        body = {"user_id": "u", "item_id": next_day.before, "k": 5}
        answer = (await client.post("/v1/recommendations", json=body)).json()

    assert answer["model_id"] == read_manifest(tuned).model_id
    assert NEW in [item["item_id"] for item in answer["items"]]


def test_a_finetuned_bundle_is_finetuned_when_nothing_is_new(
    trained: TrainedShop, next_day: NextDay, tuned: Path, tmp_path: Path
) -> None:
    options = FinetuneOptions(tuned, ClickOptions(next_day.clicks), tmp_path / "out")
    again = read_manifest(finetune(options, QUIET))

    ids = [read_manifest(folder).model_id for folder in (trained.bundle, tuned)]
    assert again.training["lineage"] == ids
    assert again.training["new_items"] == 0
    assert again.recipe == read_manifest(tuned).recipe


def test_a_blended_bundle_keeps_its_blend(
    blended: TrainedShop, next_day: NextDay, tmp_path: Path
) -> None:
    old = read_manifest(blended.bundle).blend
    assert old is not None
    options = FinetuneOptions(blended.bundle, ClickOptions(next_day.clicks), tmp_path / "out")

    new = read_manifest(finetune(options, QUIET)).blend

    assert new == old


def test_a_setting_of_the_blend_makes_another_one(
    blended: TrainedShop, next_day: NextDay, tmp_path: Path
) -> None:
    options = FinetuneOptions(
        blended.bundle, ClickOptions(next_day.clicks), tmp_path / "out", ["blend=v-sknn"]
    )

    new = read_manifest(finetune(options, QUIET)).blend

    assert new is not None
    assert (new.weight, new.neighbours.click_decay) == (0.3, None)


def test_one_command_gives_one_model(
    trained: TrainedShop, next_day: NextDay, tuned: Path, tmp_path: Path
) -> None:
    options = FinetuneOptions(trained.bundle, ClickOptions(next_day.clicks), tmp_path / "out")

    assert read_manifest(finetune(options, QUIET)).model_id == read_manifest(tuned).model_id


class Killed(BaseException):
    """Exception that no handler of the package catches."""


class KilledAfterEpoch(Quiet):
    """Listener that ends the run after the first epoch, as `kill -9` would."""

    def epoch_ends(self, result: EpochResult) -> None:
        raise Killed


def continue_run(
    folder: Path, trained: TrainedShop, listener: Quiet, *, drop_vanished: bool = False
) -> TrainingResult:
    base_model = read_base_model(trained.bundle)
    recipe = continued_recipe(base_model.recipe, ["epochs=2", "validation=0.2", "momentum=0.1"])
    ids = base_model.catalogue.item_ids
    clicks = words(*["abcd", "bcda", "cdab"] * 20)
    named = dataclasses.replace(clicks, item_ids=(*ids[:3], "new"))
    folder.mkdir(exist_ok=True)
    start = WarmStart(base_model, drop_vanished)
    return Trainer(recipe, folder, torch.device("cpu"), listener).train(named, None, start)


def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(
    trained: TrainedShop, tmp_path: Path
) -> None:
    whole = continue_run(tmp_path / "whole", trained, Quiet())
    with pytest.raises(Killed):
        continue_run(tmp_path / "killed", trained, KilledAfterEpoch())

    resumed = continue_run(tmp_path / "killed", trained, Quiet())

    for name, tensor in whole.weights.tensors().items():
        assert torch.equal(tensor, resumed.weights.tensors()[name]), name


def test_the_checkpoint_of_another_initialiser_is_refused(
    trained: TrainedShop, tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        continue_run(tmp_path, trained, KilledAfterEpoch())

    with pytest.raises(BadInput, match="belongs to other clicks, options"):
        continue_run(tmp_path, trained, Quiet(), drop_vanished=True)


def test_settings_that_determine_the_weights_are_refused() -> None:
    with pytest.raises(BadRecipe, match=r"hidden is 192 in the bundle and determines .* got 100"):
        continued_recipe(Recipe(), ["hidden=100"])


def test_settings_override_and_do_not_drift() -> None:
    once = continued_recipe(Recipe(), ["epochs=3", "learning_rate=0.05"])

    assert (once.epochs, once.learning_rate) == (3, 0.05)
    assert continued_recipe(once) == dataclasses.replace(once, epochs=1)


def damage_weights(bundle: Path) -> None:
    content = bytearray((bundle / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (bundle / WEIGHTS).write_bytes(content)


def change_the_recipe(bundle: Path) -> None:
    values = json.loads((bundle / MANIFEST).read_text())
    values["recipe"]["hidden"] = 16
    (bundle / MANIFEST).write_text(json.dumps(values))


def name_no_lineage(bundle: Path) -> None:
    values = json.loads((bundle / MANIFEST).read_text())
    values["training"]["lineage"] = "first"
    (bundle / MANIFEST).write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_weights, "is damaged or was changed"),
        (change_the_recipe, "its recipe is not that of its model"),
        (name_no_lineage, "its lineage is no list of model ids"),
        (shutil.rmtree, "There is no bundle folder"),
    ],
)
def test_a_bundle_that_cannot_be_continued_is_refused_with_one_line(
    capsys: pytest.CaptureFixture[str],
    trained: TrainedShop,
    next_day: NextDay,
    tmp_path: Path,
    damage: object,
    message: str,
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(trained.bundle, bundle)
    assert callable(damage)
    damage(bundle)

    code, _, err = run(
        capsys, "finetune", "--bundle", str(bundle), "--clicks", str(next_day.clicks),
        "--out", str(tmp_path / "out"),
    )  # fmt: skip

    assert (code, message in err, err.count("\n")) == (2, True, 1), err
    assert not list(tmp_path.glob("out*"))
