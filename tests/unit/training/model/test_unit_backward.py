"""Directions in training equal those of the model, and their gradient is that of autograd."""

import torch

from recsys.model.gru4rec import unit
from training.model.unit_backward import unit_rows


def test_directions_and_gradients_equal_those_of_the_model() -> None:
    torch.manual_seed(0)
    rows = torch.cat([torch.randn(5, 4), torch.zeros(1, 4), 1e-9 * torch.ones(1, 4)])
    rows = rows.double().requires_grad_()
    weight = torch.randn(7, 4, dtype=torch.float64)

    (gradient,) = torch.autograd.grad((unit_rows(rows) * weight).sum(), rows)

    (expected,) = torch.autograd.grad((unit(rows) * weight).sum(), rows)
    torch.testing.assert_close(unit_rows(rows), unit(rows))
    torch.testing.assert_close(gradient[:5], expected[:5])
    assert not gradient[5:].any()
