"""`recsys train`: reads, delegates, and says what came out."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console

from data.click_options import ClickOptions
from data.items import read_attributes
from data.prepare import Prepared, prepare
from data.sessions import Sessions
from data.statistics import describe
from recsys.bundle.layout import REPORT
from recsys.bundle.manifest import read_manifest
from recsys.bundle.registry import UNFINISHED
from recsys.catalogue.catalogue import Catalogue
from recsys.errors import BadInput
from recsys.fileio import check_new_folder
from recsys.neighbours.blend import Blend
from recsys.predictor import Predictor
from recsys.retrieval.exact import retrieval_said
from training.blend_weight import blend_of, blend_said, chooser_of
from training.evaluation.compare import compare_with_intervals
from training.evaluation.results import as_json, compare, show
from training.export import Export, golden_clicks, write_bundle
from training.model.weights import eager_predictor
from training.progress import TrainingBars, bar, counts_table, warn
from training.recipe import Recipe
from training.report.render import Story, render_report
from training.retrieval.recall_check import ChosenRetrieval, choose_retrieval, states_from
from training.trainer import CHECKPOINT_SECONDS, Trainer, TrainingResult
from training.warm_start import WarmStart, merged_attributes


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Where a run reads and writes, and how it goes about it."""

    clicks: ClickOptions
    out: Path
    recipe: Recipe = field(default_factory=Recipe)
    items: Path | None = None
    resume: bool = False
    device: str = "auto"
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    command: str = ""  # as it was typed, for the report
    warm_start: WarmStart | None = None  # go on from a bundle instead of from scratch

    def __post_init__(self) -> None:
        if not self.checkpoint_seconds >= 0:
            raise BadInput(
                "The options cannot be used",
                [f"--checkpoint-seconds must be at least 0, got {self.checkpoint_seconds}."],
            )

    @property
    def work(self) -> Path:
        """Where an unfinished run keeps its checkpoint, beside the bundle to be."""
        return self.out.with_name(self.out.name + UNFINISHED)


def train(options: TrainOptions, console: Console) -> Path:
    """Click log → bundle folder; returns the folder."""
    device = choose_device(options.device)
    _check_out(options)
    with bar(console, "Reading clicks", "") as progress:
        prepared = prepare(options.clicks, progress)
    attributes = _attributes(options, prepared.train)
    console.print(counts_table(prepared.counts))
    warn(console, prepared.duplicates.warning)
    if options.warm_start is not None:
        console.print(options.warm_start.summary(prepared.train))
    layers = options.recipe.layers
    console.print(
        f"\nTraining on {device}: {layers} {options.recipe.cell} layer{'s' if layers > 1 else ''} "
        f"of {options.recipe.hidden} units."
    )
    with work_folder(options.work), TrainingBars(console) as bars:
        run = Trainer(
            options.recipe,
            options.work,
            device,
            bars,
            choose_weight=chooser_of(options.recipe),
            checkpoint_seconds=options.checkpoint_seconds,
        )
        trained = run.train(prepared.train, prepared.valid, options.warm_start)
    item_ids = trained.catalogue.item_ids
    catalogue = Catalogue(
        item_ids,
        trained.catalogue.counts,
        {name: [texts.get(item) for item in item_ids] for name, texts in attributes.items()},
    )
    blend = blend_of(options.recipe, catalogue, prepared.train, trained.blend_weight)
    if options.recipe.blend != "none":
        console.print(f"Blend: {blend_said(options.recipe, trained.blend_weight)}.")
    predictor = eager_predictor(trained.weights, catalogue, options.recipe, blend)
    results = compare(predictor, catalogue, prepared.train, prepared.test, console)
    if options.warm_start is not None:
        results |= options.warm_start.parent.results(prepared.test)
    story = Story(
        command=options.command,
        device=str(device),
        counts=prepared.counts,
        train=describe(prepared.train),
        test=describe(prepared.test),
        epochs=trained.results,
        results=results,
        comparison=compare_with_intervals(results, catalogue.counts),
        duplicates=prepared.duplicates,
    )
    found = _retrieval(options.recipe, prepared, trained, predictor, console)
    write_bundle(options.out, _export(options, prepared, trained, catalogue, story, blend, found))
    shutil.rmtree(options.work)
    manifest = read_manifest(options.out)
    show(results, story.comparison, console)
    console.print(
        f"\nBundle {options.out} holds model {manifest.model_id}; what was measured is in\n"
        f"  {options.out / REPORT}\n"
        f"Serve it:\n"
        f"  recsys serve --bundle {options.out}",
        soft_wrap=True,
        markup=False,  # a path is never markup
    )
    return options.out


