"""`recsys retrain`: a new model on the newest clicks, published only if it is not worse.

The candidate learns from the days before the newest complete ones. The current model and the
candidate are compared on these, on sessions that neither has learned from. The candidate that was
compared is published as it is; it does not learn from the tested days before.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from rich.console import Console

from data.click_options import EVENT_COLUMN, ClickOptions
from data.content import NO_CONTENT, ContentOptions
from data.events.reading import read_clicks
from data.prepare import prepare
from recsys import __version__
from recsys.bundle.golden import open_predictor
from recsys.bundle.layout import MANIFEST
from recsys.bundle.manifest import Manifest, read_manifest
from recsys.bundle.pruning import prune
from recsys.bundle.registry import check_not_a_bundle, is_registry, publish, resolve_bundle
from recsys.errors import BadInput, BadRecipe, BundleRefused, Interrupted
from recsys.fileio import replace_file
from recsys.predictor import Predictor
from training.competition.budget import Budget
from training.competition.rivals import rivals_of
from training.finetune import FinetuneOptions, continued_training
from training.pipeline import TrainOptions, train_bundle
from training.retrain.comparison import TestCases
from training.retrain.days import DAY_SECONDS, PART, Days, labelled
from training.retrain.decision import (
    POPULARITY,
    Decision,
    add_decision,
    moment,
    read_decisions,
    reason_of,
)
from training.retrain.page import write_page
from training.retrain.work import Work, work_in
from training.warm_start import seen_until_ms

WAYS = TRAIN, FINETUNE, AUTO = ("train", "finetune", "auto")
MOST_CONTINUED = 6  # trainings in a row that continue a model; then `auto` trains one anew
NO_TYPE = "view"  # of a click without an event type
READ = ("session_id", "item_id", "timestamp", "event_type")


@dataclass(frozen=True, slots=True)
class RetrainOptions:
    """Options of a retraining.

    Raises:
        BadInput: With every option that cannot be used.
    """

    events: Path
    registry: Path
    days: int = 28
    test_days: int = 1
    day_seconds: float = DAY_SECONDS
    least_cases: int = 500
    way: str = TRAIN
    margin: float = 0.01
    recipe: str = "auto"
    budget: Budget = dataclasses.field(default_factory=Budget)  # of the recipe auto
    settings: Sequence[str] = ()
    items: Path | None = None
    content: ContentOptions = NO_CONTENT
    report: Path | None = None  # None: decisions.html in the registry
    keep: int | None = None  # bundles in the registry; None: all
    again: bool = False  # compare also where these days have been decided
    device: str = "auto"
    command: str = ""

    def __post_init__(self) -> None:
        rules = [
            (f"--way must be one of {', '.join(WAYS)}", self.way in WAYS, self.way),
            ("--test-days must be at least 1", self.test_days >= 1, self.test_days),
            ("--days must be more than --test-days", self.days > self.test_days, self.days),
            ("--margin must be from 0 to less than 1", 0 <= self.margin < 1, self.margin),
            ("--least-cases must be at least 1", self.least_cases >= 1, self.least_cases),
            ("--keep must be at least 2", self.keep is None or self.keep >= 2, self.keep),
        ]
        problems = [f"{rule}, got {value!r}." for rule, holds, value in rules if not holds]
        if problems:
            raise BadInput("The options cannot be used", problems)


@dataclass(frozen=True)
class Current:
    """Current version of the registry, verified."""

    folder: Path
    manifest: Manifest
    predictor: Predictor

    @property
    def name(self) -> str:
        return self.folder.name


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
        if pending is not None and _may_be_published(options.registry, pending):
            console.print("The last retraining was interrupted after its decision.")
            return _carry_out(options, work, pending, console)
        days = Days.before(now, options.days, options.test_days, options.day_seconds)
        decided = _decided(options, days)
        if decided is not None:
            console.print(
                f"{_named(days)} was decided at {decided.time}: {decided.reason} Nothing to do; "
                "--again compares anew."
            )
            return decided
        decision = _decide(options, days, now, work, console)
        work.decide(decision)
        return _carry_out(options, work, decision, console)


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
    current = _current(options.registry)
    _check_content(options, current)
    clicks = _read(options, days)
    source = ClickOptions(
        work.clicks,
        split_column=PART,
        event_column=EVENT_COLUMN if _has_event_types(current) else None,
    )
    resumed = work.begin(_fingerprint(options, days, clicks, current))
    replace_file(work.clicks, lambda path: clicks.to_parquet(path, index=False))
    prepared = prepare(source)
    seen_ms = 0 if current is None else seen_until_ms(current.manifest)
    cases = TestCases.of(prepared, seen_ms, options.least_cases)
    newest = int(prepared.train.starts_ms.max())
    training, way = _training(options, work, source, current, newest, console)
    if resumed:
        console.print("Going on with the interrupted retraining.")
    if not (work.candidate / MANIFEST).exists():
        _train(dataclasses.replace(training, resume=resumed), console)
    candidate = open_predictor(work.candidate)
    before = None if current is None else current.predictor
    verdict = cases.compare(candidate, before, options.margin, console)
    compared_with = None if current is None else current.name
    model_id = read_manifest(work.candidate).model_id
    return Decision(
        time=datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
        days=days,
        published=verdict.passes,
        reason=reason_of(verdict, compared_with),
        way=way,
        recipe=str(read_manifest(work.candidate).training.get("recipe", "")),
        bundle=datetime.fromtimestamp(now, UTC).strftime("%Y%m%d-%H%M%S"),
        model_id=model_id,
        compared_with=compared_with,
        compared_model_id=POPULARITY if current is None else current.manifest.model_id,
        seen_sessions=cases.seen_sessions,
        verdict=verdict,
    )


def _current(registry: Path) -> Current | None:
    """Open the current version, which a candidate is compared with; None in a new registry."""
    if not is_registry(registry):
        return None
    folder = resolve_bundle(registry)
    try:
        return Current(folder, read_manifest(folder), open_predictor(folder))
    except BundleRefused as refused:
        raise BundleRefused(
            f"No candidate can be compared with the current version: {refused} Publish another "
            f"one: recsys publish {registry} NAME."
        ) from refused


def _check_content(options: RetrainOptions, current: Current | None) -> None:
    """Raise `BadInput` where the next model would not place new items and the current one does."""
    if current is not None and current.predictor.content is not None and not options.content:
        raise BadInput(
            "The options cannot be used",
            [
                f"the current version {current.name} learned from the content of its items, and "
                "the next one would not. Give --items and --content, and --vectors if it had any."
            ],
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
        str(options.items),
        repr(options.content),
        None if current is None else current.manifest.model_id,
    ]
    digest.update(json.dumps(about).encode())
    return digest.hexdigest()


def _training(
    options: RetrainOptions,
    work: Work,
    source: ClickOptions,
    current: Current | None,
    newest_ms: int,
    console: Console,
) -> tuple[TrainOptions, str]:
    """Return the options of the training, and its way; say why one is trained anew."""
    if options.way != TRAIN and current is not None:
        refused = _refused(options, current, newest_ms)
        if refused is None:
            try:
                return _continued(options, work, source, current), FINETUNE
            except (BadInput, BadRecipe, BundleRefused) as error:
                refused = str(error)
        console.print(f"Training anew instead of finetuning. {refused}", markup=False)
    first, *rivals = rivals_of(options.recipe, options.settings)
    training = TrainOptions(
        clicks=source,
        out=work.candidate,
        recipe=first.recipe,
        recipe_name=first.name,
        rivals=rivals,
        budget=options.budget,
        items=options.items,
        content=options.content,
        attributes_of=None if current is None else current.predictor.catalogue,
        device=options.device,
        command=options.command,
    )
    return training, TRAIN


def _refused(options: RetrainOptions, current: Current, newest_ms: int) -> str | None:
    """Return why the current model is not continued; None where it may be."""
    if newest_ms < seen_until_ms(current.manifest):
        return "The current model has learned from all sessions before the tested days."
    lineage = len(current.manifest.training.get("lineage", []))
    if options.way == AUTO and lineage >= MOST_CONTINUED:
        return f"The current model continues another one for the {lineage}th time."
    return None


def _continued(
    options: RetrainOptions, work: Work, source: ClickOptions, current: Current
) -> TrainOptions:
    """Return the options of a finetuning: weights learn from what is new, counts from all days."""
    continued = FinetuneOptions(
        bundle=current.folder,
        clicks=source,
        out=work.candidate,
        settings=options.settings,
        items=options.items,
        only_newer=True,
        device=options.device,
    )
    return dataclasses.replace(continued_training(continued), command=options.command)


def _train(training: TrainOptions, console: Console) -> None:
    try:
        train_bundle(training, console)
    except Interrupted as interrupted:
        raise Interrupted(
            f"Stopped. The work so far is in {training.work}; the same command goes on."
        ) from interrupted


def _may_be_published(registry: Path, decision: Decision) -> bool:
    """Return whether the current version is still the one of the comparison, or the candidate."""
    current = resolve_bundle(registry).name if is_registry(registry) else None
    return current in (decision.compared_with, decision.bundle)


def _carry_out(
    options: RetrainOptions, work: Work, decision: Decision, console: Console
) -> Decision:
    """Publish or drop the candidate; each step may have been done by a run that was interrupted."""
    registry, bundle = options.registry, options.registry / decision.bundle
    if not _may_be_published(registry, decision):
        work.clear()
        raise BadInput(
            "The candidate was not published",
            [
                f"the current version of {registry} has changed during the run, from "
                f"{decision.compared_with} to {resolve_bundle(registry).name}, and the candidate "
                "was not compared with it. Retrain again."
            ],
        )
    if decision.published:
        if work.candidate.exists():
            work.candidate.rename(bundle)
        publish(registry, decision.bundle)
    add_decision(registry, decision)
    write_page(options.report or registry / "decisions.html", read_decisions(registry))
    work.clear()
    word = "Published" if decision.published else "Kept"
    name = decision.bundle if decision.published else decision.compared_with or "nothing"
    console.print(f"{word} {name}: {decision.reason}", markup=False)
    if options.keep is not None:
        published = [one for one in read_decisions(registry) if one.published]
        needed = [one.compared_with for one in published[-1:] if one.compared_with]
        for removed in prune(registry, options.keep, needed, work.removed):
            console.print(f"Removed the old bundle {removed}.", markup=False)
    return decision


def _named(days: Days) -> str:
    """Return the tested days for a sentence."""
    return f"The time from {moment(days.border)} to {moment(days.until)}"
