"""Measure how often `recsys compare` is wrong and right, on simulated users.

Users differ in how often they come, how many lists they see and how often they click, so the lists
of a user are alike. Days differ, too, in the same way for all variants: a weekly course, and random
days on which more users come or click. A variant multiplies the click-through by one plus its
lift. Each experiment is looked at every day.

    python tests/benchmarks/experiments.py
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context

import numpy as np

from recsys.bundle.experiment import Experiment
from recsys.console import add_row, neat_table, open_console
from training.experiments.comparison import ERROR, LIST_CLICKS, compare, first_alarm
from training.experiments.estimates import log_lift
from training.experiments.outcomes import Outcomes
from training.experiments.sample_ratio import Period, sample_ratio

SECRET = b"secret of the simulation"
MAX_LISTS = 100  # of a user and day, as `recsys compare` counts them


@dataclass(frozen=True, slots=True)
class Simulation:
    """One simulated experiment.

    Args:
        users: Number of users of the shop; most come within the days.
        days: Length.
        lift: Relative effect of the variant on the click-through.
        share: Percent of the users in the variant.
        lost: Share of the users of the variant whose events are lost.
        seed: Of all random numbers.
    """

    users: int
    days: int
    lift: float
    share: float
    seed: int
    lost: float = 0.0


@dataclass(frozen=True, slots=True)
class Found:
    """Result of the analysis: days of the first alarm, from 1, and the final figures."""

    sequential: int | None
    peeking: int | None  # first day on which an interval for one look excludes 0
    at_the_end: bool  # that interval on the last day alone
    lift: float
    covers: bool  # the interval of the last look holds the true lift
    mismatch: bool


def simulate(simulation: Simulation) -> Outcomes:
    """Return the outcomes of one experiment."""
    generator = np.random.default_rng(simulation.seed)
    users, days = simulation.users, simulation.days
    share = round(simulation.share * 100)
    experiment = Experiment(f"20260101-000000-{simulation.seed:06x}", {"new": [(0, share)]})
    names = (experiment.variant_of(f"user {user}", SECRET) for user in range(users))
    treated = np.fromiter((name is not None for name in names), dtype=bool, count=users)
    comes = generator.beta(0.6, 4.0, users)  # share of the days, 0.13 on average
    visit_lists = generator.lognormal(1.0, 1.0, users)  # lists on such a day, 4.5 on average
    clicks = generator.beta(0.8, 9.2, users)  # click-through of lists, 0.08 on average
    effect = 1 + simulation.lift * generator.gamma(2.0, 0.5, users)  # users differ here, too
    kept = ~(treated & (generator.random(users) < simulation.lost))
    parts = []
    for day in range(days):
        week = 1 + 0.3 * math.sin(2 * math.pi * day / 7)
        busy, keen = generator.lognormal(0.0, 0.15, 2)
        there = np.flatnonzero((generator.random(users) < comes * week * busy) & kept)
        lists = np.minimum(1 + generator.poisson(visit_lists[there]), MAX_LISTS)
        mood = generator.lognormal(0.0, 0.3, len(there))  # of the user on this day
        chance = clicks[there] * keen * mood * np.where(treated[there], effect[there], 1.0)
        parts.append((there, day, lists, generator.binomial(lists, np.minimum(chance, 0.95))))
    seen, user = np.unique(np.concatenate([part[0] for part in parts]), return_inverse=True)
    lists, clicked = (np.concatenate([part[at] for part in parts]) for at in (2, 3))
    day_of = np.repeat(np.arange(days), [len(part[0]) for part in parts])
    return Outcomes(
        ["old", "new"],
        treated[seen].astype(np.int64),
        user.astype(np.int64),
        day_of.astype(np.int64),
        lists.astype(np.float64),
        clicked.astype(np.float64),
        np.zeros(len(user)),
    )


def analyse(simulation: Simulation) -> Found:
    """Simulate an experiment and look at it every day."""
    outcomes = simulate(simulation)
    counts = np.bincount(outcomes.variant_of, minlength=2).tolist()
    period = Period(0, 1, {"old": 100 - simulation.share, "new": simulation.share})
    ratio = sample_ratio([dict(zip(outcomes.variants, counts, strict=True))], [period])
    main, new = compare(outcomes, ratio).variants
    metric, control = new.metrics[LIST_CLICKS], main.metrics[LIST_CLICKS]
    lifts = [log_lift(*pair) for pair in zip(metric.rates, control.rates, strict=True)]
    daily = [lift.interval(ERROR) for lift in lifts]
    excludes = [interval.low > 0 or interval.high < 0 for interval in daily]
    last = metric.looks[-1].lift
    return Found(
        first_alarm(metric.looks, ERROR),
        next((day for day, alarm in enumerate(excludes, start=1) if alarm), None),
        excludes[-1],
        last.value,
        last.low <= simulation.lift <= last.high,
        ratio.is_mismatch,
    )


def rate_of(found: Sequence[bool]) -> str:
    """Return the share of true ones with its binomial standard error."""
    share = float(np.mean(found))
    error = math.sqrt(share * (1 - share) / len(found))
    return f"{share:.3f} ± {error:.3f}"


def repeated(simulation: Simulation, times: int, processes: int) -> list[Found]:
    """Return the results of simulations that differ in their seed."""
    first = simulation.seed * 1_000_000
    many = [replace(simulation, seed=(first + at) % 0xFFFFFF) for at in range(times)]
    if processes == 1:
        return [analyse(each) for each in many]
    with get_context("fork").Pool(processes) as pool:
        return pool.map(analyse, many, chunksize=4)


def false_alarms(arguments: argparse.Namespace) -> None:
    """Print the share of A/A experiments in which a difference is reported."""
    table = neat_table(
        f"A/A: {arguments.repeats} experiments without a difference, {arguments.days} daily looks",
        left=["users of the shop"],
        right=["sequential test", "interval, daily", "interval, last day", "mismatch"],
    )
    for users in arguments.users:
        simulation = Simulation(users, arguments.days, 0.0, arguments.share, seed=1)
        found = repeated(simulation, arguments.repeats, arguments.processes)
        add_row(
            table,
            f"{users:,}",
            rate_of([each.sequential is not None for each in found]),
            rate_of([each.peeking is not None for each in found]),
            rate_of([each.at_the_end for each in found]),
            rate_of([each.mismatch for each in found]),
        )
    open_console().print(table)


def power(arguments: argparse.Namespace) -> None:
    """Print the share of A/B experiments in which the difference is found."""
    table = neat_table(
        f"A/B: {arguments.repeats} experiments with {arguments.lift:+.0%}, {arguments.days} days",
        left=["users of the shop"],
        right=["users seen", "found", "median day", "fixed end", "mean lift", "interval holds it"],
    )
    for users in arguments.users:
        simulation = Simulation(users, arguments.days, arguments.lift, arguments.share, seed=2)
        found = repeated(simulation, arguments.repeats, arguments.processes)
        days = [each.sequential for each in found if each.sequential is not None]
        add_row(
            table,
            f"{users:,}",
            f"{len(simulate(simulation).variant_of):,}",
            rate_of([each.sequential is not None for each in found]),
            f"{np.median(days):.0f}" if days else "–",
            rate_of([each.at_the_end for each in found]),
            f"{np.mean([each.lift for each in found]):+.1%}",
            rate_of([each.covers for each in found]),
        )
    open_console().print(table)


def mismatches(arguments: argparse.Namespace) -> None:
    """Print the share of experiments with lost users in which the mismatch is found."""
    table = neat_table(
        f"Sample-ratio mismatch found, {arguments.repeats} experiments, "
        f"{arguments.share:g} % in the variant",
        left=["users of the shop"],
        right=[f"{lost:.0%} lost" for lost in arguments.lost],
    )
    for users in arguments.users:
        shares = []
        for lost in arguments.lost:
            simulation = Simulation(users, arguments.days, 0.0, arguments.share, 3, lost)
            found = repeated(simulation, arguments.repeats, arguments.processes)
            shares.append(rate_of([each.mismatch for each in found]))
        add_row(table, f"{users:,}", *shares)
    open_console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulate experiments and compare them.")
    tables = {"alarms": false_alarms, "power": power, "mismatches": mismatches}
    parser.add_argument("tables", nargs="*", default=list(tables), help="Of: " + ", ".join(tables))
    parser.add_argument("--repeats", type=int, default=200, help="Experiments of each row.")
    parser.add_argument("--days", type=int, default=14, help="Length of an experiment.")
    parser.add_argument(
        "--users", type=int, nargs="+", default=[5_000, 20_000, 100_000], help="Users of the shop."
    )
    parser.add_argument("--share", type=float, default=50.0, help="Percent in the variant.")
    parser.add_argument("--lift", type=float, default=0.05, help="Relative effect in A/B.")
    parser.add_argument(
        "--lost", type=float, nargs="+", default=[0.02, 0.05, 0.1], help="Share of lost users."
    )
    parser.add_argument("--processes", type=int, default=1, help="Processes at once.")
    arguments = parser.parse_args()
    for name in arguments.tables:
        tables[name](arguments)


if __name__ == "__main__":
    main()
