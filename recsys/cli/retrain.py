"""The command `recsys retrain`: a new model every night, published only if it is not worse."""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from recsys.cli.click_options import ItemsDelimiterOption, ItemsEncodingOption, as_typed
from recsys.cli.train import (
    BudgetOption,
    DeviceOption,
    RecipeOption,
    SettingsOption,
    VectorsOption,
)
from recsys.console import open_console
from recsys.errors import BadInput, Interrupted, RecsysError

KEPT = 3  # exit code where the current model stays; 0: published

app = typer.Typer()


@app.command(rich_help_panel="Learn")
def retrain(
    events: Annotated[Path, typer.Option(help="Events folder that recsys collect writes.")],
    registry: Annotated[Path, typer.Option(help="Model registry that services follow.")],
    days: Annotated[
        int, typer.Option(help="Newest complete days that are read, the tested ones included.")
    ] = 28,
    test_days: Annotated[int, typer.Option(help="Newest of them, to compare the models on.")] = 1,
    margin: Annotated[
        float, typer.Option(help="Relative loss of Recall@20 that a new model may have.")
    ] = 0.01,
    least_cases: Annotated[
        int, typer.Option(help="Fewest next clicks that models are compared on.")
    ] = 500,
    way: Annotated[
        str,
        typer.Option(
            help="train: anew. finetune: continue the current model, if possible. auto: continue "
            "it, and train anew each seventh time."
        ),
    ] = "train",
    recipe: RecipeOption = "auto",
    budget: BudgetOption = None,
    settings: SettingsOption = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the training.", show_default="1")
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="Items file; missing attributes stay as they are.")
    ] = None,
    items_delimiter: ItemsDelimiterOption = None,
    items_encoding: ItemsEncodingOption = "utf-8",
    content: Annotated[
        str | None, typer.Option(help="Columns of --items to learn from, as in recsys train.")
    ] = None,
    vectors: VectorsOption = None,
    day_length: Annotated[
        str, typer.Option(help="Length of a day: 24h; shorter for simulated days.")
    ] = "24h",
    report: Annotated[
        Path | None,
        typer.Option(help="Page about the decisions.", show_default="decisions.html in --registry"),
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option(
            help="Bundles that stay in the registry; older ones are removed. Published ones and "
            "the one before them always stay.",
            show_default="all",
        ),
    ] = None,
    keep_shares: Annotated[
        bool,
        typer.Option(
            "--keep-shares",
            help="Publish while an experiment runs, too: a new main version, the same shares.",
        ),
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Compare also where these days have been decided.")
    ] = False,
    every: Annotated[
        str | None,
        typer.Option(help="Stay, and look for a new complete day so often: 1h."),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Train on collected clicks, compare with the current model, publish if not worse.

    The exit code is 0 if the new model was published, 3 if the current one was kept, 2 if they
    could not be compared.
    """
    from data.content import content_options
    from training.competition.budget import Budget
    from training.retrain.options import RetrainOptions
    from training.retrain.run import retrain as run

    columns = [name.strip() for name in (content or "").split(",") if name.strip()]
    options = RetrainOptions(
        events=events,
        registry=registry.resolve(),
        days=days,
        test_days=test_days,
        day_seconds=_seconds("--day-length", day_length),
        least_cases=least_cases,
        way=way,
        margin=margin,
        recipe=recipe,
        budget=Budget.of_recipe(recipe, budget),
        settings=[*(settings or []), *([] if seed is None else [f"seed={seed}"])],
        items=items,
        items_delimiter=items_delimiter,
        items_encoding=items_encoding,
        content=content_options(columns, vectors or [], given=items is not None),
        report=report,
        keep=keep,
        keep_shares=keep_shares,
        again=again,
        device=device,
        command=as_typed(),
    )
    console = open_console(stderr=True)
    if every is not None:
        _stay(partial(run, options, console=console), _seconds("--every", every), console)
    if not run(options, time.time(), console).published:
        sys.exit(KEPT)


def _stay(run: Callable[[float], object], seconds: float, console: Console) -> NoReturn:
    """Retrain for ever; an error that the next clicks may solve is shown, and waited for."""
    while True:
        try:
            run(time.time())
        except Interrupted:
            raise
        except (OSError, RecsysError) as error:
            console.print(f"error: {error}", markup=False)
        time.sleep(seconds)


def _seconds(option: str, text: str) -> float:
    """Return a duration in seconds; raise `BadInput`."""
    from training.competition.durations import duration_seconds

    seconds = duration_seconds(text)
    if seconds is None:
        raise BadInput(
            "The options cannot be used",
            [f"{option} must be a time like 24h or 90s, got {text!r}."],
        )
    return seconds
