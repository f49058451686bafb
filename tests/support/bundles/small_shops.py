"""Small synthetic shop and a model of it, trained within seconds, for scripts and benchmarks."""

import dataclasses
from pathlib import Path
from typing import Any

from rich.console import Console

from data.click_options import ClickOptions
from data.synthetic import write_shop
from training.pipeline import TrainOptions, train
from training.recipe import Recipe

SMALL = Recipe(hidden=64, epochs=3, batch=32, negatives=64, sample_alpha=0.5)


def small_shop(folder: Path, name: str = "bundle", **changes: Any) -> Path:
    """Train a bundle of that name; `changes` are settings of the recipe."""
    if not (folder / "clicks.csv").exists():
        write_shop(folder, makers=2, sessions=4000)
    recipe = dataclasses.replace(SMALL, **changes)
    options = TrainOptions(ClickOptions(folder / "clicks.csv"), folder / name, recipe)
    return train(options, Console(quiet=True))
