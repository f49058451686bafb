"""GRU4Rec as a plain loop: the yardstick for the speed and the accuracy of `training/`.

Sessions in, one step at a time, sparse row gradients by autograd: how a careful reader of the
papers writes it in PyTorch. Nothing is planned ahead but the bulk drawing of negatives. It knows
nothing of `training/`, so that the two can be held against each other; `predictor` puts its weights
into our model classes, so that one evaluator judges both.

Sources: Hidasi et al., arXiv:1511.06939 (session-parallel batches, section 3.1); Hidasi and
Karatzoglou, arXiv:1706.03847 (sampled losses, sections 3.1 and 3.3).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from data.sessions import Sessions
from recsys.catalogue.catalogue import Catalogue
from recsys.model.gru4rec import ModelSize, SessionRNN
from recsys.predictor import Predictor

EPSILON = 1e-6  # inside Adagrad's root
SMALLEST = 1e-24  # keeps BPR-max's logarithm finite
IDS_DRAWN_AT_ONCE = 10_000_000


@dataclass(frozen=True, slots=True)
class Published:
    """The published best set of cross-entropy for Diginetica, which serves Yoochoose 1/64 too."""

    hidden: int = 192
    batch: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.0
    dropout_embedding: float = 0.45
    dropout_hidden: float = 0.15
    loss: str = "cross-entropy"  # or bpr-max
    bpreg: float = 1.0
    elu: float = 0.5
    negatives: int = 2048
    sample_alpha: float = 0.0
    logq: float = 1.0
    seed: int = 1


def steps(
    sessions: Sessions, lanes: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]]:
    """One step of all running lanes after another: clicked, following, fresh, stayed.

    fresh: the lane begins a session; stayed: which lanes of the step before still run.
    """
    offsets, items = sessions.offsets, sessions.items.astype(np.int64)
    waiting = min(lanes, len(sessions))
    at, end = offsets[:waiting].copy(), offsets[1 : waiting + 1].copy()
    fresh = stayed = np.ones(waiting, dtype=bool)
    while len(at):
        yield items[at], items[at + 1], fresh, stayed
        at += 1
        fresh = np.zeros(len(at), dtype=bool)
        for lane in np.flatnonzero(at + 1 == end):
            if waiting < len(sessions):
                at[lane], end[lane], fresh[lane] = offsets[waiting], offsets[waiting + 1], True
                waiting += 1
        stayed = at + 1 < end
        at, end, fresh = at[stayed], end[stayed], fresh[stayed]


class Adagrad:
    """Accumulator from 0, heavy-ball momentum; of a sparse gradient only the touched rows move."""

    def __init__(self, weight: Tensor, rate: float, momentum: float) -> None:
        self.weight, self.rate, self.momentum = weight, rate, momentum
        self.accumulated, self.velocity = torch.zeros_like(weight), torch.zeros_like(weight)

    @torch.no_grad()
    def step(self) -> None:
        gradient = self.weight.grad
        assert gradient is not None, "backward has run"
        rows: Tensor | slice = slice(None)
        if gradient.is_sparse:
            gradient = gradient.coalesce()  # duplicates are summed before they are squared
            rows, gradient = gradient.indices()[0], gradient.values()
        accumulated = self.accumulated[rows] + gradient * gradient
        self.accumulated[rows] = accumulated
        change = -self.rate * gradient / (accumulated + EPSILON).sqrt()
        if self.momentum > 0:
            change = self.momentum * self.velocity[rows] + change
            self.velocity[rows] = change
        self.weight[rows] += change
        self.weight.grad = None


class PlainLoop:
    """The model, its optimiser and one verb, `epoch`."""

    def __init__(self, counts: NDArray[np.int64], settings: Published = Published()) -> None:
        """counts: (N,) int64 clicks of each item in training, each at least 1."""
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.items = nn.Embedding(len(counts), settings.hidden, sparse=True)  # input and output
        self.bias = nn.Embedding(len(counts), 1, sparse=True)
        self.cell = nn.GRUCell(settings.hidden, settings.hidden)
        self._initialise()
        self.support = torch.from_numpy(counts).to(torch.float32)
        chance = self.support.double().pow(settings.sample_alpha).cumsum(0)
        self._cumulative = chance / chance[-1]
        self._drawn, self._used = torch.empty(0, 0, dtype=torch.int64), 0
        weights = [self.items.weight, self.bias.weight, *self.cell.parameters()]
        self.movers = [Adagrad(w, settings.learning_rate, settings.momentum) for w in weights]

    def _initialise(self) -> None:
        nn.init.xavier_uniform_(self.items.weight)
        nn.init.zeros_(self.bias.weight)
        for weight in (self.cell.weight_ih, self.cell.weight_hh):
            for gate in weight.chunk(3):
                nn.init.xavier_uniform_(gate)
        nn.init.zeros_(self.cell.bias_ih)
        nn.init.zeros_(self.cell.bias_hh)

    def negatives(self) -> Tensor:
        """(S,) int64 items that all lanes share, drawn with replacement, in bulk."""
        if self._used == len(self._drawn):
            shape = max(IDS_DRAWN_AT_ONCE // max(self.settings.negatives, 1), 1)
            where = torch.rand(shape, self.settings.negatives, dtype=torch.float64)
            drawn = torch.searchsorted(self._cumulative, where, right=True)
            self._drawn, self._used = drawn.clamp_(max=len(self.support) - 1), 0
        self._used += 1
        return self._drawn[self._used - 1]

    def epoch(self, sessions: Sessions) -> float:
        """One pass over sessions of item indices, in their order; the mean loss of an event."""
        settings = self.settings
        state = torch.zeros(min(settings.batch, len(sessions)), settings.hidden)
        state = state.to(self.items.weight.dtype)
        losses, events = torch.zeros(()), 0
        for clicked, following, fresh, stayed in steps(sessions, settings.batch):
            if settings.negatives == 0 and len(clicked) < 2:
                break  # nothing left to tell the target from
            state = state[torch.from_numpy(stayed)]
            state[torch.from_numpy(fresh)] = 0
            loss, state = self.step(
                torch.from_numpy(clicked), torch.from_numpy(following), self.negatives(), state
            )
            losses += loss
            events += len(clicked)
        return float(losses) / events

    def step(
        self, clicked: Tensor, following: Tensor, negatives: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Learns one step; clicked, following: (b,) int64; negatives: (S,); state: (b, H).

        Returns the loss, summed over the rows, and the next state, without their gradients.
        """
        settings, lanes = self.settings, len(clicked)
        columns = torch.cat([following, negatives])  # (b+S,)
        rows = self.items(torch.cat([clicked, columns]))  # one lookup, one gradient for both roles
        inputs, outputs = rows.split([lanes, len(columns)])  # (b, H), (b+S, H)
        read = functional.dropout(inputs, settings.dropout_embedding)
        state = functional.dropout(self.cell(read, state), settings.dropout_hidden)
        scores = state @ outputs.T + self.bias(columns).T  # (b, b+S)
        loss = self.loss(scores, columns)
        torch.autograd.backward(loss / settings.batch)
        for mover in self.movers:
            mover.step()
        return loss.detach(), state.detach()

    def loss(self, scores: Tensor, columns: Tensor) -> Tensor:
        """Summed over rows; row i's target is column i, every other column is its negative."""
        settings, lanes = self.settings, len(scores)
        if settings.loss == "bpr-max":
            return bpr_max(scores, settings.bpreg, settings.elu)
        support = self.support[columns].log()
        support[lanes:] *= settings.sample_alpha
        corrected = scores - settings.logq * support
        return functional.cross_entropy(corrected, torch.arange(lanes), reduction="sum")

    def predictor(self, catalogue: Catalogue, window: int) -> Predictor:
        """These weights as the evaluator and the service know them."""
        hidden = self.settings.hidden
        model = SessionRNN(ModelSize(len(catalogue), hidden))
        model.load_state_dict({f"cells.0.{n}": w for n, w in self.cell.named_parameters()})
        matrix, bias = self.items.weight.detach(), self.bias.weight.detach().flatten()
        return Predictor(
            model, matrix, bias, catalogue, layers=1, state_width=hidden, window=window
        )


def bpr_max(scores: Tensor, bpreg: float, elu: float) -> Tensor:
    """−log Σⱼ sⱼ·σ(rᵢ − rⱼ) + bpreg · Σⱼ sⱼ·rⱼ², s the softmax over a row's negatives alone."""
    ranked = functional.elu(scores, elu) if elu > 0 else scores
    own = torch.eye(*scores.shape, dtype=torch.bool)
    weights = ranked.masked_fill(own, float("-inf")).softmax(dim=1)
    won = (weights * torch.sigmoid(ranked.diagonal().unsqueeze(1) - ranked)).sum(dim=1)
    return (bpreg * (weights * ranked.square()).sum(dim=1) - torch.log(won + SMALLEST)).sum()
