"""`recsys finetune`: continue a bundle with new clicks and write a new bundle.

The pipeline is that of `recsys train`, with a warm start (`training/warm_start.py`) and a few
settings of its own.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from data.content import ContentOptions
from data.files import UTF_8
from data.prepared.folder import ClickSource
from recsys.content.encoder import ContentEncoder
from recsys.errors import BadInput, BadRecipe
from training.pipeline import TrainOptions, train
from training.recipe import Recipe, checked_recipe
from training.warm_start import WarmStart, read_base_model

# One pass over the new clicks, without a validation part. The accumulator replaces the squared
# gradients of the earlier run, which a bundle does not hold: from zero, the first steps would be as
# long as those of an untrained model. One seed, yoochoose_sep14, learned on 23
# and 24 September, continued on the 25th, tested on the 26th, recall@20 / mrr@20: the old bundle
# .4521 / .2219, continued from 0 .4616 / .2283, from 0.1 .4775 / .2278. No other value was tried.
# The warm-up is short, because a day may have few steps.
FINETUNE_SETTINGS: Mapping[str, object] = {
    "epochs": 1,
    "validation": 0.0,
    "accumulator": 0.1,
    "warmup": 0.01,
}
# settings that determine the shape or meaning of the weights
FIXED = ("hidden", "layers", "cell", "embedding", "embedding_width", "scale")


@dataclass(frozen=True, slots=True)
class FinetuneOptions:
    """Options of one finetuning: bundle, clicks, output and settings."""

    bundle: Path
    clicks: ClickSource
    out: Path
    settings: Sequence[str] = ()  # name=value over the old recipe and `FINETUNE_SETTINGS`
    items: Path | None = None
    items_delimiter: str | None = None
    items_encoding: str = UTF_8
    vectors: Sequence[str] = ()  # NAME=FILE, of a bundle that learned from vectors
    drop_vanished: bool = False
    only_newer: bool = False
    resume: bool = False
    device: str = "auto"


def finetune(options: FinetuneOptions, console: Console) -> Path:
    """Continue the bundle and return the new one's folder; raise as `pipeline.train` does."""
    return train(continued_training(options), console)


def continued_training(options: FinetuneOptions) -> TrainOptions:
    """Return the options of the training that continues a bundle.

    Raises:
        BadInput: The content that the bundle learned from was not given.
        BadRecipe: A setting is wrong, or would change the shape of the weights.
        BundleRefused: The bundle is damaged, or its recipe or lineage cannot be used.
    """
    base_model = read_base_model(options.bundle)
    warm_start = WarmStart(
        base_model, drop_vanished=options.drop_vanished, only_newer=options.only_newer
    )
    return TrainOptions(
        clicks=options.clicks,
        out=options.out,
        recipe=continued_recipe(base_model.recipe_to_continue, options.settings),
        recipe_name=base_model.manifest.training.get("recipe", ""),
        items=options.items,
        items_delimiter=options.items_delimiter,
        items_encoding=options.items_encoding,
        content=continued_content(base_model.content, options),
        resume=options.resume,
        device=options.device,
        warm_start=warm_start,
    )


def continued_content(encoder: ContentEncoder | None, options: FinetuneOptions) -> ContentOptions:
    """Return the content that a bundle learned from, to learn from it again.

    The columns are those of its fields, so that only their files are given: a bundle holds what it
    learned about the items, and not the content itself.

    Raises:
        BadInput: The items file or vectors are missing, or the bundle did not learn from vectors.
    """
    files = {text.partition("=")[0]: text for text in options.vectors}
    fields = () if encoder is None else encoder.schema.fields
    wanted = [field.name for field in fields if field.kind == "vector"]
    problems = []
    if fields and options.items is None:
        problems.append(
            f"{options.bundle} learned from {', '.join(field.describe() for field in fields)}. "
            "Give the items file with --items."
        )
    problems += [
        f"{options.bundle} learned from vectors {name!r}. Give them with --vectors {name}=FILE."
        for name in wanted
        if name not in files
    ]
    problems += [
        f"--vectors {text}: {options.bundle} did not learn from such vectors. Leave them out, or "
        "train anew."
        for name, text in files.items()
        if name not in wanted
    ]
    if len(files) < len(options.vectors):
        problems.append("Vectors of one name are given twice. Give one file for each name.")
    if problems:
        raise BadInput("The bundle cannot be continued so", problems)
    columns = [f"{field.name}:{field.kind}" for field in fields if field.kind != "vector"]
    return ContentOptions(tuple(columns), tuple(files[name] for name in wanted))


def continued_recipe(old: Recipe, settings: Sequence[str] = ()) -> Recipe:
    """Return the old recipe with `FINETUNE_SETTINGS` and then `settings` on top.

    `FINETUNE_SETTINGS` are values and no factors, so that repeated finetuning does not drift.

    Raises:
        BadRecipe: A setting is wrong, or would change the shape of the weights.
    """
    recipe = checked_recipe({**dataclasses.asdict(old), **FINETUNE_SETTINGS}, settings)
    changed = [
        f"{name} is {getattr(old, name)!r} in the bundle and determines its weights, got "
        f"{getattr(recipe, name)!r}. Leave it out, or train from scratch."
        for name in FIXED
        if getattr(recipe, name) != getattr(old, name)
    ]
    if changed:
        raise BadRecipe("The bundle cannot be continued so", changed)
    return recipe
