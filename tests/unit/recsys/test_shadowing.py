"""A file of the user that hides one of our packages is named."""

from pathlib import Path

import pytest

import recsys
import recsys_client
from recsys.errors import BadInput
from recsys.shadowing import check_packages
from tests.support.python_process import python


def test_a_file_of_the_user_that_hides_a_package_of_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "clicks.csv").write_text("session_id,item_id,timestamp\n")
    (tmp_path / "data.py").write_text("")

    done = python("import recsys; recsys.fit('clicks.csv')", cwd=tmp_path)

    assert f"{tmp_path / 'data.py'} is found instead of the package 'data' in " in done.stderr
    assert "Rename it, or take its folder off PYTHONPATH." in done.stderr


def test_folders_of_data_beside_a_script_hide_nothing(tmp_path: Path) -> None:
    for name in ("data", "training", "service"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "clicks.csv").write_text("")
    check_packages()

    done = python("from recsys.shadowing import check_packages; check_packages()", cwd=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")


def test_a_client_of_another_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both distributions hold `recsys_client`; the one that was installed last has written it."""
    monkeypatch.setattr(recsys_client, "__version__", "9.0")

    with pytest.raises(BadInput, match=r"recsys_client.* is of version 9\.0, but session-recsys"):
        check_packages()


def test_both_distributions_have_one_version() -> None:
    assert recsys_client.__version__ == recsys.__version__
