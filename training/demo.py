"""Demo: train on the demo shop, for `recsys demo` and for the containers."""

import tempfile
from pathlib import Path

from rich.console import Console

from data.click_options import ClickOptions
from data.shop.files import write_demo_shop
from recsys.bundle.layout import MANIFEST
from recsys.bundle.registry import is_registry, output_folder, publish
from training.pipeline import TrainOptions, train
from training.recipe import load_recipe


def train_shop(folder: Path, out: Path, console: Console, command: str = "") -> Path:
    """Train on `clicks.csv` and `items.csv` of the folder and return the bundle's folder."""
    options = TrainOptions(
        clicks=ClickOptions(folder / "clicks.csv"),
        out=out,
        recipe=load_recipe("shop"),
        recipe_name="shop",
        items=folder / "items.csv",
        resume=True,  # the shop is always the same, so an unfinished run is one of this shop
        command=command,
    )
    return train(options, console)


def train_demo(out: Path, console: Console, command: str = "") -> None:
    """Make the shop and train its bundle, unless `out` holds a bundle already."""
    if (out / MANIFEST).exists():
        console.print(f"{out} holds a bundle already.")
        return
    with tempfile.TemporaryDirectory(prefix="recsys-demo-") as temporary:
        folder = Path(temporary)
        write_demo_shop(folder)
        train_shop(folder, out, console, command)


def train_demo_registry(registry: Path, console: Console, command: str = "") -> None:
    """Publish the shop's bundle in the model registry, unless it has a current version."""
    if is_registry(registry):
        console.print(f"{registry} has a current version already.")
        return
    out = output_folder(None, registry)
    train_demo(out, console, command)
    publish(registry, out.name)
