"""`recsys evaluate`: a bundle on a click file, with latency; as tables, JSON, and a report."""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from data.click_options import ClickOptions
from data.prepare import prepare, read_sessions
from data.sessions import Sessions, reindex
from data.statistics import describe
from recsys.bundle.golden import open_predictor
from recsys.bundle.layout import MANIFEST
from recsys.bundle.manifest import read_manifest
from recsys.console import open_console
from recsys.fileio import check_new_file, replace_file
from recsys.predictor import Predictor
from recsys.retrieval.exact import RankingQuery
from training.evaluation.compare import compare_with_intervals
from training.evaluation.evaluate import evaluate
from training.evaluation.results import as_json, compare, show
from training.progress import bar, warn
from training.report.render import Story, render_report

TIMED_REQUESTS = 300


def evaluate_bundle(
    bundle: Path,
    clicks: ClickOptions,
    console: Console,
    *,
    every_session: bool,
    print_json: bool,
    report: Path | None = None,
    command: str = "",
) -> None:
    """Test a bundle on a click file, split as in training or, `every_session`, whole."""
    if report is not None:
        check_new_file(report, "The report")
    predictor = open_predictor(bundle)
    with bar(console, "Reading clicks", "") as progress:
        if every_session:
            read = read_sessions(clicks, progress)
            train, test, counts = None, read.sessions, tuple(read.counts)
            duplicates = read.duplicates
        else:
            prepared = prepare(clicks, progress)
            train, test, counts = prepared.train, prepared.test, tuple(prepared.counts)
            duplicates = prepared.duplicates
    warn(open_console(stderr=True) if print_json else console, duplicates.warning)
    if train is None:
        tested = reindex(test, predictor.catalogue.item_ids)
        with bar(console, "Testing model", "sessions") as progress:
            results = {"model": evaluate(predictor, tested, len(predictor.catalogue), progress)}
    else:
        results = compare(predictor, predictor.catalogue, train, test, console)
    manifest = read_manifest(bundle)
    comparison = compare_with_intervals(results, predictor.catalogue.counts)
    metrics = as_json(results, comparison)
    if report is not None:
        story = Story(
            command=command,
            device="cpu",
            counts=counts,
            train=None if train is None else describe(train),
            test=describe(test),
            epochs=[],
            results=results,
            comparison=comparison,
            duplicates=duplicates,
        )
        page = render_report(dataclasses.replace(manifest, metrics=metrics), story)
        replace_file(report, lambda path: path.write_text(page, encoding="utf-8"))
    latency = latency_ms(predictor, reindex(test, predictor.catalogue.item_ids))
    if print_json:
        print(json.dumps({**metrics, "latency_ms": latency, "model_id": predictor.model_id}))
        return
    show(results, comparison, console)
    parts = ", ".join(f"{name} {value:.2f} ms" for name, value in latency.items())
    console.print(f"One recommendation, state replayed, one thread: {parts} ({bundle / MANIFEST}).")


def latency_ms(predictor: Predictor, sessions: Sessions) -> dict[str, float]:
    """Percentiles of answering one session from its clicks: replay, scores, top 20."""
    picked = np.linspace(0, len(sessions) - 1, num=TIMED_REQUESTS, dtype=int).tolist()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = [_milliseconds(predictor, sessions[s].tolist()) for s in picked]
    torch.set_num_threads(threads)
    return {f"p{q}": round(float(np.percentile(times, q)), 3) for q in (50, 90, 99)}


def _milliseconds(predictor: Predictor, clicks: Sequence[int]) -> float:
    began = time.perf_counter()
    predictor.recommend([item for item in clicks if item >= 0], RankingQuery(k=20))
    return (time.perf_counter() - began) * 1000
