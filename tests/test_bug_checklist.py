"""The errors found in third-party GRU4Rec codes (Hidasi and Czapp, RecSys 2023, arXiv:2307.14956).

One test or more for each of its thirteen rows, by number.
"""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from builders import words
from kinds import KINDS
from learners import (
    CPU,
    ITEMS,
    PLAIN,
    SameThree,
    SteppingLearner,
    batch_of,
    draws_of,
    learner_of,
    scores_by_hand,
)

from data.batches import LaneSteps
from data.sessions import known_items, reindex
from recsys.catalogue import Catalogue
from recsys.model import ModelSize, SessionRNN, initialise
from recsys.predictor import Predictor
from training.columns import SampledColumns, columns_of
from training.draws import Draws
from training.learner import Learner
from training.loop import steps_of
from training.recipe import Recipe
from training.schedule import rate_at
from training.weights import Weights, eager_predictor


class RateKeeper(Draws):
    """Remembers what dropout asked for."""

    def __init__(self, *step: Any) -> None:
        super().__init__(*step)
        self.asked: list[tuple[tuple[int, ...], float]] = []

    def kept(self, shape: torch.Size, rate: float) -> torch.Tensor:
        self.asked.append((tuple(shape), rate))
        return super().kept(shape, rate)


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
    learner.follow(batch_of([1, 2, 3], [4, 5, 6], [True, True, True]))
    torch.testing.assert_close(learner.state, first)

    table, before = read_table(learner.weights), learner.state.clone()
    before[:, 1] = 0
    expected = model.step(table, torch.tensor([4, 7, 6]), before).detach()
    learner.follow(batch_of([4, 7, 6], [5, 8, 0], [False, True, False]))
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

    loss = learner.follow(batch_of([1, 2], [4, 5], [True, True])).loss

    scores = state[-1] @ matrix[torch.tensor([4, 5, 4, 0, 8])].T
    scores[0, 2] = -torch.inf  # the sampled 4 is row 0's own target
    expected = -(scores[0].softmax(0)[0].log() + scores[1].softmax(0)[1].log())
    torch.testing.assert_close(loss, expected)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_04_bpr_max_weighs_negatives_alone_and_regularises_their_scores() -> None:
    recipe = dataclasses.replace(PLAIN, loss="bpr-max", bpreg=0.7, elu=0.0, batch=2, negatives=3)
    learner = learner_of(recipe, sampling=SameThree)
    with torch.no_grad():
        learner.weights.matrix.mul_(3)  # scores far enough apart to tell formulas apart
    rows = scores_by_hand(learner, [1, 2], [4, 5, 4, 0, 8]).tolist()

    loss = learner.follow(batch_of([1, 2], [4, 5], [True, True])).loss

    def by_hand(target: float, negatives: list[float]) -> float:
        total = sum(map(math.exp, negatives))
        weights = [math.exp(score) / total for score in negatives]
        pairs = list(zip(weights, negatives, strict=True))
        won = sum(weight * sigmoid(target - score) for weight, score in pairs)
        return -math.log(won) + 0.7 * sum(weight * score**2 for weight, score in pairs)

    first, second = rows  # the sampled 4 is the first row's own target, no negative of it
    expected = by_hand(first[0], [first[1], *first[3:]]) + by_hand(
        second[1], [second[0], *second[2:]]
    )
    assert float(loss) == pytest.approx(expected, abs=1e-5)


def test_04_bpr_max_takes_no_logarithm_of_nothing() -> None:
    """Every negative wins by far, so that every sigmoid is 0 in float32."""
    recipe = dataclasses.replace(PLAIN, loss="bpr-max", bpreg=0.0, elu=0.0, batch=2, negatives=3)
    learner = learner_of(recipe, sampling=SameThree)
    learner.weights.bias[torch.tensor([4, 5])] = -500.0
    learner.weights.bias[torch.tensor([0, 8])] = 500.0

    loss = learner.follow(batch_of([1, 2], [4, 5], [True, True])).loss

    assert torch.isfinite(loss)
    assert all(tensor.isfinite().all() for tensor in learner.weights.tensors().values())


def test_05_each_dropout_is_applied_once_and_its_rate_is_the_share_dropped() -> None:
    """What the shares mean is in the tests of the draws; here, which numbers they are asked for."""
    recipe = dataclasses.replace(PLAIN, dropout_embedding=0.2, dropout_hidden=0.4, layers=2)
    keeper = RateKeeper(CPU, 0, 0, 0)

    learner_of(recipe).learn(batch_of([1, 2], [2, 3], [True, True]), keeper)

    assert keeper.asked == [((2, 6), 0.2), ((2, 6), 0.4), ((2, 6), 0.4)]


