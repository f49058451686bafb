"""A layer in training equals the cell click by click; its gradient goes back to the first click."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.model.cells import CELLS, Cell
from training.model.gru_backward import read_layer

HIDDEN = 4


def cell_of(name: str, width: int = 3) -> Cell:
    cell = CELLS[name](width, HIDDEN).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in cell.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    return cell


def example(cell: Cell, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return inputs, batch sizes and an initial state."""
    torch.manual_seed(0)
    batch_sizes = torch.tensor(sorted(rows, reverse=True))
    width = 3 if cell.weight_ih is not None else cell.gates * HIDDEN
    inputs = torch.randn(int(batch_sizes.sum()), width, dtype=torch.float64, requires_grad=True)
    state = torch.randn(int(batch_sizes[0]), cell.state_width, dtype=torch.float64)
    return inputs, batch_sizes, state


def by_clicks(
    cell: Cell,
    inputs: torch.Tensor,
    batch_sizes: torch.Tensor,
    state: torch.Tensor,
    dropout_mask: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the cell click by click, with autograd."""
    outputs, last_state = [], state.clone()
    output, start = state[:, :HIDDEN], 0
    for rows in batch_sizes.tolist():
        now = slice(start, start + rows)
        gates = cell.gates_of(inputs[now])
        output, state = cell.step(gates, state[:rows], output[:rows])
        output = output * dropout_mask[:rows]
        outputs.append(output)
        last_state[:rows] = torch.cat([output, state[:, HIDDEN:]], dim=1).detach()
        start += rows
    return torch.cat(outputs), last_state


@pytest.mark.parametrize("width", [3, 0], ids=["embedded", "one-hot"])
@pytest.mark.parametrize("name", CELLS)
@given(rows=st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_a_layer_equals_the_cell_click_by_click_with_its_gradients(
    name: str, width: int, rows: list[int]
) -> None:
    cell = cell_of(name, width)
    inputs, batch_sizes, state = example(cell, rows)
    mask = (torch.rand(len(state), HIDDEN, dtype=torch.float64) < 0.6) / 0.6
    weight = torch.randn(len(inputs), HIDDEN, dtype=torch.float64)

    outputs, after = read_layer(cell, inputs, batch_sizes, state, mask)
    expected, expected_after = by_clicks(cell, inputs, batch_sizes, state, mask)

    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(after, expected_after)
    assert not after.requires_grad
    leaves = [inputs, *cell.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad((outputs * weight).sum(), leaves),
        torch.autograd.grad((expected * weight).sum(), leaves),
    )


@pytest.mark.parametrize("name", CELLS)
def test_without_dropout_a_layer_equals_the_cell(name: str) -> None:
    cell = cell_of(name)
    inputs, batch_sizes, state = example(cell, [4, 2, 1])

    hidden, after = read_layer(cell, inputs, batch_sizes, state, None)

    expected, expected_after = cell(inputs, batch_sizes, state)
    torch.testing.assert_close(hidden, expected)
    torch.testing.assert_close(after, expected_after)


@pytest.mark.parametrize("name", CELLS)
def test_the_gradient_through_the_clicks_equals_finite_differences(name: str) -> None:
    cell = cell_of(name)
    inputs, batch_sizes, state = example(cell, [3, 2, 2])

    assert torch.autograd.gradcheck(
        lambda packed, *_: read_layer(cell, packed, batch_sizes, state, None)[0],
        (inputs, *cell.parameters()),
    )
