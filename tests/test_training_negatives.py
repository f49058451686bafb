import numpy as np
import pytest
import torch

from training.negatives import NegativeSampler

COUNTS = np.array([1, 4, 16, 0 + 79])


def sampler(alpha: float) -> NegativeSampler:
    return NegativeSampler(COUNTS, alpha, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_items_are_drawn_by_popularity_to_the_alpha(alpha: float) -> None:
    drawn = torch.bincount(sampler(alpha).draw(200_000), minlength=4) / 200_000

    expected = COUNTS**alpha / (COUNTS**alpha).sum()
    np.testing.assert_allclose(drawn.numpy(), expected, atol=0.005)


def test_the_expectation_mixes_other_targets_and_samples() -> None:
    log_expected = sampler(0.5).log_expected(lanes=11, samples=100)

    roots = np.sqrt(COUNTS)
    mixture = 10 * COUNTS / COUNTS.sum() + 100 * roots / roots.sum()
    np.testing.assert_allclose(log_expected.numpy(), np.log(mixture), rtol=1e-6)