def test_05_a_rate_is_the_share_that_is_dropped_not_the_one_that_is_kept() -> None:
    kept = draws_of().kept(torch.Size((100, 1000)), 0.3)

    assert (kept == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert kept.max().item() == pytest.approx(1 / 0.7, rel=1e-3)


def test_06_adagrad_is_the_default_and_a_constant_rate_stays() -> None:
    constant = Recipe(schedule="constant", warmup=0.0, learning_rate=0.1)

    assert Recipe().optimiser == "adagrad"
    assert [rate_at(constant, share) for share in (0.0, 0.5, 0.99)] == [0.1] * 3


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
        {"average": 0.9},
        {"precision": "bfloat16"},
        {"batches": "sessions"},
        {"columns": "distinct"},
        {"columns": "full"},
        {"mask": False},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_07_nothing_is_hard_coded(setting: dict[str, Any]) -> None:
    """Every setting of the model and the optimiser changes what is learned."""

    def learned(recipe: Recipe) -> torch.Tensor:
        sessions = words("abc", "bcd", "cde", "aedb", "eaaaab")
        indexed = reindex(sessions, known_items(sessions))
        weights = Weights.fresh(
            recipe.size(len(indexed.item_ids)), torch.Generator().manual_seed(0)
        )
        steps = steps_of(indexed, recipe)
        columns = columns_of(recipe, indexed.counts(), 3, CPU)
        learner = Learner(weights, recipe, columns, CPU)
        for step in range(len(steps)):
            learner.learn(steps[step], draws_of(step), step / len(steps))
        return learner.result.matrix

    plain, changed = learned(PLAIN), learned(dataclasses.replace(PLAIN, **setting))
    assert plain.shape != changed.shape or not torch.equal(plain, changed)


@pytest.mark.parametrize(
    "setting", [{"bpreg": 2.0}, {"elu": 0.0}], ids=lambda setting: next(iter(setting))
)
def test_07_the_settings_of_bpr_max_are_not_hard_coded(setting: dict[str, Any]) -> None:
    batch = batch_of([1, 2], [4, 5], [True, True])
    losses = [
        learner_of(dataclasses.replace(PLAIN, loss="bpr-max", **changed), sampling=SameThree)
        .follow(batch)
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

    norms = [learner.follow(batch, measure=True).gradient_norm for learner in (free, bound)]

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


def test_09_an_epoch_runs_to_the_end_of_the_last_session() -> None:
    """The batch narrows to one lane; that lane is learned from as before."""
    sessions = words("ab", "abcdefgh", "cd")
    indexed = reindex(sessions, known_items(sessions))
    plan, learner = LaneSteps(indexed, lanes=2), learner_of(PLAIN)

    widths, losses, pairs = [], [], []
    for step in range(len(plan)):
        losses.append(float(learner.follow(plan[step]).loss))
        widths.append(len(plan[step]))
        clicked, following = plan[step].clicked.tolist(), plan[step].following.tolist()
        pairs += list(zip(clicked, following, strict=True))

    assert widths == [2, 2, 1, 1, 1, 1, 1]
    assert sorted(pairs) == sorted([(0, 1), *((n, n + 1) for n in range(7)), (2, 3)])
    assert min(losses) > 0


def test_09_a_narrow_batch_is_divided_by_the_batch_of_the_recipe() -> None:
    """One lane of three left: a third of the gradient that it gives alone."""
    norms = []
    for batch in (1, 3):
        recipe = dataclasses.replace(PLAIN, batch=batch, negatives=3, logq=0.0)
        learner = learner_of(recipe, sampling=SameThree)
        norms.append(learner.follow(batch_of([1], [2], [True]), measure=True).gradient_norm)

    assert norms[0] is not None
    assert norms[1] is not None
    assert float(norms[1]) == pytest.approx(float(norms[0]) / 3, rel=1e-5)


def test_10_only_the_rows_of_the_batch_are_touched() -> None:
    """Scoring all items and then picking some would give every row a gradient."""
    learner = learner_of(dataclasses.replace(PLAIN, negatives=0, batch=2))
    before = learner.weights.matrix.clone()

    learner.follow(batch_of([1, 2], [4, 5], [True, True]))

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

    learner.follow(batch_of([1, 2], [4, 5], [True, True]))

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
    losses = [float(learner.follow(batch_of([1, 2], [2, 3], [True, True])).loss) for _ in range(12)]

    assert losses[-1] < losses[0] * 2 / 3


def test_10_only_the_sampled_columns_are_scored() -> None:
    """Biases move where an item was a column, and nowhere else."""
    recipe = dataclasses.replace(PLAIN, batch=2, negatives=3)
    learner = learner_of(recipe, sampling=SameThree)

    learner.follow(batch_of([1, 2], [4, 5], [True, True]))

    assert learner.weights.bias.nonzero().flatten().tolist() == [0, 4, 5, 8]


def test_11_every_gate_is_drawn_for_its_own_shape() -> None:
    """U(±√(6/(rows+columns))) of one gate; the stacked matrix would make it √2 too narrow."""
    model = SessionRNN(ModelSize(items=500, hidden=64, layers=2))
    initialise(model, torch.Generator().manual_seed(0))
    matrix = Weights.fresh(ModelSize(500, 64), torch.Generator().manual_seed(0)).matrix

    drawn = [(matrix, math.sqrt(6 / (500 + 64)))]
    for name, parameter in model.named_parameters():
        if "weight" in name:
            drawn += [(gate, math.sqrt(6 / (64 + 64))) for gate in parameter.chunk(3)]
        else:
            assert not parameter.any(), name
    assert len(drawn) == 1 + 2 * 2 * 3
    for weight, bound in drawn:
        assert 0.99 * bound < weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)  # uniform's


def test_12_dropout_is_off_when_it_counts() -> None:
    learner = learner_of(dataclasses.replace(PLAIN, dropout_embedding=0.5, dropout_hidden=0.5))
    catalogue = Catalogue(tuple(map(str, range(ITEMS))), np.ones(ITEMS, dtype=np.int64))
    predictor = eager_predictor(learner.weights, catalogue, PLAIN)

    first, second = (predictor.scores_along([np.array([1, 2, 3])]) for _ in range(2))

    assert torch.equal(first, second)


def test_13_logq_subtracts_how_often_a_column_is_expected() -> None:
    """One other target, P = popularity, and three draws, P ∝ the roots of the counts."""
    recipe = dataclasses.replace(PLAIN, batch=2, negatives=3, sample_alpha=0.5)
    counts = np.arange(1, ITEMS + 1) ** 2
    columns = SampledColumns(recipe, SameThree(counts, 0.5, CPU), 2, CPU)
    weights = learner_of(recipe).weights
    learner = SteppingLearner(weights, recipe, columns, CPU)
    place = [4, 5, 4, 0, 8]
    scores = scores_by_hand(learner, [1, 2], place)

    loss = learner.follow(batch_of([1, 2], [4, 5], [True, True])).loss

    expected = 1 * counts / counts.sum() + 3 * np.sqrt(counts) / np.sqrt(counts).sum()
    powers = (scores - torch.from_numpy(np.log(expected[place]))).exp()
    powers[0, 2] = 0  # row 0's own target by accident
    by_hand = -(powers[0, 0] / powers[0].sum()).log() - (powers[1, 1] / powers[1].sum()).log()
    assert float(loss) == pytest.approx(float(by_hand), abs=1e-5)


def test_13_momentum_carries_half_of_the_last_step_on() -> None:
    """From equal weights and accumulators, the steps differ by momentum × the step before."""
    batch = batch_of([1, 2], [4, 5], [True, True])
    moved = []
    for momentum in (0.0, 0.5):
        recipe = dataclasses.replace(PLAIN, batch=2, negatives=3, momentum=momentum)
        learner = learner_of(recipe, sampling=SameThree)
        seen = []
        for _ in range(3):
            seen.append({n: t.clone() for n, t in learner.weights.tensors().items()})
            learner.follow(batch)
        moved.append(seen)

    without, with_momentum = moved
    for name, start in without[0].items():
        moved_by = without[1][name] - start
        torch.testing.assert_close(without[1][name], with_momentum[1][name])
        torch.testing.assert_close(
            with_momentum[2][name] - without[2][name], 0.5 * moved_by, atol=1e-6, rtol=1e-4
        )


def test_13_momentum_moves_no_bias_of_an_item_that_was_only_clicked() -> None:
    recipe = dataclasses.replace(PLAIN, batch=2, negatives=0, momentum=0.5)
    learner = learner_of(recipe)
    learner.follow(batch_of([1, 2], [4, 5], [True, True]))
    before = learner.weights.bias.clone()
    assert before[4] != 0

    learner.follow(batch_of([4, 2], [7, 8], [True, True]))

    assert learner.weights.bias[4] == before[4]
    assert learner.weights.bias[7] != 0


def test_13_input_and_output_share_one_matrix() -> None:
    """A click moves the very row that it is scored with."""
    names = set(learner_of(PLAIN).weights.tensors())

    assert names == {"matrix", "bias"} | {
        f"cells.0.{part}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
