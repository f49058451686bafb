"""Fit of the repeat term: exact ranks, a gain where visitors return, none where nothing helps."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rich.console import Console
from scipy.optimize import check_grad
from torch import Tensor

from data.batches.selection import Selection
from data.click_options import ClickOptions
from data.sessions import Sessions, reindex
from recsys.bundle.golden import (
    compute_golden_session,
    open_predictor,
    read_golden,
    write_golden,
)
from recsys.bundle.layout import GOLDEN, MANIFEST
from recsys.bundle.load import digest, model_id_of
from recsys.bundle.manifest import read_manifest
from recsys.errors import BundleRefused
from recsys.model.gru4rec import ModelSize
from recsys.model.ranking import target_ranks, top_k
from recsys.model.repeats import RepeatTerm
from recsys.neighbours.blend import BlendSettings
from recsys.neighbours.scoring import VSTAN
from recsys.predictor import Predictor
from recsys.ragged import rows_of
from tests.support.bundles.broken_bundles import edit_manifest
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.training.builders import Quiet, words
from training.additions import gain
from training.additions.blend import blend_of, choose_blend
from training.additions.cases import ScoredCases
from training.additions.chooser import chooser_of
from training.additions.gain import standard_error
from training.additions.repeats import (
    COEFFICIENTS,
    EXPONENT_STEP,
    EXPONENTS,
    RepeatCases,
    RepeatLoss,
    choose,
    collect,
    fit_repeats,
)
from training.checkpoint import Additions
from training.evaluation.evaluate import evaluate
from training.finetune import FinetuneOptions, finetune
from training.pipeline import TrainOptions, train
from training.recipe import Recipe
from training.trainer import Trainer

CPU = torch.device("cpu")
ITEMS = 30
TINY = Recipe(hidden=8, epochs=3, batch=8, negatives=12, validation=0.3)


def random_cases(seed: int, cases: int = 40, repeated: float = 0.4) -> tuple[ScoredCases, Tensor]:
    """Return cases with random scores, whose targets are often items of the window."""
    rng = np.random.default_rng(seed)
    windows = [rng.integers(0, ITEMS, rng.integers(1, 6)).tolist() for _ in range(cases)]
    targets = np.array(
        [
            rng.choice(window) if rng.random() < repeated else rng.integers(-1, ITEMS)
            for window in windows
        ]
    )
    scores = torch.from_numpy(rng.normal(size=(cases, ITEMS)).astype(np.float32))
    session = np.arange(cases) // 2
    times_ms = np.zeros(len(session), dtype=np.int64)
    return ScoredCases(session, targets, rows_of(windows), scores.clone(), times_ms), scores


def term_of(coefficients: NDArray[np.float64]) -> RepeatTerm:
    return RepeatTerm(**dict(zip(COEFFICIENTS, coefficients.tolist(), strict=True)))


@given(
    st.integers(0, 100),
    st.lists(st.floats(-3, 3), min_size=len(COEFFICIENTS), max_size=len(COEFFICIENTS)),
)
def test_ranks_are_those_of_all_scores_with_the_bonuses(seed: int, numbers: list[float]) -> None:
    """The fit keeps a few numbers of each case; its ranks up to 20 are exact all the same."""
    scored, scores = random_cases(seed)
    coefficients = np.array(numbers)

    ranks = collect([scored]).ranks(coefficients)

    term_of(coefficients).add_to(scores, scored.windows.lists())
    expected = target_ranks(scores, torch.from_numpy(scored.target))[0].numpy()
    near = expected <= 20
    assert ranks[near].tolist() == expected[near].tolist()
    assert (ranks[~near] > 20).all()


def test_the_share_of_repeated_places_is_that_of_the_lists() -> None:
    scored, scores = random_cases(5)
    coefficients = np.zeros(len(COEFFICIENTS))
    coefficients[:2] = -0.5, 1.0

    share = collect([scored]).repeated_share(coefficients)

    windows = scored.windows.lists()
    term_of(coefficients).add_to(scores, windows)
    lists = top_k(scores, 20)[1].tolist()
    hits = sum(len(set(items) & set(window)) for items, window in zip(lists, windows, strict=True))
    assert share == pytest.approx(hits / (20 * len(windows)))


@pytest.mark.parametrize("at", [0, 3, 6])
def test_the_loss_is_the_cross_entropy_of_all_items_and_its_gradient_is_right(at: int) -> None:
    scored, scores = random_cases(3)
    cases = collect([scored])
    inverse = EXPONENT_STEP * EXPONENTS[at]
    loss = RepeatLoss(cases, cases.known, at, inverse)
    point = np.linspace(-1, 1, len(COEFFICIENTS))

    value = loss(point)[0] - 1e-3 * point @ point

    term_of(point / inverse).add_to(scores, scored.windows.lists())
    known = torch.from_numpy(np.flatnonzero(scored.target >= 0))
    targets = torch.from_numpy(scored.target)[known]
    expected = torch.nn.functional.cross_entropy(inverse * scores[known].double(), targets)
    assert value == pytest.approx(float(expected), abs=1e-5)
    assert check_grad(lambda x: loss(x)[0], lambda x: loss(x)[1], point) < 1e-4


def test_parts_give_the_same_cases_as_one() -> None:
    scored, scores = random_cases(7)
    halves = []
    for rows in (slice(0, 15), slice(15, 40)):
        windows = rows_of(scored.windows.lists()[rows])
        halves.append(
            ScoredCases(
                scored.session[rows],
                scored.target[rows],
                windows,
                scores[rows],
                scored.time_ms[rows],
            )
        )

    joined, whole = collect(halves), collect([scored])

    for field in dataclasses.fields(RepeatCases):
        np.testing.assert_allclose(
            getattr(joined, field.name), getattr(whole, field.name), rtol=1e-6
        )


def test_too_few_sessions_fit_nothing() -> None:
    few = collect([random_cases(11, cases=4, repeated=0.0)[0]])

    assert choose(few).term is None
    assert "too few" in choose(few).summary


def test_a_gain_within_its_errors_is_no_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Returning visitors, but so few that the gain is not certain; without the rule it counts."""
    cases = collect([random_cases(4, cases=40, repeated=0.25)[0]])

    assert choose(cases).term is None
    assert "two standard errors" in choose(cases).summary

    monkeypatch.setattr(gain, "ERRORS", -100.0)
    assert choose(cases).term is not None


