"""The public Python API: `recsys.fit`, `recsys.load`, and the `Model` that they return.

DataFrames, files and folders come in; DataFrames go out. `fit` runs the pipeline of `recsys train`,
so the same clicks and the same recipe give the same weights and the same model id. All other
packages are imported where they are used: importing this module loads neither torch nor pandas.
"""

import difflib
import html
import inspect
import os
import re
import sys
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from shutil import copy2, rmtree
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from recsys.child_process import run_until_interrupted
from recsys.errors import BadInput, BadRecipe, Interrupted, Problems, RecsysError, UnknownItem
from recsys.shadowing import ROOT, check_packages

if TYPE_CHECKING:
    from pandas import DataFrame

    from data.click_options import ClickOptions
    from recsys.allowed_items import AllowedItems
    from recsys.predictor import Predictor, Ranking
    from recsys.retrieval.exact import RankingQuery

    Clicks: TypeAlias = DataFrame | str | Path

SESSIONS_AT_ONCE = 64  # ranked together
ITEMS_TO_COMPARE = 20_000  # in a larger catalogue the search for a similar id takes too long
SAMPLE_CLICKS, SAMPLE_ITEMS = 5, 5  # in the notebook's view of a model
# option of the command line → argument of `fit`, if the names differ in more than dashes
OTHER_NAMES = {
    "session_column": "session",
    "user_column": "user",
    "item_column": "item",
    "time_column": "time",
    "event_column": "event",
    "idle_gap": "idle_gap_seconds",
    "set": "settings",
}


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
    _quiet_threads()
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
    bundle = None if out is None else _full(out, "out")
    folder = Path(tempfile.mkdtemp(prefix="recsys-"))
    with ExitStack() as on_failure, _in_python_terms(folder):
        on_failure.callback(rmtree, folder, ignore_errors=True)
        options = ClickOptions(
            path=folder / "clicks.parquet",
            session_column=str(session) if user is None else FROM_USERS,
            user_column="user_id" if user is None else str(user),
            item_column=str(item),
            time_column=str(time),
            event_column=None if event is None else str(event),
            events=tuple(_texts(events, "events")),
            time_format=time_format,
            delimiter=delimiter,
            encoding=encoding,
            skip_bad_rows=skip_bad_rows,
            skipped_rows=_full(skipped_rows, "skipped_rows"),
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
        first, *rivals = rivals_of(str(recipe), [_override(*p) for p in overrides.items()])
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
                _texts(content, "content"),
                vectors_paths(vectors, options.item_column, folder),
                given=items is not None,
            ),
            resume=resume,
            device=str(device),
            command="recsys.fit",
        )
        train(run, open_api_console(progress=progress))
        model = Model(run.out, _open(run.out), options, folder)
        on_failure.pop_all()
        return model


def load(path: str | Path) -> "Model":
    """Open a bundle, or the current bundle of a registry, and check it as the service does.

    Raises:
        BadInput: `path` is no path.
        BundleRefused: the folder holds no bundle, or the bundle is damaged.
    """
    _quiet_threads()
    from recsys.bundle.registry import resolve_bundle

    bundle = resolve_bundle(_full(path, "path"))
    return Model(bundle, _open(bundle))


