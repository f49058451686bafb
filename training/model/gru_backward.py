"""A recurrent layer in training: all events of a step at once, each with a gradient of one click.

States move from click to click without their gradient, as the paper has it, so the gradient of all
events is one product a weight: many short sessions cost what one long one does. The state that is
carried is the one after dropout (Hidasi et al., arXiv:1511.06939; an LSTM's memory drops nothing).
The default cell, a GRU on the CPU, has its gradient written out; all cells answer alike.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from recsys.model.cells import GRU, Cell


def read_layer(
    cell: Cell, inputs: Tensor, widths: Tensor, before: Tensor, kept: Tensor | None
) -> tuple[Tensor, Tensor]:
    """inputs: (E, X), packed; widths: (T,); before: (B, W); kept: (E, H), dropout's factors.

    Returns the outputs after dropout, (E, H), and the state after each row's last click, (B, W),
    without a gradient.
    """
    if isinstance(cell, GRU) and cell.weight_ih is not None and inputs.device.type == "cpu":
        outputs: Tensor = _PackedGRU.apply(  # type: ignore[no-untyped-call]
            inputs,
            widths.tolist(),
            before,
            kept,
            cell.weight_ih,
            cell.weight_hh,
            cell.bias_ih,
            cell.bias_hh,
        )
        return outputs, outputs.detach()[_last_events(widths)]
    gates = cell.gates_of(inputs)
    states = _states(cell, gates.detach(), widths, before, kept)
    read, _ = cell.step(gates, states[0])
    return read if kept is None else read * kept, states[1][_last_events(widths)]


@torch.no_grad()
def _states(
    cell: Cell, gates: Tensor, widths: Tensor, before: Tensor, kept: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The states that every event begins and ends with, both (E, W)."""
    begun, ended = [], []
    at = 0
    for width in widths.tolist():
        state = before[:width]
        output, after = cell.step(gates[at : at + width], state)
        if kept is not None:
            output = output * kept[at : at + width]
            after = torch.cat([output, after[:, cell.hidden :]], dim=1)
        begun.append(state)
        ended.append(after)
        before = after
        at += width
    return torch.cat(begun), torch.cat(ended)


def _last_events(widths: Tensor) -> Tensor:
    """(B,) int64, where each row's last event stands."""
    rows = torch.arange(int(widths[0]))
    steps = (widths.unsqueeze(1) > rows).sum(dim=0)
    return (widths.cumsum(0) - widths)[steps - 1] + rows


class _PackedGRU(Function):
    """`recsys.model.cells.GRU`: n = tanh(W_n x + b + r ⊙ (U_n h + b')), h ← n + z ⊙ (h − n)."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        widths: list[int],
        state: Tensor,
        kept: Tensor | None,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias_ih: Tensor,
        bias_hh: Tensor,
    ) -> Tensor:
        hidden = weight_hh.size(1)
        gates = torch.addmm(bias_ih, inputs, weight_ih.t())  # (E, 3H), made r, z, n in place
        outputs = gates.new_empty(len(inputs), hidden)
        before, candidate = torch.empty_like(outputs), torch.empty_like(outputs)
        at = 0
        for width in widths:
            now = slice(at, at + width)
            state = state[:width]
            before[now] = state
            recurrent = torch.addmm(bias_hh, state, weight_hh.t())
            candidate[now] = recurrent[:, 2 * hidden :]
            step = gates[now]
            step[:, : 2 * hidden].add_(recurrent[:, : 2 * hidden]).sigmoid_()
            reset, update, new = step.chunk(3, dim=1)
            new.addcmul_(reset, candidate[now]).tanh_()
            state = torch.lerp(new, state, update, out=outputs[now])
            if kept is not None:
                state.mul_(kept[now])
            at += width
        ctx.save_for_backward(inputs, gates, before, candidate, kept, weight_ih)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, gates, before, candidate, kept, weight_ih = ctx.saved_tensors
        if kept is not None:
            gradient = gradient * kept
        reset, update, new = gates.chunk(3, dim=1)
        into_new = gradient * (1 - update) * (1 - new * new)
        into_update = gradient * (before - new) * update * (1 - update)
        into_reset = into_new * candidate * reset * (1 - reset)
        into_gates = torch.cat([into_reset, into_update, into_new], dim=1)
        into_recurrent = torch.cat([into_reset, into_update, into_new * reset], dim=1)
        return (
            into_gates @ weight_ih,
            None,
            None,
            None,
            into_gates.t() @ inputs,
            into_recurrent.t() @ before,
            into_gates.sum(0),
            into_recurrent.sum(0),
        )
