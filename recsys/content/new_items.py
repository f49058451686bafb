"""Term of new items: what is added to the biases of items without a click in training.

The training chooses it on validation sessions (`training/additions/new_items.py`).
"""

from dataclasses import dataclass

LARGEST = 1e3  # of a bundle's number


@dataclass(frozen=True, slots=True)
class NewItemTerm:
    """Number that is added to the bias of every new item, on the scale of the model's scores.

    Raises:
        ValueError: the number is outside its range.
    """

    shift: float = 0.0

    def __post_init__(self) -> None:
        if type(self.shift) is not float or not abs(self.shift) <= LARGEST:
            raise ValueError(
                f"shift must be a decimal number from -{LARGEST:g} to {LARGEST:g}, got "
                f"{self.shift!r}."
            )
