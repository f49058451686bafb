"""Recurrent layer in training: all clicks of a mini-batch at once, with dropout between them.

The gradient goes back through every click of a row, to its first one in the mini-batch
(back-propagation through time). Whole sessions are such rows. A session-parallel mini-batch has one
click of each row, so its gradient spans one click, as in Hidasi et al., ICLR 2016,
arXiv:1511.06939, section 3.1.1. docs/accuracy.md says what the longer gradient gains.
Dropout acts on a layer's output wherever it is read: by the scores, by the next layer, and by the
recurrent product of the next click (Gal and Ghahramani, NeurIPS 2016, arXiv:1512.05287, section 4).
What a gate carries over (z ⊙ h of a GRU, the memory of an LSTM) has no dropout: scaled up at each
click, it would grow without bound. A session-parallel row carries its output after dropout on to
the next mini-batch.
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
        dropout_mask: (B, H) float32, 0 or 1/(1 − rate), the same for all clicks of a row, or None
            for no dropout.

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
    outputs, states = _unroll(cell, cell.gates_of(inputs), batch_sizes, initial_state, dropout_mask)
    return outputs, states.detach()[_last_clicks(batch_sizes)]


def _unroll(
    cell: Cell, gates: Tensor, batch_sizes: Tensor, state: Tensor, dropout_mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the outputs and the carried states after every click, (clicks, H or state width)."""
    outputs, states = [], []
    output = state[:, : cell.hidden]
    for now in torch.split(gates, batch_sizes.tolist()):
        output, state = cell.step(now, state[: len(now)], output[: len(now)])
        if dropout_mask is not None:
            output = output * dropout_mask[: len(now)]
        outputs.append(output)
        states.append(torch.cat([output, state[:, cell.hidden :]], dim=1))
    return torch.cat(outputs), torch.cat(states)


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
        before = gates.new_empty(len(inputs), width)  # the state h of the click before
        read, outputs, candidate = (torch.empty_like(before) for _ in range(3))
        output, start = state, 0
        for rows in batch_sizes:
            now = slice(start, start + rows)
            before[now], read[now] = state[:rows], output[:rows]
            recurrent = torch.addmm(bias_hh, read[now], weight_hh.t())
            candidate[now] = recurrent[:, 2 * width :]
            step = gates[now]
            step[:, : 2 * width].add_(recurrent[:, : 2 * width]).sigmoid_()
            reset, update, new = step.chunk(3, dim=1)
            new.addcmul_(reset, candidate[now]).tanh_()
            output = outputs[now]
            if dropout_mask is None:
                state = torch.lerp(new, before[now], update, out=output)
            else:
                state = torch.lerp(new, before[now], update)
                torch.mul(state, dropout_mask[:rows], out=output)
            start += rows
        ctx.batch_sizes = batch_sizes
        ctx.save_for_backward(
            inputs, gates, before, read, candidate, dropout_mask, weight_ih, weight_hh
        )
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, gates, before, read, candidate, dropout_mask, weight_ih, weight_hh = (
            ctx.saved_tensors
        )
        width = weight_hh.size(1)
        reset, update, new = gates.chunk(3, dim=1)
        # (clicks, 3, H): what a gradient of the new state is multiplied with, per gate
        factors = gates.new_empty(len(gates), 3, width)
        of_reset, of_update, of_new = factors.unbind(1)
        torch.mul(1 - update, 1 - new * new, out=of_new)
        torch.mul(before - new, update, out=of_update).mul_(1 - update)
        torch.mul(of_new, candidate, out=of_reset).mul_(reset).mul_(1 - reset)
        new_of_gates = of_new.clone()  # the input's part of the candidate is not reset
        of_new.mul_(reset)
        gradient = gradient.clone()
        grad_recurrent = factors  # in place, click by click
        end, to_read, to_state = len(gradient), None, None
        for rows in reversed(ctx.batch_sizes):
            now = slice(end - rows, end)
            step = gradient[now]
            if to_read is not None:  # from the next click of the rows that have one
                step[: len(to_read)].add_(to_read)
            if dropout_mask is not None:
                step.mul_(dropout_mask[:rows])
            if to_state is not None:
                step[: len(to_state)].add_(to_state)
            torch.mul(step.unsqueeze(1), factors[now], out=grad_recurrent[now])
            end -= rows
            if end > 0:
                to_read = grad_recurrent[now].flatten(1) @ weight_hh
                to_state = step * update[now]
        grad_gates = grad_recurrent.clone()
        torch.mul(gradient, new_of_gates, out=grad_gates[:, 2])
        grad_gates, grad_recurrent = grad_gates.flatten(1), grad_recurrent.flatten(1)
        return (
            grad_gates @ weight_ih,
            None,
            None,
            None,
            grad_gates.t() @ inputs,
            grad_recurrent.t() @ read,
            grad_gates.sum(0),
            grad_recurrent.sum(0),
        )
