"""Trained model in Python: it recommends, is evaluated, saved, served and shown in a notebook."""

import difflib
import html
import os
import sys
import tempfile
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from shutil import copy2, rmtree
from typing import TYPE_CHECKING, Any, Literal

from recsys.api.arguments import (
    check_list,
    full_path,
    in_python_terms,
    sessions_of,
    texts_of,
    types_of,
)
from recsys.api.evaluation import EvaluationReport
from recsys.api.tables import metrics_frame, metrics_html
from recsys.child_process import run_until_interrupted
from recsys.errors import BadInput, RecsysError, UnknownItem
from recsys.shadowing import ROOT, check_packages

if TYPE_CHECKING:
    from pandas import DataFrame

    from data.click_options import ClickOptions
    from recsys.allowed_items import AllowedItems
    from recsys.api.arguments import Clicks
    from recsys.predictor import Predictor, Ranking
    from recsys.retrieval.exact import RankingQuery

SESSIONS_AT_ONCE = 64  # ranked together
ITEMS_TO_COMPARE = 20_000  # in a larger catalogue the search for a similar id takes too long
SAMPLE_CLICKS, SAMPLE_ITEMS = 5, 5  # in the notebook's view of a model


def load(path: str | Path) -> "Model":
    """Open a bundle, or the current bundle of a registry, and check it as the service does.

    Raises:
        BadInput: `path` is no path.
        BundleRefused: the folder holds no bundle, or the bundle is damaged.
    """
    quiet_threads()
    from recsys.bundle.registry import resolve_bundle

    bundle = resolve_bundle(full_path(path, "path"))
    return Model(bundle, open_bundle(bundle))


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
        return metrics_frame(rows)

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

        sessions, several = sessions_of(items)
        types = types_of(event_types, sessions, several=several)
        check_list(k, unknown)
        excluded = self._known(texts_of(exclude_items, "exclude_items"))
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

        check_list(k)
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
            MODEL,
            Evaluations,
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
        with tempfile.TemporaryDirectory(prefix="recsys-") as name, in_python_terms(Path(name)):
            test = read_sessions(self._reading(clicks, given, Path(name), "test")).sessions
            learned = None
            if train is not None:
                learned = read_sessions(self._reading(train, given, Path(name), "train")).sessions
            elif self._options is not None:
                learned = prepare(self._options).train
            sample = sampled(test, MAX_CASES)
            if learned is None:
                indexed = reindex(sample.sessions, catalogue.item_ids)
                tested = Evaluations({MODEL: evaluate(predictor, indexed, len(catalogue))})
            else:
                console = open_api_console(progress=progress)
                tested = evaluate_with_baselines(
                    predictor, catalogue, learned, sample.sessions, console
                )
        results, model = tested.results, tested.results[MODEL]
        sentences = [] if learned is None else limits_of(learned)
        limits = Limits.of(sample, sentences + tested.sentences)
        new_items = evaluate_new_items(predictor, sample.sessions)
        comparison = compare_with_intervals(results, catalogue.counts, limits, new_items)
        return EvaluationReport(
            metrics=metrics_frame({name: result.metrics for name, result in results.items()}),
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

        target = full_path(path, "path")
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
                metrics_html(self.metrics),
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
        lists = {name: texts_of(values, f"filter[{name!r}]") for name, values in wanted.items()}
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


def open_bundle(bundle: Path) -> "Predictor":
    from recsys.bundle.golden import open_predictor

    return open_predictor(bundle)


def quiet_threads() -> None:
    """Let idle threads of torch sleep, as the command line does: spinning threads slow it down."""
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
