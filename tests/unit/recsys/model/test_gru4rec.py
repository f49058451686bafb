import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from recsys.model.cells import CELLS
from recsys.model.gru4rec import EMBEDDINGS, ModelSize, SessionRNN, initialise, unit

ITEMS, HIDDEN, LAYERS = 7, 4, 2
SESSIONS = [[3, 1, 6, 6], [2], [5, 0]]
CLICKS = torch.tensor([row + [0] * (4 - len(row)) for row in SESSIONS])
LENGTHS = torch.tensor([4, 1, 2])


def model_of(**settings: Any) -> SessionRNN:
    model = SessionRNN(ModelSize(**{"items": ITEMS, "hidden": HIDDEN, **settings})).eval()
    initialise(model, torch.Generator().manual_seed(0))
    return model


def table_of(size: ModelSize) -> torch.Tensor:
    return torch.randn(size.inputs_shape or (size.items, size.hidden))


@pytest.mark.parametrize(
    ("cell", "embedding", "layers"), list(itertools.product(CELLS, EMBEDDINGS, (1, 2)))
)
def test_step_by_step_equals_whole_session(cell: str, embedding: str, layers: int) -> None:
    """Serving reads one click at a time; its state must equal that of a full replay."""
    torch.manual_seed(0)
    size = ModelSize(ITEMS, HIDDEN, layers, cell, embedding)
    model, inputs = model_of(layers=layers, cell=cell, embedding=embedding), table_of(size)

    with torch.no_grad():
        hidden, state = model.replay(inputs, CLICKS, LENGTHS)

        assert state.shape == (layers, 3, size.state_width)
        for row, session in enumerate(SESSIONS):
            stepped = model.initial_state(sessions=1)
            for place, item in enumerate(session):
                stepped = model.step(inputs, torch.tensor([item]), stepped)
                torch.testing.assert_close(hidden[row, place], stepped[-1, 0, :HIDDEN])
            torch.testing.assert_close(state[:, row], stepped[:, 0])
            assert not hidden[row, len(session) :].any()


@pytest.mark.parametrize(
    ("cell", "kind"), [("gru", nn.GRU), ("lstm", nn.LSTM), ("rnn", nn.RNN)], ids=str
)
def test_stacked_layers_equal_those_of_torch(
    cell: str, kind: Callable[[int, int, int], nn.Module]
) -> None:
    model, matrix = model_of(layers=LAYERS, cell=cell), torch.randn(ITEMS, HIDDEN)
    reference = kind(HIDDEN, HIDDEN, LAYERS)
    with torch.no_grad():
        for name, weight in reference.named_parameters():
            part, _, layer = name.rpartition("_l")
            own = dict(model.cells[int(layer)].named_parameters()).get(part)
            weight.copy_(torch.zeros_like(weight) if own is None else own)
        packed = pack_padded_sequence(
            matrix[CLICKS], LENGTHS, batch_first=True, enforce_sorted=False
        )
        expected, last = reference(packed)
        hidden, state = model.replay(matrix, CLICKS, LENGTHS)

    torch.testing.assert_close(hidden, pad_packed_sequence(expected, batch_first=True)[0])
    torch.testing.assert_close(state, torch.cat(last, dim=2) if cell == "lstm" else last)


def test_scores_are_inner_products_plus_bias() -> None:
    matrix, bias, hidden = torch.randn(ITEMS, HIDDEN), torch.randn(ITEMS), torch.randn(2, HIDDEN)

    scores = model_of().scores(matrix, bias, hidden)

    torch.testing.assert_close(scores, hidden @ matrix.T + bias)


def test_cosine_scores_depend_on_directions_only() -> None:
    matrix, bias = unit(torch.randn(ITEMS, HIDDEN)), torch.randn(ITEMS)
    hidden = torch.tensor([[3.0, 0, 4, 0], [0.3, 0, 0.4, 0]])  # lengths 5 and 0.5

    scores = model_of(scale=16.0).scores(matrix, bias, hidden)

    expected = 16 * (matrix[:, 0] * 3 / 5 + matrix[:, 2] * 4 / 5) + bias
    torch.testing.assert_close(scores, expected.expand(2, -1))


def test_a_hidden_state_of_zeros_scores_the_bias_and_has_no_gradient() -> None:
    matrix, bias = unit(torch.randn(ITEMS, HIDDEN)), torch.randn(ITEMS)
    hidden = torch.zeros(1, HIDDEN, requires_grad=True)

    scores = model_of(scale=16.0).scores(matrix, bias, hidden)
    scores.sum().backward()  # type: ignore[no-untyped-call]

    assert torch.equal(scores[0], bias)
    assert hidden.grad is not None
    assert not hidden.grad.any()


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"layers": 0}, r"layers must be at least 1, got 0"),
        ({"cell": "gruu"}, r"cell must be one of gru, .*, got 'gruu'"),
        ({"embedding": "both"}, r"embedding must be one of shared, separate, none, got 'both'"),
        ({"embedding_width": 3}, r"embedding_width must be .* 0 unless the embedding is separate"),
        ({"scale": float("nan")}, r"scale must be at least 0 and finite, got nan"),
    ],
    ids=str,
)
def test_an_impossible_size_is_refused_by_name(wrong: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        ModelSize(**{"items": 3, "hidden": 4, **wrong})


def test_the_input_table_has_the_shape_of_its_embedding() -> None:
    """None means the item matrix; the others are (N, input_width)."""
    assert ModelSize(7, 4).inputs_shape is None
    assert ModelSize(7, 4, embedding="separate").inputs_shape == (7, 4)
    assert ModelSize(7, 4, embedding="separate", embedding_width=9).inputs_shape == (7, 9)
    assert ModelSize(7, 4, embedding="none", cell="lstm").inputs_shape == (7, 4 * 4)
    assert ModelSize(7, 4, embedding="none", cell="rnn").inputs_shape == (7, 4)
