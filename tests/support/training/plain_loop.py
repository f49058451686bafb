"""GRU4Rec as a plain loop: the reference for the speed and the accuracy of `training/`.

One step at a time, with sparse row gradients by autograd, as a careful reader of the papers writes
it in PyTorch. Only negatives are sampled in bulk. It imports nothing of `training/`, so that both
are independent; `predictor` puts its weights into our model classes, so that one evaluator serves
both.

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
IDS_SAMPLED_AT_ONCE = 10_000_000


@dataclass(frozen=True, slots=True)
class Published:
    """Published best settings of cross-entropy for Diginetica, also used for Yoochoose 1/64."""

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
    sessions: Sessions, rows: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]]:
    """Yield inputs, targets, is_new_session and stays of one session-parallel step after another.

    stays: (rows of the step before,) bool, whether a row still has clicks.
    """
    offsets, items = sessions.offsets, sessions.items.astype(np.int64)
    waiting = min(rows, len(sessions))
    at, end = offsets[:waiting].copy(), offsets[1 : waiting + 1].copy()
    is_new = stays = np.ones(waiting, dtype=bool)
    while len(at):
        yield items[at], items[at + 1], is_new, stays
        at += 1
        is_new = np.zeros(len(at), dtype=bool)
        for row in np.flatnonzero(at + 1 == end):
            if waiting < len(sessions):
                at[row], end[row], is_new[row] = offsets[waiting], offsets[waiting + 1], True
                waiting += 1
        stays = at + 1 < end
        at, end, is_new = at[stays], end[stays], is_new[stays]


class Adagrad:
    """Adagrad with heavy-ball momentum; a sparse gradient updates only the touched rows."""

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
    """Model, optimizers and the training loop."""

    def __init__(self, counts: NDArray[np.int64], settings: Published = Published()) -> None:
        """Prepare the loop.

        counts: (N,) int64 clicks of each item in training, each at least 1.
        """
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.items = nn.Embedding(len(counts), settings.hidden, sparse=True)  # input and output
        self.bias = nn.Embedding(len(counts), 1, sparse=True)
        self.cell = nn.GRUCell(settings.hidden, settings.hidden)
        self._initialise()
        self.support = torch.from_numpy(counts).to(torch.float32)
        chance = self.support.double().pow(settings.sample_alpha).cumsum(0)
        self._cumulative = chance / chance[-1]
        self._sampled, self._used = torch.empty(0, 0, dtype=torch.int64), 0
        weights = [self.items.weight, self.bias.weight, *self.cell.parameters()]
        self.optimizers = [Adagrad(w, settings.learning_rate, settings.momentum) for w in weights]

    def _initialise(self) -> None:
        nn.init.xavier_uniform_(self.items.weight)
        nn.init.zeros_(self.bias.weight)
        for weight in (self.cell.weight_ih, self.cell.weight_hh):
            for gate in weight.chunk(3):
                nn.init.xavier_uniform_(gate)
        nn.init.zeros_(self.cell.bias_ih)
        nn.init.zeros_(self.cell.bias_hh)

    def negatives(self) -> Tensor:
        """Return (S,) int64 items that all rows share, sampled with replacement, in bulk."""
        if self._used == len(self._sampled):
            shape = max(IDS_SAMPLED_AT_ONCE // max(self.settings.negatives, 1), 1)
            where = torch.rand(shape, self.settings.negatives, dtype=torch.float64)
            items = torch.searchsorted(self._cumulative, where, right=True)
            self._sampled, self._used = items.clamp_(max=len(self.support) - 1), 0
        self._used += 1
        return self._sampled[self._used - 1]

    def epoch(self, sessions: Sessions) -> float:
        """Train on sessions of item indices in their order; return the mean loss of a click."""
        settings = self.settings
        state = torch.zeros(min(settings.batch, len(sessions)), settings.hidden)
        state = state.to(self.items.weight.dtype)
        losses, clicks = torch.zeros(()), 0
        for inputs, targets, is_new, stays in steps(sessions, settings.batch):
            if settings.negatives == 0 and len(inputs) < 2:
                break  # there is no negative left
            state = state[torch.from_numpy(stays)]
            state[torch.from_numpy(is_new)] = 0
            loss, state = self.step(
                torch.from_numpy(inputs), torch.from_numpy(targets), self.negatives(), state
            )
            losses += loss
            clicks += len(inputs)
        return float(losses) / clicks

    def step(
        self, inputs: Tensor, targets: Tensor, negatives: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Train on one step.

        Args:
            inputs: (B,) int64 item indices.
            targets: (B,) int64 item indices.
            negatives: (S,) int64 item indices.
            state: (B, H) float32.

        Returns:
            The loss, summed over the rows, and the next state, without their gradients.
        """
        settings, rows = self.settings, len(inputs)
        candidates = torch.cat([targets, negatives])  # (B+S,)
        # one lookup, one gradient for both roles
        vectors = self.items(torch.cat([inputs, candidates]))
        clicked, outputs = vectors.split([rows, len(candidates)])  # (B, H), (B+S, H)
        clicked = functional.dropout(clicked, settings.dropout_embedding)
        state = functional.dropout(self.cell(clicked, state), settings.dropout_hidden)
        scores = state @ outputs.T + self.bias(candidates).T  # (B, B+S)
        loss = self.loss(scores, candidates)
        torch.autograd.backward(loss / settings.batch)
        for optimizer in self.optimizers:
            optimizer.step()
        return loss.detach(), state.detach()

    def loss(self, scores: Tensor, candidates: Tensor) -> Tensor:
        """Return the loss, summed over rows; candidate i is the target of row i."""
        settings, rows = self.settings, len(scores)
        if settings.loss == "bpr-max":
            return bpr_max(scores, settings.bpreg, settings.elu)
        support = self.support[candidates].log()
        support[rows:] *= settings.sample_alpha
        corrected = scores - settings.logq * support
        return functional.cross_entropy(corrected, torch.arange(rows), reduction="sum")

    def predictor(self, catalogue: Catalogue, window: int) -> Predictor:
        """Return a predictor with these weights, for the evaluator."""
        hidden = self.settings.hidden
        model = SessionRNN(ModelSize(len(catalogue), hidden))
        model.load_state_dict({f"cells.0.{n}": w for n, w in self.cell.named_parameters()})
        matrix, bias = self.items.weight.detach(), self.bias.weight.detach().flatten()
        return Predictor(
            model, matrix, bias, catalogue, layers=1, state_width=hidden, window=window
        )


def bpr_max(scores: Tensor, bpreg: float, elu: float) -> Tensor:
    """Return −log Σⱼ sⱼ·σ(rᵢ − rⱼ) + bpreg · Σⱼ sⱼ·rⱼ², s the softmax over a row's negatives."""
    activated = functional.elu(scores, elu) if elu > 0 else scores
    is_target = torch.eye(*scores.shape, dtype=torch.bool)
    weights = activated.masked_fill(is_target, float("-inf")).softmax(dim=1)
    likelihood = (weights * torch.sigmoid(activated.diagonal().unsqueeze(1) - activated)).sum(dim=1)
    return (
        bpreg * (weights * activated.square()).sum(dim=1) - torch.log(likelihood + SMALLEST)
    ).sum()
