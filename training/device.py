"""Device of a training run: the one of a name, and what it computes slowly."""

import torch

from recsys.errors import BadInput
from training.recipe import Recipe


def choose_device(name: str) -> torch.device:
    """Return the device of this name; `auto` is the graphics card where torch has one.

    Raises:
        BadInput: torch has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu" or (name.partition(":")[0] == "cuda" and torch.cuda.is_available()):
        try:
            return torch.device(name)
        except RuntimeError:
            pass
    if torch.cuda.is_available():
        sees = "torch sees cpu and cuda. Give one of them, or auto"
    else:
        sees = "torch sees no graphics card. Give cpu or auto"
    raise BadInput(
        "--device cannot be used",
        [f"got {name!r}; {sees}."],
    )


def device_of_process(name: str, place: int) -> str:
    """Return the name of the device of one of several processes on a machine.

    Args:
        name: As for `choose_device`.
        place: Number of the process among those of this machine, from 0.

    Raises:
        BadInput: Torch has no such device, or fewer graphics cards than processes.
    """
    device = choose_device(name)
    if device.type != "cuda":
        return name
    cards = torch.cuda.device_count()
    if device.index is not None or place >= cards:
        raise BadInput(
            "--device cannot be used",
            [
                f"got {name!r} for process {place + 1} of this machine, which has {cards} graphics "
                "cards. Each process needs a card of its own: give cuda, and fewer processes, or "
                "give cpu."
            ],
        )
    return f"cuda:{place}"


def device_warning(recipe: Recipe, device: torch.device) -> str | None:
    """Return a sentence where the device computes a setting of the recipe slowly."""
    if recipe.precision == "float32" or _has_bfloat16(device):
        return None
    return (
        "This processor has no instructions for bfloat16, so training takes several times as long "
        "as with --set precision=float32."
    )


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = getattr(torch.cpu, "get_capabilities", None)  # older versions lack it
    return capabilities is None or any(
        has for name, has in capabilities().items() if "bf16" in name
    )
