"""Commands that train or evaluate a model: train, tune, finetune, evaluate."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from data.click_options import ClickOptions
from recsys.bundle.registry import output_folder, publish, resolve_bundle
from recsys.cli.click_options import (
    BundleOption,
    ItemsDelimiterOption,
    ItemsEncodingOption,
    OutOption,
    PublishOption,
    as_typed,
    reading_options_given,
    takes_clicks,
)
from recsys.cli.prepare_first import source_of
from recsys.cli.train_processes import check_processes, train_on_processes
from recsys.console import open_console
from recsys.errors import BadInput

if TYPE_CHECKING:
    from data.prepared.folder import ClickSource

app = typer.Typer()
RecipeOption = Annotated[
    str, typer.Option(help="auto: recipes compete; or a built-in recipe, or a TOML file.")
]
BudgetOption = Annotated[
    str | None,
    typer.Option(
        help="Of auto: 2x, twice the time of one training; or 10m, 1h30m.", show_default="2x"
    ),
]
SettingsOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override one setting: --set epochs=3.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, or cuda.")]
VectorsOption = Annotated[
    list[str] | None,
    typer.Option(help="Vectors of the items, of any encoder: image=vectors.parquet."),
]
PreparedOption = Annotated[
    Path | None, typer.Option(help="Instead of --clicks: a folder that recsys prepare wrote.")
]


@app.command(rich_help_panel="Learn")
@takes_clicks
def train(
    context: typer.Context,
    clicks: ClickOptions | None,
    prepared: PreparedOption = None,
    out: OutOption = None,
    registry: PublishOption = None,
    recipe: RecipeOption = "auto",
    budget: BudgetOption = None,
    settings: SettingsOption = None,
    items: Annotated[
        Path | None, typer.Option(help="Items file: attributes for filters and display.")
    ] = None,
    items_delimiter: ItemsDelimiterOption = None,
    items_encoding: ItemsEncodingOption = "utf-8",
    content: Annotated[
        str | None,
        typer.Option(
            help="Columns of --items that the model learns from: category,brand,price. A kind may "
            "follow: year:categorical; or multi, numeric, time."
        ),
    ] = None,
    vectors: VectorsOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an unfinished run.")] = False,
    device: DeviceOption = "auto",
    checkpoint_seconds: Annotated[
        float, typer.Option(help="Interval of checkpoints; longer if they take long to write.")
    ] = 60.0,
    processes: Annotated[
        int, typer.Option(min=1, help="Processes on this machine that share each mini-batch.")
    ] = 1,
    prepare_first: Annotated[
        bool | None,
        typer.Option(
            "--prepare-first/--in-memory",
            help="Prepare --clicks on disk first; by default, if they may not fit into memory.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Train on clicks, test against baselines, write a bundle."""
    from data.content import content_options
    from training.competition.budget import Budget
    from training.competition.rivals import rivals_of
    from training.parallel.torch_processes import is_restart
    from training.pipeline import TrainOptions

    check_processes(processes)
    source = _source(context, clicks, prepared)
    first, *rivals = rivals_of(recipe, settings or [])
    columns = [name.strip() for name in (content or "").split(",") if name.strip()]
    bundle_folder = output_folder(out, registry, resume=resume or is_restart())
    if isinstance(source, ClickOptions):
        source = source_of(source, bundle_folder, open_console(stderr=True), prepare_first)
    options = TrainOptions(
        clicks=source,
        out=bundle_folder,
        recipe=first.recipe,
        recipe_name=first.name,
        rivals=rivals,
        budget=Budget.of_recipe(recipe, budget),
        items=items,
        items_delimiter=items_delimiter,
        items_encoding=items_encoding,
        content=content_options(columns, vectors or [], given=items is not None),
        resume=resume,
        device=device,
        command=as_typed(),
        checkpoint_seconds=checkpoint_seconds,
    )
    bundle = train_on_processes(options, processes)
    if clicks is not None and not isinstance(options.clicks, ClickOptions):
        shutil.rmtree(options.clicks.path)
    if bundle is not None:
        _name_current(registry, bundle)


@app.command(rich_help_panel="Learn")
@takes_clicks
def tune(
    context: typer.Context,
    clicks: ClickOptions | None,
    out: Annotated[Path, typer.Option(help="Folder for the study; must be new or empty.")],
    prepared: PreparedOption = None,
    recipe: Annotated[
        str, typer.Option(help="Built-in recipe, or a TOML file, to start from.")
    ] = "default",
    settings: SettingsOption = None,
    space: Annotated[
        str, typer.Option(help="Search space: quick, published, or a TOML file.")
    ] = "quick",
    trials: Annotated[
        int, typer.Option(min=1, help="Trials in all, those before --resume included.")
    ] = 50,
    time_limit: Annotated[
        str | None, typer.Option(help="Stop after 2h, 1h30m, 45s; --resume continues.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the search.")] = 1,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue this study, or join it while it runs.")
    ] = False,
    device: DeviceOption = "auto",
    workers: Annotated[
        int, typer.Option(min=1, help="Processes on this machine, each with a trial of its own.")
    ] = 1,
) -> None:
    """Search for a better recipe; the search never sees the test part.

    Trial 0 is the recipe itself. Each trial trains on all but the last training sessions and is
    scored on those by the recipe's select_by. Unpromising trials are stopped early. The folder
    holds study.db (Optuna, SQLite), trials.csv and best.toml, a recipe for recsys train. The same
    command with --resume joins a study that runs.
    """
    from training.recipe import load_recipe
    from training.tuning.search import TuningOrigin
    from training.tuning.space import load_space
    from training.tuning.tune import TuneOptions, seconds_of
    from training.tuning.tune import tune as run

    base = load_recipe(recipe, settings or [])
    options = TuneOptions(
        clicks=_source(context, clicks, prepared),
        out=out.resolve(),
        origin=TuningOrigin(base, " ".join([recipe, *(settings or [])]), as_typed()),
        space=load_space(space, base),
        trials=trials,
        seed=seed,
        time_limit_seconds=seconds_of(time_limit) if time_limit else float("inf"),
        resume=resume,
        device=device,
        workers=workers,
    )
    run(options, open_console(stderr=True))


