"""Every cell against loops over the formulas in float64, its gradients, and its beginning."""

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


def gru(gates: Numbers, weights: Weights, before: Numbers) -> tuple[Numbers, Numbers]:
    back = weights["weight_hh"] @ before + weights["bias_hh"]
    (r_in, z_in, n_in), (r_back, z_back, n_back) = np.split(gates, 3), np.split(back, 3)
    reset, update = sigmoid(r_in + r_back), sigmoid(z_in + z_back)
    after = (1 - update) * np.tanh(n_in + reset * n_back) + update * before
    return after, after


def gru_reset_before(gates: Numbers, weights: Weights, before: Numbers) -> tuple[Numbers, Numbers]:
    (r_in, z_in, n_in), (u_r, u_z, u_n) = np.split(gates, 3), np.split(weights["weight_hh"], 3)
    reset, update = sigmoid(r_in + u_r @ before), sigmoid(z_in + u_z @ before)
    after = (1 - update) * np.tanh(n_in + u_n @ (reset * before)) + update * before
    return after, after


def lstm(gates: Numbers, weights: Weights, before: Numbers) -> tuple[Numbers, Numbers]:
    output, memory = np.split(before, 2)
    take, keep, candidate, show = np.split(gates + weights["weight_hh"] @ output, 4)
    memory = sigmoid(keep) * memory + sigmoid(take) * np.tanh(candidate)
    output = sigmoid(show) * np.tanh(memory)
    return output, np.concatenate([output, memory])


def rnn(gates: Numbers, weights: Weights, before: Numbers) -> tuple[Numbers, Numbers]:
    after = np.tanh(gates + weights["weight_hh"] @ before)
    return after, after


STEPS: dict[str, Step] = {
    "gru": gru,
    "gru-reset-before": gru_reset_before,
    "lstm": lstm,
    "rnn": rnn,
}


def cell_of(name: str, input_size: int) -> Cell:
    """Random in every weight, biases too, in float64."""
    cell = CELLS[name](input_size, HIDDEN).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in cell.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    return cell


def read_alone(
    name: str, cell: Cell, clicks: Numbers, before: Numbers
) -> tuple[list[Numbers], Numbers]:
    """One session, click after click; clicks: (T, input_width)."""
    weights = {key: weight.detach().numpy() for key, weight in cell.named_parameters()}
    outputs = []
    for click in clicks:
        product = weights["weight_ih"] @ click if "weight_ih" in weights else click
        output, before = STEPS[name](product + weights["bias_ih"], weights, before)
        outputs.append(output)
    return outputs, before


def widths_of(lengths: Sequence[int]) -> list[int]:
    """How many of the sessions, longest first, have a first, a second, … click."""
    return [sum(length > step for length in lengths) for step in range(max(lengths))]


def test_every_cell_has_a_reference() -> None:
    assert set(STEPS) == set(CELLS)


@pytest.mark.parametrize("input_size", [4, 0], ids=["vectors", "one-hot"])
@pytest.mark.parametrize("name", CELLS)
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=6))
def test_packed_sessions_equal_each_session_alone_in_numpy(
    name: str, input_size: int, lengths: list[int]
) -> None:
    cell = cell_of(name, input_size)
    lengths = sorted(lengths, reverse=True)
    widths = widths_of(lengths)
    generator = torch.Generator().manual_seed(sum(lengths))
    width = input_size or cell.gates * HIDDEN
    inputs = torch.randn(sum(lengths), width, generator=generator, dtype=torch.float64)
    before = torch.randn(len(lengths), cell.state_width, generator=generator, dtype=torch.float64)

    with torch.no_grad():
        outputs, after = cell(inputs, torch.tensor(widths), before)

    assert outputs.shape == (sum(lengths), HIDDEN)
    assert after.shape == before.shape
    starts = np.cumsum([0, *widths[:-1]])
    for session, length in enumerate(lengths):
        rows = starts[:length] + session
        expected, last = read_alone(name, cell, inputs[rows].numpy(), before[session].numpy())
        np.testing.assert_allclose(outputs[rows].numpy(), expected, atol=1e-12)
        np.testing.assert_allclose(after[session].numpy(), last, atol=1e-12)


@pytest.mark.parametrize("input_size", [2, 0], ids=["vectors", "one-hot"])
@pytest.mark.parametrize("name", CELLS)
def test_gradients_are_those_of_finite_differences(name: str, input_size: int) -> None:
    """Of inputs, carried state and every weight, over three steps and sessions that end."""
    cell, widths = cell_of(name, input_size), torch.tensor([2, 2, 1])
    width = input_size or cell.gates * HIDDEN
    names = [key for key, _ in cell.named_parameters()]
    inputs = torch.randn(5, width, dtype=torch.float64, requires_grad=True)
    before = torch.randn(2, cell.state_width, dtype=torch.float64, requires_grad=True)

    def read(
        inputs: torch.Tensor, before: torch.Tensor, *weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        named = dict(zip(names, weights, strict=True))
        outputs: tuple[torch.Tensor, torch.Tensor] = torch.func.functional_call(
            cell, named, (inputs, widths, before)
        )
        return outputs

    assert torch.autograd.gradcheck(read, (inputs, before, *cell.parameters()))


@pytest.mark.parametrize("name", CELLS)
def test_every_gate_has_the_bound_of_its_own_matrix(name: str) -> None:
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
