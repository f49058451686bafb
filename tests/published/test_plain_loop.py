"""The plain loop of the papers: it equals their formulas, and `TrainingStep` equals it."""

import dataclasses
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from data.batches.session_parallel import SessionParallelBatches
from data.sessions import Sessions, known_items, reindex
from recsys.catalogue.catalogue import Catalogue
from recsys.model.gru4rec import ModelSize
from tests.support.training.builders import words
from tests.support.training.plain_loop import EPSILON, Adagrad, PlainLoop, Published, steps
from tests.support.training.training_steps import CPU, PLAIN
from training.evaluation.evaluate import evaluate
from training.model.losses import bpr_max, cross_entropy
from training.model.sampling import NegativeSampler, RandomStreams, SampledCandidates
from training.model.step import TrainingStep
from training.model.weights import Weights

TINY = Published(hidden=6, batch=3, negatives=4, dropout_embedding=0.0, dropout_hidden=0.0)
COUNTS = np.array([4, 1, 9, 16, 2, 25, 3])


def indexed(*sessions: str) -> Sessions:
    log = words(*sessions)
    return reindex(log, known_items(log))


def test_a_row_that_ends_takes_the_next_session_and_ends_without_one() -> None:
    sessions = indexed("abc", "de", "fg", "hijk")  # item n is the n-th letter

    seen = [
        (inputs.tolist(), targets.tolist(), is_new.tolist(), stays.tolist())
        for inputs, targets, is_new, stays in steps(sessions, rows=2)
    ]

    assert seen == [
        ([0, 3], [1, 4], [True, True], [True, True]),
        ([1, 5], [2, 6], [False, True], [True, True]),
        ([7], [8], [True], [True, False]),
        ([8], [9], [False], [True]),
        ([9], [10], [False], [True]),
    ]


@given(st.lists(st.integers(2, 6), min_size=1, max_size=25), st.integers(1, 5))
def test_every_pair_of_clicks_is_trained_on_once(lengths: list[int], rows: int) -> None:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    clicks = np.arange(offsets[-1])
    sessions = Sessions(clicks.astype(np.int32), clicks, offsets, tuple(map(str, clicks)))

    pairs: Counter[tuple[int, int]] = Counter()
    for inputs, targets, is_new, _ in steps(sessions, rows):
        pairs.update(zip(inputs.tolist(), targets.tolist(), strict=True))
        assert is_new.tolist() == np.isin(inputs, offsets).tolist()

    assert pairs == Counter((c, c + 1) for c in clicks.tolist() if c + 1 not in offsets)


def test_the_cell_is_the_one_with_the_reset_after_the_product() -> None:
    """r, z, n as torch.nn.GRUCell documents them; h' = (1 − z)·n + z·h."""
    cell = PlainLoop(COUNTS, TINY).cell.double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.copy_(torch.linspace(-1, 1, parameter.numel()).reshape(parameter.shape))
    clicked, before = torch.linspace(-1, 2, 6).double(), torch.linspace(0.5, -0.5, 6).double()

    ours = cell(clicked.unsqueeze(0), before.unsqueeze(0))[0].detach().numpy()

    input_weight, hidden_weight, input_bias, hidden_bias = (
        p.detach().numpy() for p in cell.parameters()
    )
    from_click = np.split(input_weight @ clicked.numpy() + input_bias, 3)
    from_state = np.split(hidden_weight @ before.numpy() + hidden_bias, 3)
    reset, update = (1 / (1 + np.exp(-(from_click[g] + from_state[g]))) for g in (0, 1))
    candidate = np.tanh(from_click[2] + reset * from_state[2])
    expected = (1 - update) * candidate + update * before.numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


SCORES = torch.tensor([[2.0, 1.0, 0.5, -1.0], [0.0, 3.0, -1.0, 0.25]], dtype=torch.float64)


def in_float64(**settings: object) -> PlainLoop:
    loop = PlainLoop(COUNTS, dataclasses.replace(TINY, **settings))  # type: ignore[arg-type]
    loop.support = loop.support.double()
    return loop


def test_cross_entropy_with_raw_counts_is_the_formula_written_out() -> None:
    """Targets are corrected by log(count), negatives by log(count^α); counts are not normalized."""
    loss = in_float64(sample_alpha=0.5).loss(SCORES, torch.tensor([3, 5, 2, 6]))

    correction = [math.log(16), math.log(25), math.log(math.sqrt(9)), math.log(math.sqrt(3))]
    rows = [[math.exp(s - c) for s, c in zip(r, correction, strict=True)] for r in SCORES.tolist()]
    expected = -math.log(rows[0][0] / sum(rows[0])) - math.log(rows[1][1] / sum(rows[1]))
    assert loss.item() == pytest.approx(expected, abs=1e-12)


def test_an_accidental_hit_stays_a_negative() -> None:
    """As published; our recipes mask it, the plain loop does not."""
    loss = in_float64(logq=0.0).loss(SCORES, torch.tensor([3, 5, 3, 6]))

    expected = sum(
        math.log(sum(map(math.exp, row))) - row[own] for own, row in enumerate(SCORES.tolist())
    )
    assert loss.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("logq", [0.0, 1.0])
def test_cross_entropy_is_that_of_training_where_nothing_is_masked(logq: float) -> None:
    columns = torch.tensor([3, 5, 2, 6])
    loop = in_float64(logq=logq, sample_alpha=1.0)

    corrected = SCORES - logq * loop.support[columns].log()
    theirs = cross_entropy(corrected, torch.tensor([0, 1]))

    assert loop.loss(SCORES, columns).item() == pytest.approx(theirs.item(), abs=1e-12)


