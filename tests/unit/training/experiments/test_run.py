"""Events of an experiment become counts, a verdict and a page."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data.events.reading import read_events
from recsys.bundle.experiment_log import ShareChange, log_change
from recsys.errors import BadInput
from tests.support.training.command_line import run
from tests.support.training.experiment_events import Clicked, Shown, write_events
from training.experiments import outcomes
from training.experiments.run import CompareOptions, compare_events
from training.experiments.sample_ratio import Period, count_first_seen, sample_ratio

DAY = 86_400.0
BEGIN = 1_767_225_600.0  # 2026-01-01, 00:00 UTC
ID = "20260101-000000-000001"


def at(day: int, second: float = 0.0) -> float:
    return BEGIN + day * DAY + second


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """Return the log of an experiment whose share grows after a day."""
    folder = tmp_path / "registry"
    folder.mkdir()
    for day, new in ((0, 10.0), (1, 50.0)):
        log_change(folder, ShareChange(at(day), ID, "old", {"old": 100 - new, "new": new}))
    return folder


@pytest.fixture
def events(tmp_path: Path) -> Path:
    shown = [
        Shown(at(0, 110), "ada", "l0", "old"),  # before the shares changed: only the split counts
        Shown(at(1, 110), "ada", "l1", "old"),
        Shown(at(1, 120), "ada", "l2", "old"),
        Shown(at(2, 10), "ada", "l3", "old"),
        Shown(at(1, 110), "bob", "l4", "new"),
        Shown(at(1, 111), "bob", "l5", "new", ["c"]),
        Shown(at(1, 110), "eve", "l6", "new"),
        Shown(at(1, 130), "eve", "l7", "old"),  # two variants: left out
        Shown(at(1, 110), "dan", "l8", None),  # a service without the experiment
        *(Shown(at(2, number), "bot", f"b{number}", "new") for number in range(200)),
    ]
    clicked = [
        Clicked(at(0, 120), "ada", "a"),
        Clicked(at(1, 125), "ada", "a"),  # of l2, the newest
        Clicked(at(1, 126), "ada", "b", "l2"),  # the same list once more
        Clicked(at(2, 11), "ada", "a", None, "order"),  # of l3, and of an item clicked before
        Clicked(at(1, 112), "bob", "c"),
        Clicked(at(1, 112), "bob", "x"),  # no list showed it
        Clicked(at(1, 199), "bob", "x", None, "order"),
        Clicked(at(1, 199), "bob", "c", None, "order"),
        Clicked(at(1, 140), "eve", "a"),
        Clicked(at(2, 199.5), "bot", "a", "b199"),  # beyond the lists that count
    ]
    return write_events(tmp_path / "events", shown, clicked)


def test_lists_clicks_and_conversions_are_counted_after_the_last_change(
    events: Path, registry: Path
) -> None:
    compared = compare_events(CompareOptions(events, registry, conversion="order"))

    old, new = compared.comparison.variants
    assert (compared.experiment, compared.begin) == (ID, at(1))
    assert (old.name, old.users, old.lists, old.clicked, old.conversions) == ("old", 1, 3, 2, 1)
    assert (new.name, new.users, new.lists, new.clicked, new.conversions) == (
        "new",
        2,
        2 + 100,
        1,
        1,
    )
    assert compared.comparison.days == 2
    ratio = compared.comparison.sample_ratio
    assert ratio is not None
    assert ratio.users == {"old": 1, "new": 3}  # each at its first list
    assert ratio.expected == {"old": 0.9 + 3 * 0.5, "new": 0.1 + 3 * 0.5}
    assert "1 users got lists of several variants" in " ".join(compared.notes)
    assert "100 lists beyond 100" in " ".join(compared.notes)


def test_users_who_are_first_seen_while_processes_follow_a_change_are_not_counted(
    tmp_path: Path,
) -> None:
    shown = [
        Shown(at(0, 100), "ada", "l0", "old"),
        Shown(at(1, 1), "bob", "l1", "old"),  # of a process that does not know the change yet
        Shown(at(1, 59), "eve", "l2", "new"),
        Shown(at(1, 60), "dan", "l3", "new"),
        Shown(at(1, 99), "eve", "l4", "new"),
    ]
    periods = [
        Period(at(0), at(1), {"old": 50.0, "new": 50.0}),
        Period(at(1), at(2), {"old": 0.0, "new": 100.0}),
    ]

    counts = count_first_seen(write_events(tmp_path / "events", shown, []), periods)

    assert counts == [{"old": 1}, {"new": 1}]
    assert not sample_ratio(counts, periods).is_mismatch
    assert sample_ratio([{}, {"old": 1, "new": 9}], periods).is_mismatch  # old has no share
    assert sample_ratio([{"old": 5, "new": 5, "gone": 1}, {}], periods).is_mismatch


def test_without_a_registry_the_events_name_the_variants(events: Path) -> None:
    compared = compare_events(CompareOptions(events))

    assert [each.name for each in compared.comparison.variants] == ["new", "old"]
    assert compared.comparison.sample_ratio is None
    assert "The shares are not known" in " ".join(compared.notes)


def test_the_command_prints_a_verdict_and_writes_a_page(
    events: Path, registry: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, given = tmp_path / "page.html", ("--events", str(events), "--registry", str(registry))

    code, printed, _ = run(capsys, "compare", *given, "--out", str(page))
    assert code == 0
    assert "new cannot be compared with old yet" in printed
    text = page.read_text(encoding="utf-8")
    assert "new cannot be compared with old yet" in text
    assert text.count("<svg") == 2
    assert "http-equiv" in text

    code, printed, _ = run(capsys, "compare", *given, "--json")
    assert json.loads(printed)["comparison"]["variants"][1]["clicked"] == 1

    code, _, message = run(capsys, "compare", *given, "--experiment", "20250101-000000-000009")
    assert (code, message.count("\n")) == (2, 1)
    assert f"It has {ID}" in message
    code, _, message = run(capsys, "compare", *given, "--since", "2027-01-01")
    assert code == 2
    assert "no list of an experiment" in message


def test_days_without_clicks_or_lists_are_compared(tmp_path: Path) -> None:
    shown = [Shown(at(0, 10), "ada", "l0", "old"), Shown(at(3, 10), "bob", "l1", "new")]
    events = write_events(tmp_path / "events", shown, [])
    compared = compare_events(CompareOptions(events))
    assert [each.clicked for each in compared.comparison.variants] == [0, 0]
    assert "old cannot be compared with new yet" in " ".join(compared.verdict)


def test_days_without_events_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of Redis was 40 years ahead for a moment."""
    times = (at(0, 10), at(1, 10), at(40 * 365, 10))
    shown = [Shown(time, f"{v}{time}", f"l{time}", v) for v in ("old", "new") for time in times]
    events = write_events(tmp_path / "events", shown, [])
    read: list[float | None] = []

    def read_counted(path: Path, kind: str, since: float | None, *more: Any) -> pa.Table:
        read.append(since)
        return read_events(path, kind, since, *more)

    monkeypatch.setattr(outcomes, "read_events", read_counted)
    compared = compare_events(CompareOptions(events))
    assert compared.comparison.days == 40 * 365 + 1
    assert len(read) <= 2 * 2 * len(times)  # lists and clicks; an hour may touch two days


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    events = write_events(tmp_path / "one", [Shown(at(0, 10), "ada", "l0", "old")], [])
    with pytest.raises(BadInput, match="has lists of the variant old only"):
        compare_events(CompareOptions(events))
    with pytest.raises(BadInput, match=r"the log of the registry has no experiment\. Begin"):
        compare_events(CompareOptions(events, tmp_path))
    with pytest.raises(BadInput, match="--experiment x needs --registry"):
        CompareOptions(events, experiment="x")
    both = [Shown(at(0, 10), "ada", "l0", "old"), Shown(at(0, 20), "ada", "l1", "new")]
    with pytest.raises(BadInput, match=r"each of the 1 users in .* got lists of several variants"):
        compare_events(CompareOptions(write_events(tmp_path / "both", both, [])))
    log_change(tmp_path, ShareChange(at(0), ID, "old", {}))  # its begin was written by hand
    with pytest.raises(BadInput, match=r"has the end of experiment .* and no shares of it"):
        compare_events(CompareOptions(events, tmp_path))
