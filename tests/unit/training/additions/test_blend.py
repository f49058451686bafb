"""Blend: settings and weight chosen on validation sessions, none where it does not help."""

import dataclasses
import json
import random
import string
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from rich.console import Console

from data.batches.selection import Selection
from data.click_options import ClickOptions
from data.sessions import Sessions, reindex
from recsys.bundle.golden import open_predictor
from recsys.bundle.layout import MANIFEST, NEIGHBOURS
from recsys.errors import BadRecipe
from recsys.model.repeats import RepeatTerm
from recsys.neighbours.blend import BlendSettings
from recsys.neighbours.scoring import VSTAN
from recsys.predictor import Predictor
from tests.support.training.builders import Quiet, words
from training.additions.blend import (
    WeighedCases,
    best_blend,
    blend_of,
    blend_summary,
    choose_blend,
    settings_to_try,
    weigh,
)
from training.additions.chooser import chooser_of
from training.additions.gain import metric_parts
from training.checkpoint import Additions, EpochResult
from training.evaluation.evaluate import evaluate
from training.pipeline import TrainOptions, train
from training.recipe import Recipe
from training.trainer import Trainer

CPU = torch.device("cpu")
CLICKS = words(*["abcd", "bcda", "cdab", "dabc", "abca", "bc"] * 40)
TINY = Recipe(hidden=8, epochs=2, batch=4, negatives=6, validation=0.2, blend="vstan")


ITEMS = string.ascii_letters
CHOSEN = Additions(RepeatTerm(last=0.5), "a test", BlendSettings(0.25, VSTAN, 20, 30))


class RecordingChooser:
    """Chooser of `CHOSEN` that records the sizes of its parts."""

    def __init__(self) -> None:
        self.parts: list[tuple[int, int]] = []

    def __call__(
        self, predictor: Predictor, train_part: Selection, valid: Sessions | None
    ) -> Additions:
        assert predictor.blend is None
        assert valid is not None
        self.parts.append((len(train_part), len(valid)))
        return CHOSEN


class KilledInRefit(Quiet):
    """Listener that ends the run after the first epoch of the refit."""

    def epoch_ends(self, result: EpochResult) -> None:
        if result.phase == "refit":
            raise Killed


class Killed(BaseException):
    """Exception that no handler of the package catches."""


def test_the_weight_is_chosen_once_before_the_refit_and_kept_over_a_kill(tmp_path: Path) -> None:
    first, second = RecordingChooser(), RecordingChooser()
    with pytest.raises(Killed):
        Trainer(TINY, tmp_path, CPU, KilledInRefit(), first).train(CLICKS, None)

    trained = Trainer(TINY, tmp_path, CPU, Quiet(), second).train(CLICKS, None)

    assert trained.additions == CHOSEN
    assert first.parts == [(168, 72)]  # a small log validates on three tenths
    assert second.parts == []


def test_a_given_weight_is_used_without_a_choice() -> None:
    recipe = dataclasses.replace(TINY, blend_weight=0.3, validation=0.0)
    no_predictor = cast(Predictor, None)  # a given weight needs no look at any score

    settings = choose_blend(recipe, no_predictor, CLICKS, CLICKS)
    assert settings is not None
    assert (settings.weight, settings.neighbours.idf) == (0.3, 1.0)
    none = dataclasses.replace(TINY, blend="none")
    assert choose_blend(none, no_predictor, CLICKS, CLICKS) is None
    assert blend_summary(recipe, settings).startswith(
        "vstan with a weight of 0.3, as the recipe says (idf 1, click_decay 2"
    )


def test_without_validation_a_given_weight_is_used(tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, blend_weight=0.3, validation=0.0)

    trained = Trainer(recipe, tmp_path, CPU, Quiet(), chooser_of(recipe)).train(CLICKS, None)

    assert trained.additions.repeats is None
    assert trained.additions.blend is not None
    assert trained.additions.blend.weight == 0.3


def test_a_blend_without_validation_and_without_a_weight_is_refused() -> None:
    with pytest.raises(BadRecipe, match="blend_weight must be above 0 where blend is set"):
        dataclasses.replace(TINY, validation=0.0)