class Model:
    """A trained model with its catalogue. `recsys.fit` and `recsys.load` make one."""

    def __init__(
        self,
        folder: Path,
        predictor: "Predictor",
        options: "ClickOptions | None" = None,
        temporary: Path | None = None,
    ) -> None:
        """Hold an open bundle.

        Args:
            folder: the bundle.
            predictor: the model of the bundle.
            options: how `fit` read its clicks; None for a loaded bundle.
            temporary: a folder that is deleted with this object.
        """
        from recsys.bundle.manifest import read_manifest

        self.folder = folder
        self._predictor = predictor
        self._manifest = read_manifest(folder)
        self._options = options
        if temporary is not None:
            weakref.finalize(self, rmtree, temporary, ignore_errors=True)

    @property
    def model_id(self) -> str:
        """Return the digest of everything that decides the answers of this model."""
        return self._predictor.model_id

    @property
    def metrics(self) -> "DataFrame":
        """Return what training measured on its test part: a row for the model and each baseline."""
        measured = self._manifest.metrics
        rows = {"model": measured.get("model", {}), **measured.get("baselines", {})}
        return _metrics_frame(rows)

    def recommend(
        self,
        items: Sequence[str] | Sequence[Sequence[str]],
        k: int = 10,
        *,
        event_types: Sequence[str | None] | Sequence[Sequence[str | None]] | None = None,
        exclude_seen: bool = False,
        exclude_items: Iterable[str] = (),
        filter: Mapping[str, str | Sequence[str]] | None = None,
        unknown: Literal["raise", "ignore"] = "raise",
    ) -> "DataFrame":
        """Recommend what follows a session, or each of several sessions.

        Args:
            items: the item ids that were clicked, oldest first; or a list of such lists. A session
                without clicks gets the most popular items.
            k: items in a list, at most.
            event_types: type of each click, in the shape of `items`; None for the model's default.
            exclude_seen: leave out the items of the session.
            exclude_items: further items to leave out.
            filter: attribute → value or values; an item must have one of them for each attribute.
            unknown: what to do if the catalogue lacks a clicked item: raise an error, or ignore the
                click as the service does.

        Returns:
            `item_id`, `score` and the attributes of the items, best first. For several sessions the
            column `session` comes first: the place of the session in `items`, from 0.

        Raises:
            UnknownItem: the catalogue lacks a clicked item.
            UnknownAttribute: `filter` names an attribute that the items lack.
            BadInput: an argument cannot be used.
        """
        from recsys.retrieval.exact import RankingQuery

        sessions, several = _sessions(items)
        types = _types(event_types, sessions, several=several)
        _check_list(k, unknown)
        excluded = self._known(_texts(exclude_items, "exclude_items"))
        query = RankingQuery(k, excluded, self._allowed(filter))
        if unknown == "raise":
            for item_id in dict.fromkeys(item_id for session in sessions for item_id in session):
                self._index(item_id)
        places: list[int] = []
        listed: list[int] = []
        scores: list[float] = []
        for start in range(0, len(sessions), SESSIONS_AT_ONCE):
            chunk = slice(start, start + SESSIONS_AT_ONCE)
            ranked = self._ranked(sessions[chunk], types[chunk], query, exclude_seen)
            for place, ranking in enumerate(ranked, start):
                places += [place] * len(ranking.items)
                listed += ranking.items
                scores += ranking.scores
        return self._frame(listed, scores, places if several else None)

    def similar(self, item: str, k: int = 10) -> "DataFrame":
        """Return the items whose vectors are most similar to one item's, by their cosine.

        Returns:
            `item_id`, `score` (the cosine) and the attributes of the items, most similar first.

        Raises:
            UnknownItem: the catalogue lacks the item.
            BadInput: `item` is not one id, or `k` cannot be used.
        """
        if not isinstance(item, str):
            raise BadInput(
                "item cannot be used", [f"it takes the id of one item, got {item!r}. Give a text."]
            )
        from recsys.retrieval.exact import RankingQuery

        _check_list(k)
        ranking = self._predictor.similar(self._index(item), RankingQuery(k))
        return self._frame(ranking.items, ranking.scores)

    def evaluate(
        self,
        clicks: "Clicks",
        *,
        train: "Clicks | None" = None,
        session: str | None = None,
        item: str | None = None,
        time: str | None = None,
        user: str | None = None,
        event: str | None = None,
        progress: bool = True,
    ) -> "EvaluationReport":
        """Rank every next click of these sessions among all items, and compare with the baselines.

        Of more than a million next clicks, a random sample of sessions is measured; `summary` says
        so.

        Args:
            clicks: the test sessions: a DataFrame, a file or a folder.
            train: what the baselines learn from; by default the training part of `fit`. A loaded
                model without `train` is measured without baselines.
            session: column of the session id; by default as in `fit`. So are the next four.
            item: column of the item id.
            time: column of the time.
            user: column of the user id, if sessions are cut where a user pauses.
            event: column of the event type, for a model that learned types.
            progress: show bars.

        Raises:
            BadInput: the clicks cannot be used, or no next click is on an item of the catalogue.
        """
        check_packages()
        from data.prepare import prepare, read_sessions
        from data.sessions import reindex
        from recsys.console import open_api_console
        from training.baselines.newest import limits_of
        from training.evaluation.compare import (
            Limits,
            compare_with_intervals,
            evaluate_with_baselines,
        )
        from training.evaluation.evaluate import evaluate
        from training.evaluation.new_items import evaluate_new_items
        from training.evaluation.sample import MAX_CASES, sampled
        from training.report.summary import summary

        predictor, catalogue = self._predictor, self._predictor.catalogue
        given = {"session": session, "item": item, "time": time, "user": user, "event": event}
        with tempfile.TemporaryDirectory(prefix="recsys-") as name, _in_python_terms(Path(name)):
            test = read_sessions(self._reading(clicks, given, Path(name), "test")).sessions
            learned = None
            if train is not None:
                learned = read_sessions(self._reading(train, given, Path(name), "train")).sessions
            elif self._options is not None:
                learned = prepare(self._options).train
            sample = sampled(test, MAX_CASES)
            if learned is None:
                tested = reindex(sample.sessions, catalogue.item_ids)
                results = {"model": evaluate(predictor, tested, len(catalogue))}
            else:
                console = open_api_console(progress=progress)
                results = evaluate_with_baselines(
                    predictor, catalogue, learned, sample.sessions, console
                )
        model = results["model"]
        limits = Limits.of(sample, [] if learned is None else limits_of(learned))
        new_items = evaluate_new_items(predictor, sample.sessions)
        comparison = compare_with_intervals(results, catalogue.counts, limits, new_items)
        return EvaluationReport(
            metrics=_metrics_frame({name: result.metrics for name, result in results.items()}),
            summary=" ".join(summary(comparison)),
            cases=model.cases,
            unseen_targets=model.unseen_targets,
        )

    def save(self, path: str | Path) -> Path:
        """Copy the bundle into a new or empty folder, and return the folder.

        Raises:
            BadInput: `path` is no path, or the folder has files in it or cannot be written.
        """
        from recsys.fileio import check_new_folder, new_folder

        target = _full(path, "path")
        check_new_folder(target, "The bundle")
        with new_folder(target) as unfinished:
            for file in self.folder.iterdir():
                copy2(file, unfinished / file.name)
        return target

    def serve(
        self, host: str = "127.0.0.1", port: int = 8000, redis: str = "embedded", workers: int = 1
    ) -> None:
        """Run the service of this model in a process of its own, until Ctrl-C or an interrupt.

        The service also ends if this process is killed.

        Args:
            host: address to listen on.
            port: port to listen on; 0 takes a free one.
            redis: URL of a Redis; `embedded` starts a private one that ends with the service.
            workers: processes that answer. Other settings come from the environment, as for
                `recsys serve`.

        Raises:
            RecsysError: the service did not start or ended with an error.
        """
        options = {"--bundle": self.folder, "--redis": redis, "--host": host, "--port": port}
        command = [sys.executable, "-P", "-m", "recsys", "serve", f"--workers={workers}"]
        command += [f"{name}={value}" for name, value in options.items()]
        # our packages come first on the path, whatever the current folder holds
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        run_until_interrupted(command, {**os.environ, "PYTHONPATH": path})

    def __reduce__(self) -> str:
        """Refuse to be pickled or copied: the files of the bundle would not be in the copy."""
        raise RecsysError(
            f"{self!r} cannot be pickled or copied: it belongs to a folder. Save it with "
            "save(path), and open it with recsys.load(path) where it is needed."
        )

    def __repr__(self) -> str:
        recall = self._manifest.metrics.get("model", {}).get("recall@20")
        measured = "" if recall is None else f", recall@20 {recall:.4f}"
        items = len(self._predictor.catalogue)
        name = self._manifest.training.get("recipe")
        recipe = f", recipe {name}" if name else ""
        return (
            f"<recsys.Model {self.model_id}: {items:,} items{recipe}{measured}, in {self.folder}>"
        )

    def _repr_html_(self) -> str:
        """Return what a notebook shows: a summary, the metrics, and an example."""
        about = self._manifest.training
        trained = [f"{about[name]:,} {name}" for name in ("sessions", "clicks") if name in about]
        facts = f"{len(self._predictor.catalogue):,} items"
        facts += f", trained on {' and '.join(trained)}" if trained else ""
        ranked = self._manifest.metrics.get("cases")
        cases = "" if ranked is None else f" ({ranked:,} next clicks)"
        return "".join(
            [
                f"<p><b>recsys.Model {html.escape(self.model_id)}</b>: {facts}.<br>"
                f"Bundle: <code>{html.escape(str(self.folder))}</code></p>",
                f"<p>Metrics on the test part of training{cases}; the best are bold:</p>",
                _metrics_html(self.metrics),
                self._example_html(),
            ]
        )

    def _example_html(self) -> str:
        """Return a sample session with its recommendations."""
        from recsys.bundle.golden import read_golden
        from recsys.bundle.layout import GOLDEN

        clicks = read_golden(self.folder / GOLDEN)[0].clicks[-SAMPLE_CLICKS:]
        listed = self.recommend(clicks, SAMPLE_ITEMS, unknown="ignore")
        session = " → ".join(html.escape(item_id) for item_id in clicks)
        table: str = listed.to_html(index=False, float_format="{:.3f}".format, border=0)
        return f"<p>After {session} the model recommends:</p>{table}"

    def _ranked(
        self,
        sessions: Sequence[Sequence[str]],
        types: Sequence[Sequence[str | None]],
        query: "RankingQuery",
        exclude_seen: bool,
    ) -> "Sequence[Ranking]":
        """Return a ranking for each session; the caller limits their number."""
        from recsys.predictor import SessionState

        # an unknown click has its place in the window, as in the service
        recent = slice(-self._predictor.window, None)
        windows = [
            self._predictor.known(session[recent], of_session[recent])
            for session, of_session in zip(sessions, types, strict=True)
        ]
        queries = [
            replace(query, excluded=[*query.excluded, *self._known(session)])
            if exclude_seen
            else query
            for session in sessions
        ]
        states = self._predictor.advance([SessionState(window) for window in windows])
        return self._predictor.rank(states, windows, queries)

    def _index(self, item_id: str) -> int:
        """Return the index of an item; the error names the most similar id."""
        catalogue = self._predictor.catalogue
        try:
            return catalogue.index(item_id)
        except UnknownItem as unknown:
            if len(catalogue) <= ITEMS_TO_COMPARE:
                near = difflib.get_close_matches(str(item_id), list(catalogue.item_ids), n=1)
                if near:
                    unknown.args = (f"{unknown} Did you mean {near[0]!r}?",)
            raise

    def _known(self, item_ids: Iterable[str]) -> list[int]:
        found = map(self._predictor.catalogue.find, item_ids)
        return [item for item in found if item is not None]

    def _allowed(self, wanted: Mapping[str, str | Sequence[str]] | None) -> "AllowedItems | None":
        if not wanted:
            return None
        if not isinstance(wanted, Mapping):
            raise BadInput(
                "filter cannot be used", [f"got {wanted!r}. Give attributes with their values."]
            )
        lists = {name: _texts(values, f"filter[{name!r}]") for name, values in wanted.items()}
        return self._predictor.catalogue.allowed(lists)

    def _frame(
        self, items: Sequence[int], scores: Sequence[float], places: Sequence[int] | None = None
    ) -> "DataFrame":
        """Return one row for each item, with its attributes."""
        from pandas import DataFrame

        catalogue = self._predictor.catalogue
        columns: dict[str, Sequence[object]] = {} if places is None else {"session": places}
        columns |= {"item_id": catalogue.item_ids.take(items), "score": scores}
        for name, values in catalogue.attributes.items():
            columns.setdefault(name, [values[item] for item in items])
        return DataFrame(columns)

    def _reading(
        self, clicks: "Clicks", given: Mapping[str, str | None], folder: Path, name: str
    ) -> "ClickOptions":
        """Return how to read clicks: as `fit` did, except for the columns that are given."""
        from data.click_options import FROM_USERS, ClickOptions, remembered_reading
        from data.sources.dataframes import with_clicks
        from recsys.bundle.manifest import read_manifest

        path = folder / f"{name}.parquet"
        base = self._options
        if base is None:  # of a loaded bundle: as its training was read
            training = read_manifest(self.folder).training
            base = ClickOptions(path, **remembered_reading(training))
        columns: dict[str, Any] = {
            f"{name}_column": str(value) for name, value in given.items() if value is not None
        }
        if given["user"] is not None:
            columns["session_column"] = FROM_USERS
        options = replace(base, path=path, split_column=None, **columns)
        return with_clicks(options, clicks)


