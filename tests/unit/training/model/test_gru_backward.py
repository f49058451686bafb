"""A layer in training reads what the cell reads; an event's gradient is that of one click."""

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


def given_to(cell: Cell, widths: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs, widths and a state to begin with."""
    torch.manual_seed(0)
    packed = torch.tensor(sorted(widths, reverse=True))
    width = 3 if cell.weight_ih is not None else cell.gates * HIDDEN
    inputs = torch.randn(int(packed.sum()), width, dtype=torch.float64, requires_grad=True)
    before = torch.randn(int(packed[0]), cell.state_width, dtype=torch.float64)
    return inputs, packed, before


def by_clicks(
    cell: Cell, inputs: torch.Tensor, widths: torch.Tensor, before: torch.Tensor, kept: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same, click after click, as the paper says it."""
    outputs, ended = [], before.clone()
    at = 0
    for width in widths.tolist():
        now = slice(at, at + width)
        read, after = cell(inputs[now], torch.tensor([width]), before[:width].detach())
        outputs.append(read * kept[now])
        before = torch.cat([outputs[-1], after[:, HIDDEN:]], dim=1).detach()
        ended[:width] = before
        at += width
    return torch.cat(outputs), ended


@pytest.mark.parametrize("width", [3, 0], ids=["embedded", "one-hot"])
@pytest.mark.parametrize("name", CELLS)
@given(widths=st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_it_is_reading_click_by_click_with_gradients_of_one_click(
    name: str, width: int, widths: list[int]
) -> None:
    cell = cell_of(name, width)
    inputs, packed, before = given_to(cell, widths)
    kept = (torch.rand(len(inputs), HIDDEN, dtype=torch.float64) < 0.6) / 0.6
    weight = torch.randn(len(inputs), HIDDEN, dtype=torch.float64)

    outputs, after = read_layer(cell, inputs, packed, before, kept)
    expected, expected_after = by_clicks(cell, inputs, packed, before, kept)

    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(after, expected_after)
    assert not after.requires_grad
    leaves = [inputs, *cell.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad((outputs * weight).sum(), leaves),
        torch.autograd.grad((expected * weight).sum(), leaves),
    )


@pytest.mark.parametrize("name", CELLS)
def test_without_dropout_it_reads_what_the_cell_reads(name: str) -> None:
    cell = cell_of(name)
    inputs, packed, before = given_to(cell, [4, 2, 1])

    read, after = read_layer(cell, inputs, packed, before, None)

    expected, expected_after = cell(inputs, packed, before)
    torch.testing.assert_close(read, expected)
    torch.testing.assert_close(after, expected_after)


@pytest.mark.parametrize("name", CELLS)
def test_the_gradient_of_one_click_is_that_of_finite_differences(name: str) -> None:
    cell = cell_of(name)
    inputs, packed, before = given_to(cell, [3])

    assert torch.autograd.gradcheck(
        lambda read, *_: read_layer(cell, read, packed, before, None)[0],
        (inputs, *cell.parameters()),
    )
