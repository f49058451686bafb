import errno
import os
from pathlib import Path

import pytest

from recsys.errors import BadInput
from recsys.fileio import check_new_folder, locked_folder, new_folder, replace_file


def full_disk(path: Path) -> None:
    path.write_text("half")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path: Path) -> None:
    kept = tmp_path / "checkpoint"
    kept.write_text("whole")

    with pytest.raises(BadInput, match="No space left on device"):
        replace_file(kept, full_disk)

    assert kept.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [kept]


def test_ctrl_c_leaves_the_old_file_alone(tmp_path: Path) -> None:
    kept = tmp_path / "lists.csv"
    kept.write_text("whole")

    def interrupted(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_file(kept, interrupted)

    assert kept.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [kept]


def test_a_failing_block_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No space left"), new_folder(tmp_path / "out") as folder:
        full_disk(folder / "weights")

    assert list(tmp_path.iterdir()) == []


def test_a_finished_block_leaves_the_folder_under_its_name(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("1")
        assert not (tmp_path / "out").exists()

    assert (tmp_path / "out" / "a").read_text() == "1"


def test_an_empty_folder_is_taken_and_a_full_one_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    check_new_folder(tmp_path / "empty", "The bundle")
    with new_folder(tmp_path / "empty") as folder:
        (folder / "a").write_text("1")

    with pytest.raises(BadInput, match="not an empty folder"):
        check_new_folder(tmp_path / "empty", "The bundle")


def test_a_parent_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(BadInput, match="cannot be written"):
        check_new_folder(tmp_path / "file" / "out", "The bundle")


def test_readers_of_the_folder_may_read_its_files(tmp_path: Path) -> None:
    """A bundle is often trained by one user and served by another."""
    with new_folder(tmp_path / "out") as folder:
        (folder / "weights").write_bytes(b"1")
        (folder / "weights").chmod(0o600)

    allowed = (tmp_path / "out").stat().st_mode & 0o666
    assert (tmp_path / "out" / "weights").stat().st_mode & 0o777 == allowed


def test_a_folder_has_one_lock_at_a_time(tmp_path: Path) -> None:
    in_use = BadInput("Another run is at work", ["wait."])

    with (
        locked_folder(tmp_path, in_use),
        pytest.raises(BadInput, match="Another run"),
        locked_folder(tmp_path, in_use),
    ):
        pass
    with locked_folder(tmp_path, in_use):
        pass
    missing = tmp_path / "missing"
    with pytest.raises(BadInput, match="missing cannot be written"), locked_folder(missing, in_use):
        pass
