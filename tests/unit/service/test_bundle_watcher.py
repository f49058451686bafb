"""What a shelf's pointer and a note to other workers say is served, and nothing ends that."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from recsys.bundle.layout import MANIFEST
from recsys.bundle.registry import publish
from service.bundle_watcher import SharedVersionFile
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.service.registry_service import Served, serving, until


@pytest.fixture
async def served(
    trained: TrainedShop, other_bundle: Path, tmp_path: Path, redis_url: str
) -> AsyncIterator[Served]:
    async with serving(trained.bundle, other_bundle, tmp_path, redis_url) as found:
        yield found


async def test_the_pointer_is_followed(served: Served) -> None:
    publish(served.shelf, "new")

    await until(served, served.model_id("new"))


async def test_a_pointer_that_did_not_move_takes_no_reload_back(served: Served) -> None:
    await served.reload(bundle="new")

    await asyncio.sleep(0.3)

    assert await served.model() == served.model_id("new")


async def test_what_nobody_foresaw_in_a_bundle_does_not_end_the_following(served: Served) -> None:
    manifest = served.shelf / "broken" / MANIFEST
    shutil.copytree(served.shelf / "new", manifest.parent)
    for damage in (
        '"retrieval": null',
        '"retrieval": []',
        '"created": 5',
        '"window": 1' + "0" * 30,
    ):
        whole = (served.shelf / "new" / MANIFEST).read_text().rstrip()
        manifest.write_text(f"{whole[:-1]}, {damage}}}")  # the last of two counts
        publish(served.shelf, "broken")
        answer = await served.reload(bundle="broken")
        assert answer.status_code == 422, damage
    await asyncio.sleep(0.2)

    publish(served.shelf, "new")

    await until(served, served.model_id("new"))


async def test_the_same_name_written_again_is_a_new_wish(served: Served) -> None:
    await served.reload(bundle="new")

    publish(served.shelf, "old")  # which the pointer said before

    await until(served, served.model_id("old"))


def test_a_note_to_other_workers_counts_until_the_pointer_is_written(tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    for name in ("a", "b"):
        (shelf / name).mkdir(parents=True)
        (shelf / name / MANIFEST).write_text("{}")
    publish(shelf, "a")
    note = SharedVersionFile(tmp_path / "note", shelf)
    assert note.read() is None

    note.write(shelf / "b")
    wish = note.read()
    assert wish is not None
    assert wish.folder == shelf / "b"

    publish(shelf, "a")
    assert note.read() is None


def test_notes_written_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    note = SharedVersionFile(tmp_path / "note", tmp_path)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(note.write, [tmp_path / str(number) for number in range(200)]))

    assert note.read() is not None
    assert [path.name for path in tmp_path.iterdir()] == ["note"]
