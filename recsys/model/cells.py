"""The recurrent cells: packed clicks and a state in, outputs and the next state out.

All four share one interface, `outputs, after = cell(inputs, widths, before)`, so that training,
replaying and serving need not know which one it is. A cell of `input_size` 0 reads numbers that
are its gates' inputs already (rows of a one-hot item's weights) and has no product of its own.

Events stand as in torch's `PackedSequence`: the first widths[0] rows are the first step of every
session, longest session first, then widths[1] rows of the second step, and so on.

Shape letters beside those of `recsys/model/gru4rec.py`:
    E  events of all sessions     X  numbers of one input     G  gates of the cell
    W  numbers of one state: H, or 2H where the cell has a memory beside its output
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

FORGET_BIAS = 1.0


class Cell(nn.Module):
    """One recurrent layer; subclasses say what a step is, and may read faster than step by step.

    Weights are stacked gate by gate, as torch stacks them: weight_ih (G·H, X), weight_hh (G·H, H),
    bias_ih (G·H,).
    """

    GATES = 1  # G
    PARTS = 1  # vectors of H in a state; the first one is the output
    weight_ih: Tensor | None

    def __init__(self, input_size: int, hidden: int) -> None:
        super().__init__()
        gates = self.GATES
        self.hidden = hidden
        self.gates = gates
        self.state_width = self.PARTS * hidden
        if input_size == 0:
            self.register_parameter("weight_ih", None)
        else:
            self.weight_ih = nn.Parameter(torch.zeros(gates * hidden, input_size))
        self.weight_hh = nn.Parameter(torch.zeros(gates * hidden, hidden))
        self.bias_ih = nn.Parameter(torch.zeros(gates * hidden))

    def forward(self, inputs: Tensor, widths: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """Read sessions, each from its row of `before`.

        inputs: (E, X) float32, or (E, G·H) where input_size is 0; widths: (T,) int64 on the CPU,
        never rising, each at least 1, E in sum; before: (B, W) float32, B = widths[0].
        Returns the outputs (E, H), and (B, W) the state after each row's last step.
        """
        return self.walk(self.gates_of(inputs), widths, before)

    def gates_of(self, inputs: Tensor) -> Tensor:
        """What the inputs put into the gates, W_ih·x + b_ih: (E, G·H)."""
        weight = self.weight_ih
        if weight is None:
            return inputs + self.bias_ih
        return functional.linear(inputs, weight, self.bias_ih)

    def walk(self, gates: Tensor, widths: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """Step after step; gates: (E, G·H), the product with the inputs done for all events."""
        steps: list[int] = widths.tolist()
        outputs: list[Tensor] = []
        ended: list[Tensor] = []
        for now in torch.split(gates, steps):  # split, not slices: their gradients are whole tables
            if now.size(0) < before.size(0):
                ended.append(before[now.size(0) :])
                before = before[: now.size(0)]
            output, before = self.step(now, before)
            outputs.append(output)
        ended.append(before)
        ended.reverse()  # what ended last stands first
        return torch.cat(outputs), torch.cat(ended)

    def step(self, gates: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """gates: (B, G·H), W_ih·x + b_ih; before: (B, W). Returns (B, H) and (B, W)."""
        raise NotImplementedError

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Every gate's matrix from U(±√(6/(rows+columns))), biases 0.

        Each gate is a matrix of its own for the bound; of the stacked one it would be too small.
        """
        for weight in self.parameters():
            if weight.dim() == 1:
                weight.zero_()
            else:
                drawn = [glorot(gate.shape, generator) for gate in weight.chunk(self.gates)]
                weight.copy_(torch.cat(drawn))


