"""`recsys train`: reads, delegates, and says what came out. `recsys evaluate` shares its tables."""

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from data.items import read_attributes
from data.sessions import Sessions, reindex
from data.statistics import describe
from recsys.atomic import check_new_folder
from recsys.bundle import REPORT, read_manifest
from recsys.catalogue import Catalogue
from recsys.errors import BadInput
from training.baselines import baselines
from training.comparison import HEADLINE, Comparison, compare_with_intervals
from training.evaluate import Evaluation, Scorer, evaluate
from training.export import Export, golden_clicks, write_bundle
from training.loop import Run, Trained, eager_predictor
from training.prepare import ClickOptions, Prepared, prepare
from training.progress import TrainingBars, bar, counts_table, metrics_table
from training.recipe import Recipe
from training.report import Story, render_report


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Where a run reads and writes, and how it goes about it."""

    clicks: ClickOptions
    out: Path
    recipe: Recipe = field(default_factory=Recipe)
    items: Path | None = None
    resume: bool = False
    device: str = "auto"
    command: str = ""  # as it was typed, for the report

    @property
    def work(self) -> Path:
        """Where an unfinished run keeps its checkpoint, beside the bundle to be."""
        return self.out.with_name(f"{self.out.name}.unfinished")


def train(options: TrainOptions, console: Console) -> Path:
    """Click log → bundle folder; returns the folder."""
    device = choose_device(options.device)
    _check_out(options)
    with bar(console, "Reading clicks", "") as progress:
        prepared = prepare(options.clicks, progress)
    attributes = _attributes(options, prepared.train)
    console.print(counts_table(prepared.counts))
    console.print(
        f"Training on {device}: {options.recipe.hidden} units, {options.recipe.layers} layer(s)."
    )
    with _work_folder(options.work), TrainingBars(console) as bars:
        trained = Run(options.recipe, options.work, device, bars).train(
            prepared.train, prepared.valid
        )
    catalogue = Catalogue(
        trained.catalogue.item_ids,
        trained.catalogue.counts,
        {
            name: [texts[item] for item in trained.catalogue.item_ids]
            for name, texts in attributes.items()
        },
    )
    predictor = eager_predictor(trained.weights, catalogue, options.recipe)
    results = compare(predictor, catalogue, prepared.train, prepared.test, console)
    story = Story(
        command=options.command,
        device=str(device),
        counts=prepared.counts,
        train=describe(prepared.train),
        test=describe(prepared.test),
        epochs=trained.results,
        results=results,
        comparison=compare_with_intervals(results, catalogue.counts),
    )
    write_bundle(options.out, _export(options, prepared, trained, catalogue, story))
    shutil.rmtree(options.work)
    manifest = read_manifest(options.out)
    show(results, console)
    console.print(
        f"Bundle {options.out} holds model {manifest.model_id}; what was measured is in\n"
        f"  {options.out / REPORT}\n"
        f"Serve it:\n"
        f"  recsys serve --bundle {options.out}",
        soft_wrap=True,
        markup=False,  # a path is never markup
    )
    return options.out


@contextmanager
def _work_folder(work: Path) -> Iterator[None]:
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
    """Attribute → item id → text, for every item of the log."""
    if options.items is None:
        return {}
    columns = read_attributes(
        options.items, options.clicks.columns.item, train.item_ids, options.clicks.delimiter
    )
    return {name: dict(zip(train.item_ids, texts, strict=True)) for name, texts in columns.items()}


def compare(
    model: Scorer, catalogue: Catalogue, train: Sessions, test: Sessions, console: Console
) -> dict[str, Evaluation]:
    """The model and every baseline on the same cases; the model comes first."""
    learned, tested = reindex(train, catalogue.item_ids), reindex(test, catalogue.item_ids)
    scorers: dict[str, Scorer] = {
        "model": model,
        **baselines(catalogue, learned),
    }
    results = {}
    for name, scorer in scorers.items():
        with bar(console, f"Testing {name}", "sessions") as progress:
            results[name] = evaluate(scorer, tested, len(catalogue), progress)
    return results


def show(results: Mapping[str, Evaluation], console: Console) -> None:
    model = results["model"]
    title = f"{model.cases:,} next clicks, {model.unseen_targets:,} on items never seen in training"
    console.print(metrics_table({name: r.metrics for name, r in results.items()}, title))
    if model.warning:
        console.print(f"[bold red]warning:[/bold red] {model.warning}")


def _export(
    options: TrainOptions,
    prepared: Prepared,
    trained: Trained,
    catalogue: Catalogue,
    story: Story,
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
        },
        golden=golden_clicks(prepared.train, options.recipe.window),
        report=lambda manifest: render_report(manifest, story),
    )


def as_json(results: Mapping[str, Evaluation], comparison: Comparison) -> dict[str, Any]:
    """What `--json` prints and the manifest keeps; intervals as [low, high]."""
    model = results["model"]
    return {
        "model": model.metrics,
        "baselines": {name: r.metrics for name, r in results.items() if name != "model"},
        "intervals": {
            name: {metric: [figures[metric].low, figures[metric].high] for metric in HEADLINE}
            for name, figures in comparison.figures.items()
        },
        "cases": model.cases,
        "unseen_targets": model.unseen_targets,
        "warnings": [model.warning] if model.warning else [],
    }
