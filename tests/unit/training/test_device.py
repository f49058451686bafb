"""Device of a run: what it computes slowly is said, and each process has a card of its own."""

import pytest
import torch

from recsys.errors import BadInput
from training.device import device_of_process, device_warning
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


def test_processes_on_the_cpu_share_it() -> None:
    assert [device_of_process("cpu", place) for place in range(3)] == ["cpu"] * 3


def test_each_process_has_a_graphics_card_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    assert [device_of_process("auto", place) for place in range(2)] == ["cuda:0", "cuda:1"]
    with pytest.raises(BadInput, match="process 3 of this machine, which has 2 graphics cards"):
        device_of_process("cuda", 2)
    with pytest.raises(BadInput, match="needs a card of its own"):
        device_of_process("cuda:1", 0)
