"""Similar items: a new item stands among the items with clicks whose content is like its own."""

import dataclasses
import math

import pytest
import torch

from recsys.content.similar_items import MOST_CONTENTS, ClickedContents, Placing, evenly

# content parts, whose mean is 0; the last number is the bias, which is not compared
EAST, NORTH, WEST, SOUTH = [2.0, 0.0, 9.0], [0.0, 2.0, 9.0], [-2.0, 0.0, 0.0], [0.0, -2.0, 0.0]
PARTS = torch.tensor([EAST, EAST, NORTH, WEST, WEST, SOUTH])
OWN = torch.tensor(
    [[1.0, 0.0, 0.5], [0.0, 1.0, 0.1], [0, 2, 1], [0.1, -0.2, 4], [0, 0, 5], [-1, -1, 3]]
)
FROM_EAST = torch.tensor([1.0, 1.0, 0.0, -1.0, -1.0, 0.0])  # cosines of an item in the east
NEW = torch.tensor([[3.0, 0.0, 0.0]])
SMALL = Placing(sharpness=2.0, content_share=0.5)


def small() -> ClickedContents:
    return dataclasses.replace(ClickedContents.of(PARTS, OWN), placing=SMALL)


def nearby() -> torch.Tensor:
    weights = torch.exp(SMALL.sharpness * FROM_EAST)
    return weights @ OWN / weights.sum()


def test_a_new_item_is_the_weighted_mean_of_similar_items_and_half_its_content() -> None:
    vectors, biases = small().place(NEW, torch.tensor([[1.0, 0.0]]))

    torch.testing.assert_close(vectors, (nearby()[:2] + torch.tensor([0.5, 0.0])).unsqueeze(0))
    torch.testing.assert_close(biases, nearby()[2:])


def test_only_the_nearest_contents_count() -> None:
    """Of contents in a full circle, the opposite one is the furthest."""
    count = 2 * Placing().contents
    angles = torch.arange(count) * 2 * math.pi / count
    contents = torch.stack([angles.cos(), angles.sin(), torch.zeros(count)], dim=1)
    own = torch.zeros(count, 3)
    own[count // 2] = 1e30

    vectors, biases = ClickedContents.of(contents, own).place(contents[:1], contents[:1, :2])

    torch.testing.assert_close(vectors, contents[:1, :2] / 2)
    assert biases.tolist() == [0.0]


def test_equal_contents_count_together_up_to_rounding() -> None:
    parts = torch.tensor([EAST, EAST, NORTH])
    parts[1, 0] += 1e-6

    similar = ClickedContents.of(parts, torch.eye(3))

    assert similar.counts.tolist() == [2.0, 1.0]
    assert similar.own.tolist() == [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    assert similar.fits(2)
    assert not similar.fits(3)


def test_no_new_items_have_no_vectors() -> None:
    similar = ClickedContents.of(torch.tensor([EAST]), torch.ones(1, 3))

    vectors, biases = similar.place(PARTS[:0], PARTS[:0, :2])

    assert vectors.shape == (0, 2)
    assert biases.shape == (0,)


@pytest.mark.parametrize(("items", "most"), [(0, 4), (3, 4), (4, 4), (5, 4), (9, 4)])
def test_items_are_taken_evenly(items: int, most: int) -> None:
    taken = evenly(items, most)

    assert len(taken) == len(set(taken.tolist())) == min(items, most)
    assert all(0 <= item < items for item in taken.tolist())


def test_a_bundle_holds_a_bounded_number_of_contents() -> None:
    angles = torch.linspace(0, 6.2, MOST_CONTENTS + 1, dtype=torch.float64)
    spread = torch.stack([angles.cos(), angles.sin(), (7 * angles).cos()], dim=1).float()
    parts = torch.cat([spread, torch.zeros(len(angles), 1)], dim=1)

    similar = ClickedContents.of(parts, parts)

    assert 0 < len(similar.content) <= MOST_CONTENTS


@pytest.mark.parametrize(
    "wrong",
    [
        {"content": 2 * torch.eye(3)},
        {"content": torch.eye(3).double()},
        {"content": torch.tensor(1.0)},
        {"counts": torch.tensor([1.0, 1.0, 0.0])},
        {"counts": torch.tensor(1.0)},
        {"own": torch.full((3, 4), 3e38)},
        {"own": torch.full((3, 4), math.nan)},
        {"center": torch.zeros(2)},
    ],
)
def test_wrong_tables_do_not_fit(wrong: dict[str, torch.Tensor]) -> None:
    right = ClickedContents(torch.zeros(3), torch.eye(3), torch.ones(3, 4), torch.ones(3))

    assert right.fits(3)
    assert not dataclasses.replace(right, **wrong).fits(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong", [{"contents": 0}, {"contents": 1.5}, {"sharpness": -1.0}, {"content_share": math.nan}]
)
def test_wrong_numbers_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Placing(**wrong)  # type: ignore[arg-type]
