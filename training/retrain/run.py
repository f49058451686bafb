"""`recsys retrain`: a new model on the newest clicks, published only if it is not worse.

The candidate learns from the days before the newest complete ones. The current model and the
candidate are compared on these, on sessions that neither has learned from. The candidate that was
compared is published as it is; it does not learn from the tested days before.
"""

import dataclasses
import hashlib
import json
from datetime import UTC, datetime

import pandas as pd
from rich.console import Console

from data.click_options import EVENT_COLUMN, ClickOptions
from data.events.reading import read_clicks
from data.prepare import prepare
from data.sources.click_paths import find_files
from recsys import __version__
from recsys.bundle.golden import open_predictor
from recsys.bundle.layout import MANIFEST
from recsys.bundle.manifest import read_manifest
from recsys.bundle.registry import check_not_a_bundle, next_bundle
from recsys.errors import BadInput
from recsys.fileio import replace_file
from training.retrain.candidate import candidate_training, train_candidate
from training.retrain.comparison import TestCases
from training.retrain.current import Current, check_content, check_experiment, open_current
from training.retrain.days import PART, Days, labelled
from training.retrain.decision import POPULARITY, Decision, moment, read_decisions, reason_of
from training.retrain.options import RetrainOptions
from training.retrain.publication import carry_out, may_be_published
from training.retrain.work import Work, work_in

NO_TYPE = "view"  # of a click without an event type
READ = ("session_id", "item_id", "timestamp", "event_type")


def retrain(options: RetrainOptions, now: float, console: Console) -> Decision:
    """Train a candidate, compare it with the current model, and publish it or keep the old one.

    Args:
        options: Options of the retraining.
        now: Time, in seconds since 1970; the newest complete day ends before it.
        console: Shows progress and the decision.

    Returns:
        The decision; an earlier one where these days have been decided.

    Raises:
        BadInput: The clicks cannot be compared or trained on, or another retraining is at work.
        BundleRefused: The current version is damaged.
        Interrupted: A signal stopped the training; the same command goes on.
        TrainingStopped: The loss or a weight is NaN or infinite.
    """
    check_not_a_bundle(options.registry)
    with work_in(options.registry) as work:
        pending = work.pending()
        if pending is not None and may_be_published(options.registry, pending):
            console.print("The last retraining was interrupted after its decision.")
            return carry_out(options, work, pending, console)
        days = Days.before(now, options.days, options.test_days, options.day_seconds)
        decided = _decided(options, days)
        if decided is not None:
            console.print(
                f"{_named(days)} was decided at {decided.time}: {decided.reason} Nothing to do; "
                "--again compares anew.",
                markup=False,
            )
            return decided
        decision = _decide(options, days, now, work, console)
        work.decide(decision)
        return carry_out(options, work, decision, console)


def _decided(options: RetrainOptions, days: Days) -> Decision | None:
    """Return the decision about these tested days, if there is one and it shall stand."""
    last = read_decisions(options.registry)[-1:]
    if options.again or not last or last[0].days.until < days.until:
        return None
    return last[0]


def _decide(
    options: RetrainOptions, days: Days, now: float, work: Work, console: Console
) -> Decision:
    """Train and compare the candidate, from where an interrupted run of these clicks stopped."""
    check_experiment(options)
    current = open_current(options.registry)
    check_content(options, current)
    clicks = _read(options, days)
    source = ClickOptions(
        work.clicks,
        split_column=PART,
        event_column=EVENT_COLUMN if _has_event_types(current) else None,
    )
    resumed = work.begin(_fingerprint(options, days, clicks, current))
    replace_file(work.clicks, lambda path: clicks.to_parquet(path, index=False))
    prepared = prepare(source)
    seen_ms = 0 if current is None else current.seen_until_ms
    cases = TestCases.of(prepared, seen_ms, options.least_cases)
    training, way = candidate_training(options, work, source, current, prepared.train, console)
    if resumed:
        console.print("Going on with the interrupted retraining.")
    if not (work.candidate / MANIFEST).exists():
        train_candidate(dataclasses.replace(training, resume=resumed), console)
    candidate = open_predictor(work.candidate)
    before = None if current is None else current.predictor
    verdict = cases.compare(candidate, before, options.margin, console)
    compared_with = None if current is None else current.name
    manifest, time = read_manifest(work.candidate), datetime.fromtimestamp(now, UTC)
    return Decision(
        time=time.isoformat(timespec="seconds"),
        days=days,
        published=verdict.passes,
        reason=reason_of(verdict, compared_with),
        way=way,
        recipe=str(manifest.training.get("recipe", "")),
        bundle=next_bundle(options.registry, time).name,
        model_id=manifest.model_id,
        compared_with=compared_with,
        compared_model_id=POPULARITY if current is None else current.model_id,
        seen_sessions=cases.seen_sessions,
        verdict=verdict,
    )


def _has_event_types(current: Current | None) -> bool:
    """Return whether types of clicks count: as for the current model; for the first one, yes."""
    return current is None or current.manifest.event_types is not None


def _read(options: RetrainOptions, days: Days) -> pd.DataFrame:
    """Return the clicks of the days, each with the part of its session; raise `BadInput`."""
    clicks = read_clicks(options.events, days.since, days.until)[list(READ)]
    clicks["event_type"] = clicks["event_type"].fillna(NO_TYPE)
    read = labelled(clicks, days.border)
    counts = read.groupby(PART)["session_id"].nunique()
    problems = [
        f"no session begins {when}. {advice}"
        for part, when, advice in (
            ("train", f"from {moment(days.since)} to {moment(days.border)}", "Wait for a day."),
            (
                "test",
                f"from {moment(days.border)} to {moment(days.until)}, the newest complete day",
                "Check that recsys collect runs, and that the shop sends clicks.",
            ),
        )
        if part not in counts.index
    ]
    if problems:
        raise BadInput(f"There are no new clicks in {options.events}", problems)
    return read


def _fingerprint(
    options: RetrainOptions, days: Days, clicks: pd.DataFrame, current: Current | None
) -> str:
    """Return a text that differs between runs whose candidates or comparisons differ."""
    digest = hashlib.sha256(pd.util.hash_pandas_object(clicks, index=False).to_numpy().tobytes())
    about = [
        __version__,
        dataclasses.asdict(days),
        options.way,
        options.recipe,
        str(options.budget),
        list(options.settings),
        _items_of(options),
        list(options.content.columns),
        None if current is None else current.model_id,
    ]
    digest.update(json.dumps(about).encode())
    return digest.hexdigest()


def _items_of(options: RetrainOptions) -> list[object]:
    """Return values that differ where the items or their vectors are read from other files.

    Sizes and times of change tell whether a file has changed, as for the click files of a prepared
    folder.

    Raises:
        BadInput: A file is missing.
    """
    paths = list(options.content.files.items())
    if options.items is not None:
        paths.insert(0, ("", options.items))
    read = [
        [name, str(file.path), dataclasses.asdict(file.state)]
        for name, path in paths
        for file in find_files(path, "items file")
    ]
    return [options.items_delimiter, options.items_encoding, *read]


def _named(days: Days) -> str:
    """Return the tested days for a sentence."""
    return f"The time from {moment(days.border)} to {moment(days.until)}"
