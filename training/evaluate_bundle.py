"""`recsys evaluate`: test a bundle on clicks; print tables or JSON, write a report."""

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from rich.console import Console

from data.prepare import Remark, as_cut_off, read_sessions
from data.prepared.folder import ClickSource, PreparedFolder, open_source
from data.sessions import SessionCounts, Sessions, coded, reindex
from data.statistics import describe
from recsys.bundle.golden import open_predictor
from recsys.bundle.layout import MANIFEST
from recsys.bundle.manifest import Manifest, read_manifest
from recsys.console import open_console
from recsys.errors import BadInput, UnknownAttribute, WrongContent
from recsys.fileio import check_new_file, replace_file
from recsys.live.entry import ItemEntry, check_change
from recsys.live.overlay import Overlay
from recsys.predictor import Predictor
from recsys.retrieval.exact import RankingQuery
from training.baselines.newest import limits_of
from training.evaluation.compare import (
    MODEL,
    Evaluations,
    Limits,
    as_json,
    compare_with_intervals,
    evaluate_with_baselines,
)
from training.evaluation.evaluate import evaluate
from training.evaluation.new_items import evaluate_new_items
from training.evaluation.sample import MAX_CASES, sampled
from training.evaluation.trending import going_on
from training.progress import bar, warn
from training.report.examples import example_visits
from training.report.render import ReportData, render_report
from training.report.summary import show

TIMED_REQUESTS = 300
NO_OVERLAY: Mapping[str, ItemEntry] = MappingProxyType({})


@dataclass(frozen=True)
class _Clicks:
    """Sessions to test on, and those that the baselines learn from, if there are any."""

    train: Sessions | None
    test: Sessions
    counts: Sequence[SessionCounts]
    warnings: Sequence[Remark]


def evaluate_bundle(
    bundle: Path,
    clicks: ClickSource,
    console: Console,
    *,
    every_session: bool,
    print_json: bool,
    max_cases: int = MAX_CASES,
    report: Path | None = None,
    command: str = "",
    overlay: Mapping[str, ItemEntry] = NO_OVERLAY,
) -> None:
    """Evaluate a bundle on clicks and print the result.

    Args:
        bundle: Folder of the bundle.
        clicks: The click log and how to read and split it, or a prepared folder.
        console: Shows progress and tables.
        every_session: Test on every session, without baselines, instead of the test part.
        print_json: Print JSON instead of tables.
        max_cases: Next clicks to evaluate; of more, a random sample of sessions. 0: all.
        report: Write an HTML report to this file.
        command: The command line, for the report.
        overlay: Changes of the live catalogue that the bundle is tested with.

    Raises:
        BadInput: The clicks or the overlay cannot be used, or the report exists.
        BundleRefused: The bundle cannot be loaded.
    """
    if report is not None:
        check_new_file(report, "The report")
    predictor = overlaid(open_predictor(bundle), overlay)
    read = _read_clicks(clicks, every_session, console)
    warnings = [*read.warnings, *_unlike_baselines(read_manifest(bundle), read.train)]
    warn(open_console(stderr=True) if print_json else console, *warnings)
    test = sampled(read.test, max_cases)
    if test.is_part:
        console.print(test.describe("test"))
    tested = _evaluate(predictor, read, test.sessions, console)
    results = tested.results
    sentences = [] if read.train is None else limits_of(read.train)
    limits = Limits.of(test, sentences + tested.sentences)
    new_items = evaluate_new_items(predictor, test.sessions)
    comparison = compare_with_intervals(results, predictor.catalogue.counts, limits, new_items)
    metrics = as_json(results, comparison)
    if report is not None:
        content = ReportData(
            command=command,
            device="cpu",
            counts=read.counts,
            train=None if read.train is None else describe(read.train),
            test=describe(read.test),
            epochs=[],
            results=results,
            comparison=comparison,
            log_warnings=warnings,
            examples=example_visits(predictor, test.sessions, results[MODEL]),
        )
        manifest = dataclasses.replace(read_manifest(bundle), metrics=metrics)
        page = render_report(manifest, content)
        replace_file(report, lambda path: path.write_text(page, encoding="utf-8"))
    indexed = reindex(test.sessions, predictor.catalogue.item_ids)
    latency = latency_ms(predictor, coded(indexed, predictor.event_types))
    if print_json:
        print(json.dumps({**metrics, "latency_ms": latency, "model_id": predictor.model_id}))
        return
    show(results, comparison, console)
    parts = ", ".join(f"{name} {value:.2f} ms" for name, value in latency.items())
    console.print(f"One recommendation, state replayed, one thread: {parts} ({bundle / MANIFEST}).")


