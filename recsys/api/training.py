"""Training in Python: `fit` runs the pipeline of `recsys train` on DataFrames, files or folders."""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING

from recsys.api.arguments import as_override, full_path, in_python_terms, texts_of
from recsys.api.model import Model, open_bundle, quiet_threads
from recsys.errors import BadRecipe
from recsys.shadowing import check_packages

if TYPE_CHECKING:
    from recsys.api.arguments import Clicks


def fit(
    clicks: "Clicks",
    *,
    session: str = "session_id",
    item: str = "item_id",
    time: str = "timestamp",
    user: str | None = None,
    event: str | None = None,
    events: Sequence[str] = (),
    items: "Clicks | None" = None,
    content: Sequence[str] = (),
    vectors: "Mapping[str, Clicks] | None" = None,
    recipe: str | Path = "auto",
    budget: str | None = None,
    settings: Mapping[str, object] | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    test_fraction: float = 0.1,
    test_days: float | None = None,
    split_column: str | None = None,
    min_length: int = 2,
    min_support: int = 1,
    collapse: bool = False,
    drop_duplicates: bool = False,
    idle_gap_seconds: int = 1800,
    time_format: str | None = None,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    skip_bad_rows: int = 0,
    skipped_rows: str | Path = "skipped-rows.csv",
    items_delimiter: str | None = None,
    items_encoding: str = "utf-8",
    device: str = "auto",
    resume: bool = False,
    progress: bool = True,
) -> "Model":
    """Train a model on clicks and compare it with the baselines, as `recsys train` does.

    Args:
        clicks: a DataFrame, a file (.csv, .tsv, .jsonl, .parquet), a folder or a pattern.
        session: column of the session id; not read if `user` is given.
        item: column of the item id, in `clicks` and in `items`. Ids become texts.
        time: column of the time: datetimes, numbers since 1970 in s, ms, µs or ns, or ISO 8601.
        user: column of the user id; sessions are then cut where a user pauses.
        event: column of the event type. The model learns the types of clicks if there are several.
            Without it, `event_type` tells duplicates apart if the clicks have it.
        events: event types to keep; empty for all.
        items: one row for each item: the item id and its attributes.
        content: columns of `items` that the model learns from, so that it recommends items without
            a click, too: `["category", "price"]`. A kind may follow: `"year:categorical"`; or
            multi, numeric, time.
        vectors: name → one row for each item: the item id and a vector as a list of numbers, of any
            encoder of texts or pictures.
        recipe: `auto`, by which a few recipes compete on validation sessions; or a built-in recipe
            or the path of a TOML file.
        budget: what `auto` may take: `2x`, twice the time of one training, which is the default; or
            a time like `10m` or `1h30m`.
        settings: settings of the recipe to override, for example `{"epochs": 3}`.
        seed: the same seed gives the same weights; by default the seed of the recipe.
        out: new or empty folder for the bundle; by default a temporary folder, which is deleted
            with the model.
        test_fraction: share of the sessions, the newest ones, that the model is tested on.
        test_days: test on the sessions of the last days instead.
        split_column: column with train, valid or test for every session instead.
        min_length: shorter sessions are dropped.
        min_support: items with fewer training clicks are dropped.
        collapse: count consecutive clicks on one item as one click.
        drop_duplicates: remove exact duplicate rows.
        idle_gap_seconds: pause that ends a session, if `user` is given.
        time_format: how times are written if otherwise, as `"%d.%m.%Y %H:%M:%S"`.
        delimiter: separator of text files; by default a comma, or a tab in .tsv files.
        encoding: encoding of text files.
        skip_bad_rows: leave out up to so many rows that cannot be used.
        skipped_rows: file that lists these rows.
        items_delimiter: separator of a text file of items; by default that of the clicks.
        items_encoding: encoding of a text file of items.
        device: auto, cpu or cuda.
        resume: continue the unfinished run of `out`.
        progress: show bars and tables, in a terminal or in a notebook.

    Returns:
        The trained model. Its bundle is in `Model.folder`.

    Raises:
        BadInput: the clicks, the items, an option or `out` cannot be used.
        BadRecipe: the recipe or a setting cannot be used.
        TrainingStopped: the loss is NaN or infinite.
        Interrupted: the user stopped the training.
    """
    check_packages()
    quiet_threads()
    from data.click_options import FROM_USERS, ClickOptions
    from data.content import content_options
    from data.sources.dataframes import items_path, vectors_paths, with_clicks
    from recsys.console import open_api_console
    from training.competition.budget import Budget
    from training.competition.rivals import rivals_of
    from training.pipeline import TrainOptions, train

    if not isinstance(settings, Mapping | None):
        raise BadRecipe(
            "The recipe cannot be used",
            [f"settings are names with values, got {settings!r}. Write {{'epochs': 3}}."],
        )
    overrides = dict(settings or {}) | ({} if seed is None else {"seed": seed})
    bundle = None if out is None else full_path(out, "out")
    folder = Path(tempfile.mkdtemp(prefix="recsys-"))
    with ExitStack() as on_failure, in_python_terms(folder):
        on_failure.callback(rmtree, folder, ignore_errors=True)
        options = ClickOptions(
            path=folder / "clicks.parquet",
            session_column=str(session) if user is None else FROM_USERS,
            user_column="user_id" if user is None else str(user),
            item_column=str(item),
            time_column=str(time),
            event_column=None if event is None else str(event),
            events=tuple(texts_of(events, "events")),
            time_format=time_format,
            delimiter=delimiter,
            encoding=encoding,
            skip_bad_rows=skip_bad_rows,
            skipped_rows=full_path(skipped_rows, "skipped_rows"),
            idle_gap_seconds=idle_gap_seconds,
            drop_duplicates=drop_duplicates,
            min_length=min_length,
            min_support=min_support,
            collapse=collapse,
            split_column=None if split_column is None else str(split_column),
            test_days=test_days,
            test_fraction=test_fraction,
        )
        options = with_clicks(options, clicks)
        first, *rivals = rivals_of(str(recipe), [as_override(*p) for p in overrides.items()])
        run = TrainOptions(
            clicks=options,
            out=bundle or folder / "bundle",
            recipe=first.recipe,
            recipe_name=first.name,
            rivals=rivals,
            budget=Budget.of_recipe(str(recipe), budget),
            items=items_path(items, options.item_column, folder),
            items_delimiter=items_delimiter,
            items_encoding=items_encoding,
            content=content_options(
                texts_of(content, "content"),
                vectors_paths(vectors, options.item_column, folder),
                given=items is not None,
            ),
            resume=resume,
            device=str(device),
            command="recsys.fit",
        )
        train(run, open_api_console(progress=progress))
        model = Model(run.out, open_bundle(run.out), options, folder)
        on_failure.pop_all()
        return model
