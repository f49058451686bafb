"""Errors of `test_bug_checklist.py` that concern weights: settings, updated rows, initialisation.

Numbers 7, 10, 11 and 13 of the thirteen (Hidasi and Czapp, RecSys 2023, arXiv:2307.14956).
"""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch

from data.sessions import known_items, reindex
from recsys.model.gru4rec import ModelSize, SessionRNN, initialise
from tests.support.bundles.model_kinds import KINDS
from tests.support.training.builders import words
from tests.support.training.training_steps import (
    CPU,
    ITEMS,
    PLAIN,
    CountingStep,
    SameThree,
    batch_of,
    random_of,
    scores_by_hand,
    step_of,
)
from training.model.optim import learning_rate_at
from training.model.sampling import SampledCandidates, candidate_sampler
from training.model.step import TrainingStep
from training.model.weights import Weights
from training.recipe import Recipe
from training.trainer import plan_batches


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
        {"optimizer": "adam"},
        {"schedule": "linear"},
        {"warmup": 0.5},
        {"clip": 0.01},
        {"weight_decay": 0.1},
        {"l1": 0.1},
        {"average": 0.9},
        {"precision": "bfloat16"},
        {"batches": "sessions"},
        {"scored_items": "unique"},
        {"scored_items": "all"},
        {"mask": False},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_07_nothing_is_hard_coded(setting: dict[str, Any]) -> None:
    """Every setting of the model and the optimizer changes what is learned."""

    def learned(recipe: Recipe) -> torch.Tensor:
        sessions = words("abc", "bcd", "cde", "aedb", "eaaaab")
        indexed = reindex(sessions, known_items(sessions))
        weights = Weights.fresh(
            recipe.size(len(indexed.item_ids)), torch.Generator().manual_seed(0)
        )
        plan = plan_batches(indexed, recipe)
        candidates = candidate_sampler(recipe, indexed.counts(), 3, CPU)
        step = TrainingStep(weights, recipe, candidates, CPU)
        for number in range(len(plan)):
            rate = learning_rate_at(recipe, number / len(plan), len(plan))
            step.run(plan[number], random_of(number), rate)
        return step.result.matrix

    plain, changed = learned(PLAIN), learned(dataclasses.replace(PLAIN, **setting))
    assert plain.shape != changed.shape or not torch.equal(plain, changed)


@pytest.mark.parametrize(
    "setting", [{"bpreg": 2.0}, {"elu": 0.0}], ids=lambda setting: next(iter(setting))
)
def test_07_the_settings_of_bpr_max_are_not_hard_coded(setting: dict[str, Any]) -> None:
    batch = batch_of([1, 2], [4, 5], [True, True])
    losses = [
        step_of(dataclasses.replace(PLAIN, loss="bpr-max", **changed), sampling=SameThree)
        .next(batch)
        .loss
        for changed in ({}, setting)
    ]

    assert losses[0] != losses[1]


def test_clipping_bounds_the_whole_gradient_and_reports_it_as_it_was() -> None:
    batch = batch_of([1, 2], [4, 5], [True, True])
    free, bound = (
        step_of(dataclasses.replace(PLAIN, clip=clip), sampling=SameThree) for clip in (0.0, 1e-3)
    )

    norms = [step.next(batch, measure=True).gradient_norm for step in (free, bound)]

    assert norms[0] is not None
    assert norms[0] == norms[1]
    assert float(norms[0]) > 1e-3
    squares = sum(
        float(tensor.sum())
        for name, tensor in bound.tensors().items()
        if name.startswith("accumulated")
    )
    assert squares == pytest.approx(1e-3**2, rel=1e-3)  # Adagrad sums the squares it was given


def test_10_only_the_rows_of_the_batch_are_touched() -> None:
    """Scoring all items and then picking some would give every row a gradient."""
    step = step_of(dataclasses.replace(PLAIN, negatives=0, batch=2))
    before = step.weights.matrix.clone()

    step.next(batch_of([1, 2], [4, 5], [True, True]))

    changed = (step.weights.matrix != before).any(dim=1).nonzero().flatten()
    assert changed.tolist() == [1, 2, 4, 5]


