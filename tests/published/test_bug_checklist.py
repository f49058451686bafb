"""Errors found in third-party GRU4Rec implementations (Hidasi and Czapp, arXiv:2307.14956).

Each of the thirteen errors has one test or more, by number; 7, 10, 11 and 13, which concern
weights, are in `test_bug_checklist_weights.py`.
"""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch

from data.batches.session_parallel import SessionParallelBatches
from data.sessions import known_items, reindex
from recsys.catalogue.catalogue import Catalogue
from recsys.predictor import Predictor
from tests.support.bundles.model_kinds import KINDS
from tests.support.training.builders import words
from tests.support.training.training_steps import (
    CPU,
    ITEMS,
    PLAIN,
    SameThree,
    batch_of,
    random_of,
    scores_by_hand,
    step_of,
)
from training.model.optim import learning_rate_at
from training.model.sampling import RandomStreams
from training.model.weights import Weights, eager_predictor
from training.recipe import Recipe


class RecordingStreams(RandomStreams):
    """Random streams that record the requested dropout masks."""

    def __init__(self, *step: Any) -> None:
        super().__init__(*step)
        self.requests: list[tuple[tuple[int, ...], float]] = []

    def dropout_mask(self, shape: torch.Size, rate: float) -> torch.Tensor:
        self.requests.append((tuple(shape), rate))
        return super().dropout_mask(shape, rate)


def input_table(weights: Weights) -> torch.Tensor:
    """Return the current input vectors."""
    exported = weights.exported()
    return (exported.matrix if exported.inputs is None else exported.inputs).clone()


@pytest.mark.parametrize("kind", KINDS)
def test_01_the_state_is_reset_when_a_session_starts_and_only_then(kind: str) -> None:
    step = step_of(dataclasses.replace(PLAIN, layers=2, **KINDS[kind]))
    model = step.weights.model
    table = input_table(step.weights)
    first = model.step(table, torch.tensor([1, 2, 3]), model.initial_state(3)).detach()
    step.next(batch_of([1, 2, 3], [4, 5, 6], [True, True, True]))
    torch.testing.assert_close(step.state, first)

    table, before = input_table(step.weights), step.state.clone()
    before[:, 1] = 0
    expected = model.step(table, torch.tensor([4, 7, 6]), before).detach()
    step.next(batch_of([4, 7, 6], [5, 8, 0], [False, True, False]))
    torch.testing.assert_close(step.state, expected)


def test_02_evaluation_begins_every_session_from_zero(predictor: Predictor) -> None:
    first, second = np.array([1, 2, 3]), np.array([1, 5])

    together = predictor.scores_along([first, second])
    alone = predictor.scores_along([second])

    torch.testing.assert_close(together[2:], alone, atol=1e-5, rtol=0)


def test_03_the_loss_is_one_softmax_over_the_candidates() -> None:
    """Only the candidates take part, and the softmax is applied once."""
    recipe = dataclasses.replace(PLAIN, logq=0.0, batch=2, negatives=3)
    step = step_of(recipe, sampling=SameThree)
    weights = step.weights
    matrix = weights.matrix.clone()
    state = weights.model.step(
        matrix, torch.tensor([1, 2]), weights.model.initial_state(2)
    ).detach()

    loss = step.next(batch_of([1, 2], [4, 5], [True, True])).loss

    scores = state[-1] @ matrix[torch.tensor([4, 5, 4, 0, 8])].T
    scores[0, 2] = -torch.inf  # the sampled 4 is row 0's own target
    expected = -(scores[0].softmax(0)[0].log() + scores[1].softmax(0)[1].log())
    torch.testing.assert_close(loss, expected)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_04_bpr_max_weights_negatives_only_and_regularizes_their_scores() -> None:
    recipe = dataclasses.replace(PLAIN, loss="bpr-max", bpreg=0.7, elu=0.0, batch=2, negatives=3)
    step = step_of(recipe, sampling=SameThree)
    with torch.no_grad():
        step.weights.matrix.mul_(3)  # scores far enough apart to tell formulas apart
    rows = scores_by_hand(step, [1, 2], [4, 5, 4, 0, 8]).tolist()

    loss = step.next(batch_of([1, 2], [4, 5], [True, True])).loss

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