@dataclass(frozen=True, eq=False)
class EvaluationReport:
    """Result of `Model.evaluate`."""

    metrics: "DataFrame"  # one row for the model and each baseline; a column for each metric
    summary: str  # the result in sentences
    cases: int  # next clicks that were ranked
    unseen_targets: int  # next clicks on items that the catalogue lacks, counted as misses

    def __repr__(self) -> str:
        table = _headline(self.metrics).to_string(float_format="{:.4f}".format)
        return f"{table}\n{self.summary}"

    def _repr_html_(self) -> str:
        return f"{_metrics_html(self.metrics)}<p>{html.escape(self.summary)}</p>"


def _open(bundle: Path) -> "Predictor":
    from recsys.bundle.golden import open_predictor

    return open_predictor(bundle)


def _quiet_threads() -> None:
    """Let idle threads of torch sleep, as the command line does: spinning threads slow it down."""
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _full(path: str | Path, what: str) -> Path:
    """Return an absolute path; raise `BadInput` if the argument `what` is no path."""
    if not isinstance(path, str | os.PathLike):
        raise BadInput(
            f"{what} cannot be used", [f"it takes a path, got {path!r}. Give the path of a folder."]
        )
    return Path(path).expanduser().resolve()


def _check_list(k: int, unknown: str = "raise") -> None:
    """Raise `BadInput` if no list can have this length, or `unknown` is neither of its words."""
    problems = []
    if not isinstance(k, Integral) or k < 1:
        problems.append(f"k must be at least 1, got {k!r}. Give a whole number.")
    if unknown not in ("raise", "ignore"):
        problems.append(f"unknown is 'raise' or 'ignore', got {unknown!r}. Give one of them.")
    if problems:
        raise BadInput("The list cannot be made", problems)


