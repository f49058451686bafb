"""The errors found in third-party GRU4Rec codes (Hidasi and Czapp, RecSys 2023, arXiv:2307.14956).

One test for each row that applies to this core; numbers are those of the design's checklist.
"""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from builders import words
from kinds import KINDS

from data.batches import Batch, LanePlan
from data.sessions import known_items, reindex
from recsys.catalogue import Catalogue
from recsys.predictor import Predictor
from training.learner import Learner, Weights
from training.loop import eager_predictor
from training.negatives import NegativeSampler
from training.recipe import Recipe

PLAIN = Recipe(
    hidden=6, batch=3, negatives=4, dropout_embedding=0, dropout_hidden=0, learning_rate=0.05
)
CPU = torch.device("cpu")
ITEMS = 9


class SameThree(NegativeSampler):
    """Draws items 4, 0 and 8, whatever is asked."""

    def draw(self, samples: int) -> torch.Tensor:
        return torch.tensor([4, 0, 8])


class RateKeeper(Learner):
    """Drops nothing and keeps the rates it was told to drop at."""

    rates: tuple[float, ...] = ()

    def _dropped(self, values: torch.Tensor, rate: float) -> torch.Tensor:
        self.rates += (rate,)
        return values


def learner_of(
    recipe: Recipe, kind: type[Learner] = Learner, sampling: type[NegativeSampler] = NegativeSampler
) -> Learner:
    generator = torch.Generator().manual_seed(0)
    weights = Weights.fresh(recipe.size(ITEMS), generator)
    sampler = sampling(np.full(ITEMS, 2), recipe.sample_alpha, generator)
    return kind(weights, recipe, sampler, generator, CPU)


def batch_of(clicked: list[int], following: list[int], fresh: list[bool]) -> Batch:
    return Batch(np.array(clicked), np.array(following), np.array(fresh), np.arange(len(clicked)))


def read_table(weights: Weights) -> torch.Tensor:
    """What clicks are read from now."""
    shipped = weights.shipped()
    return (shipped.matrix if shipped.inputs is None else shipped.inputs).clone()


@pytest.mark.parametrize("kind", KINDS)
def test_01_the_state_is_reset_when_a_session_starts_and_only_then(kind: str) -> None:
    learner = learner_of(dataclasses.replace(PLAIN, layers=2, **KINDS[kind]))
    model = learner.weights.model
    table = read_table(learner.weights)
    first = model.step(table, torch.tensor([1, 2, 3]), model.blank(3)).detach()
    learner.learn(batch_of([1, 2, 3], [4, 5, 6], [True, True, True]))
    torch.testing.assert_close(learner.state, first)

    table, before = read_table(learner.weights), learner.state.clone()
    before[:, 1] = 0
    expected = model.step(table, torch.tensor([4, 7, 6]), before).detach()
    learner.learn(batch_of([4, 7, 6], [5, 8, 0], [False, True, False]))
    torch.testing.assert_close(learner.state, expected)


def test_02_evaluation_begins_every_session_from_zero(predictor: Predictor) -> None:
    first, second = np.array([1, 2, 3]), np.array([1, 5])

    together = predictor.scores_along([first, second])
    alone = predictor.scores_along([second])

    torch.testing.assert_close(together[2:], alone, atol=1e-5, rtol=0)


def test_03_the_loss_is_one_softmax_over_the_sampled_columns() -> None:
    """Sampling comes first; nothing outside the columns takes part, nothing is normalised twice."""
    recipe = dataclasses.replace(PLAIN, logq=0.0, batch=2, negatives=3)
    learner = learner_of(recipe, sampling=SameThree)
    weights = learner.weights
    matrix = weights.matrix.clone()
    state = weights.model.step(matrix, torch.tensor([1, 2]), weights.model.blank(2)).detach()

    loss = learner.learn(batch_of([1, 2], [4, 5], [True, True])).loss

    scores = state[-1] @ matrix[torch.tensor([4, 5, 4, 0, 8])].T
    scores[0, 2] = -torch.inf  # the sampled 4 is row 0's own target
    expected = -(scores[0].softmax(0)[0].log() + scores[1].softmax(0)[1].log())
    torch.testing.assert_close(loss, expected)