def _unlike_baselines(manifest: Manifest, train: Sessions | None) -> list[Remark]:
    """Return a remark where the baselines learn from other clicks than the bundle did."""
    of_bundle = [manifest.training.get(name) for name in ("clicks", "cut_off")]
    if train is None or None in of_bundle:  # of an old bundle
        return []
    if of_bundle == [len(train.items), as_cut_off(int(train.time_ms.max()))]:
        return []
    text = (
        f"The baselines learn from the {len(train.items):,} training clicks of this log, and the "
        "bundle learned from others, so they compare only roughly. --all-sessions tests the bundle "
        "alone, on every session."
    )
    return [Remark(text)]


def overlaid(predictor: Predictor, entries: Mapping[str, ItemEntry]) -> Predictor:
    """Return the predictor with these entries of the live catalogue, as the service has it.

    Raises:
        BadInput: An entry does not fit the bundle; the service would refuse it.
    """
    problems = []
    for item_id, entry in entries.items():
        try:
            check_change(predictor.catalogue, predictor.content, entry.attributes, entry.vectors)
        except (UnknownAttribute, WrongContent) as wrong:
            problems.append(f"item {item_id!r}: {wrong}")
    if problems:
        raise BadInput("The overlay cannot be used", problems)
    overlay = Overlay(predictor)
    overlay.apply(entries)
    return overlay.predictor()


def _read_clicks(clicks: ClickSource, every_session: bool, console: Console) -> _Clicks:
    with bar(console, "Reading clicks", "") as progress:
        if every_session:
            if isinstance(clicks, PreparedFolder):
                raise BadInput(
                    "The options cannot be used",
                    [
                        f"--all-sessions tests on every session of --clicks, and {clicks.path} "
                        "is split already. Leave the option out, or give --clicks."
                    ],
                )
            read = read_sessions(clicks, progress)
            return _Clicks(None, read.sessions, tuple(read.counts), read.warnings)
        prepared = open_source(clicks, progress)
        counts = tuple(prepared.counts)
        return _Clicks(prepared.train, prepared.test, counts, prepared.warnings)


def _evaluate(predictor: Predictor, read: _Clicks, test: Sessions, console: Console) -> Evaluations:
    catalogue = predictor.catalogue
    if read.train is not None:
        return evaluate_with_baselines(
            predictor, catalogue, read.train, test, console, counted=read.test
        )
    tested, counted = (reindex(part, catalogue.item_ids) for part in (test, read.test))
    with bar(console, "Testing model", "sessions") as progress:
        model = going_on(predictor, counted)
        return Evaluations({MODEL: evaluate(model, tested, len(catalogue), progress)})


def latency_ms(predictor: Predictor, sessions: Sessions) -> dict[str, float]:
    """Measure recommendations from the clicks of a session: replay, scores, top 20.

    Args:
        predictor: The model.
        sessions: Sessions of codes.

    Returns:
        p50, p90 and p99 in milliseconds, of one thread.
    """
    numbers = np.linspace(0, len(sessions) - 1, num=TIMED_REQUESTS, dtype=int).tolist()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = [_milliseconds(predictor, sessions[s].tolist()) for s in numbers]
    torch.set_num_threads(threads)
    return {f"p{q}": round(float(np.percentile(times, q)), 3) for q in (50, 90, 99)}


def _milliseconds(predictor: Predictor, clicks: Sequence[int]) -> float:
    began = time.perf_counter()
    predictor.recommend([item for item in clicks if item >= 0], RankingQuery(k=20))
    return (time.perf_counter() - began) * 1000
