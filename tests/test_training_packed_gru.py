"""The gradient by hand is that of torch, and what it reads is what the cell reads."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.cells import GRU, LSTM
from training.packed_gru import read_packed


def cell_of(kind: type[GRU] | type[LSTM] = GRU, width: int = 3, hidden: int = 4) -> GRU | LSTM:
    cell = kind(width, hidden).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in cell.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    return cell


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_it_is_the_cell_with_its_gradients(widths: list[int]) -> None:
    packed = torch.tensor(sorted(widths, reverse=True))
    torch.manual_seed(0)
    inputs = torch.randn(int(packed.sum()), 3, dtype=torch.float64, requires_grad=True)
    before = torch.randn(int(packed[0]), 4, dtype=torch.float64)
    weight = torch.randn(int(packed.sum()), 4, dtype=torch.float64)
    cell = cell_of()

    outputs, after = read_packed(cell, inputs, packed, before)
    expected, expected_after = cell(inputs, packed, before)

    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(after, expected_after)
    leaves = [inputs, *cell.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad((outputs * weight).sum(), leaves),
        torch.autograd.grad((expected * weight).sum(), leaves),
    )


def test_the_gradient_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    widths, before = torch.tensor([3, 2, 1]), torch.randn(3, 4, dtype=torch.float64)
    cell = cell_of()

    assert torch.autograd.gradcheck(
        lambda given, *_: read_packed(cell, given, widths, before)[0],
        (inputs, *cell.parameters()),
    )


@pytest.mark.parametrize("cell", [cell_of(LSTM), cell_of(GRU, width=0)], ids=["lstm", "one-hot"])
def test_other_cells_read_for_themselves(cell: GRU | LSTM) -> None:
    inputs = torch.randn(4, 12 if cell.weight_ih is None else 3, dtype=torch.float64)
    widths, before = torch.tensor([3, 1]), torch.zeros(3, cell.state_width, dtype=torch.float64)

    read, after = read_packed(cell, inputs, widths, before)

    expected, expected_after = cell(inputs, widths, before)
    assert torch.equal(read, expected)
    assert torch.equal(after, expected_after)
