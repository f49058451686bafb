"""Users of an experiment: exact shares, and only those move who must."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.bundle.experiment import PLACES, Experiment, new_experiment, read_shares
from recsys.bundle.experiment_log import EXPERIMENTS, ShareChange, log_change, read_changes
from recsys.bundle.registry import Published
from recsys.errors import BadInput

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
SECRET = b"a secret of this test"

names = st.sampled_from(["a", "b", "c"])
splits = st.dictionaries(names, st.integers(1, PLACES // 3), min_size=1).map(
    lambda places: {name: number / 100 for name, number in places.items()}
)


def places_of(experiment: Experiment, name: str) -> NDArray[np.bool_]:
    """Return which places have this variant."""
    places = np.zeros(PLACES, dtype=bool)
    for begin, end in experiment.ranges.get(name, ()):
        places[begin:end] = True
    return places


@given(st.lists(splits, min_size=2, max_size=5))
def test_only_users_that_a_share_gains_or_loses_change_their_variant(
    history: list[dict[str, float]],
) -> None:
    experiment = new_experiment(history[0], NOON)
    for shares in history[1:]:
        before, experiment = experiment, experiment.with_shares(shares)
        assert experiment.shares == shares
        assert Experiment.of_lines(experiment.lines()) == experiment
        for name in before.ranges.keys() | experiment.ranges:
            was, now = places_of(before, name), places_of(experiment, name)
            old, new = before.shares.get(name, 0), experiment.shares.get(name, 0)
            assert np.count_nonzero(was & ~now) == round(100 * max(0, old - new))
            assert np.count_nonzero(now & ~was) == round(100 * max(0, new - old))


def test_a_user_keeps_the_variant_and_experiments_are_independent() -> None:
    one = new_experiment({"new": 50.0}, NOON)
    other = Experiment("20260102-120000-000000", one.ranges)
    users = [f"user {number}" for number in range(2000)]
    drawn = {
        experiment.id: [experiment.variant_of(user, SECRET) for user in users]
        for experiment in (one, Experiment(one.id, one.ranges), other)
    }
    both = sum(pair == ("new", "new") for pair in zip(*drawn.values(), strict=True))

    assert len(drawn) == 2
    # binomial with mean 1000 and 500, five standard deviations
    assert abs(drawn[one.id].count("new") - 1000) < 5 * (2000 * 0.25) ** 0.5
    assert abs(both - 500) < 5 * (2000 * 0.25 * 0.75) ** 0.5


def test_shares_are_read_with_all_problems_at_once() -> None:
    assert read_shares(["new=10", "newer=0.05"], "old") == {"new": 10.0, "newer": 0.05}
    assert read_shares(["new=100"], "old") == {"new": 100.0}
    with pytest.raises(BadInput) as refused:
        read_shares(["a=0", "b=-1", "c=x", "d", "old=5", "e=60", "e=5", "f=41", "g=0.001"], "old")
    message = str(refused.value)
    for part in ("a=0:", "b=-1:", "c=x:", "d:", "g=0.001:", "old is the main", "e has a share"):
        assert part in message
    assert "add up to 101 %" in message


@pytest.mark.parametrize(
    "lines",
    [
        ["new 0-10"],
        ["experiment 20260102-120000-000000"],
        ["experiment ../x", "new 0-10"],
        ["experiment 20260102-120000-000000", "new 0-10", "newer 9-20"],
        ["experiment 20260102-120000-000000", "new 0-101"],
        ["experiment 20260102-120000-000000", "new 10-10"],
        ["experiment 20260102-120000-000000", "new ten"],
        ["experiment 20260102-120000-000000", "new 0-10", "new 10-20"],
    ],
)
def test_lines_that_are_no_experiment_are_refused(lines: list[str]) -> None:
    with pytest.raises(ValueError, match=r"range|experiment|variant"):
        Experiment.of_lines(lines)


def test_the_main_version_is_no_variant_of_itself() -> None:
    """A file that was edited by hand; the shares would not add up."""
    with pytest.raises(ValueError, match="old is the main version and a variant"):
        Published.of_text("old\nexperiment 20260102-120000-000000\nold 0-10\n")
    with pytest.raises(ValueError, match="it names no bundle"):
        Published.of_text("\n")


@pytest.mark.parametrize(
    "line",
    [
        b'{"time": "x", "experiment": "e", "main": "old", "shares": {"old": 90}}',
        b'{"time": 1.0, "experiment": "e", "main": "old", "shares": {"old": "x"}}',
        b'{"time": 1.0, "experiment": "e", "main": "old", "shares": ["old"]}',
        b'{"time": 1.0, "experi',
        b"\xff",
    ],
)
def test_a_damaged_line_of_the_log_is_named(line: bytes, tmp_path: Path) -> None:
    log_change(tmp_path, ShareChange(1.0, "e", "old", {"old": 90.0, "new": 10.0}))
    with (tmp_path / EXPERIMENTS).open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(BadInput, match=r"line 2 is no change of shares\. Remove it"):
        read_changes(tmp_path)
