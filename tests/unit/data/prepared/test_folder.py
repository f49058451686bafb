"""A prepared folder gives what was written into it, and is refused where it is damaged."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given

from data.click_options import ClickOptions
from data.prepare import Prepared, prepare
from data.prepared.folder import PreparedFolder, write_prepared
from data.prepared.manifest import Origin, read_manifest
from data.sessions import Sessions
from recsys.errors import BadInput
from tests.support.training.click_logs import SmallLog, small_logs
from tests.support.training.command_line import GOOD


def assert_equal(one: Sessions | None, other: Sessions | None) -> None:
    assert (one is None) == (other is None)
    if one is None or other is None:
        return
    for name in ("items", "time_ms", "offsets"):
        first, second = getattr(one, name), getattr(other, name)
        assert first.dtype == second.dtype
        assert first.tolist() == second.tolist(), name
    assert one.item_ids == other.item_ids
    assert one.event_types == other.event_types
    for name in ("split", "events"):
        first, second = (getattr(sessions, name) for sessions in (one, other))
        assert (first is None) == (second is None)
        assert first is None or first.tolist() == second.tolist(), name


def written(folder: Path, options: ClickOptions) -> Prepared:
    prepared = prepare(options)
    folder.mkdir()
    write_prepared(folder, prepared, Origin.of(options))
    return prepared


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a prepared folder of 30 sessions of three clicks."""
    (tmp_path / "clicks.csv").write_text(GOOD)
    written(tmp_path / "prepared", ClickOptions(tmp_path / "clicks.csv"))
    return tmp_path / "prepared"


@given(log=small_logs())
def test_opening_gives_what_was_written(
    log: SmallLog, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tmp_path = tmp_path_factory.mktemp("log")
    options = log.write(tmp_path / "clicks")
    try:
        prepared = written(tmp_path / "prepared", options)
    except BadInput:
        assume(False)

    opened = PreparedFolder.at(tmp_path / "prepared").open()

    assert_equal(opened.train, prepared.train)
    assert_equal(opened.test, prepared.test)
    assert_equal(opened.valid, prepared.valid)
    assert (opened.counts, opened.duplicates) == (prepared.counts, prepared.duplicates)
    assert opened.cut_off == prepared.cut_off


def test_arrays_are_memory_maps_that_cannot_be_written(folder: Path) -> None:
    train = PreparedFolder.at(folder).open().train

    for array in (train.items, train.time_ms, train.offsets):
        assert isinstance(array.base, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_files_have_four_or_eight_bytes_a_number_and_nothing_else(folder: Path) -> None:
    """27 sessions of 3 clicks are trained on; the last tenth, 3 sessions, are tested on."""
    sizes = {path.name: path.stat().st_size for path in folder.glob("*.i*")}

    assert sizes == {
        "train.items.i32": 27 * 3 * 4,
        "train.offsets.i64": (27 + 1) * 8,
        "train.times.i64": 27 * 3 * 8,
        "test.items.i32": 3 * 3 * 4,
        "test.offsets.i64": (3 + 1) * 8,
        "test.times.i64": 3 * 3 * 8,
    }


def test_the_options_come_back_with_the_folder_as_their_path(folder: Path) -> None:
    options = ClickOptions(folder.parent / "clicks.csv")

    assert PreparedFolder.at(folder).options == replace(options, path=folder)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def change_manifest(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    values = json.loads((folder / "manifest.json").read_text())
    change(values)
    (folder / "manifest.json").write_text(json.dumps(values))


@pytest.mark.parametrize(
    "name", ["train.items.i32", "test.times.i64", "catalogue.parquet", "train.offsets.i64"]
)
def test_a_changed_bit_a_missing_byte_and_a_missing_file_are_found(folder: Path, name: str) -> None:
    flip_a_bit(folder / name)
    with pytest.raises(BadInput, match=f"{name} is damaged: its digest differs"):
        PreparedFolder.at(folder).open()

    (folder / name).write_bytes((folder / name).read_bytes()[:-1])
    with pytest.raises(BadInput, match=f"{name} (has [0-9]+ bytes, not|is damaged)"):
        PreparedFolder.at(folder).open()

    (folder / name).unlink()
    with pytest.raises(BadInput, match=f"{name} is missing. Prepare the clicks anew"):
        PreparedFolder.at(folder).open()


def test_another_version_is_named(folder: Path) -> None:
    change_manifest(folder, lambda values: values.update(format_version=1))

    with pytest.raises(BadInput, match="has format version 1; this program reads version 2"):
        PreparedFolder.at(folder)


@pytest.mark.parametrize(
    "change", [{"items": 6}, {"labelled": True}, {"files": {}}, {"events": "new"}]
)
def test_a_changed_manifest_is_damaged(folder: Path, change: dict[str, object]) -> None:
    change_manifest(folder, lambda values: values.update(change))

    with pytest.raises(BadInput, match="its digest does not fit its values"):
        PreparedFolder.at(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format_version": 2}', '{"model_id": 3}'])
def test_a_foreign_manifest_is_refused(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)

    with pytest.raises(BadInput, match=r"is damaged|is no manifest of prepared clicks"):
        read_manifest(folder)


def test_a_folder_without_manifest_a_file_and_nothing_are_refused(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    with pytest.raises(BadInput, match=r"has no manifest\.json"):
        PreparedFolder.at(folder)
    with pytest.raises(BadInput, match="is a file"):
        PreparedFolder.at(folder / "train.items.i32")
    shutil.rmtree(folder)
    with pytest.raises(BadInput, match="does not exist"):
        PreparedFolder.at(folder)
