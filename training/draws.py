"""The randomness of one step: which numbers dropout drops, which negatives are drawn.

It follows from the seed, the epoch and the step alone, so a resumed run needs no generator's state.
On the CPU the bits are numpy's SFC64, at a fraction of what torch's Mersenne Twister takes; on a
graphics card torch's own generator draws on the device.
"""

import numpy as np
import torch
from torch import Tensor

GRAINS = 1 << 16  # a dropout rate is a whole number of these


class Draws:
    """Draws for one step, in the order they are asked for."""

    def __init__(self, device: torch.device, seed: int, epoch: int, step: int) -> None:
        self._device = device
        sequence = np.random.SeedSequence((seed, epoch, step))
        if device.type == "cuda":
            self._generator = torch.Generator(device)
            self._generator.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))
        else:
            self._bits = np.random.SFC64(sequence)

    def uniform(self, count: int) -> Tensor:
        """(count,) float64 in [0, 1)."""
        if self._device.type == "cuda":
            return torch.rand(
                count, dtype=torch.float64, device=self._device, generator=self._generator
            )
        return torch.from_numpy(np.random.Generator(self._bits).random(count))

    def kept(self, shape: torch.Size, rate: float) -> Tensor:
        """Inverted dropout as a factor: 0 where dropped, else 1/(1 − rate); float32."""
        grains = min(round(rate * GRAINS), GRAINS - 1)
        if self._device.type == "cuda":
            drawn = torch.randint(GRAINS, shape, device=self._device, generator=self._generator)
            return (drawn >= grains) * (GRAINS / (GRAINS - grains))
        words = self._bits.random_raw(-(-shape.numel() // 4))
        kept = words.view(np.uint16)[: shape.numel()].reshape(shape) >= grains
        return torch.from_numpy(kept.astype(np.float32)).mul_(GRAINS / (GRAINS - grains))
