import pytest
import torch

from training.model.sampling import RandomStreams

CPU = torch.device("cpu")


def test_the_share_dropped_is_the_rate_and_the_sum_stays() -> None:
    kept = RandomStreams(CPU, 1, 2, 3).kept(torch.Size((400, 1000)), 0.3)

    assert (kept == 0).float().mean().item() == pytest.approx(0.3, abs=0.003)
    assert kept.max().item() == pytest.approx(1 / 0.7, rel=1e-4)
    assert kept.mean().item() == pytest.approx(1.0, abs=0.01)


def test_numbers_are_uniform_below_one() -> None:
    drawn = RandomStreams(CPU, 1, 2, 3).uniform(100_000)

    assert drawn.dtype == torch.float64
    assert 0 <= drawn.min() < drawn.max() < 1
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.01)


def test_a_step_draws_the_same_whenever_it_is_repeated_and_every_step_differs() -> None:
    def both(*where: int) -> torch.Tensor:
        draws = RandomStreams(CPU, *where)
        return torch.cat([draws.uniform(5), draws.kept(torch.Size((3, 7)), 0.5).flatten()])

    assert torch.equal(both(1, 2, 3), both(1, 2, 3))
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not torch.equal(both(1, 2, 3), both(*other))


@pytest.mark.parametrize("numbers", [1, 3, 4, 5])
def test_any_shape_can_be_dropped(numbers: int) -> None:
    assert RandomStreams(CPU, 0, 0, 0).kept(torch.Size((numbers,)), 0.0).tolist() == [1.0] * numbers
