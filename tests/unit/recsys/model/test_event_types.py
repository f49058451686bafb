"""Codes of clicks: one number for item and event type."""

import pytest
import torch

from recsys.model.event_types import NO_EVENT_TYPES, EventTypes
from recsys.model.gru4rec import ModelSize, SessionRNN, initialise

TYPES = EventTypes(("cart", "order", "view"), "view", ("order",))


def test_a_code_is_item_times_count_plus_number() -> None:
    assert TYPES.count == 1 + 3
    assert [TYPES.numbers.get(text, 0) for text in ("cart", "view", None, "wishlist")] == [
        *(1, 3),
        *(3, 0),
    ]
    assert TYPES.items([4 * 7 + 1, 4 * 7 + 3, 0]) == [7, 7, 0]
    assert TYPES.excluded([4 * 7 + 1, 4 * 5 + 2, 4 * 6]) == [5]
    assert TYPES.unknown(["cart", None, "x", "x"]) == ["x"]


def test_without_types_a_code_is_the_item() -> None:
    assert (NO_EVENT_TYPES.count, NO_EVENT_TYPES.items([3, 1])) == (1, [3, 1])
    assert NO_EVENT_TYPES.unknown(["cart"]) == []
    assert NO_EVENT_TYPES.excluded([3, 1]) == []


@pytest.mark.parametrize(
    "values",
    [
        {"names": ["a", "a"], "default": "a", "exclude_after": []},
        {"names": ["a", "b"], "default": "c", "exclude_after": []},
        {"names": ["a", "b"], "default": "a", "exclude_after": ["c"]},
        {"names": ["a", 2], "default": "a", "exclude_after": []},
        {"names": [f"{n}" for n in range(33)], "default": "0", "exclude_after": []},
    ],
)
def test_a_manifest_with_other_types_than_training_writes_is_refused(
    values: dict[str, object],
) -> None:
    with pytest.raises(ValueError, match="event_types"):
        EventTypes.from_json(values)


def model_of(event_types: int, **settings: str) -> SessionRNN:
    model = SessionRNN(ModelSize(7, 4, event_types=event_types, **settings))  # type: ignore[arg-type]
    initialise(model, torch.Generator().manual_seed(0))
    return model


@pytest.mark.parametrize("embedding", ["shared", "none"])
def test_the_vector_of_the_type_is_added_to_the_input_row(embedding: str) -> None:
    plain, typed = model_of(1, embedding=embedding), model_of(TYPES.count, embedding=embedding)
    assert typed.events is not None
    width = typed.events.size(1)
    rows = torch.randn(7, width)
    with torch.no_grad():
        typed.events[1] = 0.5
        state = plain.initial_state(1)
        expected = plain.step(rows + 0.5, torch.tensor([6]), state)

        assert torch.equal(typed.step(rows, torch.tensor([6 * 4 + 1]), state), expected)
        unknown = typed.step(rows, torch.tensor([6 * 4 + 0]), state)
        assert torch.equal(unknown, plain.step(rows, torch.tensor([6]), state))


def test_a_model_without_types_has_the_weights_that_it_had_before() -> None:
    plain, typed = model_of(1), model_of(TYPES.count)

    assert "events" not in dict(plain.named_parameters())
    for name, weight in plain.named_parameters():
        assert torch.equal(dict(typed.named_parameters())[name], weight)
