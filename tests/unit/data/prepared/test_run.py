"""A run writes a whole folder or none, and nothing at all where nothing has changed."""

import os
from pathlib import Path

import pytest

from data.click_options import ClickOptions
from data.prepared.folder import PreparedFolder
from data.prepared.manifest import Origin
from data.prepared.run import in_memory, make_folder
from recsys.errors import BadInput
from tests.support.training.command_line import GOOD, run


@pytest.fixture
def clicks(tmp_path: Path) -> ClickOptions:
    (tmp_path / "clicks.csv").write_text(GOOD)
    return ClickOptions(tmp_path / "clicks.csv")


def file_of(options: ClickOptions) -> Path:
    assert isinstance(options.path, Path)
    return options.path


def make(options: ClickOptions) -> tuple[PreparedFolder, bool]:
    return make_folder(file_of(options).parent / "prepared", options, in_memory(options))


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_a_second_run_does_nothing(clicks: ClickOptions) -> None:
    first, wrote_first = make(clicks)
    before = contents(first.path)

    second, wrote_second = make(clicks)

    assert (wrote_first, wrote_second) == (True, False)
    assert contents(second.path) == before


def test_other_options_and_changed_files_are_named(clicks: ClickOptions) -> None:
    make(clicks)
    with pytest.raises(BadInput, match="min_length was 2 and is 3"):
        make(ClickOptions(file_of(clicks), min_length=3))

    state = file_of(clicks).stat()
    os.utime(file_of(clicks), ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    with pytest.raises(BadInput, match=r"clicks\.csv has changed"):
        make(clicks)


def test_a_new_and_a_removed_file_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "clicks"
    folder.mkdir()
    (folder / "a.csv").write_text(GOOD)
    make(ClickOptions(folder))
    (folder / "a.csv").rename(folder / "b.csv")

    with pytest.raises(BadInput) as refused:
        make(ClickOptions(folder))

    assert refused.value.problems[:2] == ("a.csv is gone.", "b.csv is new.")


def test_a_run_that_fails_leaves_nothing(clicks: ClickOptions) -> None:
    out = file_of(clicks).parent / "prepared"

    def write_half(folder: Path, origin: Origin) -> None:
        (folder / "train.items.i32").write_bytes(b"1234")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_folder(out, clicks, write_half)

    assert [path.name for path in file_of(clicks).parent.iterdir()] == ["clicks.csv"]


def test_the_rest_of_a_killed_run_is_replaced(clicks: ClickOptions) -> None:
    """A killed run leaves an empty folder and, beside it, its unfinished files."""
    out = file_of(clicks).parent / "prepared"
    out.mkdir()
    unfinished = file_of(clicks).parent / ".prepared.writing"
    unfinished.mkdir()
    (unfinished / "train.items.i32").write_bytes(b"1234")

    assert make(clicks)[1]
    assert not unfinished.exists()
    assert PreparedFolder.at(out).open().train.items.tolist()


def test_two_runs_do_not_write_one_folder(clicks: ClickOptions) -> None:
    out = file_of(clicks).parent / "prepared"

    def run_again(folder: Path, origin: Origin) -> None:
        make(clicks)

    with pytest.raises(BadInput, match="Another run is at work"):
        make_folder(out, clicks, run_again)


def test_clicks_that_change_while_they_are_read_are_refused(clicks: ClickOptions) -> None:
    out = file_of(clicks).parent / "prepared"

    def append(folder: Path, origin: Origin) -> None:
        in_memory(clicks)(folder, origin)
        file_of(clicks).write_text(GOOD + "late,i1,9999\n")

    with pytest.raises(BadInput, match=r"clicks\.csv has changed"):
        make_folder(out, clicks, append)
    assert not out.exists()


def test_a_folder_with_other_files_is_not_touched(clicks: ClickOptions) -> None:
    out = file_of(clicks).parent / "prepared"
    out.mkdir()
    (out / "notes.txt").write_text("mine")

    with pytest.raises(BadInput, match="exists and is not an empty folder"):
        make(clicks)
    assert (out / "notes.txt").read_text() == "mine"


def test_the_command_says_what_it_did(
    clicks: ClickOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    out = file_of(clicks).parent / "prepared"
    arguments = ["prepare", "--clicks", str(clicks.path), "--out", str(out)]

    first, second = run(capsys, *arguments), run(capsys, *arguments)

    assert (first[0], second[0]) == (0, 0)
    assert f"Prepared clicks are in\n  {out}" in first[2]
    assert f"Nothing has changed since the clicks were prepared in\n  {out}" in second[2]
    for said in (first[2], second[2]):
        assert f"recsys train --prepared {out}" in said
        assert "training part" in said