@contextmanager
def work_folder(work: Path) -> Iterator[None]:
    """The folder of the checkpoint; a run that fails before the first one leaves no folder."""
    work.mkdir(parents=True, exist_ok=True)
    lock = os.open(work, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise BadInput(
            "Another run is at work", [f"it keeps {work}. Wait for it, or name another --out."]
        ) from None
    except BaseException:
        with suppress(OSError):
            work.rmdir()
        raise
    finally:
        os.close(lock)


def choose_device(name: str) -> torch.device:
    """`auto` takes the graphics card where torch sees one; raises `BadInput`."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu" or (name.partition(":")[0] == "cuda" and torch.cuda.is_available()):
        try:
            return torch.device(name)
        except RuntimeError:
            pass
    raise BadInput(
        "--device cannot be used",
        [f"got {name!r}; torch sees cpu{' and cuda' if torch.cuda.is_available() else ' alone'}."],
    )


def _check_out(options: TrainOptions) -> None:
    check_new_folder(options.out, "The bundle")
    if options.work.exists() and any(options.work.iterdir()) and not options.resume:
        raise BadInput(
            "An unfinished run is there",
            [f"{options.work}. Go on with --resume, or delete it to begin anew."],
        )


def _attributes(options: TrainOptions, train: Sessions) -> dict[str, dict[str, str | None]]:
    """Attribute → item id → text, for the items of the log and those of the parent."""
    old = options.warm_start.parent.catalogue if options.warm_start is not None else None
    if options.items is None:
        return merged_attributes(old, {})
    item_ids = list(dict.fromkeys([*train.item_ids, *(old.item_ids if old is not None else ())]))
    columns = read_attributes(
        options.items, options.clicks.item_column, item_ids, options.clicks.delimiter
    )
    read = {name: dict(zip(item_ids, texts, strict=True)) for name, texts in columns.items()}
    return merged_attributes(old, read)


def _retrieval(
    recipe: Recipe,
    prepared: Prepared,
    trained: TrainingResult,
    predictor: Predictor,
    console: Console,
) -> ChosenRetrieval:
    """How the bundle finds its items; says so."""
    with console.status("Choosing how items are found") as status:
        found = choose_retrieval(
            recipe,
            trained.weights,
            predictor,
            states_from(prepared, recipe),
            lambda kind: status.update(f"Choosing how items are found: {kind}"),
        )
    console.print(retrieval_said(found.settings))
    return found


def _export(
    options: TrainOptions,
    prepared: Prepared,
    trained: TrainingResult,
    catalogue: Catalogue,
    story: Story,
    blend: Blend | None,
    found: ChosenRetrieval,
) -> Export:
    return Export(
        weights=trained.weights,
        catalogue=catalogue,
        recipe=options.recipe,
        metrics=as_json(story.results, story.comparison),
        training={
            "sessions": len(prepared.train),
            "clicks": len(prepared.train.items),
            "cut_off": prepared.cut_off,
            "best_epoch": trained.best_epoch,
            "blend": blend_said(options.recipe, trained.blend_weight),
            **(options.warm_start.record(prepared.train) if options.warm_start else {}),
        },
        golden=golden_clicks(prepared.train, options.recipe.window),
        blend=blend,
        retrieval=found,
        report=lambda manifest: render_report(manifest, story),
    )
