"""Candidate of a retraining: a model that is trained anew, or continues the current one."""

import dataclasses

from rich.console import Console

from data.click_options import ClickOptions
from data.sessions import Sessions
from recsys.catalogue.catalogue import Catalogue
from recsys.errors import BadInput, BadRecipe, BundleRefused, Interrupted
from training.competition.rivals import rivals_of
from training.finetune import FinetuneOptions, continued_training
from training.pipeline import TrainOptions, train_bundle
from training.retrain.current import Current
from training.retrain.options import AUTO, FINETUNE, TRAIN, RetrainOptions
from training.retrain.work import Work

MOST_CONTINUED = 6  # trainings in a row that continue a model; then `auto` trains one anew


def candidate_training(
    options: RetrainOptions,
    work: Work,
    source: ClickOptions,
    current: Current | None,
    train: Sessions,
    console: Console,
) -> tuple[TrainOptions, str]:
    """Return the options of the training, and its way; say why one is trained anew."""
    if options.way != TRAIN and current is not None:
        refused = _refused(options, current, train)
        if refused is None:
            try:
                return _continued(options, work, source, current), FINETUNE
            except (BadInput, BadRecipe, BundleRefused) as error:
                refused = str(error)
        console.print(f"Training anew instead of finetuning. {refused}", markup=False)
    first, *rivals = rivals_of(options.recipe, options.settings)
    training = TrainOptions(
        clicks=source,
        out=work.candidate,
        recipe=first.recipe,
        recipe_name=first.name,
        rivals=rivals,
        budget=options.budget,
        items=options.items,
        items_delimiter=options.items_delimiter,
        items_encoding=options.items_encoding,
        content=options.content,
        attributes_of=None if current is None else _catalogue_of_this_shop(current, train),
        device=options.device,
        command=options.command,
    )
    return training, TRAIN


def _catalogue_of_this_shop(current: Current, train: Sessions) -> Catalogue | None:
    """Return the current catalogue, None where it has none of the clicked items: a demo's."""
    catalogue = current.predictor.catalogue
    return catalogue if (catalogue.find_all(train.item_ids) >= 0).any() else None


def _refused(options: RetrainOptions, current: Current, train: Sessions) -> str | None:
    """Return why the current model is not continued; None where it may be."""
    if train.starts_ms.max() < current.seen_until_ms:
        return "The current model has learned from all sessions before the tested days."
    learned, given = current.content_kinds, options.content.kinds
    kinds = {name: kind or learned.get(name) for name, kind in given.items()}
    if kinds != learned:
        return (
            f"The current model learned from the content {', '.join(learned) or 'of no item'}, and "
            f"{', '.join(given)} is given."
        )
    lineage = len(current.manifest.training.get("lineage", []))
    if options.way == AUTO and lineage >= MOST_CONTINUED:
        return f"The current model continues another one for the {lineage}th time."
    return None


def _continued(
    options: RetrainOptions, work: Work, source: ClickOptions, current: Current
) -> TrainOptions:
    """Return the options of a finetuning: weights learn from what is new, counts from all days."""
    continued = FinetuneOptions(
        bundle=current.folder,
        clicks=source,
        out=work.candidate,
        settings=options.settings,
        items=options.items,
        items_delimiter=options.items_delimiter,
        items_encoding=options.items_encoding,
        vectors=options.content.vectors,
        only_newer=True,
        device=options.device,
    )
    return dataclasses.replace(continued_training(continued), command=options.command)


def train_candidate(training: TrainOptions, console: Console) -> None:
    try:
        train_bundle(training, console)
    except Interrupted as interrupted:
        raise Interrupted(
            f"Stopped. The work so far is in {training.work}; the same command goes on."
        ) from interrupted