@pytest.mark.parametrize("elu", [0.0, 0.5])
def test_bpr_max_is_that_of_training_where_nothing_is_masked(elu: float) -> None:
    columns = torch.tensor([3, 5, 2, 6])
    loop = in_float64(loss="bpr-max", bpreg=0.7, elu=elu)

    theirs = bpr_max(SCORES, torch.tensor([0, 1]), bpreg=0.7, elu=elu)

    assert loop.loss(SCORES, columns).item() == pytest.approx(theirs.item(), abs=1e-12)


def test_duplicates_are_summed_before_they_are_squared_and_other_rows_rest() -> None:
    table = nn.Embedding(3, 1, sparse=True)
    nn.init.ones_(table.weight)
    optimizer = Adagrad(table.weight, rate=0.1, momentum=0.5)

    for _ in range(2):
        (table(torch.tensor([2, 0, 2])) * torch.tensor([[3.0], [2.0], [1.0]])).sum().backward()
        optimizer.step()

    def moved(gradient: float) -> float:
        first = -0.1 * gradient / math.sqrt(gradient**2 + EPSILON)
        second = 0.5 * first - 0.1 * gradient / math.sqrt(2 * gradient**2 + EPSILON)
        return 1 + first + second

    expected = [moved(2), 1, moved(3 + 1)]
    assert table.weight.flatten().tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_negatives_follow_the_counts_to_the_alpha(alpha: float) -> None:
    loop = PlainLoop(COUNTS, dataclasses.replace(TINY, sample_alpha=alpha, negatives=100_000))

    shares = torch.bincount(loop.negatives(), minlength=len(COUNTS)) / 100_000

    np.testing.assert_allclose(shares, COUNTS**alpha / (COUNTS**alpha).sum(), atol=0.01)


def test_the_state_that_is_carried_is_the_one_after_dropout() -> None:
    loop = PlainLoop(COUNTS, dataclasses.replace(TINY, hidden=64, dropout_hidden=0.5))
    zeros = torch.zeros(2, 64)

    _, state = loop.step(torch.tensor([1, 2]), torch.tensor([3, 4]), torch.tensor([0]), zeros)

    assert 0.25 < (state == 0).float().mean() < 0.75
    assert not state.requires_grad


EACH_ITEM_ONCE = ("abc", "de", "fghi", "jk", "lmn", "opq")  # no step has two equal targets
NEGATIVES = torch.tensor([17, 18, 18, 19])  # items that are no target


class FixedSampler(NegativeSampler):
    """Sampler of the same items at every step."""

    def draw(self, uniform: Tensor) -> Tensor:
        return NEGATIVES


class FixedPlainLoop(PlainLoop):
    """Plain loop with the same negatives."""

    def negatives(self) -> Tensor:
        return NEGATIVES


def learned_by_training(sessions: Sessions, start: Weights, counts: NDArray[np.int64]) -> Weights:
    recipe = dataclasses.replace(PLAIN, learning_rate=0.1, sample_alpha=1.0)
    sampler = FixedSampler(counts, recipe.sample_alpha, CPU)
    candidates = SampledCandidates(recipe, sampler, recipe.batch, CPU)
    step = TrainingStep(start, recipe, candidates, CPU)
    plan = SessionParallelBatches(sessions, recipe.batch)
    for _ in range(3):
        step.begin_epoch()
        for number in range(len(plan)):
            step.run(plan[number], RandomStreams(CPU, 0, 0, number))
    return start


def test_three_epochs_end_with_the_weights_of_our_training_step() -> None:
    """Equal counts, so that both corrections shift all columns alike; no accidental hit."""
    counts = np.full(20, 7)
    sessions = indexed(*EACH_ITEM_ONCE)
    loop = FixedPlainLoop(counts, dataclasses.replace(TINY, sample_alpha=1.0))
    start = Weights.fresh(ModelSize(20, 6), torch.Generator())
    copied = {"matrix": loop.items.weight, "bias": loop.bias.weight.flatten()}
    copied |= {f"cells.0.{name}": weight for name, weight in loop.cell.named_parameters()}
    start.load({name: weight.detach().clone() for name, weight in copied.items()})

    for _ in range(3):
        loop.epoch(sessions)
    ours = learned_by_training(sessions, start, counts).tensors()

    torch.testing.assert_close(loop.items.weight.detach(), ours["matrix"], atol=2e-5, rtol=0)
    torch.testing.assert_close(loop.bias.weight.detach().flatten(), ours["bias"], atol=2e-5, rtol=0)
    for name, weight in loop.cell.named_parameters():
        torch.testing.assert_close(weight.detach(), ours[f"cells.0.{name}"], atol=2e-5, rtol=0)


def test_it_learns_a_walk_and_can_be_evaluated() -> None:
    sessions = indexed(*["abcde", "cdeab", "eabcd"] * 20)
    catalogue = Catalogue(sessions.item_ids, sessions.counts())
    loop = PlainLoop(catalogue.counts, dataclasses.replace(TINY, hidden=16, sample_alpha=0.5))

    losses = [loop.epoch(sessions) for _ in range(5)]
    predictor = loop.predictor(catalogue, window=50)

    assert losses[-1] < losses[0]
    assert evaluate(predictor, sessions, len(catalogue)).metrics["recall@1"] == 1.0
    state = torch.zeros(1, 16)
    for click in sessions[0][:-1]:
        state = loop.cell(loop.items(torch.tensor([int(click)])), state)
    scores = state @ loop.items.weight.T + loop.bias.weight.T
    along = predictor.scores_along([sessions[0]])
    torch.testing.assert_close(along[-1], scores[0].detach(), atol=1e-5, rtol=0)
