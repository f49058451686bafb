"""Device of a run: what it is told to compute slowly is said."""

import pytest
import torch

from training.device import device_warning
from training.recipe import Recipe

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "warned"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, True),
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": True}, False),
        ({}, True),
    ],
)
def test_bfloat16_on_a_processor_without_it_is_warned_of(
    capabilities: dict[str, bool], warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)

    sentence = device_warning(Recipe(precision="bfloat16"), CPU)

    assert (sentence is not None) == warned
    assert device_warning(Recipe(), CPU) is None
