"""Commands of bundles that serve: serve, key, publish, compare, bench, recommend, inspect."""

import sys
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

from data.click_options import FROM_USERS, ClickOptions
from recsys.bundle.registry import resolve_bundle
from recsys.cli.click_options import PANEL, BundleOption, reading_options_given, takes_clicks
from recsys.console import add_row, neat_table, open_console
from recsys.errors import BadInput, BundleRefused
from recsys.events.attribution import WINDOW_SECONDS

app = typer.Typer()
MOMENTS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]


class ServeCommand(TyperCommand):
    """Command `recsys serve`, whose help lists every setting of the service with its default."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from service.settings import REQUIRED, described

        settings = described()
        defaults = {variable: default for variable, default, _ in settings}
        for option in self.params:
            if isinstance(option, TyperOption) and isinstance(option.envvar, str):
                default = defaults[option.envvar]
                option.required = default == REQUIRED
                option.show_default = not option.required and default
        super().format_help(ctx, formatter)
        table = neat_table("Settings, as environment variables", left=["variable", "default", "is"])
        for row in settings:
            add_row(table, *row)
        open_console().print(table)


@app.command(rich_help_panel="Serve", cls=ServeCommand)
def serve(
    bundle: Annotated[
        Path | None,
        typer.Option(help="Bundle folder, or a model registry.", envvar="RECSYS_BUNDLE"),
    ] = None,
    redis: Annotated[
        str | None,
        typer.Option(
            help="redis://host:port/db, or embedded: a private Redis that ends with the service.",
            envvar="RECSYS_REDIS",
        ),
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", envvar="RECSYS_HOST")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; 0 takes a free one.", envvar="RECSYS_PORT")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes, about one a core.", envvar="RECSYS_WORKERS")
    ] = None,
) -> None:
    """Serve recommendations over HTTP. Options take precedence over environment variables."""
    from service.serve import serve as run

    given = {"bundle": bundle, "redis": redis, "host": host, "port": port, "workers": workers}
    raise typer.Exit(run({name: value for name, value in given.items() if value is not None}))


@app.command(rich_help_panel="Serve")
def key() -> None:
    """Generate an API key, and its hash for the settings.

    The key is shown once and stored nowhere. To replace a key, add the hash of the new one after
    a comma, restart, give the new key to its users, and remove the old hash.
    """
    from service.middleware.auth import hash_of, new_key

    made = new_key()
    print(f"key   {made}")
    print(f"hash  {hash_of(made)}")
    print(
        "for RECSYS_API_KEY_HASHES, RECSYS_ADMIN_KEY_HASHES or RECSYS_CATALOGUE_KEY_HASHES",
        file=sys.stderr,
    )


@app.command(rich_help_panel="Serve")
def publish(
    registry: Annotated[Path, typer.Argument(help="Model registry: a folder of bundles.")],
    name: Annotated[
        str | None,
        typer.Argument(help="Name of a bundle folder in it; with --split, by default as before."),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(
            help="Variant and its share of the users in percent, as new=10; repeat for more. "
            "NAME answers the others."
        ),
    ] = None,
) -> None:
    """Make a bundle, also an older one, the current version of a registry. Services then load it.

    With --split an experiment begins or, with the same NAME and variant, goes on with other shares.
    Without --split it ends. All bundles are first opened and verified, as a service does.
    """
    from recsys.bundle.experiment import read_shares
    from recsys.bundle.golden import open_predictor
    from recsys.bundle.registry import bundle_path, check_not_a_bundle, read_current
    from recsys.bundle.registry import publish as run

    check_not_a_bundle(registry)
    if name is None and not split:
        raise BadInput(
            "Nothing is published", ["give the NAME of a bundle, or --split NAME=SHARE, or both."]
        )
    main = read_current(registry).main if name is None else name
    shares = read_shares(split or (), main)
    predictor = open_predictor(bundle_path(registry, main))
    attributes = predictor.catalogue.attributes
    for variant in shares:
        opened = open_predictor(bundle_path(registry, variant))
        missing = sorted(attributes.keys() - opened.catalogue.attributes.keys())
        if missing:
            raise BadInput(
                f"{variant!r} cannot be a variant of {main!r}",
                [
                    f"its items have no {', '.join(missing)}: a filter that {main} answers would "
                    "be an error for its users. Train it with the same --items."
                ],
            )
    published = run(registry, main, shares)
    print(f"The current version of {registry} is {main} now, model {predictor.model_id}.")
    if published.experiment is not None:
        users = ", ".join(f"{each} {share:g} %" for each, share in published.shares.items())
        print(f"Experiment {published.experiment.id} splits the users: {users}.")


@app.command(rich_help_panel="Serve")
def compare(
    events: Annotated[Path, typer.Option(help="Events folder of recsys collect.")],
    registry: Annotated[
        Path | None,
        typer.Option(help="Model registry, whose log has the shares and times of experiments."),
    ] = None,
    experiment: Annotated[
        str | None, typer.Option(help="Id of the experiment; by default the last one.")
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(help="Begin, UTC; by default the last change of shares.", formats=MOMENTS),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(help="End, UTC; by default the last list.", formats=MOMENTS)
    ] = None,
    conversion: Annotated[
        str | None, typer.Option(help="Event type of a conversion, as order.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="HTML page with curves to write.")] = None,
    expected_lift: Annotated[
        float,
        typer.Option(help="Relative difference that is expected, to be chosen before the begin."),
    ] = 0.05,
    window: Annotated[
        float, typer.Option(help="Seconds from a list to a click that does not name its list.")
    ] = WINDOW_SECONDS,
    lists_per_day: Annotated[
        int, typer.Option(min=1, help="Lists of one user and day that count.")
    ] = 100,
    day: Annotated[float, typer.Option(help="Seconds of a day, for simulated days.")] = 86_400.0,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, nothing else.")
    ] = False,
) -> None:
    """Compare the variants of an experiment: click-through, conversions, and whether to stop.

    The test may be looked at every day. Exit code 0 also where no difference is shown.
    """
    from training.experiments.run import CompareOptions, run_compare
    from training.report.json_values import json_values

    options = CompareOptions(
        events,
        registry,
        experiment,
        None if since is None else since.replace(tzinfo=UTC).timestamp(),
        None if until is None else until.replace(tzinfo=UTC).timestamp(),
        conversion,
        expected_lift,
        day,
        window,
        lists_per_day,
        out,
    )
    compared = run_compare(options, open_console(quiet=json))
    if json:
        print(dumps(json_values(compared), indent=2, ensure_ascii=False))


@app.command(rich_help_panel="Serve")
def bench(
    bundle: Annotated[
        Path, typer.Option(help="Served bundle; its items are clicked by popularity.")
    ],
    url: Annotated[str, typer.Option(help="The running service.")] = "http://127.0.0.1:8000",
    rate: Annotated[
        float, typer.Option(help="Requests a second; 0 is as fast as they are answered.")
    ] = 0.0,
    seconds: Annotated[float, typer.Option(help="Duration of the measurement.")] = 10.0,
    warmup: Annotated[float, typer.Option(help="Seconds before the measurement.")] = 2.0,
    connections: Annotated[int, typer.Option(help="Number of open connections.")] = 32,
    k: Annotated[int, typer.Option(min=1, max=100, help="Number of items in each list.")] = 20,
    clicks: Annotated[
        Path | None, typer.Option(help="Replay this click file, each visitor in order.")
    ] = None,
    visitors: Annotated[
        int, typer.Option(min=1, help="Concurrent visitors, without --clicks.")
    ] = 2000,
    popularity: Annotated[float, typer.Option(help="P(item of rank r) ∝ r^-popularity.")] = 0.8,
    length: Annotated[float, typer.Option(help="P(session of n clicks) ∝ n^-length.")] = 1.5,
    event_ids: Annotated[
        bool, typer.Option("--event-ids", help="Give each click an event id.")
    ] = False,
    filter_by: Annotated[
        str | None,
        typer.Option(help="Filter each list by this attribute, with the value of a random item."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random clicks.")] = 1,
    api_key: Annotated[
        str | None, typer.Option(envvar="RECSYS_API_KEY", help="API key, if needed.")
    ] = None,
    ceiling: Annotated[
        bool, typer.Option(help="First measure the speed of the generator itself.")
    ] = True,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object only.")] = False,
    picture: Annotated[Path | None, typer.Option(help="Save the output as SVG.")] = None,
) -> None:
    """Measure throughput and latency of a running service.

    Each request records a click and gets a list. With --rate, latency counts from the time at
    which a request was due, so a stall counts in full. Exit code 1 where any answer is bad.
    """
    from recsys.bundle.layout import ITEMS
    from recsys.catalogue.catalogue import read_catalogue
    from service.bench.command import BenchOptions
    from service.bench.command import bench as run
    from service.bench.workload import BenchClick, replay_clicks, sample_clicks, sample_values

    catalogue = read_catalogue(resolve_bundle(bundle) / ITEMS)
    filters: list[dict[str, list[str]]] = []
    if filter_by is not None:
        catalogue.check_attributes([filter_by], "--filter-by")
        values = sample_values(catalogue.attributes[filter_by], seed=seed)
        filters = [{filter_by: [value]} for value in values]
    options = BenchOptions(
        url, rate, seconds, warmup, connections, k, api_key, event_ids, ceiling, filters
    )
    if clicks is None:
        ids = catalogue.item_ids.take(catalogue.by_popularity.tolist())
        visits = sample_clicks(
            ids, visitors=visitors, popularity=popularity, length=length, seed=seed
        )
    else:
        from data.prepare import read_sessions

        sessions = read_sessions(ClickOptions(clicks)).sessions
        visits = replay_clicks([BenchClick(f"s{s}", item) for s, item in sessions.by_time()])
    result = run(options, visits, open_console(stderr=True), as_json=json, picture=picture)
    if not result.succeeded:
        raise typer.Exit(1)


@app.command(rich_help_panel="Try")
@partial(takes_clicks, reading_only=True)
def recommend(
    context: typer.Context,
    clicks: ClickOptions | None,
    bundle: BundleOption,
    items: Annotated[
        list[str] | None, typer.Argument(help="Item ids clicked so far, oldest first.")
    ] = None,
    k: Annotated[int, typer.Option(min=1, max=100, help="How many items to list.")] = 10,
    out: Annotated[
        Path | None, typer.Option(help="File for the lists of --clicks: .csv or .parquet.")
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="Column of visitors: --session-column none --user-column BY.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    exclude_seen: Annotated[
        bool, typer.Option("--exclude-seen", help="Leave out what was clicked.")
    ] = False,
    filter: Annotated[
        list[str] | None,
        typer.Option(help="Only items with this value, attribute:value; repeat for more."),
    ] = None,
    json: Annotated[
        bool,
        typer.Option("--json", help="Print a JSON object; with --clicks one a line and visitor."),
    ] = False,
) -> None:
    """Recommend items after these clicks, or for every visitor of a click file.

    With --clicks, one list for each session. With --session-column none, or --by, one list for each
    visitor: it follows from the newest session, the clicks after the last pause longer than
    --idle-gap. Older sessions of the visitor do not count, as in the service.
    """
    from_file = clicks is not None
    one_way = (out is None) == json and not items if from_file else bool(items) and out is None
    if not one_way:
        raise BadInput(
            "The options cannot be used",
            ["give item ids, or --clicks FILE with --out FILE.csv, FILE.parquet or --json."],
        )
    if clicks is None:
        ignored = reading_options_given(context)
        if ignored:
            raise BadInput(
                "The options cannot be used",
                [
                    f"{', '.join(ignored)} say how --clicks FILE is read, and item ids were given "
                    "instead. Give the file, or leave these options out."
                ],
            )
        from recsys.listing import ListOptions, show_recommendations

        chosen = ListOptions(k, exclude_seen, filter or [], json)
        show_recommendations(resolve_bundle(bundle), items or [], chosen, open_console(quiet=json))
        return
    from training.batch_recommend import BatchOptions, recommend_all

    if by is not None:
        clicks = replace(clicks, session_column=FROM_USERS, user_column=by)
    options = BatchOptions(resolve_bundle(bundle), clicks, out, k, exclude_seen, filter or [])
    recommend_all(options, open_console(stderr=True))


@app.command(rich_help_panel="Try")
def inspect(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder, or a model registry.")],
    item: Annotated[str | None, typer.Option(help="Show the items nearest to this one.")] = None,
    k: Annotated[int, typer.Option(min=1, max=100, help="How many of them.")] = 10,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, nothing else.")
    ] = False,
) -> None:
    """Show what a bundle holds, what was measured, and whether a service would load it.

    Of a model registry, all bundles are listed and the current version is inspected. Exit code 2
    where the bundle would be refused.
    """
    from recsys.bundle.inspect import (
        as_json,
        find_nearest,
        inspect_bundle,
        inspect_registry,
        show_bundle,
        show_nearest,
        show_registry,
    )

    console = open_console(quiet=json)
    entries = inspect_registry(bundle)
    if entries:
        show_registry(entries, console)
    inspection = inspect_bundle(resolve_bundle(bundle))
    nearest = None if item is None else find_nearest(inspection, item, k)
    show_bundle(inspection, console)
    if nearest is not None:
        show_nearest(inspection, nearest, console)
    if json:
        print(dumps(as_json(inspection, entries, nearest), indent=2, ensure_ascii=False))
    if inspection.problem is not None:
        raise BundleRefused(inspection.problem)
