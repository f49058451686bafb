"""The session model: one GRU step per click, scored against every item.

Read top to bottom: `ModelSize` (what it is), `SessionGRU.step` (how memory moves),
`replay` (the same over whole sessions), `scores` (memory becomes a ranking).

The item matrix and the item biases are arguments, not parameters: training updates only
the rows a batch touches, and server processes share one memory-mapped copy.

Sources: Hidasi et al., ICLR 2016, arXiv:1511.06939 (the model); Hidasi and Karatzoglou,
CIKM 2018, arXiv:1706.03847 (one matrix for input and output, item bias).

Shape letters, used in every comment of this repository:
    B  sessions side by side      L  GRU layers          H  hidden units
    N  items in the catalogue     S  sampled negatives   K  list length
    T  clicks of the longest session in a batch
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from recsys.ranking import top_k


@dataclass(frozen=True, slots=True)
class ModelSize:
    """The three numbers that shape every tensor."""

    items: int  # N; given by the catalogue, never by hand
    hidden: int  # H; one user's state takes 4 * L * H bytes in Redis
    layers: int = 1  # L

    def __post_init__(self) -> None:
        for name in ("items", "hidden", "layers"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"ModelSize.{name} must be at least 1, got {value}.")


class SessionGRU(nn.Module):
    """Next-item model whose whole memory of a session is one (L, H) tensor.

    The cell multiplies by the reset gate after the recurrent product, as torch's GRU does.
    """

    def __init__(self, hidden: int, layers: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.layers = layers
        self.gru = nn.GRU(hidden, hidden, layers)

    def step(self, matrix: Tensor, clicked: Tensor, state: Tensor) -> Tensor:
        """Read one click per session.

        matrix: (N, H) float32; clicked: (B,) int64 in [0, N); state: (L, B, H) float32,
        zeros when a session begins. Returns the next state, (L, B, H) float32.
        """
        after: Tensor = self.gru(matrix[clicked].unsqueeze(0), state)[1]
        return after

    def replay(self, matrix: Tensor, clicks: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Read whole sessions from zero.

        clicks: (B, T) int64, rows padded at the end with any index; lengths: (B,) int64 on
        the CPU, each at least 1. Returns the top layer after every click, (B, T, H), with
        zeros where a row is padded, and the state after each row's last click, (L, B, H).
        """
        packed = pack_padded_sequence(
            matrix[clicks], lengths, batch_first=True, enforce_sorted=False
        )
        read, state = self.gru(packed)
        padded, _ = pad_packed_sequence(read, batch_first=True, total_length=clicks.size(1))
        return padded, state

    def scores(self, matrix: Tensor, bias: Tensor, read: Tensor) -> Tensor:
        """Score every item after the top layer's output `read`, (B, H): (B, N) float32."""
        scored: Tensor = torch.addmm(bias, read, matrix.t())
        return scored

    def top_k(self, scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """As `recsys.ranking.top_k`, so that it travels inside the exported module."""
        return top_k(scores, k)

    def blank(self, sessions: int) -> Tensor:
        """State of `sessions` users we know nothing about: (L, B, H) zeros."""
        return torch.zeros(self.layers, sessions, self.hidden)


def initialise(model: SessionGRU, generator: torch.Generator) -> None:
    """Draw every gate matrix from U(±√(6/(rows+columns))) and set all biases to 0.

    torch stacks the three gates of a layer in one (3H, H) matrix; each gate is its own matrix
    for the bound (a stacked bound would be smaller by √2).
    """
    with torch.no_grad():
        for name, weight in model.gru.named_parameters():
            if name.startswith("bias"):
                weight.zero_()
            else:
                weight.copy_(torch.cat([glorot(g.shape, generator) for g in weight.chunk(3)]))


def glorot(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """A (rows, columns) float32 matrix from U(±√(6/(rows+columns))) (Glorot and Bengio 2010)."""
    bound = math.sqrt(6.0 / (shape[0] + shape[1]))
    return (torch.rand(shape, generator=generator) * 2 - 1) * bound
