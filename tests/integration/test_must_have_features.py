"""The ten features that a GRU4Rec must have (Hidasi and Czapp, RecSys 2023, arXiv:2307.14956).

Each feature was missing in a published reimplementation, which cost 10 to 60 % of the accuracy. The
numbers are those of part A of the checklist; `test_bug_checklist.py` covers bugs in the features.
"""

import dataclasses
import math

import numpy as np
import pytest
import torch

from data.batches.session_parallel import SessionParallelBatches
from data.sessions import known_items, reindex
from tests.support.training.builders import words
from tests.support.training.training_steps import (
    CPU,
    PLAIN,
    SameThree,
    batch_of,
    random_of,
    scores_by_hand,
    step_of,
)
from training.model.sampling import NegativeSampler, SampledCandidates
from training.recipe import Recipe

TWO_ROWS = dataclasses.replace(PLAIN, batch=2, negatives=3)
BATCH = batch_of([1, 2], [4, 5], [True, True])
CANDIDATES = [4, 5, 4, 0, 8]  # targets and draws; the third is the first row's own target


def loss_of(recipe: Recipe) -> float:
    return float(step_of(recipe, sampling=SameThree).next(BATCH).loss)


def test_01_sessions_run_side_by_side() -> None:
    sessions = words("abc", "def", "ghi")
    plan = SessionParallelBatches(reindex(sessions, known_items(sessions)), rows=3)

    assert [plan[step].inputs.tolist() for step in range(len(plan))] == [[0, 3, 6], [1, 4, 7]]


def test_02_negatives_are_the_other_targets_and_extra_samples() -> None:
    step = step_of(TWO_ROWS, sampling=SameThree)
    rows = scores_by_hand(step, [1, 2], CANDIDATES).exp().tolist()
    first, second = rows

    loss = step.next(BATCH).loss

    expected = -math.log(first[0] / (first[0] + first[1] + first[3] + first[4]))
    expected -= math.log(second[1] / sum(second))
    assert float(loss) == pytest.approx(expected, abs=1e-5)


def test_03_cross_entropy_and_bpr_max_are_there() -> None:
    losses = {loss: loss_of(dataclasses.replace(TWO_ROWS, loss=loss)) for loss in LOSSES}

    assert len(set(losses.values())) == 2
    assert all(math.isfinite(loss) for loss in losses.values())


LOSSES = ("cross-entropy", "bpr-max")


def test_04_the_embedding_is_shared_between_input_and_output() -> None:
    """The row of a clicked item moves, and the item's score with it."""
    step = step_of(TWO_ROWS, sampling=SameThree)
    before = step.weights.matrix.clone()

    step.next(BATCH)

    moved = (step.weights.matrix != before).any(dim=1).nonzero().flatten()
    assert moved.tolist() == sorted({1, 2} | set(CANDIDATES))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_05_sample_alpha_bends_the_popularity_of_negatives(alpha: float) -> None:
    sampler = NegativeSampler(np.array([1, 100]), alpha, CPU)

    rare = int((sampler.draw(random_of().uniform(100_000)) == 0).sum())

    share = 1 / (1 + 100**alpha)
    assert rare == pytest.approx(100_000 * share, abs=5 * math.sqrt(100_000 * share * (1 - share)))


def test_06_logq_lowers_what_is_drawn_often() -> None:
    step = step_of(TWO_ROWS, sampling=SameThree)
    often = step_of(dataclasses.replace(TWO_ROWS, logq=0.0), sampling=SameThree)
    assert step.next(BATCH).loss == pytest.approx(float(often.next(BATCH).loss), abs=1e-5)

    counts = np.array([50, 2, 2, 2, 2, 2, 2, 2, 50])  # items 0 and 8 are drawn, and popular
    recipe = dataclasses.replace(TWO_ROWS, sample_alpha=1.0)
    sampler = SampledCandidates(recipe, NegativeSampler(counts, 1.0, CPU), 2, CPU)
    candidates = sampler.sample(torch.tensor([0]), torch.tensor([4]), None, random_of())
    correction = dict(
        zip(candidates.items.tolist(), candidates.logq_correction.tolist(), strict=True)
    )
    assert correction[0] - correction[4] == pytest.approx(math.log(25), abs=1e-5)