def test_05_each_dropout_is_applied_once_and_its_rate_is_the_share_dropped() -> None:
    dropped = learner_of(PLAIN)._dropped(torch.ones(100, 1000), 0.3)

    assert (dropped == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert dropped.max().item() == pytest.approx(1 / 0.7)

    recipe = dataclasses.replace(PLAIN, dropout_embedding=0.2, dropout_hidden=0.4)
    keeper = learner_of(recipe, RateKeeper)
    keeper.learn(batch_of([1], [2], [True]))
    assert isinstance(keeper, RateKeeper)
    assert keeper.rates == (0.2, 0.4)


def test_06_the_accumulators_start_at_zero() -> None:
    moving = {n: t for n, t in learner_of(PLAIN).tensors().items() if n.startswith("accumulated")}

    assert len(moving) == 2 + 4
    assert not any(tensor.any() for tensor in moving.values())


@pytest.mark.parametrize(
    "setting",
    [
        {"hidden": 5},
        {"layers": 2},
        {"cell": "gru-reset-before"},
        {"cell": "lstm"},
        {"cell": "rnn"},
        {"embedding": "separate"},
        {"embedding": "none"},
        {"scale": 4.0},
        {"batch": 2},
        {"learning_rate": 0.2},
        {"momentum": 0.5},
        {"dropout_embedding": 0.5},
        {"dropout_hidden": 0.5},
        {"negatives": 9},
        {"logq": 0.0},
        {"sample_alpha": 1.0},
        {"loss": "bpr-max"},
        {"optimiser": "adam"},
        {"schedule": "linear"},
        {"warmup": 0.5},
        {"clip": 0.01},
        {"weight_decay": 0.1},
        {"l1": 0.1},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_07_nothing_is_hard_coded(setting: dict[str, Any]) -> None:
    """Every setting of the model and the optimiser changes what is learned."""

    def learned(recipe: Recipe) -> torch.Tensor:
        sessions = words("abc", "bcd", "cde", "aedb", "eaaaab")
        indexed = reindex(sessions, known_items(sessions))
        generator = torch.Generator().manual_seed(0)
        weights = Weights.fresh(recipe.size(len(indexed.item_ids)), generator)
        sampler = NegativeSampler(indexed.counts(), recipe.sample_alpha, generator)
        learner, plan = (
            Learner(weights, recipe, sampler, generator, CPU),
            LanePlan(indexed, recipe.batch),
        )
        for step in range(len(plan)):
            learner.learn(plan[step], step / len(plan))
        return weights.matrix

    plain, changed = learned(PLAIN), learned(dataclasses.replace(PLAIN, **setting))
    assert plain.shape != changed.shape or not torch.equal(plain, changed)


@pytest.mark.parametrize(
    "setting", [{"bpreg": 2.0}, {"elu": 0.0}], ids=lambda setting: next(iter(setting))
)
def test_09_the_settings_of_bpr_max_are_not_hard_coded(setting: dict[str, Any]) -> None:
    batch = batch_of([1, 2], [4, 5], [True, True])
    losses = [
        learner_of(dataclasses.replace(PLAIN, loss="bpr-max", **changed), sampling=SameThree)
        .learn(batch)
        .loss
        for changed in ({}, setting)
    ]

    assert losses[0] != losses[1]


def test_clipping_bounds_the_whole_gradient_and_reports_it_as_it_was() -> None:
    batch = batch_of([1, 2], [4, 5], [True, True])
    free, bound = (
        learner_of(dataclasses.replace(PLAIN, clip=clip), sampling=SameThree)
        for clip in (0.0, 1e-3)
    )

    norms = [learner.learn(batch, measure=True).gradient_norm for learner in (free, bound)]

    assert norms[0] is not None
    assert norms[0] == norms[1]
    assert float(norms[0]) > 1e-3
    squares = sum(
        float(tensor.sum())
        for name, tensor in bound.tensors().items()
        if name.startswith("accumulated")
    )
    assert squares == pytest.approx(1e-3**2, rel=1e-3)  # Adagrad sums the squares it was given


def test_08_unknown_test_items_move_nothing_and_crash_nothing(predictor: Predictor) -> None:
    known, with_unknown = np.array([3, 4, 5]), np.array([3, -1, 4, 5])

    scores = predictor.scores_along([with_unknown])

    torch.testing.assert_close(scores[0], scores[1])
    torch.testing.assert_close(scores[2], predictor.scores_along([known])[1], atol=1e-5, rtol=0)


def test_10_only_the_rows_of_the_batch_are_touched() -> None:
    """Scoring all items and then picking some would give every row a gradient."""
    learner = learner_of(dataclasses.replace(PLAIN, negatives=0, batch=2))
    before = learner.weights.matrix.clone()

    learner.learn(batch_of([1, 2], [4, 5], [True, True]))

    changed = (learner.weights.matrix != before).any(dim=1).nonzero().flatten()
    assert changed.tolist() == [1, 2, 4, 5]


@pytest.mark.parametrize("embedding", ["separate", "none"])
def test_10_only_the_rows_clicked_move_in_a_table_of_their_own(embedding: str) -> None:
    learner = learner_of(
        dataclasses.replace(PLAIN, negatives=0, batch=2, embedding=embedding, clip=0.5)
    )
    inputs = learner.weights.inputs
    assert inputs is not None
    tables = (inputs, learner.weights.matrix)
    before = [table.clone() for table in tables]

    learner.learn(batch_of([1, 2], [4, 5], [True, True]))

    changed = [
        (table != old).any(dim=1).nonzero().flatten().tolist()
        for table, old in zip(tables, before, strict=True)
    ]
    assert changed == [[1, 2], [4, 5]]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_learns_what_follows(kind: str) -> None:
    """Twelve equal steps, a to b and b to c: the loss falls by a third at least."""
    learner = learner_of(
        dataclasses.replace(PLAIN, learning_rate=0.1, batch=2, logq=0, **KINDS[kind])
    )
    losses = [float(learner.learn(batch_of([1, 2], [2, 3], [True, True])).loss) for _ in range(12)]

    assert losses[-1] < losses[0] * 2 / 3


def test_12_dropout_is_off_when_it_counts() -> None:
    learner = learner_of(dataclasses.replace(PLAIN, dropout_embedding=0.5, dropout_hidden=0.5))
    catalogue = Catalogue(tuple(map(str, range(ITEMS))), np.ones(ITEMS, dtype=np.int64))
    predictor = eager_predictor(learner.weights, catalogue, PLAIN)

    first, second = (predictor.scores_along([np.array([1, 2, 3])]) for _ in range(2))

    assert torch.equal(first, second)


def test_13_input_and_output_share_one_matrix() -> None:
    """A click moves the very row that it is scored with."""
    names = set(learner_of(PLAIN).weights.tensors())

    assert names == {"matrix", "bias"} | {
        f"cells.0.{part}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
