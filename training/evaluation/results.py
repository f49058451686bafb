"""The model and the baselines on the same cases: measured, shown, and as JSON."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from data.sessions import Sessions, reindex
from recsys.catalogue.catalogue import Catalogue
from recsys.console import metrics_tables, print_fitting
from recsys.predictor import Predictor
from training.baselines.popularity import baselines
from training.evaluation.compare import HEADLINE, Comparison
from training.evaluation.evaluate import Evaluation, Scorer, evaluate
from training.progress import bar
from training.report.summary import summary


def compare(
    model: Predictor, catalogue: Catalogue, train: Sessions, test: Sessions, console: Console
) -> dict[str, Evaluation]:
    """The model and every baseline on the same cases; the model comes first.

    A model with session neighbours is also measured without them, as "model alone".
    """
    learned, tested = reindex(train, catalogue.item_ids), reindex(test, catalogue.item_ids)
    scorers: dict[str, Scorer] = {
        "model": model,
        **({} if model.blend is None else {"model alone": model.without_neighbours()}),
        **baselines(catalogue, learned),
    }
    results = {}
    for name, scorer in scorers.items():
        with bar(console, f"Testing {name}", "sessions") as progress:
            results[name] = evaluate(scorer, tested, len(catalogue), progress)
    return results


def show(results: Mapping[str, Evaluation], comparison: Comparison, console: Console) -> None:
    """The figures, what they come to in words, and what is suspicious about them."""
    model = results["model"]
    title = f"{model.cases:,} next clicks, {model.unseen_targets:,} on items never seen in training"
    console.print()
    print_fitting(console, metrics_tables({name: r.metrics for name, r in results.items()}, title))
    console.print()
    console.print(" ".join(summary(comparison)), markup=False, highlight=False)
    if model.warning:
        console.print(f"[bold red]warning:[/bold red] {model.warning}")


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