def test_07_adagrad_has_momentum() -> None:
    still, moving = (
        step_of(dataclasses.replace(TWO_ROWS, momentum=momentum), sampling=SameThree)
        for momentum in (0.0, 0.5)
    )
    start = still.weights.matrix.clone()
    for step in (still, moving):
        step.next(BATCH)
    first = still.weights.matrix - start
    for step in (still, moving):
        step.next(BATCH)

    ahead = moving.weights.matrix - still.weights.matrix
    torch.testing.assert_close(ahead, 0.5 * first, atol=1e-6, rtol=1e-4)


def test_08_embedding_and_hidden_output_have_a_dropout_each() -> None:
    wide = dataclasses.replace(TWO_ROWS, hidden=400)
    zeros = {}
    for name in ("dropout_embedding", "dropout_hidden"):
        step = step_of(
            dataclasses.replace(wide, **{name: 0.5}),  # type: ignore[arg-type]
            sampling=SameThree,
        )
        step.next(BATCH)
        zeros[name] = float((step.state == 0).float().mean())

    assert zeros["dropout_embedding"] < 0.01
    assert zeros["dropout_hidden"] == pytest.approx(0.5, abs=0.1)
    assert loss_of(dataclasses.replace(wide, dropout_embedding=0.5)) != loss_of(wide)


@pytest.mark.parametrize(("bpreg", "elu"), [(0.0, 0.0), (2.0, 0.0), (2.0, 0.5)])
def test_09_bpr_max_has_its_regulariser_and_its_elu(bpreg: float, elu: float) -> None:
    recipe = dataclasses.replace(TWO_ROWS, loss="bpr-max", bpreg=bpreg, elu=elu)
    step = step_of(recipe, sampling=SameThree)
    with torch.no_grad():
        step.weights.matrix.mul_(4)  # scores on both sides of 0, far from it
    rows = scores_by_hand(step, [1, 2], CANDIDATES).tolist()
    assert min(map(min, rows)) < -0.1

    loss = float(step.next(BATCH).loss)

    expected = 0.0
    for row, own, negatives in ((rows[0], 0, (1, 3, 4)), (rows[1], 1, (0, 2, 3, 4))):
        bent = [score if score > 0 or elu == 0 else elu * math.expm1(score) for score in row]
        total = sum(math.exp(bent[j]) for j in negatives)
        weights = {j: math.exp(bent[j]) / total for j in negatives}
        won = sum(w / (1 + math.exp(bent[j] - bent[own])) for j, w in weights.items())
        expected += bpreg * sum(w * bent[j] ** 2 for j, w in weights.items()) - math.log(won)
    assert loss == pytest.approx(expected, abs=1e-5)


def test_10_each_row_is_reset_when_its_own_session_begins() -> None:
    """At every step the state of a row equals that of its session from the zero state."""
    sessions = words("abc", "dcbae", "ea", "bd", "cbd")
    indexed = reindex(sessions, known_items(sessions))
    still = dataclasses.replace(PLAIN, batch=2, learning_rate=1e-30)
    plan, step = SessionParallelBatches(indexed, rows=2), step_of(still)
    model, matrix = step.weights.model, step.weights.matrix
    read: dict[int, list[int]] = {}
    for number in range(len(plan)):
        batch = plan[number]
        step.next(batch)
        assert batch.state_rows is not None
        assert batch.is_new_session is not None
        for row, click, is_new in zip(
            batch.state_rows.tolist(),
            batch.inputs.tolist(),
            batch.is_new_session.tolist(),
            strict=True,
        ):
            read[row] = [click] if is_new else [*read[row], click]
            clicks, length = torch.tensor([read[row]]), torch.tensor([len(read[row])])
            expected = model.replay(matrix, clicks, length)[1][:, 0].detach()
            torch.testing.assert_close(step.state[:, row], expected, atol=1e-5, rtol=0)
