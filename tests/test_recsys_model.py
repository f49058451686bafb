import math

import pytest
import torch

from recsys.model import ModelSize, SessionGRU, initialise

ITEMS, HIDDEN, LAYERS = 7, 4, 2


@pytest.fixture
def model() -> SessionGRU:
    torch.manual_seed(0)
    return SessionGRU(HIDDEN, LAYERS).eval()


def reference_step(model: SessionGRU, clicked: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    """A GRU that resets after the recurrent product, in float64, written out gate by gate."""
    inputs, after = clicked.double(), []
    for layer in range(model.layers):
        w_in, w_state, b_in, b_state = (
            getattr(model.gru, f"{name}_l{layer}").double().chunk(3)
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        before = state[layer].double()
        reset = torch.sigmoid(inputs @ w_in[0].T + b_in[0] + before @ w_state[0].T + b_state[0])
        update = torch.sigmoid(inputs @ w_in[1].T + b_in[1] + before @ w_state[1].T + b_state[1])
        recurrent = before @ w_state[2].T + b_state[2]
        candidate = torch.tanh(inputs @ w_in[2].T + b_in[2] + reset * recurrent)
        inputs = (1 - update) * candidate + update * before
        after.append(inputs)
    return torch.stack(after)


def test_a_step_equals_the_formula_in_float64(model: SessionGRU) -> None:
    matrix, state = torch.randn(ITEMS, HIDDEN), torch.randn(LAYERS, 3, HIDDEN)
    clicked = torch.tensor([0, 6, 3])

    after = model.step(matrix, clicked, state)

    expected = reference_step(model, matrix[clicked], state)
    torch.testing.assert_close(after.double(), expected, atol=1e-6, rtol=0)


def test_step_by_step_equals_whole_session(model: SessionGRU) -> None:
    """Serving reads clicks one at a time; it must end where a full replay ends."""
    matrix = torch.randn(ITEMS, HIDDEN)
    sessions = [[3, 1, 6, 6], [2], [5, 0]]
    clicks = torch.tensor([row + [0] * (4 - len(row)) for row in sessions])

    read, state = model.replay(matrix, clicks, torch.tensor([4, 1, 2]))

    for row, session in enumerate(sessions):
        stepped = model.blank(sessions=1)
        for place, item in enumerate(session):
            stepped = model.step(matrix, torch.tensor([item]), stepped)
            torch.testing.assert_close(read[row, place], stepped[-1, 0])
        torch.testing.assert_close(state[:, row], stepped[:, 0])


def test_scores_are_inner_products_plus_bias(model: SessionGRU) -> None:
    matrix, bias, read = torch.randn(ITEMS, HIDDEN), torch.randn(ITEMS), torch.randn(2, HIDDEN)

    scores = model.scores(matrix, bias, read)

    torch.testing.assert_close(scores, read @ matrix.T + bias)


def test_every_gate_has_the_bound_of_its_own_matrix(model: SessionGRU) -> None:
    """A bound from the stacked (3H, H) matrix would be √2 too small (checklist 11)."""
    wide = SessionGRU(64, 1)
    gates = dict(wide.gru.named_parameters())
    initialise(wide, torch.Generator().manual_seed(0))
    bound = math.sqrt(6 / (64 + 64))

    for gate in gates["weight_hh_l0"].chunk(3):
        assert bound * 0.99 < gate.abs().max() <= bound
    assert not gates["bias_ih_l0"].any()


def test_a_size_below_one_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"ModelSize\.layers must be at least 1, got 0"):
        ModelSize(items=3, hidden=4, layers=0)
