"""A retraining publishes what is not worse, keeps the rest, and leaves nothing half published."""

import dataclasses
import os
import signal
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from data.content import ContentOptions
from data.prepare import Prepared
from data.sessions import known_items
from data.synthetic import Shop
from recsys.bundle.layout import MANIFEST, WEIGHTS
from recsys.bundle.load import load_bundle
from recsys.bundle.registry import list_bundles, publish, read_current, resolve_bundle
from recsys.errors import BadInput, BundleRefused, Interrupted
from tests.support.training.builders import words
from tests.support.training.command_line import run
from tests.support.training.events import DAY_SECONDS, shop_clicks, write_events
from training.retrain import publication
from training.retrain.comparison import TestCases
from training.retrain.decision import DECISIONS, Decision
from training.retrain.options import RetrainOptions
from training.retrain.publication import carry_out
from training.retrain.run import retrain
from training.retrain.work import WORK, work_in

QUIET = Console(quiet=True)
FIRST_DAY = 20_000  # since 1970; 2024-10-04
DAYS, SESSIONS = 4, 300
SETTINGS = ("hidden=16", "epochs=2", "negatives=64", "batch=32", "repeats=none")
HOPELESS = (*SETTINGS, "epochs=1", "learning_rate=0.00001", "recent_popularity=none")


def after_day(day: int) -> float:
    """Return a time after the end of this day of the shop."""
    return float((FIRST_DAY + day + 1) * DAY_SECONDS + 100)


@pytest.fixture(scope="module")
def clicks() -> pd.DataFrame:
    return pd.concat(
        [shop_clicks(Shop(makers=1), FIRST_DAY + day, SESSIONS, day) for day in range(DAYS)]
    )


