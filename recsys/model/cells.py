"""Recurrent cells: packed inputs and a state in, outputs and the next state out.

All four share one interface, `outputs, next_state = cell(inputs, batch_sizes, state)`, so that
training, replay and serving need not know the kind of cell. The inputs of a cell with `input_size`
0 are its gates' inputs already (rows of a one-hot item's weights), so it has no input weights.

Rows are packed as in torch's `PackedSequence`: the first batch_sizes[0] rows are the first step of
every session, longest session first, then batch_sizes[1] rows of the second step, and so on. Shape
letters are listed in `recsys/model/gru4rec.py`; `packed` is the number of packed rows, `gates` the
number of gates, `state_width` H, or 2H where the cell has a memory beside its output.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

FORGET_BIAS = 1.0


class Cell(nn.Module):
    """One recurrent layer; a subclass defines `step`, and `forward` where torch has a fused kernel.

    Weights are stacked gate by gate, as in torch: weight_ih (gates·H, input_width),
    weight_hh (gates·H, H), bias_ih (gates·H,).
    """

    GATES = 1
    PARTS = 1  # vectors of H in a state; the first one is the output
    weight_ih: Tensor | None

    def __init__(self, input_size: int, hidden: int) -> None:
        """Make the weights, all zero.

        Args:
            input_size: numbers of one input row; 0 where the rows are gate inputs already.
            hidden: H.
        """
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

    def forward(self, inputs: Tensor, batch_sizes: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Read packed sessions, each from its row of `state`.

        Args:
            inputs: (packed, input_width) float32; (packed, gates·H) where input_size is 0.
            batch_sizes: (T,) int64 on the CPU, never rising, each at least 1, their sum is packed.
            state: (B, state_width) float32, B = batch_sizes[0].

        Returns:
            The outputs, (packed, H) float32, and the state after each row's last step,
            (B, state_width) float32.
        """
        return self.unroll(self.gates_of(inputs), batch_sizes, state)

    def gates_of(self, inputs: Tensor) -> Tensor:
        """Return the inputs' part of the gates, W_ih·x + b_ih: (packed, gates·H) float32."""
        weight = self.weight_ih
        if weight is None:
            return inputs + self.bias_ih
        return functional.linear(inputs, weight, self.bias_ih)

    def unroll(self, gates: Tensor, batch_sizes: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Compute step after step; arguments and result as `forward`, with the gates' inputs.

        Args:
            gates: (packed, gates·H) float32, as `gates_of` returns it.
            batch_sizes: (T,) int64.
            state: (B, state_width) float32.
        """
        steps: list[int] = batch_sizes.tolist()
        outputs: list[Tensor] = []
        ended: list[Tensor] = []
        for now in torch.split(gates, steps):  # split, not slices: their gradients are whole tables
            if now.size(0) < state.size(0):
                ended.append(state[now.size(0) :])
                state = state[: now.size(0)]
            output, state = self.step(now, state, state[:, : self.hidden])
            outputs.append(output)
        ended.append(state)
        ended.reverse()  # the sessions that end last stand first
        return torch.cat(outputs), torch.cat(ended)

    def step(self, gates: Tensor, state: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
        """Compute one step.

        Args:
            gates: (B, gates·H) float32, W_ih·x + b_ih.
            state: (B, state_width) float32.
            output: (B, H) float32, what the recurrent product reads: the first part of the state,
                in training after dropout.

        Returns:
            The output, (B, H) float32, and the next state, (B, state_width) float32.
        """
        raise NotImplementedError

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw every gate's matrices from U(±√(6/(rows+columns))) and set the biases to 0.

        The bound is that of one gate's matrix; the bound of the stacked matrix would be too small.

        Args:
            generator: source of the random numbers.
        """
        for weight in self.parameters():
            if weight.dim() == 1:
                weight.zero_()
            else:
                matrices = [glorot(gate.shape, generator) for gate in weight.chunk(self.gates)]
                weight.copy_(torch.cat(matrices))


class GRU(Cell):
    """GRU with the reset gate after the recurrent product, as in torch: n = tanh(Wx + r ⊙ Uh).

    Gates in the order reset, update, candidate. There is a second bias, bias_hh (3·H,), because the
    reset gate applies to one of the candidate's two biases only.
    Source: Cho et al., EMNLP 2014, arXiv:1406.1078v1 (its first version; cuDNN follows it).
    """

    GATES = 3

    def __init__(self, input_size: int, hidden: int) -> None:
        super().__init__(input_size, hidden)
        self.bias_hh = nn.Parameter(torch.zeros(3 * hidden))

    def forward(self, inputs: Tensor, batch_sizes: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        weight = self.weight_ih
        if weight is None:
            return self.unroll(self.gates_of(inputs), batch_sizes, state)
        if batch_sizes.size(0) == 1:  # a tenth faster than the packed kernel, bit for bit the same
            next_state = torch.gru_cell(
                inputs, state, weight, self.weight_hh, self.bias_ih, self.bias_hh
            )
            return next_state, next_state
        weights = [weight, self.weight_hh, self.bias_ih, self.bias_hh]
        outputs, next_state = torch.gru(
            inputs, batch_sizes, state.unsqueeze(0), weights, True, 1, 0.0, self.training, False
        )
        return outputs, next_state.squeeze(0)

    def step(self, gates: Tensor, state: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
        recurrent = functional.linear(output, self.weight_hh, self.bias_hh)
        reset_in, update_in, candidate_in = gates.chunk(3, dim=1)
        reset_back, update_back, candidate_back = recurrent.chunk(3, dim=1)
        reset = torch.sigmoid(reset_in + reset_back)
        update = torch.sigmoid(update_in + update_back)
        candidate = torch.tanh(candidate_in + reset * candidate_back)
        next_state = candidate + update * (state - candidate)
        return next_state, next_state


class ResetBeforeGRU(Cell):
    """GRU with the reset gate before the recurrent product: n = tanh(Wx + U(r ⊙ h)).

    Gates in the order reset, update, candidate.

    Source: Cho et al., EMNLP 2014, arXiv:1406.1078v3, section 2.3. There is no fused kernel.
    """

    GATES = 3

    def step(self, gates: Tensor, state: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
        sizes = [2 * self.hidden, self.hidden]
        both_in, candidate_in = torch.split(gates, sizes, dim=1)
        both_weight, candidate_weight = torch.split(self.weight_hh, sizes)
        both = torch.sigmoid(both_in + functional.linear(output, both_weight))
        reset, update = both.chunk(2, dim=1)
        candidate = torch.tanh(candidate_in + functional.linear(reset * output, candidate_weight))
        next_state = candidate + update * (state - candidate)
        return next_state, next_state


class LSTM(Cell):
    """Long short-term memory; a state is the output, then the cell's memory.

    Gates in the order input, forget, cell, output; no peepholes. The forget gate's bias begins at
    1: with 0, half of the memory is lost at every step until training changes it (Jozefowicz et
    al., ICML 2015, where a bias of 1 closed the gap to the GRU).
    Sources: Hochreiter and Schmidhuber, Neural Computation 1997; the forget gate is that of Gers,
    Schmidhuber and Cummins, Neural Computation 2000.
    """

    GATES, PARTS = 4, 2

    def forward(self, inputs: Tensor, batch_sizes: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        weight = self.weight_ih
        if weight is None:
            return self.unroll(self.gates_of(inputs), batch_sizes, state)
        output, memory = state.unsqueeze(0).chunk(2, dim=2)
        weights = [weight, self.weight_hh, self.bias_ih, torch.zeros_like(self.bias_ih)]
        parts = [output.contiguous(), memory.contiguous()]
        outputs, output, memory = torch.lstm(
            inputs, batch_sizes, parts, weights, True, 1, 0.0, self.training, False
        )
        return outputs, torch.cat([output, memory], dim=2).squeeze(0)

    def step(self, gates: Tensor, state: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
        memory = state[:, self.hidden :]
        gate_inputs = gates + functional.linear(output, self.weight_hh)
        input_gate, forget_gate, candidate, output_gate = gate_inputs.chunk(4, dim=1)
        memory = torch.sigmoid(forget_gate) * memory + torch.sigmoid(input_gate) * torch.tanh(
            candidate
        )
        output = torch.sigmoid(output_gate) * torch.tanh(memory)
        return output, torch.cat([output, memory], dim=1)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        super().initialise(generator)
        self.bias_ih[self.hidden : 2 * self.hidden] = FORGET_BIAS


class TanhRNN(Cell):
    """Simple recurrent network without gates: h = tanh(Wx + Uh + b).

    Source: Elman, Cognitive Science 1990.
    """

    def forward(self, inputs: Tensor, batch_sizes: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        weight = self.weight_ih
        if weight is None:
            return self.unroll(self.gates_of(inputs), batch_sizes, state)
        weights = [weight, self.weight_hh, self.bias_ih, torch.zeros_like(self.bias_ih)]
        outputs, next_state = torch.rnn_tanh(
            inputs, batch_sizes, state.unsqueeze(0), weights, True, 1, 0.0, self.training, False
        )
        return outputs, next_state.squeeze(0)

    def step(self, gates: Tensor, state: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
        next_state = torch.tanh(gates + functional.linear(output, self.weight_hh))
        return next_state, next_state


CELLS: Mapping[str, type[Cell]] = {
    "gru": GRU,
    "gru-reset-before": ResetBeforeGRU,
    "lstm": LSTM,
    "rnn": TanhRNN,
}


def glorot(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Draw a matrix from U(±√(6/(rows+columns))).

    Source: Glorot and Bengio, AISTATS 2010, section 4.2.1.

    Args:
        shape: (rows, columns).
        generator: source of the random numbers.

    Returns:
        (rows, columns) float32.
    """
    bound = math.sqrt(6.0 / (shape[0] + shape[1]))
    return (torch.rand(shape, generator=generator) * 2 - 1) * bound