@pytest.mark.parametrize("embedding", ["separate", "none"])
def test_10_only_the_rows_clicked_move_in_a_table_of_their_own(embedding: str) -> None:
    step = step_of(dataclasses.replace(PLAIN, negatives=0, batch=2, embedding=embedding, clip=0.5))
    inputs = step.weights.inputs
    assert inputs is not None
    tables = (inputs, step.weights.matrix)
    before = [table.clone() for table in tables]

    step.next(batch_of([1, 2], [4, 5], [True, True]))

    changed = [
        (table != old).any(dim=1).nonzero().flatten().tolist()
        for table, old in zip(tables, before, strict=True)
    ]
    assert changed == [[1, 2], [4, 5]]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_learns_what_follows(kind: str) -> None:
    """Twelve equal steps, a to b and b to c: the loss falls by a third at least."""
    step = step_of(dataclasses.replace(PLAIN, learning_rate=0.1, batch=2, logq=0, **KINDS[kind]))
    losses = [float(step.next(batch_of([1, 2], [2, 3], [True, True])).loss) for _ in range(12)]

    assert losses[-1] < losses[0] * 2 / 3


def test_10_only_the_candidates_are_scored() -> None:
    """Biases change where an item was a candidate, and nowhere else."""
    recipe = dataclasses.replace(PLAIN, batch=2, negatives=3)
    step = step_of(recipe, sampling=SameThree)

    step.next(batch_of([1, 2], [4, 5], [True, True]))

    assert step.weights.bias.nonzero().flatten().tolist() == [0, 4, 5, 8]


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


def test_13_logq_subtracts_how_often_a_column_is_expected() -> None:
    """One other target, P = popularity, and three draws, P ∝ the roots of the counts."""
    recipe = dataclasses.replace(PLAIN, batch=2, negatives=3, sample_alpha=0.5)
    counts = np.arange(1, ITEMS + 1) ** 2
    candidates = SampledCandidates(recipe, SameThree(counts, 0.5, CPU), 2, CPU)
    weights = step_of(recipe).weights
    step = CountingStep(weights, recipe, candidates, CPU)
    place = [4, 5, 4, 0, 8]
    scores = scores_by_hand(step, [1, 2], place)

    loss = step.next(batch_of([1, 2], [4, 5], [True, True])).loss

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
        step = step_of(recipe, sampling=SameThree)
        seen = []
        for _ in range(3):
            seen.append({n: t.clone() for n, t in step.weights.tensors().items()})
            step.next(batch)
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
    step = step_of(recipe)
    step.next(batch_of([1, 2], [4, 5], [True, True]))
    before = step.weights.bias.clone()
    assert before[4] != 0

    step.next(batch_of([4, 2], [7, 8], [True, True]))

    assert step.weights.bias[4] == before[4]
    assert step.weights.bias[7] != 0


def test_13_input_and_output_share_one_matrix() -> None:
    """A click moves the very row that it is scored with."""
    names = set(step_of(PLAIN).weights.tensors())

    assert names == {"matrix", "bias"} | {
        f"cells.0.{part}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }


def test_13_momentum_moves_no_output_row_of_an_item_that_was_only_clicked() -> None:
    """With an input table of its own, a click alone is no use of the item matrix."""
    recipe = dataclasses.replace(PLAIN, batch=2, negatives=0, momentum=0.5, embedding="separate")
    step = step_of(recipe)
    start = step.weights.matrix.clone()
    step.next(batch_of([1, 2], [4, 5], [True, True]))
    before = step.weights.matrix.clone()
    assert (before[4] != start[4]).any()

    step.next(batch_of([4, 2], [7, 8], [True, True]))

    assert torch.equal(step.weights.matrix[4], before[4])
