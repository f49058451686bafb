"""The session model: one recurrent step per click, scored against every item.

Read top to bottom: `ModelSize` (the sizes), `SessionRNN.step` (one click), `replay` (the same over
whole sessions), `scores` (from hidden state to scores).

The item tables are arguments, not parameters: training updates only the rows that a batch touches,
and server processes share one memory-mapped copy. There are two tables: scores come from the item
matrix and its biases, a click reads its row of the input table, plus a vector of its event type
where the model has types. The embedding says whether the two tables are one:

    shared    the input table is the item matrix
    separate  the input table is a matrix of its own, (N, input_width)
    none      one-hot clicks: an item's input row holds its weights in the first layer,
              (N, gates·H)

Sources: Hidasi et al., ICLR 2016, arXiv:1511.06939 (the model, one-hot and embedded clicks);
Hidasi and Karatzoglou, CIKM 2018, arXiv:1706.03847 (one matrix for input and output, item bias);
Gupta et al., arXiv:1909.04276 (NISER: item and session vectors of length 1, a scale).

Shape letters, the only ones in comments and docstrings of this repository:
    B  batch: rows that are computed together, mostly one a session
    T  time: clicks of the longest session in a batch
    H  hidden units
    L  recurrent layers
    N  items in the catalogue
    S  sampled negatives
    K  length of a list
    C  candidates
Any other size is spelled out. `state_width` is H, or 2H for the LSTM, whose first H numbers are its
output. `input_width` is the length of an input row. `gates` is the number of gates of a cell.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from recsys.model.cells import CELLS, Cell
from recsys.model.ranking import top_k

EMBEDDINGS = ("shared", "separate", "none")
MIN_LENGTH = 1e-6  # a shorter vector has no direction


@dataclass(frozen=True, slots=True)
class ModelSize:
    """Sizes of the tensors, and the settings that decide what the weights mean.

    Raises:
        ValueError: a field is outside its range.
    """

    items: int  # N; given by the catalogue, never by hand
    hidden: int  # H; the state of a session takes 4 * L * state_width bytes in Redis
    layers: int = 1  # L
    cell: str = "gru"
    embedding: str = "shared"
    embedding_width: int = 0  # input_width of a separate embedding; 0 for H
    scale: float = 0.0  # of cosine scores; 0 for inner products
    event_types: int = 1  # numbers of types that a click may have; 1: clicks have no type

    def __post_init__(self) -> None:
        for name in ("items", "hidden", "layers", "event_types"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"ModelSize.{name} must be at least 1, got {value}.")
        for name, words in (("cell", tuple(CELLS)), ("embedding", EMBEDDINGS)):
            value = getattr(self, name)
            if value not in words:
                raise ValueError(
                    f"ModelSize.{name} must be one of {', '.join(words)}, got {value!r}."
                )
        if self.embedding_width < 0 or (self.embedding_width > 0 and self.embedding != "separate"):
            raise ValueError(
                "ModelSize.embedding_width must be at least 0, and 0 unless the embedding is "
                f"separate, got {self.embedding_width}."
            )
        if not 0 <= self.scale < math.inf:
            raise ValueError(f"ModelSize.scale must be at least 0 and finite, got {self.scale}.")

    @property
    def state_width(self) -> int:
        """Return the numbers of one layer's state: H, or 2H for the LSTM."""
        return CELLS[self.cell].PARTS * self.hidden

    @property
    def inputs_shape(self) -> tuple[int, int] | None:
        """Return the input table's shape, (N, input_width); None where it is the item matrix."""
        if self.embedding == "shared":
            return None
        return self.items, self.input_width

    @property
    def input_width(self) -> int:
        """Return the length of an input row."""
        if self.embedding == "none":
            return CELLS[self.cell].GATES * self.hidden
        return self.embedding_width or self.hidden


