"""`recsys finetune`: a bundle and new clicks → a bundle that goes on where the old one stopped.

The pipeline is that of `recsys train`; what differs is where it begins (`training/warm_start.py`)
and the few settings below.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from data.click_options import ClickOptions
from recsys.errors import BadRecipe
from training.pipeline import TrainOptions, train
from training.recipe import Recipe, checked_recipe
from training.warm_start import BaseModel, WarmStart, read_base_model

# One pass over everything that is new; none of it is kept apart for validation. The accumulator
# stands for the squared gradients of the run before, which a bundle does not hold: from zero, the
# first steps are as long as those of an untrained model. One seed, yoochoose_sep14, learned on 23
# and 24 September, continued on the 25th, tested on the 26th, recall@20 / mrr@20: the old bundle
# .4521 / .2219, continued from 0 .4616 / .2283, from 0.1 .4775 / .2278. No other value was tried.
CONTINUING: Mapping[str, object] = {"epochs": 1, "validation": 0.0, "accumulator": 0.1}
# what shapes the weights that are continued
FIXED = ("hidden", "layers", "cell", "embedding", "embedding_width", "scale")


@dataclass(frozen=True, slots=True)
class FinetuneOptions:
    """What is continued, with which clicks, and how it goes about it."""

    bundle: Path
    clicks: ClickOptions
    out: Path
    settings: Sequence[str] = ()  # name=value over the parent's recipe and `CONTINUING`
    items: Path | None = None
    drop_vanished: bool = False
    resume: bool = False
    device: str = "auto"


def finetune(options: FinetuneOptions, console: Console) -> Path:
    """Old bundle and new click log → new bundle folder; returns the folder."""
    parent = read_base_model(options.bundle)
    return train(
        TrainOptions(
            clicks=options.clicks,
            out=options.out,
            recipe=continued_recipe(with_weight(parent), options.settings),
            items=options.items,
            resume=options.resume,
            device=options.device,
            warm_start=WarmStart(parent, options.drop_vanished),
        ),
        console,
    )


def with_weight(parent: BaseModel) -> Recipe:
    """Its recipe with the blend that was chosen for it: nothing is left to choose on."""
    blend = parent.manifest.blend
    if blend is None:
        return dataclasses.replace(parent.recipe, blend="none", blend_weight=0.0)
    return dataclasses.replace(parent.recipe, blend_weight=blend.weight)


def continued_recipe(old: Recipe, settings: Sequence[str] = ()) -> Recipe:
    """The old recipe with `CONTINUING` and then `settings` on top; raises `BadRecipe`.

    `CONTINUING` replaces and never scales: a chain of finetunings does not drift.
    """
    recipe = checked_recipe({**dataclasses.asdict(old), **CONTINUING}, settings)
    changed = [
        f"{name} is {getattr(old, name)!r} in the bundle and shapes its weights, got "
        f"{getattr(recipe, name)!r}. Leave it out, or train from scratch."
        for name in FIXED
        if getattr(recipe, name) != getattr(old, name)
    ]
    if changed:
        raise BadRecipe("The bundle cannot be continued so", changed)
    return recipe