def test_the_standard_error_counts_sessions_and_not_cases() -> None:
    values, session = np.array([1.0, 1.0, -1.0, -1.0]), np.array([0, 0, 1, 1])

    assert standard_error(values, session) == pytest.approx(np.sqrt(8) / 4)
    assert standard_error(values, np.arange(4)) == pytest.approx(0.5)


def returning_visitors(sessions: int = 240) -> Sessions:
    """Return sessions that click three random items and then go back to the first two."""
    rng = np.random.default_rng(2)
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGH"
    rows = []
    for _ in range(sessions):
        a, b, c = rng.choice(list(letters), 3, replace=False)
        rows.append(a + b + c + a + b)
    return words(*rows)


def trained_predictors(tmp_path: Path, recipe: Recipe) -> tuple[Predictor, Predictor]:
    """Return the search's predictor without and with the fitted term."""
    found: list[Predictor] = []

    def choose_and_keep(
        predictor: Predictor, train: Selection, valid: Sessions | None
    ) -> Additions:
        additions = chooser_of(recipe)(predictor, train, valid)
        found.extend([predictor, predictor.with_repeats(additions.repeats)])
        return additions

    Trainer(recipe, tmp_path, CPU, Quiet(), choose_and_keep).train(returning_visitors(), None)
    return found[0], found[1]


def test_visitors_who_return_are_served_better_with_the_term(tmp_path: Path) -> None:
    alone, fitted = trained_predictors(tmp_path, TINY)
    unseen = reindex(returning_visitors(300), alone.catalogue.item_ids)

    before = evaluate(alone, unseen, len(alone.catalogue)).metrics
    after = evaluate(fitted, unseen, len(alone.catalogue)).metrics

    assert fitted.repeats is not None
    assert after["mrr@20"] > before["mrr@20"] + 0.05
    assert after["recall@20"] >= before["recall@20"]


def test_a_recipe_without_repeats_fits_nothing(tmp_path: Path) -> None:
    alone, fitted = trained_predictors(tmp_path, dataclasses.replace(TINY, repeats="none"))

    assert fitted.repeats is None
    assert alone.recommend([0, 1]) == fitted.recommend([0, 1])


TERM = RepeatTerm(temperature=1.25, earlier=2.0)
HALF = BlendSettings(0.5, VSTAN)


@pytest.mark.parametrize(
    ("settings", "kept", "expected", "summary"),
    [
        ({}, None, None, "no validation sessions"),
        ({}, Additions(TERM, "", None), TERM, "kept from the continued bundle"),
        ({"repeats": "none"}, Additions(TERM, "", None), None, "none"),
        (
            {"blend": "vstan", "blend_weight": 0.5},
            Additions(TERM, "", None),
            RepeatTerm(temperature=1.25),
            "scores of another kind",
        ),
        ({}, Additions(TERM, "", HALF), None, "scores of another kind"),
        (
            {"blend": "vstan", "blend_weight": 0.5},
            Additions(TERM, "", HALF),
            TERM,
            "kept from the continued bundle",
        ),
    ],
)
def test_without_validation_a_term_is_kept_where_its_scale_fits(
    predictor: Predictor,
    settings: dict[str, Any],
    kept: Additions | None,
    expected: RepeatTerm | None,
    summary: str,
) -> None:
    """A bonus for the model's scores is none for those of a blend, and the other way round."""
    recipe = dataclasses.replace(TINY, validation=0.0, **settings)

    additions = chooser_of(recipe, kept)(predictor, Selection(returning_visitors(4)), None)

    assert additions.repeats == expected
    assert summary in additions.repeats_summary