def _texts(given: object, what: str) -> list[str]:
    """Return a list of texts; one text alone is a list of one."""
    one = isinstance(given, str) or not isinstance(given, Iterable)
    values = [given] if one else list(cast("Iterable[object]", given))
    for value in values:
        if not isinstance(value, str):
            raise BadInput(
                f"{what} cannot be used", [f"it takes texts, got {value!r}. Write {str(value)!r}."]
            )
    return cast("list[str]", values)


def _override(name: str, value: object) -> str:
    """Return a setting as `--set` writes it."""
    return f"{name}={value!r}" if isinstance(value, str) else f"{name}={value}"


def _sessions(items: Sequence[str] | Sequence[Sequence[str]]) -> tuple[list[Sequence[str]], bool]:
    """Return a list of sessions, and whether several were given.

    Raises:
        BadInput: `items` is one text or a table, is no list, or mixes ids and lists.
    """
    if not isinstance(items, Iterable) or hasattr(items, "columns"):  # list(table): its columns
        raise BadInput(
            "The session cannot be used",
            [
                f"got {type(items).__name__}. Give a list of item ids, or a list of such lists; "
                "of a DataFrame the column of the items."
            ],
        )
    listed = [items] if isinstance(items, str) else list(items)
    texts = [isinstance(item, str) for item in listed]
    if isinstance(items, str) or len(set(texts)) > 1:
        raise BadInput(
            "The session cannot be used",
            [f"got {items!r}. Give a list of item ids, or a list of such lists."],
        )
    if all(texts):
        return [cast("Sequence[str]", listed)], False
    sessions: list[Sequence[str]] = [
        list(session) if isinstance(session, Iterable) else [session] for session in listed
    ]
    wrong = [item for session in sessions for item in session if not isinstance(item, str)]
    if wrong:
        raise BadInput(
            "The session cannot be used",
            [f"item ids are texts, got {wrong[0]!r}. Write {str(wrong[0])!r}."],
        )
    return sessions, True