class GRU(Cell):
    """Reset gate after the recurrent product, as torch and cuDNN have it: n = tanh(Wx + r ⊙ Uh).

    Gates in the order reset, update, candidate, with two biases (bias_hh (3H,) too, since one of
    the candidate's is reset and the other is not).
    Source: Cho et al., EMNLP 2014, arXiv:1406.1078v1 (its first version; cuDNN follows it).
    """

    GATES = 3

    def __init__(self, input_size: int, hidden: int) -> None:
        super().__init__(input_size, hidden)
        self.bias_hh = nn.Parameter(torch.zeros(3 * hidden))

    def forward(self, inputs: Tensor, widths: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        weight = self.weight_ih
        if weight is None:
            return self.walk(self.gates_of(inputs), widths, before)
        if widths.size(0) == 1:  # a tenth faster than the packed kernel, bit for bit the same
            after = torch.gru_cell(
                inputs, before, weight, self.weight_hh, self.bias_ih, self.bias_hh
            )
            return after, after
        weights = [weight, self.weight_hh, self.bias_ih, self.bias_hh]
        outputs, after = torch.gru(
            inputs, widths, before.unsqueeze(0), weights, True, 1, 0.0, self.training, False
        )
        return outputs, after.squeeze(0)

    def step(self, gates: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        recurrent = functional.linear(before, self.weight_hh, self.bias_hh)
        reset_in, update_in, candidate_in = gates.chunk(3, dim=1)
        reset_back, update_back, candidate_back = recurrent.chunk(3, dim=1)
        reset = torch.sigmoid(reset_in + reset_back)
        update = torch.sigmoid(update_in + update_back)
        candidate = torch.tanh(candidate_in + reset * candidate_back)
        after = candidate + update * (before - candidate)
        return after, after


class ResetBeforeGRU(Cell):
    """Reset gate before the recurrent product: n = tanh(Wx + U(r ⊙ h)). Gates as in `GRU`.

    Source: Cho et al., EMNLP 2014, arXiv:1406.1078v3, section 2.3. There is no fused kernel.
    """

    GATES = 3

    def step(self, gates: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        sizes = [2 * self.hidden, self.hidden]
        both_in, candidate_in = torch.split(gates, sizes, dim=1)
        both_weight, candidate_weight = torch.split(self.weight_hh, sizes)
        both = torch.sigmoid(both_in + functional.linear(before, both_weight))
        reset, update = both.chunk(2, dim=1)
        candidate = torch.tanh(candidate_in + functional.linear(reset * before, candidate_weight))
        after = candidate + update * (before - candidate)
        return after, after


class LSTM(Cell):
    """Long short-term memory; a state is the output, then the cell's memory.

    Gates in the order input, forget, cell, output; no peepholes. The forget gate's bias begins at
    1, without which an LSTM forgets before it has learned to keep (Jozefowicz et al., ICML 2015,
    where it closed the gap to the GRU).
    Sources: Hochreiter and Schmidhuber, Neural Computation 1997; the forget gate is that of Gers,
    Schmidhuber and Cummins, Neural Computation 2000.
    """

    GATES, PARTS = 4, 2

    def forward(self, inputs: Tensor, widths: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        weight = self.weight_ih
        if weight is None:
            return self.walk(self.gates_of(inputs), widths, before)
        output, memory = before.unsqueeze(0).chunk(2, dim=2)
        weights = [weight, self.weight_hh, self.bias_ih, torch.zeros_like(self.bias_ih)]
        state = [output.contiguous(), memory.contiguous()]
        outputs, output, memory = torch.lstm(
            inputs, widths, state, weights, True, 1, 0.0, self.training, False
        )
        return outputs, torch.cat([output, memory], dim=2).squeeze(0)

    def step(self, gates: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        output, memory = before.chunk(2, dim=1)
        summed = gates + functional.linear(output, self.weight_hh)
        take, keep, candidate, show = summed.chunk(4, dim=1)
        memory = torch.sigmoid(keep) * memory + torch.sigmoid(take) * torch.tanh(candidate)
        output = torch.sigmoid(show) * torch.tanh(memory)
        return output, torch.cat([output, memory], dim=1)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        super().initialise(generator)
        self.bias_ih[self.hidden : 2 * self.hidden] = FORGET_BIAS


class TanhRNN(Cell):
    """The simple recurrent network, h = tanh(Wx + Uh + b): no gates at all.

    Source: Elman, Cognitive Science 1990.
    """

    def forward(self, inputs: Tensor, widths: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        weight = self.weight_ih
        if weight is None:
            return self.walk(self.gates_of(inputs), widths, before)
        weights = [weight, self.weight_hh, self.bias_ih, torch.zeros_like(self.bias_ih)]
        outputs, after = torch.rnn_tanh(
            inputs, widths, before.unsqueeze(0), weights, True, 1, 0.0, self.training, False
        )
        return outputs, after.squeeze(0)

    def step(self, gates: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        after = torch.tanh(gates + functional.linear(before, self.weight_hh))
        return after, after


CELLS: Mapping[str, type[Cell]] = {
    "gru": GRU,
    "gru-reset-before": ResetBeforeGRU,
    "lstm": LSTM,
    "rnn": TanhRNN,
}


def glorot(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """A (rows, columns) float32 matrix from U(±√(6/(rows+columns))) (Glorot and Bengio 2010)."""
    bound = math.sqrt(6.0 / (shape[0] + shape[1]))
    return (torch.rand(shape, generator=generator) * 2 - 1) * bound
