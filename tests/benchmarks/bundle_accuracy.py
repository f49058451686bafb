"""Accuracy of a bundle with and without its additions, and a check for leaks.

    python tests/benchmarks/bundle_accuracy.py parts --bundle B --clicks F --split-column split
    python tests/benchmarks/bundle_accuracy.py leaks --bundle B --clicks F --split-column split

`parts` ranks the test sessions with the model alone, with recent popularity, and on top of it with
the repeat term, with the neighbours and with both, and prints paired 95 % intervals of the
differences. `leaks` compares each list with the next click of another case, and reads the clicks of
each session in random order. A model that has learned from the test part, or that reads the target,
stays accurate; an honest one does not.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console

from data.click_options import ClickOptions
from data.prepare import prepare
from data.sessions import Sessions, reindex
from recsys.bundle.golden import unverified_predictor
from recsys.bundle.load import load_bundle
from recsys.console import add_row, neat_table
from recsys.predictor import Predictor
from training.evaluation.evaluate import Evaluation, evaluate
from training.evaluation.intervals import estimate, ratio, resampled_sums, session_sums

METRICS = ("recall@20", "mrr@20")
SESSIONS_AT_ONCE = 256
SEED = 1

BundleFolder = Annotated[Path, typer.Option(help="Bundle to measure.")]
ClickFile = Annotated[Path, typer.Option(help="Click log that the bundle was trained on.")]
SplitColumn = Annotated[str | None, typer.Option(help="Column of the split.")]

app = typer.Typer(add_completion=False)
console = Console(width=140)


def tested_sessions(clicks: Path, split_column: str | None, predictor: Predictor) -> Sessions:
    """Return the test part that `recsys evaluate` uses, items as indices of the catalogue."""
    test = prepare(ClickOptions(clicks, split_column=split_column)).test
    return reindex(test, predictor.catalogue.item_ids)


def gains_of(evaluation: Evaluation, metric: str) -> NDArray[np.float64]:
    """Return each case's part of the metric, (cases,) float64."""
    rank = evaluation.ranked.rank.astype(np.float64)
    listed = rank <= 20
    return listed.astype(np.float64) if metric == "recall@20" else np.where(listed, 1 / rank, 0.0)


def paired(one: Evaluation, other: Evaluation) -> list[str]:
    """Return the differences of the metrics with their intervals, as text."""
    session = one.ranked.session
    sessions = int(session.max()) + 1
    counts = session_sums(np.ones(len(session)), session, sessions)
    texts = []
    for metric in METRICS:
        difference = gains_of(one, metric) - gains_of(other, metric)
        sums = session_sums(difference, session, sessions)
        drawn = resampled_sums(np.stack([sums, counts], axis=1))
        gain = estimate(float(difference.mean()), ratio(drawn[:, 0], drawn[:, 1]))
        texts.append(f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]")
    return texts


@app.command()
def parts(bundle: BundleFolder, clicks: ClickFile, split_column: SplitColumn = None) -> None:
    """Print the accuracy of the model with each of its additions."""
    opened = load_bundle(bundle)
    term, blend = opened.manifest.repeats, opened.blend
    base, plain = "model alone", unverified_predictor(opened, None, None)
    predictors = {base: plain.with_recent(None)}
    if opened.recent is not None:
        base = "with recent popularity"
        predictors[base] = plain
    if term is not None:
        predictors["with repeat term"] = unverified_predictor(opened, term, None)
    if blend is not None:
        predictors["with neighbours"] = unverified_predictor(opened, None, blend)
    if term is not None and blend is not None:
        predictors["with both"] = unverified_predictor(opened, term, blend)
    table = neat_table(bundle.name, left=["scorer"], right=[*METRICS, "less that of", *METRICS])
    results: dict[str, Evaluation] = {}
    tested = tested_sessions(clicks, split_column, predictors["model alone"])
    for name, predictor in predictors.items():
        result = results[name] = evaluate(predictor, tested, len(predictor.catalogue))
        figures = [f"{result.metrics[metric]:.4f}" for metric in METRICS]
        others = {
            "model alone": [],
            "with recent popularity": ["model alone"],
            "with both": ["with repeat term", "with neighbours"],
        }
        before = others.get(name, [base])
        for other in before or [""]:
            differences = paired(result, results[other]) if other else ["", ""]
            add_row(table, name, *figures, other, *differences)
    console.print(table)


def listed_targets(
    predictor: Predictor, sessions: Sessions, random: np.random.Generator
) -> tuple[float, float]:
    """Return the shares of lists of 20 with their own next click, and with that of another case."""
    lists: list[NDArray[np.int64]] = []
    for start in range(0, len(sessions), SESSIONS_AT_ONCE):
        end = min(start + SESSIONS_AT_ONCE, len(sessions))
        scores = predictor.scores_along([sessions[s] for s in range(start, end)])
        lists.append(torch.topk(scores, 20, dim=1).indices.numpy())
    listed, targets = np.concatenate(lists), sessions.next_clicks

    def share(of: NDArray[np.int32]) -> float:
        return float((listed == of[:, np.newaxis]).any(axis=1).mean())

    return share(targets), share(random.permutation(targets))


def in_random_order(sessions: Sessions, random: np.random.Generator) -> Sessions:
    """Return the sessions with the clicks of each in random order."""
    order = np.lexsort((random.random(len(sessions.items)), sessions.session_of_click))
    return Sessions(
        sessions.items[order], sessions.time_ms, sessions.offsets, sessions.item_ids, sessions.split
    )


@app.command()
@torch.inference_mode()
def leaks(bundle: BundleFolder, clicks: ClickFile, split_column: SplitColumn = None) -> None:
    """Print Recall@20 of the next clicks, of those of other cases, and in random order."""
    opened, random = load_bundle(bundle), np.random.default_rng(SEED)
    predictor = unverified_predictor(opened, opened.manifest.repeats, opened.blend)
    tested = tested_sessions(clicks, split_column, predictor)
    tested = tested.keep_sessions(tested.lengths >= 2)
    own, others = listed_targets(predictor, tested, random)
    shuffled, _ = listed_targets(predictor, in_random_order(tested, random), random)
    popular = popular_share(opened.catalogue.counts, tested.next_clicks)
    table = neat_table("Recall@20", left=["case"], right=["share"])
    add_row(table, "the next click", f"{own:.4f}")
    add_row(table, "the next click of another case", f"{others:.4f}")
    add_row(table, "the next click among the 20 most popular items", f"{popular:.4f}")
    add_row(table, "the next click, clicks of a session in random order", f"{shuffled:.4f}")
    console.print(table)


def popular_share(counts: Sequence[int] | NDArray[np.int64], targets: NDArray[np.int32]) -> float:
    """Return the share of targets among the 20 items with the most training clicks."""
    return float(np.isin(targets, np.argsort(-np.asarray(counts), kind="stable")[:20]).mean())


if __name__ == "__main__":
    app()
