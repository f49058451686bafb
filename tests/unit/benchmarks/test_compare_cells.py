"""The reach of a gradient equals its value by arithmetic."""

import numpy as np
import pytest
import torch

from recsys.model.gru4rec import ModelSize
from tests.benchmarks.compare_cells import REACH, reach_of
from training.model.weights import Weights


@pytest.mark.parametrize("carried", [0.0, 0.5, 0.9])
def test_the_gradient_of_a_nearly_linear_recurrence_decays_by_its_weight(carried: float) -> None:
    """For tiny numbers, h ← tanh(x + w·h) weights a click d steps back by wᵈ."""
    weights = Weights.fresh(ModelSize(20, 4, cell="rnn"), torch.Generator().manual_seed(1))
    weights.matrix.mul_(1e-3)
    named = dict(weights.model.named_parameters())
    with torch.no_grad():
        named["cells.0.weight_ih"].copy_(torch.eye(4))
        named["cells.0.weight_hh"].copy_(carried * torch.eye(4))
    sessions = [np.random.default_rng(seed).integers(0, 20, REACH + 1) for seed in range(30)]

    reach = reach_of(weights, sessions)

    assert reach == pytest.approx([carried**d for d in range(REACH)], rel=1e-3, abs=1e-6)
