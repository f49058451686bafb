import math

import numpy as np
import pytest
import torch

from data.sessions import reindex
from recsys.neighbours.blend import (
    Blend,
    BlendSettings,
    log_parts,
    log_probabilities,
    mix_log_probabilities,
)
from recsys.neighbours.scoring import VSKNN
from recsys.ragged import ScoredRaggedArray, rows_of
from tests.support.training.builders import words
from training.baselines.session_knn import build_neighbour_index

IDS = tuple("abcd")


def test_probabilities_are_the_weighted_mean_of_both() -> None:
    model = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log()
    rows = ScoredRaggedArray(np.array([0, 2]), np.array([1, 3]), np.array([0.75, 0.25]))

    p = mix_log_probabilities(model, log_parts(rows, 0.2), 0.2).exp()[0]

    expected = [0.8 / 2, 0.8 / 4 + 0.2 * 3 / 4, 0.8 / 8, 0.8 / 8 + 0.2 * 1 / 4]
    assert p.tolist() == pytest.approx(expected)
    assert model.exp()[0, 0] == 0.5  # the argument is not changed


def test_a_case_without_neighbours_keeps_the_scores_of_the_model() -> None:
    model = torch.log_softmax(torch.arange(8.0).view(2, 4), dim=1)
    rows = ScoredRaggedArray(np.array([0, 0, 1]), np.array([2]), np.array([1.0]))

    log_p = mix_log_probabilities(model, log_parts(rows, 0.5), 0.5)

    assert torch.equal(log_p[0], model[0])
    assert log_p[1].exp().tolist() == pytest.approx(
        [p / 2 + (item == 2) / 2 for item, p in enumerate(model[1].exp().tolist())]
    )


def test_the_softmax_is_over_the_highest_scores() -> None:
    scores = torch.tensor([[1.0, 2.0, 0.5, 2.0], [0.0, 0.0, 0.0, 0.0]])

    p = log_probabilities(scores, 2).exp()

    assert p[0].tolist() == pytest.approx([math.exp(-1) / 2, 0.5, math.exp(-1.5) / 2, 0.5])
    assert p[1].tolist() == pytest.approx([0.5] * 4)
    assert log_probabilities(scores, 20).exp().sum(dim=1).tolist() == pytest.approx([1, 1])


def test_scores_are_logarithms_of_a_distribution_and_never_infinite() -> None:
    train = reindex(words("ab", "ac", "cd"), IDS)
    blend = Blend(build_neighbour_index(train, 4, 2500), BlendSettings(0.4, VSKNN))
    scores = torch.tensor([[80.0, 0.0, -80.0, 1.0]] * 3)

    log_p = blend.mix(scores, rows_of([[0], [2, 3], []]))

    assert log_p.exp().sum(dim=1).tolist() == pytest.approx([1, 1, 1])
    assert torch.isfinite(log_p).all()
    assert log_p.dtype == torch.float32


@pytest.mark.parametrize("weight", [0.0, 1.0, -0.1, math.nan, 1, "0.5"])
def test_a_weight_outside_0_and_1_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="weight"):
        BlendSettings(weight, VSKNN)


@pytest.mark.parametrize("count", [-1, 1_001, 20.0, "20", None])
def test_a_setting_that_is_no_count_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="normalizing"):
        BlendSettings(0.5, VSKNN, normalizing=count)
    with pytest.raises(ValueError, match="votes"):
        BlendSettings(0.5, VSKNN, votes=count)
