"""Recipe and files of the small shop that tests share."""

from dataclasses import dataclass
from pathlib import Path

from data.synthetic import Shop
from training.recipe import Recipe

SMALL = Recipe(hidden=32, epochs=5, batch=32, negatives=64, sample_alpha=0.5, dropout_embedding=0.1)


@dataclass(frozen=True)
class TrainedShop:
    """Synthetic shop of 200 products, its files, and the bundle trained on them."""

    shop: Shop
    clicks: Path
    items: Path
    bundle: Path