class SessionRNN(nn.Module):
    """Next-item model whose memory of a session is one tensor, (L, state_width)."""

    events: Tensor | None

    def __init__(self, size: ModelSize) -> None:
        """Make the layers, with weights of zero; `initialise` draws them."""
        super().__init__()
        widths = {"shared": size.hidden, "separate": size.embedding_width or size.hidden, "none": 0}
        input_widths = [widths[size.embedding], *[size.hidden] * (size.layers - 1)]
        self.cells = nn.ModuleList(CELLS[size.cell](width, size.hidden) for width in input_widths)
        self.hidden = size.hidden
        self.layers = size.layers
        self.state_width = size.state_width
        self.scale = size.scale
        self.embeds = size.embedding != "none"  # input rows are vectors of items, not weights
        self.event_types = size.event_types
        # (event types, input_width), added to the input row of a click; zeros for unknown types
        # and for the default one, whose vector would learn what the biases of the cells learn
        vectors = nn.Parameter(torch.zeros(size.event_types, size.input_width))
        self.register_parameter("events", vectors if size.event_types > 1 else None)

    def input_rows(self, inputs: Tensor, clicks: Tensor) -> Tensor:
        """Return the input row of each click: that of its item, plus the vector of its type.

        Args:
            inputs: (N, input_width) float32, the input table.
            clicks: int64 codes (`recsys/model/event_types.py`) of any shape.

        Returns:
            float32 of the shape of `clicks`, with input_width behind.
        """
        events = self.events
        if events is None:
            return inputs[clicks]
        items = torch.div(clicks, self.event_types, rounding_mode="floor")
        return inputs[items] + events[clicks % self.event_types]

    def step(self, inputs: Tensor, clicked: Tensor, state: Tensor) -> Tensor:
        """Return the state after one more click in each session.

        Args:
            inputs: (N, input_width) float32, the input table.
            clicked: (B,) int64 codes of clicks: item indices where clicks have no type.
            state: (L, B, state_width) float32, zeros when a session begins.

        Returns:
            (L, B, state_width) float32.
        """
        outputs = self.input_rows(inputs, clicked)
        batch_sizes = torch.tensor([clicked.size(0)])
        after: list[Tensor] = []
        for layer, cell in enumerate(self.cells):
            outputs, next_state = cell(outputs, batch_sizes, state[layer])
            after.append(next_state)
        return torch.stack(after)

    def replay(self, inputs: Tensor, clicks: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Read whole sessions from the initial state.

        Args:
            inputs: (N, input_width) float32, the input table.
            clicks: (B, T) int64 codes as for `step`, rows padded at the end with any code.
            lengths: (B,) int64 on the CPU, clicks of each row, each at least 1.

        Returns:
            The top layer's output after every click, (B, T, H) float32, zeros where a row is
            padded; and the state after each row's last click, (L, B, state_width) float32.
        """
        packed = pack_padded_sequence(
            self.input_rows(inputs, clicks), lengths, batch_first=True, enforce_sorted=False
        )
        outputs, batch_sizes = packed.data, packed.batch_sizes
        initial_state = torch.zeros(
            clicks.size(0), self.state_width, dtype=outputs.dtype, device=outputs.device
        )
        after: list[Tensor] = []
        for cell in self.cells:
            outputs, next_state = cell(outputs, batch_sizes, initial_state)
            after.append(next_state)
        along = PackedSequence(outputs, batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        padded, _ = pad_packed_sequence(along, batch_first=True, total_length=clicks.size(1))
        state = torch.stack(after)
        order = packed.unsorted_indices
        return padded, state if order is None else state.index_select(1, order)

    def scores(self, matrix: Tensor, bias: Tensor, hidden: Tensor) -> Tensor:
        """Return the score of every item: bias + inner product, or bias + scale · cosine.

        Args:
            matrix: (N, H) float32, item vectors. Those of items with clicks have length 1 where
                `scale` is above 0, so that their scores are cosines.
            bias: (N,) float32.
            hidden: (B, H) float32, the top layer's outputs. A row without direction gives the
                bias alone where `scale` is above 0.

        Returns:
            (B, N) float32.
        """
        if self.scale > 0:
            hidden = self.scale * unit(hidden)
        scored: Tensor = torch.addmm(bias, hidden, matrix.t())
        return scored

    def top_k(self, scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return `recsys.model.ranking.top_k`, as a method so that the exported module has it."""
        return top_k(scores, k)

    def initial_state(self, sessions: int) -> Tensor:
        """Return the state of `sessions` sessions without a click: (L, B, state_width) zeros."""
        return torch.zeros(self.layers, sessions, self.state_width)


def unit(vectors: Tensor, shortest: float = MIN_LENGTH) -> Tensor:
    """Return the rows scaled to length 1. Scriptable.

    Args:
        vectors: (B, H) float32.
        shortest: a shorter row becomes zeros and has no gradient.

    Returns:
        (B, H) float32.
    """
    length = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    direction: Tensor = vectors / length.clamp(min=shortest) * (length > shortest)
    return direction


def initialise(model: SessionRNN, generator: torch.Generator) -> None:
    """Draw the weights of every cell, the lowest layer first; see `Cell.initialise`.

    Args:
        model: its weights are overwritten.
        generator: source of the random numbers.
    """
    for cell in cells_of(model):
        cell.initialise(generator)


def cells_of(model: SessionRNN) -> list[Cell]:
    """Return the recurrent layers, the lowest first."""
    return [cell for cell in model.cells if isinstance(cell, Cell)]