@app.command(rich_help_panel="Learn")
@takes_clicks
def finetune(
    context: typer.Context,
    clicks: ClickOptions | None,
    bundle: BundleOption,
    prepared: PreparedOption = None,
    out: OutOption = None,
    registry: PublishOption = None,
    drop_vanished: Annotated[
        bool, typer.Option("--drop-vanished", help="Drop old items that the new clicks lack.")
    ] = False,
    only_newer: Annotated[
        bool,
        typer.Option(
            "--only-newer",
            help="Learn from sessions after the bundle's cut-off; all clicks count for popular "
            "items and neighbours.",
        ),
    ] = False,
    settings: SettingsOption = None,
    items: Annotated[
        Path | None, typer.Option(help="Items file; missing items stay as in the old bundle.")
    ] = None,
    items_delimiter: ItemsDelimiterOption = None,
    items_encoding: ItemsEncodingOption = "utf-8",
    vectors: VectorsOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an unfinished run.")] = False,
    device: DeviceOption = "auto",
) -> None:
    """Continue a bundle on new clicks and new items; old items keep their order.

    A bundle that learned from content needs --items with the same columns, and --vectors if it had
    any; new items of that file are placed by their content.
    """
    from training.finetune import FinetuneOptions
    from training.finetune import finetune as run

    options = FinetuneOptions(
        bundle=resolve_bundle(bundle),
        clicks=_source(context, clicks, prepared),
        out=output_folder(out, registry, resume=resume),
        settings=settings or [],
        items=items,
        items_delimiter=items_delimiter,
        items_encoding=items_encoding,
        vectors=vectors or [],
        drop_vanished=drop_vanished,
        only_newer=only_newer,
        resume=resume,
        device=device,
    )
    _name_current(registry, run(options, open_console(stderr=True)))


@app.command(rich_help_panel="Learn")
@takes_clicks
def evaluate(
    context: typer.Context,
    clicks: ClickOptions | None,
    bundle: BundleOption,
    prepared: PreparedOption = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, nothing else.")
    ] = False,
    all_sessions: Annotated[
        bool, typer.Option("--all-sessions", help="Test on every session; no split, no baselines.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Write the results as an HTML page, too.")
    ] = None,
    max_cases: Annotated[
        int,
        typer.Option(min=0, help="Test on a random sample where next clicks are more; 0: on all."),
    ] = 1_000_000,
    overlay: Annotated[
        Path | None,
        typer.Option(help="Items file: test with these changes, as after recsys catalogue push."),
    ] = None,
    items_delimiter: ItemsDelimiterOption = None,
    items_encoding: ItemsEncodingOption = "utf-8",
    vectors: Annotated[
        list[str] | None, typer.Option(help="NAME=FILE: vectors of the new items of --overlay.")
    ] = None,
) -> None:
    """Measure recall, MRR, NDCG, coverage and latency of a bundle, beside the baselines."""
    from data.items import items_text
    from data.prepared.folder import PreparedFolder
    from recsys.cli.catalogue import overlay_of
    from training.evaluate_bundle import evaluate_bundle

    if vectors and overlay is None:
        raise BadInput(
            "The options cannot be used",
            ["--vectors are of the new items of --overlay. Give the items file, too."],
        )
    console = open_console(quiet=json)
    source = _source(context, clicks, prepared)
    reading = source.options if isinstance(source, PreparedFolder) else source
    text = items_text(items_delimiter or reading.delimiter, items_encoding)
    evaluate_bundle(
        resolve_bundle(bundle),
        source,
        console,
        overlay=overlay_of(overlay, reading.item_column, text, vectors or []) if overlay else {},
        every_session=all_sessions,
        print_json=json,
        max_cases=max_cases,
        report=report,
        command=as_typed(),
    )


def _source(
    context: typer.Context, clicks: ClickOptions | None, prepared: Path | None
) -> "ClickSource":
    """Return the clicks or the prepared folder, of which the user must give one."""
    from data.prepared.folder import PreparedFolder

    if prepared is None and clicks is not None:
        return clicks
    given = reading_options_given(context)
    if prepared is None or clicks is not None:
        what = "both" if prepared is not None else "neither"
        raise BadInput(
            "The options cannot be used",
            [f"{what} of --clicks and --prepared were given. Give one of them."],
        )
    if given:
        raise BadInput(
            "The options cannot be used",
            [
                f"{', '.join(given)} say how --clicks is read, and the clicks of --prepared "
                f"{prepared} are read and split already. Leave these options out, or give them to "
                "recsys prepare."
            ],
        )
    return PreparedFolder.at(prepared.resolve())


def _name_current(registry: Path | None, bundle: Path) -> None:
    if registry is not None:
        publish(registry, bundle.name)