def test_04_bpr_max_is_finite_where_every_negative_wins() -> None:
    """Every sigmoid is 0 in float32."""
    recipe = dataclasses.replace(PLAIN, loss="bpr-max", bpreg=0.0, elu=0.0, batch=2, negatives=3)
    step = step_of(recipe, sampling=SameThree)
    step.weights.bias[torch.tensor([4, 5])] = -500.0
    step.weights.bias[torch.tensor([0, 8])] = 500.0

    loss = step.next(batch_of([1, 2], [4, 5], [True, True])).loss

    assert torch.isfinite(loss)
    assert all(tensor.isfinite().all() for tensor in step.weights.tensors().values())


def test_05_each_dropout_is_applied_once_and_its_rate_is_the_share_dropped() -> None:
    """A mask for the input vectors, and one for each layer's output."""
    recipe = dataclasses.replace(PLAIN, dropout_embedding=0.2, dropout_hidden=0.4, layers=2)
    recorder = RecordingStreams(CPU, 0, 0, 0)

    step_of(recipe).run(batch_of([1, 2], [2, 3], [True, True]), recorder)

    assert recorder.requests == [((2, 6), 0.2), ((2, 6), 0.4), ((2, 6), 0.4)]


def test_05_a_dropout_rate_is_the_share_that_is_dropped() -> None:
    mask = random_of().dropout_mask(torch.Size((100, 1000)), 0.3)

    assert (mask == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert mask.max().item() == pytest.approx(1 / 0.7, rel=1e-3)


def test_06_adagrad_is_the_default_and_a_constant_rate_stays() -> None:
    constant = Recipe(schedule="constant", warmup=0.0, learning_rate=0.1)

    assert Recipe().optimizer == "adagrad"
    assert [learning_rate_at(constant, share, 100) for share in (0.0, 0.5, 0.99)] == [0.1] * 3


def test_06_the_accumulators_start_at_zero() -> None:
    moving = {n: t for n, t in step_of(PLAIN).tensors().items() if n.startswith("accumulated")}

    assert len(moving) == 2 + 4
    assert not any(tensor.any() for tensor in moving.values())


def test_08_unknown_test_items_change_no_state_and_raise_nothing(predictor: Predictor) -> None:
    known, with_unknown = np.array([3, 4, 5]), np.array([3, -1, 4, 5])

    scores = predictor.scores_along([with_unknown])

    torch.testing.assert_close(scores[0], scores[1])
    torch.testing.assert_close(scores[2], predictor.scores_along([known])[1], atol=1e-5, rtol=0)


def test_09_an_epoch_runs_to_the_end_of_the_last_session() -> None:
    """The last batches have a single row, which is trained on as before."""
    sessions = words("ab", "abcdefgh", "cd")
    indexed = reindex(sessions, known_items(sessions))
    plan, step = SessionParallelBatches(indexed, rows=2), step_of(PLAIN)

    sizes, losses, pairs = [], [], []
    for number in range(len(plan)):
        batch = plan[number]
        losses.append(float(step.next(batch).loss))
        sizes.append(len(batch))
        pairs += list(zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True))

    assert sizes == [2, 2, 1, 1, 1, 1, 1]
    assert sorted(pairs) == sorted([(0, 1), *((n, n + 1) for n in range(7)), (2, 3)])
    assert min(losses) > 0


def test_09_the_gradient_of_fewer_rows_is_divided_by_the_batch_of_the_recipe() -> None:
    """One row of three is left: the gradient is a third of a batch of one."""
    norms = []
    for batch in (1, 3):
        recipe = dataclasses.replace(PLAIN, batch=batch, negatives=3, logq=0.0)
        step = step_of(recipe, sampling=SameThree)
        norms.append(step.next(batch_of([1], [2], [True]), measure=True).gradient_norm)

    assert norms[0] is not None
    assert norms[1] is not None
    assert float(norms[1]) == pytest.approx(float(norms[0]) / 3, rel=1e-5)


def test_12_evaluation_has_no_dropout() -> None:
    step = step_of(dataclasses.replace(PLAIN, dropout_embedding=0.5, dropout_hidden=0.5))
    catalogue = Catalogue(tuple(map(str, range(ITEMS))), np.ones(ITEMS, dtype=np.int64))
    predictor = eager_predictor(step.weights, catalogue, PLAIN)

    first, second = (predictor.scores_along([np.array([1, 2, 3])]) for _ in range(2))

    assert torch.equal(first, second)
