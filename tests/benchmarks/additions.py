"""Cost of the additions: of their fit beside the training, and of both in a request.

    python tests/benchmarks/additions.py fit --clicks clicks.csv
    python tests/benchmarks/additions.py request --bundle runs/large

Both print processor time, so that other work on the machine counts little. `request` ranks the same
batches with the model alone, with a repeat term, and with the bundle's neighbours, too, if it has
some.
"""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import torch
import typer

from data.batches.selection import Selection
from data.click_options import ClickOptions
from data.prepare import prepare
from data.sessions import Sessions
from recsys.bundle.golden import unverified_predictor
from recsys.bundle.load import Bundle, load_bundle
from recsys.model.repeats import RepeatTerm
from recsys.predictor import Predictor, SessionState
from recsys.retrieval.exact import RankingQuery
from tests.support.training.builders import Quiet
from training.additions.chooser import chooser_of
from training.checkpoint import Additions
from training.recipe import load_recipe
from training.trainer import Trainer

TERM = RepeatTerm(
    temperature=1.25,
    last=-0.4,
    earlier=0.5,
    recency=0.3,
    clicks=0.6,
    last_length=-0.6,
    earlier_length=-0.2,
    last_repetition=4.0,
    earlier_repetition=1.0,
)
ROUNDS = 9
REQUESTS = 200  # of a round

app = typer.Typer(add_completion=False)


@app.command()
def fit(
    clicks: Annotated[Path, typer.Option(help="Click file.")],
    split_column: Annotated[str | None, typer.Option(help="Column of the split.")] = None,
    recipe: Annotated[str, typer.Option(help="Recipe to train.")] = "default",
    settings: Annotated[list[str] | None, typer.Option("--set", help="name=value")] = None,
) -> None:
    """Train, and print the seconds of the training and of the fit."""
    torch.set_num_threads(1)
    trained = load_recipe(recipe, settings or [])
    seconds: list[float] = []

    def timed(predictor: Predictor, train: Selection, valid: Sessions | None) -> Additions:
        began = time.process_time()
        additions = chooser_of(trained)(predictor, train, valid)
        seconds.append(time.process_time() - began)
        return additions

    sessions = prepare(ClickOptions(clicks, split_column=split_column)).train
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(trained, Path(folder), torch.device("cpu"), Quiet(), timed)
        began = time.process_time()
        result = trainer.train(sessions, None)
        whole = time.process_time() - began
    training = whole - seconds[0]
    typer.echo(f"{len(sessions.items):,} clicks: training {training:.1f} s, fit {seconds[0]:.2f} s")
    typer.echo(f"the fit takes {seconds[0] / training:.1%} of the training")
    typer.echo(result.additions.repeats_summary)


@app.command()
def request(bundle: Annotated[Path, typer.Option(help="Bundle to rank with.")]) -> None:
    """Print the microseconds of a ranking without and with additions, in turns."""
    torch.set_num_threads(1)
    opened = load_bundle(bundle)
    predictors = {
        "alone": unverified_predictor(opened, None, None),
        "term": unverified_predictor(opened, TERM, None),
    }
    if opened.blend is not None:
        predictors["blend"] = unverified_predictor(opened, TERM, opened.blend)
    rng = np.random.default_rng(1)
    typer.echo("microseconds a request")
    typer.echo("batch  window" + "".join(f"{name:>9}" for name in predictors))
    for batch in (1, 4, 32):
        for window in (3, 10, 50):
            windows = windows_of(opened, rng, batch, window)
            medians = seconds_in_turns(list(predictors.values()), windows)
            typer.echo(
                f"{batch:5}  {window:6}" + "".join(f"{1e6 * m / batch:9.1f}" for m in medians)
            )


def windows_of(
    bundle: Bundle, random: np.random.Generator, batch: int, window: int
) -> list[list[int]]:
    """Return random windows by popularity: joined sessions of the neighbours, where there are."""
    if bundle.blend is None:
        windows: list[list[int]] = random.integers(
            0, len(bundle.catalogue), (batch, window)
        ).tolist()
        return windows
    clicks = bundle.blend.index.clicks
    starts = random.integers(0, len(clicks) - window, batch)
    return [clicks[start : start + window].tolist() for start in starts.tolist()]


def seconds_in_turns(predictors: Sequence[Predictor], windows: list[list[int]]) -> list[float]:
    """Return the median processor time of ranking the windows, for each predictor."""
    state = predictors[0].advance([SessionState(window) for window in windows])
    queries = [RankingQuery()] * len(windows)
    calls = max(REQUESTS // len(windows), 10)
    times: list[list[float]] = [[] for _ in predictors]
    for _ in range(ROUNDS):
        for predictor, measured in zip(predictors, times, strict=True):
            began = time.process_time()
            for _ in range(calls):
                predictor.rank(state, windows, queries)
            measured.append((time.process_time() - began) / calls)
    return [median(measured) for measured in times]


if __name__ == "__main__":
    app()
