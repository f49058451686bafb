import numpy as np
import pytest
import torch

from training.model.sampling import NegativeSampler, RandomStreams

COUNTS = np.array([1, 4, 16, 79])
CPU = torch.device("cpu")


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_items_are_sampled_by_popularity_to_the_power_of_alpha(alpha: float) -> None:
    sampler = NegativeSampler(COUNTS, alpha, CPU)

    sampled = torch.bincount(
        sampler.draw(RandomStreams(CPU, 0, 0, 0).uniform(200_000)), minlength=4
    )

    expected = COUNTS**alpha / (COUNTS**alpha).sum()
    np.testing.assert_allclose(sampled.numpy() / 200_000, expected, atol=0.005)


def test_the_ends_of_the_unit_interval_map_to_the_first_and_the_last_item() -> None:
    sampler = NegativeSampler(COUNTS, 0.5, CPU)
    ends = torch.tensor([0.0, np.nextafter(1.0, 0.0)], dtype=torch.float64)

    assert sampler.draw(ends).tolist() == [0, 3]


def test_the_expected_frequency_adds_clicks_and_samples() -> None:
    expected = NegativeSampler(COUNTS, 0.5, CPU).expected(clicks=10, samples=100)

    roots = np.sqrt(COUNTS)
    mixture = 10 * COUNTS / COUNTS.sum() + 100 * roots / roots.sum()
    np.testing.assert_allclose(expected.numpy(), mixture, rtol=1e-12)
