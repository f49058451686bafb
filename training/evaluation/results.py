"""Results of an evaluation: tables for the terminal, and JSON."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from recsys.console import metrics_tables, print_fitting
from training.evaluation.compare import HEADLINE, MODEL, Comparison
from training.evaluation.evaluate import Evaluation
from training.report.summary import summary


def show(results: Mapping[str, Evaluation], comparison: Comparison, console: Console) -> None:
    """Print the metrics of all recommenders, their summary in words, and warnings."""
    model = results[MODEL]
    title = f"{model.cases:,} next clicks, {model.unseen_targets:,} on items never seen in training"
    console.print()
    print_fitting(console, metrics_tables({name: r.metrics for name, r in results.items()}, title))
    console.print()
    console.print(" ".join(summary(comparison)), markup=False, highlight=False)
    if model.warning:
        console.print(f"[bold red]warning:[/bold red] {model.warning}")


def as_json(results: Mapping[str, Evaluation], comparison: Comparison) -> dict[str, Any]:
    """Return what `--json` prints and the manifest keeps; intervals as [low, high]."""
    model = results[MODEL]
    return {
        "model": model.metrics,
        "baselines": {name: r.metrics for name, r in results.items() if name != MODEL},
        "intervals": {
            name: {metric: [figures[metric].low, figures[metric].high] for metric in HEADLINE}
            for name, figures in comparison.figures.items()
        },
        "cases": model.cases,
        "unseen_targets": model.unseen_targets,
        "warnings": [model.warning] if model.warning else [],
    }
