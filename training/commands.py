"""`recsys train` and `recsys evaluate`: each reads, delegates, and says what came out."""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from data.items import read_attributes
from data.sessions import Sessions, reindex
from recsys.atomic import check_new_folder
from recsys.bundle import MANIFEST, read_manifest
from recsys.catalogue import Catalogue
from recsys.errors import BadInput
from recsys.golden import open_predictor
from recsys.predictor import Predictor, Wish
from training.baselines import baselines
from training.evaluate import Evaluation, Scorer, evaluate
from training.export import Export, golden_clicks, write_bundle
from training.loop import Run, Trained, eager_predictor
from training.prepare import ClickOptions, Prepared, prepare, read_sessions
from training.progress import TrainingBars, bar, counts_table, metrics_table
from training.recipe import Recipe
from training.warm_start import WarmStart, merged_attributes

TIMED_REQUESTS = 300


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Where a run reads and writes, and how it goes about it."""

    clicks: ClickOptions
    out: Path
    recipe: Recipe = field(default_factory=Recipe)
    items: Path | None = None
    resume: bool = False
    device: str = "auto"
    warm_start: WarmStart | None = None  # go on from a bundle instead of from scratch

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
    if options.warm_start is not None:
        console.print(options.warm_start.summary(prepared.train))
    console.print(
        f"Training on {device}: {options.recipe.hidden} units, {options.recipe.layers} layer(s)."
    )
    with _work_folder(options.work), TrainingBars(console) as bars:
        trained = Run(options.recipe, options.work, device, bars).train(
            prepared.train, prepared.valid, options.warm_start
        )
    item_ids = trained.catalogue.item_ids
    catalogue = Catalogue(
        item_ids,
        trained.catalogue.counts,
        {name: [texts.get(item) for item in item_ids] for name, texts in attributes.items()},
    )
    predictor = eager_predictor(trained.weights, catalogue, options.recipe)
    results = compare(predictor, catalogue, prepared.train, prepared.test, console)
    if options.warm_start is not None:
        results |= options.warm_start.parent.results(prepared.test)
    write_bundle(options.out, _export(options, prepared, trained, catalogue, results))
    shutil.rmtree(options.work)
    manifest = read_manifest(options.out)
    show(results, console)
    console.print(
        f"Bundle {options.out} holds model {manifest.model_id}. Serve it:\n"
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
    """Attribute → item id → text, for the items of the log and those of the parent."""
    old = options.warm_start.parent.catalogue if options.warm_start is not None else None
    if options.items is None:
        return merged_attributes(old, {})
    item_ids = list(dict.fromkeys([*train.item_ids, *(old.item_ids if old is not None else ())]))
    columns = read_attributes(
        options.items, options.clicks.columns.item, item_ids, options.clicks.delimiter
    )
    read = {name: dict(zip(item_ids, texts, strict=True)) for name, texts in columns.items()}
    return merged_attributes(old, read)


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
    results: Mapping[str, Evaluation],
) -> Export:
    return Export(
        weights=trained.weights,
        catalogue=catalogue,
        recipe=options.recipe,
        metrics=as_json(results),
        training={
            "sessions": len(prepared.train),
            "clicks": len(prepared.train.items),
            "cut_off": prepared.cut_off,
            "best_epoch": trained.best_epoch,
            **(options.warm_start.record(prepared.train) if options.warm_start else {}),
        },
        golden=golden_clicks(prepared.train, options.recipe.window),
    )


def as_json(results: Mapping[str, Evaluation]) -> dict[str, Any]:
    """What `--json` prints and the manifest keeps."""
    model = results["model"]
    return {
        "model": model.metrics,
        "baselines": {name: r.metrics for name, r in results.items() if name != "model"},
        "cases": model.cases,
        "unseen_targets": model.unseen_targets,
        "warnings": [model.warning] if model.warning else [],
    }


def evaluate_bundle(
    bundle: Path, clicks: ClickOptions, console: Console, *, every_session: bool, print_json: bool
) -> None:
    """Test a bundle on a click file, split as in training or, `every_session`, whole."""
    predictor = open_predictor(bundle)
    with bar(console, "Reading clicks", "") as progress:
        if every_session:
            test, train = read_sessions(clicks, progress)[0], None
        else:
            prepared = prepare(clicks, progress)
            train, test = prepared.train, prepared.test
    if train is None:
        tested = reindex(test, predictor.catalogue.item_ids)
        with bar(console, "Testing model", "sessions") as progress:
            results = {"model": evaluate(predictor, tested, len(predictor.catalogue), progress)}
    else:
        results = compare(predictor, predictor.catalogue, train, test, console)
    latency = latency_ms(predictor, reindex(test, predictor.catalogue.item_ids))
    if print_json:
        print(
            json.dumps({**as_json(results), "latency_ms": latency, "model_id": predictor.model_id})
        )
        return
    show(results, console)
    parts = ", ".join(f"{name} {value:.2f} ms" for name, value in latency.items())
    console.print(f"One recommendation, state replayed, one thread: {parts} ({bundle / MANIFEST}).")


def latency_ms(predictor: Predictor, sessions: Sessions) -> dict[str, float]:
    """Percentiles of answering one session from its clicks: replay, scores, top 20."""
    picked = np.linspace(0, len(sessions) - 1, num=TIMED_REQUESTS, dtype=int).tolist()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = [_milliseconds(predictor, sessions[s].tolist()) for s in picked]
    torch.set_num_threads(threads)
    return {f"p{q}": round(float(np.percentile(times, q)), 3) for q in (50, 90, 99)}


def _milliseconds(predictor: Predictor, clicks: Sequence[int]) -> float:
    began = time.perf_counter()
    predictor.recommend([item for item in clicks if item >= 0], Wish(k=20))
    return (time.perf_counter() - began) * 1000
