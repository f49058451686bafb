"""`recsys compare`: which experiment, which time, then figures, a verdict and a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc
from rich.console import Console

from data.events.folder import DAY_SECONDS
from data.events.reading import read_events
from recsys.bundle.experiment_log import ShareChange, read_changes
from recsys.errors import BadInput
from recsys.events.attribution import WINDOW_SECONDS
from recsys.events.schemas import IMPRESSIONS
from recsys.fileio import check_new_file, replace_file
from training.experiments.comparison import VariantComparison, compare, verdict
from training.experiments.outcomes import (
    LISTS_PER_DAY,
    UNUSABLE,
    OutcomeOptions,
    read_outcomes,
)
from training.experiments.page import render_comparison
from training.experiments.sample_ratio import Period, count_first_seen, sample_ratio
from training.experiments.sequential import EXPECTED_LIFT
from training.experiments.show import moment, show_comparison


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """Options of a comparison.

    Args:
        events: The events folder.
        registry: Its log tells shares and times; None takes both from the events.
        experiment: Its id; None is the last one of the registry.
        since: Epoch seconds of the first events; None is the last change of shares.
        until: Epoch seconds that all events precede; None is the end.
        conversion: Event type of conversions; None compares none.
        expected_lift: See `training/experiments/sequential.py`.
        day_seconds: See `OutcomeOptions`, as the two below.
        window_seconds: As there.
        lists_per_day: As there.
        out: File of the page; None writes none.
    """

    events: Path
    registry: Path | None = None
    experiment: str | None = None
    since: float | None = None
    until: float | None = None
    conversion: str | None = None
    expected_lift: float = EXPECTED_LIFT
    day_seconds: float = DAY_SECONDS
    window_seconds: float = WINDOW_SECONDS
    lists_per_day: int = LISTS_PER_DAY
    out: Path | None = None

    def __post_init__(self) -> None:
        if self.experiment is not None and self.registry is None:
            raise BadInput(
                "The options cannot be used",
                [f"--experiment {self.experiment} needs --registry, whose log has its times."],
            )


@dataclass(frozen=True, slots=True)
class ComparedExperiment:
    """The comparison, and what a reader must know about it."""

    experiment: str | None
    begin: float
    end: float
    comparison: VariantComparison
    verdict: Sequence[str]
    notes: Sequence[str]


def run_compare(options: CompareOptions, console: Console) -> ComparedExperiment:
    """Compare, print tables, and write the page.

    Raises:
        BadInput: if an option cannot be used, or there are no events of an experiment.
    """
    if options.out is not None:
        check_new_file(options.out, "The page")
    compared = compare_events(options)
    show_comparison(compared.comparison, compared.verdict, compared.notes, console)
    if options.out is not None:
        page = render_comparison(compared)
        replace_file(options.out, lambda path: path.write_text(page, encoding="utf-8"))
        console.print(f"The page with curves is {options.out}.", markup=False)
    return compared


def compare_events(options: CompareOptions) -> ComparedExperiment:
    """Read the events and compare; raise `BadInput`."""
    if not options.expected_lift > 0:
        raise BadInput("The options cannot be used", ["the expected lift must be above 0."])
    first, last = _times(options)
    experiment, periods = None, _period_of_events(options, first, last)
    if options.registry is not None:
        experiment, periods = periods_of(read_changes(options.registry), options.experiment, last)
    constant = periods[-1]
    begin = constant.begin if options.since is None else max(constant.begin, options.since)
    outcome_options = OutcomeOptions(
        list(constant.shares),
        begin,
        min(last, constant.end),
        options.conversion,
        options.day_seconds,
        options.window_seconds,
        options.lists_per_day,
    )
    read = read_outcomes(options.events, outcome_options)
    ratio = None
    if options.registry is not None:
        ratio = sample_ratio(count_first_seen(options.events, periods), periods)
    comparison = compare(
        read.outcomes,
        ratio,
        with_conversions=options.conversion is not None,
        expected=options.expected_lift,
    )
    notes = [
        f"Lists that were shown from {moment(begin)} to {moment(outcome_options.end)}, "
        f"{comparison.days} days; the user is the unit."
    ]
    if len(periods) > 1:
        notes.append(
            f"The shares were changed {len(periods) - 1} times. Figures are of the time after the "
            "last change; the split of the users is tested in each period."
        )
    if ratio is None:
        notes.append(
            "The shares are not known, so the split of the users is not tested: give --registry."
        )
    if read.crossed_users:
        notes.append(
            f"{read.crossed_users:,} users got lists of several variants in this time and are left "
            "out."
        )
    if read.cut_lists:
        notes.append(
            f"{read.cut_lists:,} lists beyond {options.lists_per_day} of one user and day do not "
            "count."
        )
    return ComparedExperiment(
        experiment, begin, outcome_options.end, comparison, verdict(comparison), notes
    )


def periods_of(
    changes: Sequence[ShareChange], experiment: str | None, last: float
) -> tuple[str, list[Period]]:
    """Return the id of an experiment and its periods of constant shares.

    Args:
        changes: The log of the registry.
        experiment: An id; None is the last one.
        last: End of the last period if it goes on.

    Raises:
        BadInput: if the log has no such experiment.
    """
    ids = list(dict.fromkeys(change.experiment for change in changes))
    chosen = experiment or (ids[-1] if ids else None)
    own = [change for change in changes if change.experiment == chosen]
    if chosen is None or not own:
        known = f"It has {', '.join(ids)}." if ids else "Begin one with recsys publish --split."
        named = f"no experiment {experiment}" if experiment else "no experiment"
        raise BadInput(UNUSABLE, [f"the log of the registry has {named}. {known}"])
    ends = [*(change.time for change in own[1:]), last]
    periods: list[Period] = []
    for change, end in zip(own, ends, strict=True):
        if not change.shares:
            continue
        if periods and periods[-1].shares == change.shares:
            periods[-1] = Period(periods[-1].begin, end, change.shares)
        else:
            periods.append(Period(change.time, end, change.shares))
    if not periods:
        raise BadInput(
            UNUSABLE,
            [
                f"the log of the registry has the end of experiment {chosen} and no shares of it. "
                "Name another one with --experiment, or leave out --registry."
            ],
        )
    return chosen, periods


def _times(options: CompareOptions) -> tuple[float, float]:
    """Return the times of the first list of an experiment, and just after the last list."""
    columns = ["timestamp", "variant"]
    lists = read_events(options.events, IMPRESSIONS, options.since, options.until, columns)
    times = lists.filter(pc.is_valid(lists["variant"]))["timestamp"]
    if not len(times):
        raise BadInput(
            UNUSABLE,
            [
                f"{options.events} has no list of an experiment in this time. Begin one with "
                "recsys publish --split, run the service with RECSYS_FEEDBACK=stream, and recsys "
                "collect."
            ],
        )
    bounds = pc.min_max(times).as_py()
    return bounds["min"], bounds["max"] + 1.0


def _period_of_events(options: CompareOptions, first: float, last: float) -> list[Period]:
    """Return one period with the variants of the events; the one with most lists is the main."""
    columns = ["timestamp", "variant"]
    lists = read_events(options.events, IMPRESSIONS, first, last, columns)
    counts: Mapping[str, int] = {
        row["values"]: row["counts"]
        for row in pc.value_counts(lists["variant"].drop_null()).to_pylist()
    }
    names = sorted(counts, key=lambda name: (-counts[name], name))
    if len(names) == 1 and options.registry is None:
        raise BadInput(
            UNUSABLE,
            [
                f"{options.events} has lists of the variant {names[0]} only. Check the share of "
                "the others with recsys inspect, or give another --since."
            ],
        )
    return [Period(first, last, dict.fromkeys(names, 0.0))]
