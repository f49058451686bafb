"""The session model: one recurrent step per click, scored against every item.

Read top to bottom: `ModelSize` (what it is), `SessionRNN.step` (how memory moves),
`replay` (the same over whole sessions), `scores` (memory becomes a ranking).

The item tables are arguments, not parameters: training updates only the rows a batch touches,
and server processes share one memory-mapped copy. There are two: the item matrix with its biases
scores, the input table is read. Which of them are one is the embedding:

    shared    the input table is the item matrix
    separate  the input table is a matrix of its own, (N, X)
    none      one-hot clicks: an item's input row holds its weights in the first layer, (N, G·H)

Sources: Hidasi et al., ICLR 2016, arXiv:1511.06939 (the model, one-hot and embedded clicks);
Hidasi and Karatzoglou, CIKM 2018, arXiv:1706.03847 (one matrix for input and output, item bias);
Gupta et al., arXiv:1909.04276 (NISER: item and session vectors of length 1, a scale).

Shape letters, used in every comment of this repository:
    B  sessions side by side      L  recurrent layers    H  hidden units
    N  items in the catalogue     S  sampled negatives   K  list length
    T  clicks of the longest session in a batch
    W  numbers of one layer's state: H, or 2H for the LSTM, whose first H are its output
    X  numbers of an input row    G  gates of a cell
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from recsys.model.cells import CELLS, Cell
from recsys.model.ranking import top_k

EMBEDDINGS = ("shared", "separate", "none")
SHORTEST = 1e-6  # a vector shorter than this has no direction


@dataclass(frozen=True, slots=True)
class ModelSize:
    """What shapes every tensor, and decides what the weights mean."""

    items: int  # N; given by the catalogue, never by hand
    hidden: int  # H; one user's state takes 4 * L * W bytes in Redis
    layers: int = 1  # L
    cell: str = "gru"
    embedding: str = "shared"
    embedding_width: int = 0  # X of a separate embedding; 0 for H
    scale: float = 0.0  # of cosine scores; 0 for inner products

    def __post_init__(self) -> None:
        for name in ("items", "hidden", "layers"):
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
        """W."""
        return CELLS[self.cell].PARTS * self.hidden

    @property
    def inputs_shape(self) -> tuple[int, int] | None:
        """Of the input table, (N, X); None where it is the item matrix."""
        if self.embedding == "shared":
            return None
        if self.embedding == "none":
            return self.items, CELLS[self.cell].GATES * self.hidden
        return self.items, self.embedding_width or self.hidden


class SessionRNN(nn.Module):
    """Next-item model whose whole memory of a session is one (L, W) tensor."""

    def __init__(self, size: ModelSize) -> None:
        super().__init__()
        widths = {"shared": size.hidden, "separate": size.embedding_width or size.hidden, "none": 0}
        reads = [widths[size.embedding], *[size.hidden] * (size.layers - 1)]
        self.cells = nn.ModuleList(CELLS[size.cell](width, size.hidden) for width in reads)
        self.hidden = size.hidden
        self.layers = size.layers
        self.state_width = size.state_width  # W
        self.scale = size.scale
        self.embeds = size.embedding != "none"  # input rows are vectors of items, not weights

    def step(self, inputs: Tensor, clicked: Tensor, state: Tensor) -> Tensor:
        """Read one click per session.

        inputs: (N, X) float32; clicked: (B,) int64 in [0, N); state: (L, B, W) float32,
        zeros when a session begins. Returns the next state, (L, B, W) float32.
        """
        read = inputs[clicked]
        widths = torch.tensor([clicked.size(0)])
        after: list[Tensor] = []
        for layer, cell in enumerate(self.cells):
            read, moved = cell(read, widths, state[layer])
            after.append(moved)
        return torch.stack(after)

    def replay(self, inputs: Tensor, clicks: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Read whole sessions from zero.

        clicks: (B, T) int64, rows padded at the end with any index; lengths: (B,) int64 on
        the CPU, each at least 1. Returns the top layer's output after every click, (B, T, H),
        with zeros where a row is padded, and the state after each row's last click, (L, B, W).
        """
        packed = pack_padded_sequence(
            inputs[clicks], lengths, batch_first=True, enforce_sorted=False
        )
        read, widths = packed.data, packed.batch_sizes
        blank = torch.zeros(clicks.size(0), self.state_width, dtype=read.dtype, device=read.device)
        after: list[Tensor] = []
        for cell in self.cells:
            read, moved = cell(read, widths, blank)
            after.append(moved)
        along = PackedSequence(read, widths, packed.sorted_indices, packed.unsorted_indices)
        padded, _ = pad_packed_sequence(along, batch_first=True, total_length=clicks.size(1))
        state = torch.stack(after)
        order = packed.unsorted_indices
        return padded, state if order is None else state.index_select(1, order)

    def scores(self, matrix: Tensor, bias: Tensor, read: Tensor) -> Tensor:
        """Score items after the top layer's output `read`, (B, H): (B, N) float32.

        matrix: (N, H), bias: (N,). Inner products or, where `scale` is above 0, scale · cosine,
        for which the matrix has unit rows; a `read` without direction leaves the bias alone.
        """
        if self.scale > 0:
            read = self.scale * unit(read)
        scored: Tensor = torch.addmm(bias, read, matrix.t())
        return scored

    def top_k(self, scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """As `recsys.model.ranking.top_k`, so that it travels inside the exported module."""
        return top_k(scores, k)

    def blank(self, sessions: int) -> Tensor:
        """State of `sessions` users we know nothing about: (L, B, W) zeros."""
        return torch.zeros(self.layers, sessions, self.state_width)


def unit(vectors: Tensor, shortest: float = SHORTEST) -> Tensor:
    """Rows of length 1; a row without direction becomes zeros and has no gradient. Scriptable."""
    length = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    direction: Tensor = vectors / length.clamp(min=shortest) * (length > shortest)
    return direction


def initialise(model: SessionRNN, generator: torch.Generator) -> None:
    """Draw the weights of every cell, the lowest layer first, as `recsys.model.cells.Cell` says."""
    for cell in cells_of(model):
        cell.initialise(generator)


def cells_of(model: SessionRNN) -> list[Cell]:
    """The layers, the lowest first."""
    return [cell for cell in model.cells if isinstance(cell, Cell)]
