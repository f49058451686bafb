"""Blend weight: chosen on validation sessions, kept over a kill, 0 where it does not help."""

import dataclasses
import json
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from rich.console import Console

from data.click_options import ClickOptions
from data.sessions import Sessions, reindex
from recsys.bundle.golden import open_predictor
from recsys.bundle.layout import MANIFEST, NEIGHBOURS
from recsys.errors import BadRecipe
from recsys.model.repeats import RepeatTerm
from recsys.predictor import Predictor
from tests.support.training.builders import Quiet, words
from training.additions.blend_weight import (
    WeighedCases,
    best_weight,
    blend_of,
    blend_summary,
    choose_weight,
    neighbour_settings,
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


class RecordingChooser:
    """Chooser of a weight of 0.25 that records the sizes of its parts."""

    def __init__(self) -> None:
        self.parts: list[tuple[int, int]] = []

    def __call__(
        self, predictor: Predictor, train_part: Sessions, valid: Sessions | None
    ) -> Additions:
        assert predictor.blend is None
        assert valid is not None
        self.parts.append((len(train_part), len(valid)))
        return Additions(RepeatTerm(last=0.5), "a test", 0.25)


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

    assert trained.additions == Additions(RepeatTerm(last=0.5), "a test", 0.25)
    assert first.parts == [(192, 48)]
    assert second.parts == []


def test_a_given_weight_is_used_without_a_choice() -> None:
    recipe = dataclasses.replace(TINY, blend_weight=0.3, validation=0.0)
    no_predictor = cast(Predictor, None)  # a given weight needs no look at any score

    assert choose_weight(recipe, no_predictor, CLICKS, CLICKS) == 0.3
    none = dataclasses.replace(TINY, blend="none")
    assert choose_weight(none, no_predictor, CLICKS, CLICKS) == 0.0
    assert blend_summary(recipe, 0.3) == "vstan with a weight of 0.3, as the recipe says"


def test_without_validation_a_given_weight_is_used(tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, blend_weight=0.3, validation=0.0)

    trained = Trainer(recipe, tmp_path, CPU, Quiet(), chooser_of(recipe)).train(CLICKS, None)

    assert (trained.additions.repeats, trained.additions.blend_weight) == (None, 0.3)


def test_a_blend_without_validation_and_without_a_weight_is_refused() -> None:
    with pytest.raises(BadRecipe, match="blend_weight must be above 0 where blend is set"):
        dataclasses.replace(TINY, validation=0.0)


def ranked(*weights: tuple[float, list[int]]) -> WeighedCases:
    ranks = {weight: np.array(of_weight * 50) for weight, of_weight in weights}
    return WeighedCases(np.arange(200), ranks)


def test_the_weight_with_the_highest_gain_wins() -> None:
    alone, better, best = (0.0, [30, 4, 30, 2]), (0.1, [30, 4, 20, 2]), (0.2, [30, 2, 20, 2])

    assert best_weight(ranked(alone, better, best)) == 0.2
    assert best_weight(ranked(alone, (0.1, [30, 2, 20, 2]), (0.2, [30, 2, 20, 2]))) == 0.1


def test_no_weight_is_used_that_is_worse_or_not_clearly_better() -> None:
    cases = WeighedCases(
        np.arange(40), {0.0: np.full(40, 2), 0.1: np.array([1, *[2] * 38, 4]), 0.2: np.full(40, 3)}
    )

    assert best_weight(cases) == 0.0
    assert "left out" in blend_summary(TINY, 0.0)


def test_each_weight_is_measured_as_the_blend_of_that_weight_is_evaluated(tmp_path: Path) -> None:
    """The one pass over the grid equals an evaluation of each blended predictor."""
    found: dict[float, float] = {}
    term = RepeatTerm(temperature=1.25, last=0.5, earlier=-1.0)

    def keep(predictor: Predictor, train_part: Sessions, valid: Sessions | None) -> Additions:
        assert valid is not None
        measured = weigh(TINY, predictor, train_part, valid, term)
        held = reindex(valid, predictor.catalogue.item_ids)
        for weight in (0.0, 0.2):
            found[weight] = float(metric_parts(measured.ranks[weight])[1].mean())
            blend = blend_of(TINY, predictor.catalogue, train_part, weight)
            scale = 1.0 if blend is None else term.temperature
            on_top = RepeatTerm(term.temperature, term.last / scale, term.earlier / scale)
            blended = predictor.with_repeats(on_top).with_blend(blend)
            assert evaluate(blended, held, 4).metrics["mrr@20"] == pytest.approx(found[weight])
        return Additions()

    Trainer(TINY, tmp_path, CPU, Quiet(), keep).train(CLICKS, None)

    assert len(found) == 2


def test_v_sknn_has_no_decay_and_a_decay_of_zero_is_none() -> None:
    plain = neighbour_settings(dataclasses.replace(TINY, blend="v-sknn"))
    no_age = neighbour_settings(dataclasses.replace(TINY, age_decay_days=0.0))

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