def ranked(alone: list[int], *blended: list[int]) -> WeighedCases:
    """Return cases with the ranks of each weight, .1, .2 and so on."""
    rows = [
        (BlendSettings(0.1 * at, VSTAN), np.array(ranks * 50))
        for at, ranks in enumerate(blended, start=1)
    ]
    return WeighedCases(np.arange(200), np.array(alone * 50), rows)


def weight_of(settings: BlendSettings | None) -> float:
    return 0.0 if settings is None else settings.weight


def test_the_weight_with_the_highest_gain_wins() -> None:
    assert weight_of(best_blend(ranked([30, 4, 30, 2], [30, 4, 20, 2], [30, 2, 20, 2]))) == 0.2
    assert weight_of(best_blend(ranked([30, 4, 30, 2], [30, 2, 20, 2], [30, 2, 20, 2]))) == 0.1


def test_no_weight_is_used_that_is_worse_or_not_clearly_better() -> None:
    worse, unclear = np.full(40, 3), np.array([1, *[2] * 38, 4])
    rows = [(BlendSettings(0.1, VSTAN), unclear), (BlendSettings(0.2, VSTAN), worse)]

    assert best_blend(WeighedCases(np.arange(40), np.full(40, 2), rows)) is None
    assert "left out" in blend_summary(TINY, None)


@pytest.mark.parametrize("kind", ["vstan", "v-sknn", "auto"])
@pytest.mark.parametrize("term", [None, RepeatTerm(1.25, 0.5, -1.0)], ids=["alone", "term"])
def test_ranks_of_each_blend_are_those_of_its_evaluation(
    tmp_path: Path, kind: str, term: RepeatTerm | None
) -> None:
    """On random walks over more items than a list has, some of them back to an item."""
    recipe = dataclasses.replace(TINY, blend=kind, epochs=1)
    walk = random.Random(1)
    clicks = words(*["".join(walk.choices(ITEMS, k=walk.randint(2, 7))) for _ in range(300)])
    compared: list[float] = []

    def compare(predictor: Predictor, train_part: Selection, valid: Sessions | None) -> Additions:
        assert valid is not None
        held = reindex(valid, predictor.catalogue.item_ids)
        weighed = weigh(settings_to_try(recipe), predictor, train_part, valid, term)
        for settings, ranks in [(None, weighed.alone), *weighed.blended]:
            blend = blend_of(settings, predictor.catalogue, train_part)
            on_top = term if term is None or blend is None else term.calibrated()
            evaluated = evaluate(predictor.with_repeats(on_top).with_blend(blend), held, 52)
            parts = metric_parts(ranks).mean(axis=1)
            assert evaluated.metrics["recall@20"] == pytest.approx(parts[0])
            assert evaluated.metrics["mrr@20"] == pytest.approx(parts[1])
            compared.append(parts[1])
        return Additions()

    Trainer(recipe, tmp_path, CPU, Quiet(), compare).train(clicks, None)

    assert len(set(compared)) > 3


def test_v_sknn_has_no_decay_and_a_decay_of_zero_is_none() -> None:
    (plain,) = settings_to_try(dataclasses.replace(TINY, blend="v-sknn"))
    (no_age,) = settings_to_try(dataclasses.replace(TINY, age_decay_days=0.0))

    assert (plain.click_decay, plain.age_decay_days, plain.distance_decay) == (None, None, None)
    assert (no_age.click_decay, no_age.age_decay_days, no_age.distance_decay) == (2.0, None, 3.0)


def test_a_blend_that_does_not_help_is_left_out_and_recorded_in_the_bundle(tmp_path: Path) -> None:
    """In a walk that alternates two items, neighbours add nothing to the model."""
    clicks = tmp_path / "clicks.csv"
    rows = [f"s{n},{'ab'[(n + at) % 2]},{1000 * n + at}" for n in range(200) for at in range(4)]
    clicks.write_text("\n".join(["session_id,item_id,timestamp", *rows]))
    recipe = dataclasses.replace(TINY, epochs=4, blend="v-sknn", select_by="recall@20")

    out = train(TrainOptions(ClickOptions(clicks), tmp_path / "out", recipe), Console(quiet=True))

    manifest = json.loads((out / MANIFEST).read_text())
    assert manifest["training"]["blend"].startswith("left out")
    assert manifest["blend"] is None
    assert not (out / NEIGHBOURS).exists()
    assert open_predictor(out).blend is None
