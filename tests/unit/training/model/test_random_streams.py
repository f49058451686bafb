import pytest
import torch

from training.model.sampling import RandomStreams

CPU = torch.device("cpu")


def test_the_dropped_share_is_the_rate_and_the_mean_stays_one() -> None:
    mask = RandomStreams(CPU, 1, 2, 3).dropout_mask(torch.Size((400, 1000)), 0.3)

    assert (mask == 0).float().mean().item() == pytest.approx(0.3, abs=0.003)
    assert mask.max().item() == pytest.approx(1 / 0.7, rel=1e-4)
    assert mask.mean().item() == pytest.approx(1.0, abs=0.01)


def test_numbers_are_uniform_below_one() -> None:
    numbers = RandomStreams(CPU, 1, 2, 3).uniform(100_000)

    assert numbers.dtype == torch.float64
    assert 0 <= numbers.min() < numbers.max() < 1
    assert numbers.mean().item() == pytest.approx(0.5, abs=0.01)


def test_a_repeated_step_has_equal_random_numbers_and_another_step_has_others() -> None:
    def both(*step: int) -> torch.Tensor:
        random = RandomStreams(CPU, *step)
        return torch.cat(
            [random.uniform(5), random.dropout_mask(torch.Size((3, 7)), 0.5).flatten()]
        )

    assert torch.equal(both(1, 2, 3), both(1, 2, 3))
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not torch.equal(both(1, 2, 3), both(*other))


@pytest.mark.parametrize("numbers", [1, 3, 4, 5])
def test_a_mask_has_any_number_of_elements(numbers: int) -> None:
    assert (
        RandomStreams(CPU, 0, 0, 0).dropout_mask(torch.Size((numbers,)), 0.0).tolist()
        == [1.0] * numbers
    )
