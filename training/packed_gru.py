"""A GRU layer over packed sessions on the CPU, with its gradient by hand.

torch's own packed GRU multiplies weight gradients together step after step; here every weight has
one product over all events, so that many short sessions cost what one long one does. The maths is
that of `recsys.cells.GRU` (reset gate after the recurrent product):

    r = σ(W_r x + U_r h)   z = σ(W_z x + U_z h)   n = tanh(W_n x + r ⊙ U_n h)   h ← n + z ⊙ (h − n)

with a bias in every product. Source of the gradient: Cho et al., arXiv:1406.1078, differentiated.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from recsys.cells import GRU, Cell


def read_packed(
    cell: Cell, inputs: Tensor, widths: Tensor, before: Tensor
) -> tuple[Tensor, Tensor]:
    """What `cell` itself gives: inputs (E, X), widths (T,), before (B, W) → (E, H), (B, W).

    `before` gets no gradient: it is zeros, or a state carried from an earlier step.
    """
    if not isinstance(cell, GRU) or cell.weight_ih is None or inputs.device.type != "cpu":
        read, after = cell(inputs, widths, before)
        return read, after
    outputs: Tensor = _PackedGRU.apply(  # type: ignore[no-untyped-call]
        inputs, widths.tolist(), before, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh
    )
    return outputs, outputs[_last_events(widths)]


def _last_events(widths: Tensor) -> Tensor:
    """(B,) int64, where each row's last event stands."""
    rows = torch.arange(int(widths[0]))
    steps = (widths.unsqueeze(1) > rows).sum(dim=0)
    return (widths.cumsum(0) - widths)[steps - 1] + rows


class _PackedGRU(Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        widths: list[int],
        state: Tensor,
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
            at += width
        ctx.save_for_backward(inputs, gates, before, candidate, weight_ih, weight_hh)
        ctx.widths = widths
        return outputs

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, gates, before, candidate, weight_ih, weight_hh = ctx.saved_tensors
        hidden = weight_hh.size(1)
        reset, update, new = gates.chunk(3, dim=1)
        # what one unit of a step's output gradient means for the sums inside its gates
        into_new = (1 - update) * (1 - new * new)
        into_gates = torch.cat(
            [
                into_new * candidate * reset * (1 - reset),
                (before - new) * update * (1 - update),
                into_new,
            ],
            dim=1,
        )
        into_recurrent = torch.empty_like(into_gates)
        reached = gradient.clone()  # (E, H), with what later steps send back
        at, later = len(gradient), 0
        for width in reversed(ctx.widths):
            at -= width
            now = slice(at, at + width)
            if later:
                then = slice(at + width, at + width + later)
                back = torch.addmm(reached[then] * update[then], into_recurrent[then], weight_hh)
                reached[at : at + later] += back
            later = width
            step = into_gates[now].view(width, 3, hidden).mul_(reached[now].unsqueeze(1))
            into_recurrent[now] = into_gates[now]
            into_recurrent[now, 2 * hidden :].copy_(step[:, 2]).mul_(reset[now])
        return (
            into_gates @ weight_ih,
            None,
            None,
            into_gates.t() @ inputs,
            into_recurrent.t() @ before,
            into_gates.sum(0),
            into_recurrent.sum(0),
        )
