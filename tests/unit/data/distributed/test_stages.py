"""A run that was stopped goes on after its last finished stage, to the same bytes."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from data.click_options import ClickOptions
from data.distributed.prepare import NAMES, Preparation, in_stages
from data.distributed.ranges import BlockSizes
from data.distributed.runner import Runner, WorkersFailed
from data.files import Progress
from data.prepared.run import in_memory, make_folder, unfinished
from data.synthetic import write_shop
from recsys.errors import BadInput, Interrupted

TITLES = {
    "read": "Reading clicks",
    "cut": "Cutting sessions",
    "ordered": "Ordering sessions",
    "split": "Splitting",
    "filtered": "Filtering",
    None: "Writing",  # no stage is left
}
STOPPED_AT = list(TITLES.values())[1:]


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a log of 200 sessions of a synthetic shop."""
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder, makers=1, sessions=200)
    return folder / "clicks.csv"


@pytest.fixture(scope="module")
def undisturbed(clicks: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    options = ClickOptions(clicks, min_support=3)
    folder = tmp_path_factory.mktemp("memory") / "out"
    return contents(make_folder(folder, options, in_memory(options))[0].path)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@dataclass
class Runs:
    """Runs of one preparation; each notes the stages that it shows, and what it says."""

    clicks: Path
    out: Path
    shown: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @property
    def work(self) -> Path:
        return unfinished(self.out)

    def run(
        self, failing_at: str = "", failure: BaseException | None = None, **options: int
    ) -> None:
        """Prepare the clicks; raise the failure at the beginning of a stage."""
        self.shown.clear()
        self.said.clear()

        @contextmanager
        def stage(title: str) -> Iterator[Progress]:
            if title == failing_at and failure is not None:
                raise failure
            self.shown.append(title)
            yield lambda done, total: None

        clicks = ClickOptions(self.clicks, **{"min_support": 3, **options})  # type: ignore[arg-type]
        sizes = BlockSizes(block_bytes=4_000, blocks=1)
        preparation = Preparation(clicks, self.work, 300, stage, self.said.append, sizes)
        make_folder(self.out, clicks, in_stages(preparation, lambda spill: nullcontext(Runner())))

    def stop_at(self, title: str) -> None:
        with pytest.raises(Interrupted, match="The same command goes on after them"):
            self.run(title, KeyboardInterrupt())


@pytest.fixture
def runs(clicks: Path, tmp_path: Path) -> Runs:
    return Runs(clicks, tmp_path / "out")


@pytest.mark.parametrize("title", STOPPED_AT)
def test_a_stopped_run_goes_on_after_its_last_stage(
    runs: Runs, undisturbed: dict[str, bytes], title: str
) -> None:
    runs.stop_at(title)
    assert not runs.out.exists()

    runs.run()

    assert runs.shown[0] == title
    assert contents(runs.out) == undisturbed
    assert [path.name for path in runs.out.parent.iterdir()] == ["out"]


def test_a_run_that_is_stopped_again_and_again_ends(
    runs: Runs, undisturbed: dict[str, bytes]
) -> None:
    for title in STOPPED_AT:
        runs.stop_at(title)

    runs.run()

    assert runs.shown == ["Writing"]
    assert contents(runs.out) == undisturbed


def test_a_run_that_is_stopped_in_its_first_stage_leaves_nothing(runs: Runs) -> None:
    with pytest.raises(KeyboardInterrupt):
        runs.run("Reading clicks", KeyboardInterrupt())

    assert list(runs.out.parent.iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.unlink(),
    ],
    ids=["truncated", "missing"],
)
@pytest.mark.parametrize("title", STOPPED_AT)
def test_a_damaged_file_between_stages_is_found(
    runs: Runs, undisturbed: dict[str, bytes], title: str, damage: Callable[[Path], object]
) -> None:
    runs.stop_at(title)
    files = [path for path in runs.work.glob("*/**/*") if path.is_file() and path.stat().st_size]
    damage(files[0])

    runs.run()

    assert str(files[0]) in runs.said[0]
    assert "begin anew" in runs.said[0]
    assert contents(runs.out) == undisturbed


def test_a_record_that_was_cut_off_is_no_record(runs: Runs, undisturbed: dict[str, bytes]) -> None:
    runs.stop_at("Splitting")
    record = runs.work / "ordered.json"
    record.write_bytes(record.read_bytes()[:-1])

    runs.run()

    assert contents(runs.out) == undisturbed


def test_other_options_begin_anew(runs: Runs) -> None:
    runs.stop_at("Splitting")

    runs.run(min_length=3)

    assert "is of other clicks, options or version, and begins anew" in runs.said[0]
    assert list(dict.fromkeys(runs.shown)) == list(TITLES.values())


@pytest.mark.parametrize(
    "failure",
    [WorkersFailed("Lost", ["the cluster was lost."]), OSError(errno.ENOSPC, "full")],
    ids=["workers", "disk"],
)
def test_a_failure_that_is_not_of_the_clicks_keeps_finished_stages(
    runs: Runs, undisturbed: dict[str, bytes], failure: Exception
) -> None:
    with pytest.raises(BadInput, match="The same command goes on after them") as caught:
        runs.run("Ordering sessions", failure)
    assert isinstance(failure, WorkersFailed) or "No space left on device" in str(caught.value)

    runs.run()

    assert runs.shown[0] == "Ordering sessions"
    assert contents(runs.out) == undisturbed


def test_clicks_that_cannot_be_used_leave_nothing(runs: Runs) -> None:
    """No item has so many clicks; all stages but the last have ended by then."""
    with pytest.raises(BadInput, match="No training session is left"):
        runs.run(min_support=100_000)

    assert list(runs.out.parent.iterdir()) == []


def test_every_stage_is_stopped_by_a_test() -> None:
    assert [name for name in TITLES if name is not None] == list(NAMES)