def _types(
    given: Sequence[str | None] | Sequence[Sequence[str | None]] | None,
    sessions: Sequence[Sequence[str]],
    *,
    several: bool,
) -> list[list[str | None]]:
    """Return the type of each click of each session; raise `BadInput` where the shapes differ."""
    if given is None:
        return [[None] * len(session) for session in sessions]
    types = [list(cast("Sequence[str | None]", one)) for one in (given if several else [given])]
    wanted, got = ([len(one) for one in rows] for rows in (sessions, types))
    if wanted != got:
        raise BadInput(
            "event_types cannot be used",
            [f"it has {got} types for {wanted} clicks. Give one for each, or None."],
        )
    return types


@contextmanager
def _in_python_terms(folder: Path) -> Iterator[None]:
    """Raise problems of input again in the terms of this API.

    Files in `folder` were DataFrames, and `--test-fraction` is the argument `test_fraction`.
    """
    arguments = set(inspect.signature(fit).parameters)

    def argument(option: re.Match[str]) -> str:
        name = option[1].replace("-", "_")
        name = OTHER_NAMES.get(name, name)
        return name if name in arguments else option[0]

    def translated(text: str) -> str:
        text = re.sub(rf"{re.escape(str(folder))}/\w+\.parquet", "the DataFrame", text)
        return re.sub(r"--([a-z][a-z-]*)", argument, text)

    try:
        yield
    except Problems as wrong:
        raise type(wrong)(
            translated(wrong.heading), [translated(problem) for problem in wrong.problems]
        ) from None
    except Interrupted as stopped:
        if str(folder) not in str(stopped):
            raise Interrupted(translated(str(stopped))) from None
        raise Interrupted(
            "Training was stopped, and its temporary folder is deleted. To continue a stopped "
            "training later, give a folder with out=, and then resume=True."
        ) from None


def _metrics_frame(metrics: Mapping[str, Mapping[str, float]]) -> "DataFrame":
    from pandas import DataFrame

    return DataFrame.from_dict(dict(metrics), orient="index").rename_axis("recommender")


def _headline(metrics: "DataFrame") -> "DataFrame":
    """Return the columns that the command line shows."""
    from recsys.console import HEADINGS

    return metrics[[name for name in HEADINGS if name in metrics.columns]]


def _metrics_html(metrics: "DataFrame") -> str:
    """Return a table with the best values of each column in bold; its row names are ours."""
    shown = _headline(metrics).rename_axis(None)
    rounded = shown.round(4)
    texts = shown.map("{:.4f}".format).where(shown.notna(), "–")
    bold = "<b>" + texts + "</b>"
    return str(texts.mask(rounded.eq(rounded.max()), bold).to_html(escape=False, border=0))
