"""Every cell equals its formulas in float64, has right gradients, and starts as it should."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.model.cells import CELLS, FORGET_BIAS, Cell

HIDDEN = 3
Numbers = NDArray[np.float64]
Weights = dict[str, Numbers]
Step = Callable[[Numbers, Weights, Numbers], tuple[Numbers, Numbers]]


def sigmoid(values: Numbers) -> Numbers:
    return 1 / (1 + np.exp(-values))


def gru(gates: Numbers, weights: Weights, state: Numbers) -> tuple[Numbers, Numbers]:
    back = weights["weight_hh"] @ state + weights["bias_hh"]
    (r_in, z_in, n_in), (r_back, z_back, n_back) = np.split(gates, 3), np.split(back, 3)
    reset, update = sigmoid(r_in + r_back), sigmoid(z_in + z_back)
    next_state = (1 - update) * np.tanh(n_in + reset * n_back) + update * state
    return next_state, next_state


def gru_reset_before(gates: Numbers, weights: Weights, state: Numbers) -> tuple[Numbers, Numbers]:
    (r_in, z_in, n_in), (u_r, u_z, u_n) = np.split(gates, 3), np.split(weights["weight_hh"], 3)
    reset, update = sigmoid(r_in + u_r @ state), sigmoid(z_in + u_z @ state)
    next_state = (1 - update) * np.tanh(n_in + u_n @ (reset * state)) + update * state
    return next_state, next_state


def lstm(gates: Numbers, weights: Weights, state: Numbers) -> tuple[Numbers, Numbers]:
    output, memory = np.split(state, 2)
    input_gate, forget_gate, candidate, output_gate = np.split(
        gates + weights["weight_hh"] @ output, 4
    )
    memory = sigmoid(forget_gate) * memory + sigmoid(input_gate) * np.tanh(candidate)
    output = sigmoid(output_gate) * np.tanh(memory)
    return output, np.concatenate([output, memory])


def rnn(gates: Numbers, weights: Weights, state: Numbers) -> tuple[Numbers, Numbers]:
    next_state = np.tanh(gates + weights["weight_hh"] @ state)
    return next_state, next_state


STEPS: dict[str, Step] = {
    "gru": gru,
    "gru-reset-before": gru_reset_before,
    "lstm": lstm,
    "rnn": rnn,
}


def cell_of(name: str, input_size: int) -> Cell:
    """Return a float64 cell with random weights and biases."""
    cell = CELLS[name](input_size, HIDDEN).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in cell.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    return cell


def read_session(
    name: str, cell: Cell, clicks: Numbers, state: Numbers
) -> tuple[list[Numbers], Numbers]:
    """Return the outputs and the last state of one session; clicks: (T, input_width)."""
    weights = {key: weight.detach().numpy() for key, weight in cell.named_parameters()}
    outputs = []
    for click in clicks:
        product = weights["weight_ih"] @ click if "weight_ih" in weights else click
        output, state = STEPS[name](product + weights["bias_ih"], weights, state)
        outputs.append(output)
    return outputs, state


def batch_sizes_of(lengths: Sequence[int]) -> list[int]:
    """Return the number of sessions that have a first, a second, … click."""
    return [sum(length > step for length in lengths) for step in range(max(lengths))]


def test_every_cell_has_a_reference() -> None:
    assert set(STEPS) == set(CELLS)


@pytest.mark.parametrize("input_size", [4, 0], ids=["vectors", "one-hot"])
@pytest.mark.parametrize("name", CELLS)
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=6))
def test_packed_sessions_equal_each_session_computed_in_numpy(
    name: str, input_size: int, lengths: list[int]
) -> None:
    cell = cell_of(name, input_size)
    lengths = sorted(lengths, reverse=True)
    batch_sizes = batch_sizes_of(lengths)
    generator = torch.Generator().manual_seed(sum(lengths))
    width = input_size or cell.gates * HIDDEN
    inputs = torch.randn(sum(lengths), width, generator=generator, dtype=torch.float64)
    state = torch.randn(len(lengths), cell.state_width, generator=generator, dtype=torch.float64)

    with torch.no_grad():
        outputs, next_state = cell(inputs, torch.tensor(batch_sizes), state)

    assert outputs.shape == (sum(lengths), HIDDEN)
    assert next_state.shape == state.shape
    starts = np.cumsum([0, *batch_sizes[:-1]])
    for session, length in enumerate(lengths):
        rows = starts[:length] + session
        expected, last = read_session(name, cell, inputs[rows].numpy(), state[session].numpy())
        np.testing.assert_allclose(outputs[rows].numpy(), expected, atol=1e-12)
        np.testing.assert_allclose(next_state[session].numpy(), last, atol=1e-12)


@pytest.mark.parametrize("input_size", [2, 0], ids=["vectors", "one-hot"])
@pytest.mark.parametrize("name", CELLS)
def test_gradients_equal_finite_differences(name: str, input_size: int) -> None:
    """The gradients of inputs, state and every weight, over three steps and sessions that end."""
    cell, batch_sizes = cell_of(name, input_size), torch.tensor([2, 2, 1])
    width = input_size or cell.gates * HIDDEN
    names = [key for key, _ in cell.named_parameters()]
    inputs = torch.randn(5, width, dtype=torch.float64, requires_grad=True)
    state = torch.randn(2, cell.state_width, dtype=torch.float64, requires_grad=True)

    def read(
        inputs: torch.Tensor, state: torch.Tensor, *weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        named = dict(zip(names, weights, strict=True))
        outputs: tuple[torch.Tensor, torch.Tensor] = torch.func.functional_call(
            cell, named, (inputs, batch_sizes, state)
        )
        return outputs

    assert torch.autograd.gradcheck(read, (inputs, state, *cell.parameters()))


@pytest.mark.parametrize("name", CELLS)
def test_initial_weights_of_a_gate_have_the_bound_of_its_own_matrix(name: str) -> None:
    """A bound from the stacked matrix would be √2 too small for a GRU (checklist 11)."""
    cell = CELLS[name](32, 64)
    cell.initialise(torch.Generator().manual_seed(0))
    weights = dict(cell.named_parameters())

    for key, columns in (("weight_ih", 32), ("weight_hh", 64)):
        bound = math.sqrt(6 / (64 + columns))
        for gate in weights[key].chunk(cell.gates):
            assert bound * 0.99 < gate.abs().max() <= bound
    biases = [bias for key, bias in weights.items() if key.startswith("bias")]
    expected = torch.zeros(cell.gates * 64)
    if name == "lstm":
        expected[64:128] = FORGET_BIAS  # the second gate
    assert all(torch.equal(bias, expected) for bias in biases)


def test_a_one_hot_cell_has_no_input_product() -> None:
    for kind in CELLS.values():
        assert "weight_ih" not in dict(kind(0, HIDDEN).named_parameters())