def test_a_fit_without_a_gain_keeps_the_term_of_the_continued_bundle(predictor: Predictor) -> None:
    valid = returning_visitors(3)  # too few sessions, on items that the predictor does not know

    additions = chooser_of(TINY, Additions(TERM, "", None))(predictor, Selection(valid), valid)

    assert additions.repeats == TERM


def test_a_bundle_keeps_its_term_and_answers_with_it(trained: TrainedShop, tmp_path: Path) -> None:
    """Trained, written, loaded, continued: the manifest has the term, the lists hold it."""
    clicks = tmp_path / "clicks.csv"
    visits = returning_visitors()
    lines = ["session_id,item_id,timestamp"]
    for number in range(len(visits)):
        for place, code in enumerate(visits[number].tolist()):
            lines.append(f"{number},{visits.item_ids[code]},{number * 1000 + place}")
    clicks.write_text("\n".join(lines))
    options = TrainOptions(ClickOptions(clicks), tmp_path / "bundle", TINY)
    train(options, Console(quiet=True))

    manifest = read_manifest(options.out)
    predictor = open_predictor(options.out)

    assert predictor.repeats == manifest.repeats is not None
    assert "mrr@20" in manifest.training["repeats"]
    assert "model alone" in manifest.metrics["baselines"]
    assert predictor.recommend([0, 1, 2]) != predictor.with_repeats(None).recommend([0, 1, 2])

    continued = FinetuneOptions(options.out, ClickOptions(clicks), tmp_path / "continued")
    finetune(continued, Console(quiet=True))

    assert read_manifest(continued.out).repeats == manifest.repeats


def test_a_bundle_of_the_last_format_answers_without_a_term(
    trained: TrainedShop, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(trained.bundle, tmp_path / "bundle"))
    predictor = open_predictor(bundle).with_repeats(None)
    golden = [
        compute_golden_session(predictor, session.clicks)
        for session in read_golden(bundle / GOLDEN)
    ]
    write_golden(bundle / GOLDEN, golden)
    edit_manifest(bundle, lambda m: (m.pop("repeats"), m.update(format_version=2)))
    manifest = json.loads((bundle / MANIFEST).read_text())
    edit_manifest(bundle, lambda m: m["files"].update({GOLDEN: digest(bundle / GOLDEN)}))
    size = ModelSize(**manifest["size"])
    name = model_id_of(manifest["files"], manifest["window"], size)
    edit_manifest(bundle, lambda m: m.update(model_id=name))

    old = open_predictor(bundle)

    assert old.repeats is None
    assert old.recommend([1, 2, 1]) == predictor.recommend([1, 2, 1])


@pytest.mark.parametrize("wrong", [{"last": "2"}, {"latest": 2.0}, [1.0], {"temperature": -1.0}])
def test_a_manifest_with_another_term_is_refused(
    trained: TrainedShop, tmp_path: Path, wrong: object
) -> None:
    bundle = Path(shutil.copytree(trained.bundle, tmp_path / "bundle"))
    edit_manifest(bundle, lambda m: m.update(repeats=wrong))

    with pytest.raises(BundleRefused, match="lacks or misuses a field"):
        read_manifest(bundle)


def test_a_blend_is_calibrated_and_the_bonus_comes_on_top(blended: TrainedShop) -> None:
    """log((1 - a) softmax(scores / temperature) + a · share), then the bonus of the window."""
    whole = open_predictor(blended.bundle)
    window, term = [3, 8, 3], RepeatTerm(temperature=2.0, last=1.5, earlier=-0.25)
    session = [np.array([*window, 0], dtype=np.int32)]
    alone = whole.with_repeats(None).with_blend(None)

    found = whole.with_repeats(term).scores_along(session)[-1]

    assert whole.blend is not None
    scores = alone.scores_along(session)[-1:]
    expected = whole.blend.mix(scores / 2.0, rows_of([window]))[0]
    expected[3] += 1.5
    expected[8] += -0.25
    torch.testing.assert_close(found, expected)


def test_a_blended_recipe_fits_the_term_to_the_blended_scores(tmp_path: Path) -> None:
    """The temperature is that of the model; without a weight the term is that of the model."""
    recipe = dataclasses.replace(TINY, blend="vstan", blend_weight=0.4, recent_popularity="none")
    seen: list[Additions] = []

    def keep(predictor: Predictor, train: Selection, valid: Sessions | None) -> Additions:
        assert valid is not None
        alone = fit_repeats(predictor, valid)
        additions = chooser_of(recipe)(predictor, train, valid)
        settings = choose_blend(recipe, predictor, train, valid)
        blend = blend_of(settings, predictor.catalogue, train)
        calibrated = predictor.with_repeats(RepeatTerm(temperature=alone.temperature))
        on_blend = fit_repeats(calibrated.with_blend(blend), valid)
        assert on_blend.term is not None
        expected = dataclasses.replace(on_blend.term, temperature=alone.temperature)
        assert additions == Additions(expected, on_blend.summary, settings)
        seen.append(additions)
        return additions

    Trainer(recipe, tmp_path, CPU, Quiet(), keep).train(returning_visitors(), None)

    assert len(seen) == 1
