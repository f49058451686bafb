"""Recurrent layer in training: all clicks of a mini-batch at once, gradient truncated at one click.

The hidden state passes from click to click without its gradient (truncated back-propagation with
one step: Hidasi et al., ICLR 2016, arXiv:1511.06939, section 3.1.1, trains on single clicks of
session-parallel mini-batches). The gradient of all clicks is then one matrix product per weight.
The carried state is the one after dropout; the memory of an LSTM has no dropout.
The default cell, a GRU on the CPU, has its own backward pass; every other cell uses autograd.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from recsys.model.cells import GRU, Cell


def read_layer(
    cell: Cell,
    inputs: Tensor,
    batch_sizes: Tensor,
    initial_state: Tensor,
    dropout_mask: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Run one recurrent layer over a packed mini-batch of B rows and up to T clicks each.

    Args:
        cell: The recurrent cell.
        inputs: (clicks, input width) float32, packed as in `torch.nn.utils.rnn.PackedSequence`.
        batch_sizes: (T,) int64 on the CPU, rows that have a first, second, … click; B is the first.
        initial_state: (B, state width) float32, the state before each row's first click.
        dropout_mask: (clicks, H) float32, 0 or 1/(1 − rate), or None for no dropout.

    Returns:
        The outputs after dropout, (clicks, H) float32, and the state after each row's last click,
        (B, state width) float32, without a gradient.
    """
    if isinstance(cell, GRU) and cell.weight_ih is not None and inputs.device.type == "cpu":
        outputs: Tensor = _PackedGRU.apply(  # type: ignore[no-untyped-call]
            inputs,
            batch_sizes.tolist(),
            initial_state,
            dropout_mask,
            cell.weight_ih,
            cell.weight_hh,
            cell.bias_ih,
            cell.bias_hh,
        )
        return outputs, outputs.detach()[_last_clicks(batch_sizes)]
    gates = cell.gates_of(inputs)
    before, after = _states(cell, gates.detach(), batch_sizes, initial_state, dropout_mask)
    hidden, _ = cell.step(gates, before)
    if dropout_mask is not None:
        hidden = hidden * dropout_mask
    return hidden, after[_last_clicks(batch_sizes)]


@torch.no_grad()
def _states(
    cell: Cell, gates: Tensor, batch_sizes: Tensor, state: Tensor, dropout_mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the states before and after every click, each (clicks, state width)."""
    states_before, states_after = [], []
    start = 0
    for rows in batch_sizes.tolist():
        state = state[:rows]
        states_before.append(state)
        hidden, after = cell.step(gates[start : start + rows], state)
        if dropout_mask is not None:
            hidden = hidden * dropout_mask[start : start + rows]
            after = torch.cat([hidden, after[:, cell.hidden :]], dim=1)
        states_after.append(after)
        state = after
        start += rows
    return torch.cat(states_before), torch.cat(states_after)


def _last_clicks(batch_sizes: Tensor) -> Tensor:
    """Return the packed position of each row's last click, (B,) int64."""
    rows = torch.arange(int(batch_sizes[0]))
    lengths = (batch_sizes.unsqueeze(1) > rows).sum(dim=0)
    return (batch_sizes.cumsum(0) - batch_sizes)[lengths - 1] + rows


class _PackedGRU(Function):
    """Forward and backward pass of `recsys.model.cells.GRU` over a packed mini-batch.

    n = tanh(W_n x + b + r ⊙ (U_n h + b')), h ← n + z ⊙ (h − n); r and z as in Cho et al.,
    EMNLP 2014, arXiv:1406.1078, section 2.3, with the reset gate after the recurrent product.
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        batch_sizes: list[int],
        state: Tensor,
        dropout_mask: Tensor | None,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias_ih: Tensor,
        bias_hh: Tensor,
    ) -> Tensor:
        width = weight_hh.size(1)
        # (clicks, 3H), replaced in place by the values of r, z and n
        gates = torch.addmm(bias_ih, inputs, weight_ih.t())
        outputs = gates.new_empty(len(inputs), width)
        before, candidate = torch.empty_like(outputs), torch.empty_like(outputs)
        start = 0
        for rows in batch_sizes:
            now = slice(start, start + rows)
            state = state[:rows]
            before[now] = state
            recurrent = torch.addmm(bias_hh, state, weight_hh.t())
            candidate[now] = recurrent[:, 2 * width :]
            step = gates[now]
            step[:, : 2 * width].add_(recurrent[:, : 2 * width]).sigmoid_()
            reset, update, new = step.chunk(3, dim=1)
            new.addcmul_(reset, candidate[now]).tanh_()
            state = torch.lerp(new, state, update, out=outputs[now])
            if dropout_mask is not None:
                state.mul_(dropout_mask[now])
            start += rows
        ctx.save_for_backward(inputs, gates, before, candidate, dropout_mask, weight_ih)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, gates, before, candidate, dropout_mask, weight_ih = ctx.saved_tensors
        if dropout_mask is not None:
            gradient = gradient * dropout_mask
        reset, update, new = gates.chunk(3, dim=1)
        grad_new = gradient * (1 - update) * (1 - new * new)
        grad_update = gradient * (before - new) * update * (1 - update)
        grad_reset = grad_new * candidate * reset * (1 - reset)
        grad_gates = torch.cat([grad_reset, grad_update, grad_new], dim=1)
        grad_recurrent = torch.cat([grad_reset, grad_update, grad_new * reset], dim=1)
        return (
            grad_gates @ weight_ih,
            None,
            None,
            None,
            grad_gates.t() @ inputs,
            grad_recurrent.t() @ before,
            grad_gates.sum(0),
            grad_recurrent.sum(0),
        )