@pytest.fixture(scope="module")
def options(clicks: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> RetrainOptions:
    folder = tmp_path_factory.mktemp("shop")
    (folder / "items.csv").write_text(f"item_id;colour\n{clicks['item_id'].iloc[0]};red\n")
    return RetrainOptions(
        write_events(folder / "events", clicks),
        folder / "registry",
        days=3,
        least_cases=100,
        recipe="default",
        settings=SETTINGS,
        items=folder / "items.csv",
        items_delimiter=";",
    )


class StopsAtTraining(Console):
    """Console that asks the process to stop when the training begins."""

    goes_on = False  # an interrupted run is continued

    def print(self, *objects: object, **kwargs: object) -> None:
        said = str(objects[0] if objects else "")
        self.goes_on |= "Going on with" in said
        if "Training on" in said:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def first(options: RetrainOptions) -> Decision:
    """Return the first decision of the registry, of a run that was interrupted and went on."""
    with pytest.raises(Interrupted, match="the same command goes on"):
        retrain(options, after_day(2), StopsAtTraining(quiet=True))
    assert list(options.registry.iterdir()) == [options.registry / WORK]
    assert (options.registry / WORK / "candidate.unfinished").exists()
    shown = StringIO()
    decision = retrain(options, after_day(2), Console(file=shown))
    assert "Going on with the interrupted retraining." in shown.getvalue()
    return decision


@pytest.fixture(scope="module")
def continued(options: RetrainOptions, first: Decision) -> Decision:
    """Return the decision of the next day, whose candidate continues the first model."""
    return retrain(dataclasses.replace(options, way="finetune"), after_day(3), QUIET)


def test_changed_items_or_vectors_of_the_same_name_begin_a_new_candidate(
    options: RetrainOptions, clicks: pd.DataFrame, tmp_path: Path
) -> None:
    ids = clicks["item_id"].astype(str).unique()
    items, vectors = tmp_path / "items", tmp_path / "vectors.parquet"
    items.mkdir()

    def write_items(colour: str) -> None:
        pd.DataFrame({"item_id": ids, "colour": colour}).to_csv(items / "1.csv", index=False)

    def write_vectors(number: float) -> None:
        table = pd.DataFrame({"item_id": ids, "image": [[number, 1.0]] * len(ids)})
        table.to_parquet(vectors)

    def goes_on() -> bool:
        content = ContentOptions(("colour",), (f"image={vectors}",))
        own = dataclasses.replace(
            options,
            registry=tmp_path / "registry",
            items=items,
            items_delimiter=None,
            content=content,
        )
        console = StopsAtTraining(quiet=True)
        with pytest.raises(Interrupted):
            retrain(own, after_day(2), console)
        return console.goes_on

    write_items("red")
    write_vectors(1.0)
    seen = [goes_on(), goes_on()]
    write_items("blue")
    seen.append(goes_on())
    write_vectors(2.0)
    seen.append(goes_on())

    assert seen == [False, True, False, False]


def test_the_first_model_is_published_where_it_beats_popularity(
    options: RetrainOptions, first: Decision
) -> None:
    assert (first.published, first.compared_with) == (True, None)
    assert first.verdict.margin == 0
    assert "the most popular items" in first.reason
    bundle = load_bundle(options.registry / first.bundle)
    assert bundle.manifest.model_id == first.model_id
    assert "red" in bundle.catalogue.attributes["colour"]
    assert list((options.registry / WORK).iterdir()) == []


def test_a_day_is_decided_once(options: RetrainOptions, first: Decision) -> None:
    assert retrain(options, after_day(2) + 3600, QUIET) == first


def test_a_finetuned_model_counts_the_clicks_of_all_days(
    options: RetrainOptions, first: Decision, continued: Decision, clicks: pd.DataFrame
) -> None:
    """The popular list comes from the counts; only the weights learn from the new day alone."""
    bundle = load_bundle(options.registry / continued.bundle)
    border = (FIRST_DAY + 3) * DAY_SECONDS
    trained = clicks[
        (clicks["timestamp"] >= border - 2 * DAY_SECONDS) & (clicks["timestamp"] < border)
    ]
    expected = trained["item_id"].value_counts()

    assert (continued.way, continued.compared_with) == ("finetune", first.bundle)
    assert bundle.manifest.training["parent"] == first.model_id
    counted = dict(zip(bundle.catalogue.item_ids, bundle.catalogue.counts.tolist(), strict=True))
    assert {item: max(int(expected.get(item, 0)), 1) for item in counted} == counted


def test_a_worse_model_is_kept_out_with_exit_code_3(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: RetrainOptions,
    continued: Decision,
) -> None:
    before, current = list_bundles(options.registry), resolve_bundle(options.registry)
    monkeypatch.setattr("recsys.cli.retrain.time.time", lambda: after_day(3))

    code, _, error = run(
        capsys, "retrain", "--events", str(options.events), "--registry", str(options.registry),
        "--days", "3", "--recipe", "default", "--again",
        *[word for setting in HOPELESS for word in ("--set", setting)],
    )  # fmt: skip

    assert code == 3, error
    assert f"Kept {current.name}" in error
    assert (list_bundles(options.registry), resolve_bundle(options.registry)) == (before, current)
    assert (options.registry / DECISIONS).read_text().count("\n") == 3


def test_a_service_shows_an_error_and_waits(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("recsys.cli.retrain.time.sleep", sleep)

    code, _, error = run(
        capsys, "retrain", "--events", str(tmp_path / "none"), "--registry", str(tmp_path / "new"),
        "--every", "1h",
    )  # fmt: skip

    assert (code, waits) == (130, [3600.0, 3600.0])
    assert error.count("error: The events folder cannot be used") == 2


@pytest.mark.parametrize("step", ["publish", "add_decision", "write_page"])
def test_a_decision_is_carried_out_by_the_next_run(
    options: RetrainOptions,
    continued: Decision,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    """A full disk, or a kill, may come between any two steps."""
    registry = tmp_path / "registry"
    with work_in(registry) as work:
        (options.registry / continued.bundle).rename(work.candidate)
        work.decide(dataclasses.replace(continued, compared_with=None))

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    try:
        with monkeypatch.context() as patch:
            patch.setattr(publication, step, fail)
            with pytest.raises(OSError, match="No space left"):
                retrain(dataclasses.replace(options, registry=registry), after_day(3), QUIET)
        done = retrain(dataclasses.replace(options, registry=registry), after_day(3), QUIET)
    finally:
        (registry / continued.bundle).rename(options.registry / continued.bundle)

    assert done.published
    assert (registry / "current").read_text() == f"{continued.bundle}\n"
    assert (registry / DECISIONS).read_text().count("\n") == 1
    assert list((registry / WORK).iterdir()) == []


def test_a_candidate_is_not_published_over_a_model_that_it_was_not_compared_with(
    options: RetrainOptions, first: Decision, continued: Decision, tmp_path: Path
) -> None:
    for name in ("compared", "another"):
        (tmp_path / name).mkdir()
        (tmp_path / name / MANIFEST).write_text("{}")
    publish(tmp_path, "another")
    decision = dataclasses.replace(continued, compared_with="compared")

    changed = pytest.raises(BadInput, match="has changed during the run, from compared to another")
    with work_in(tmp_path) as work, changed:
        carry_out(dataclasses.replace(options, registry=tmp_path), work, decision, QUIET)

    assert resolve_bundle(tmp_path) == tmp_path / "another"


def test_an_experiment_is_not_ended_unasked(options: RetrainOptions, tmp_path: Path) -> None:
    for name in ("main", "variant"):
        (tmp_path / name).mkdir()
        (tmp_path / name / MANIFEST).write_text("{}")
    publish(tmp_path, "main", {"variant": 10})

    with pytest.raises(BadInput, match=r"main 90 %, variant 10 %.* or give --keep-shares"):
        retrain(dataclasses.replace(options, registry=tmp_path), after_day(3), QUIET)


def test_a_new_main_version_keeps_the_shares(
    options: RetrainOptions, continued: Decision, tmp_path: Path
) -> None:
    for name in ("main", "variant", continued.bundle):
        (tmp_path / name).mkdir()
        (tmp_path / name / MANIFEST).write_text("{}")
    publish(tmp_path, "main", {"variant": 10})
    given = dataclasses.replace(options, registry=tmp_path, keep_shares=True)

    with work_in(tmp_path) as work:
        carry_out(given, work, dataclasses.replace(continued, compared_with="main"), QUIET)

    assert read_current(tmp_path).shares == {continued.bundle: 90, "variant": 10}


def lose_the_current_version(registry: Path) -> None:
    (registry / "current").write_text("20200101-000000\n")


def damage_the_current_version(registry: Path) -> None:
    bundle = registry / "damaged"
    bundle.mkdir()
    (bundle / MANIFEST).write_text("{}")
    (bundle / WEIGHTS).write_text("")
    publish(registry, bundle.name)


@pytest.mark.parametrize("damage", [lose_the_current_version, damage_the_current_version])
def test_nothing_is_trained_where_the_current_version_is_broken(
    options: RetrainOptions, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    damage(tmp_path)

    with pytest.raises(BundleRefused, match=r"No candidate can be compared .* recsys publish"):
        retrain(dataclasses.replace(options, registry=tmp_path), after_day(3), QUIET)


@pytest.mark.parametrize(
    ("changes", "day", "message"),
    [
        ({}, 40, r"no new clicks .*no session begins from .*\n.*the newest complete day"),
        ({}, DAYS, "the newest complete day. Check that recsys collect runs"),
        ({}, 0, "no session begins from 2024-10-02 to 2024-10-04"),
        ({"least_cases": 10**6}, 3, r"[\d,]+ next clicks, and at least 1,000,000 are needed"),
        ({"events": Path("nothing")}, 3, "nothing has no recsys-events.json"),
    ],
)
def test_clicks_that_cannot_be_compared_on_are_refused_before_training(
    options: RetrainOptions, tmp_path: Path, changes: dict[str, Any], day: int, message: str
) -> None:
    given = dataclasses.replace(options, registry=tmp_path / "registry", **changes)

    with pytest.raises(BadInput, match=f"(?s){message}"):
        retrain(given, after_day(day), QUIET)

    assert not (given.registry / DECISIONS).exists()


def test_two_retrainings_do_not_run_at_once(options: RetrainOptions, tmp_path: Path) -> None:
    with work_in(tmp_path), pytest.raises(BadInput, match="Another retraining is at work"):
        retrain(dataclasses.replace(options, registry=tmp_path), after_day(3), QUIET)


def test_wrong_options_are_named_together() -> None:
    with pytest.raises(BadInput, match=r"(?s)--way.*--days.*--margin.*--keep"):
        RetrainOptions(Path(), Path(), days=1, way="best", margin=1.0, keep=1)


def test_sessions_that_the_current_model_has_learned_from_are_left_out() -> None:
    """Its last training click may be in the tested days."""
    log = words("ab", "bc", "ca", "ab")  # begin at 0, 1, 2 and 3 seconds
    prepared = Prepared(log.part(0, 1), log.part(1, 4), None, [], None)  # type: ignore[arg-type]

    cases = TestCases.of(prepared, seen_until_ms=2000, least_cases=2)

    assert cases.seen_sessions == 1
    assert cases.sessions.starts_ms.tolist() == [2000, 3000]
    assert known_items(cases.counted) == known_items(log)
    assert np.array_equal(cases.counted.time_ms, log.time_ms)
    with pytest.raises(BadInput, match="without 2 sessions that the current model has learned"):
        TestCases.of(prepared, seen_until_ms=3000, least_cases=2)
