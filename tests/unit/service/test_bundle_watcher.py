"""The watcher serves the current version of a registry and what another worker requests."""

import asyncio
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from recsys.bundle.layout import MANIFEST
from recsys.bundle.registry import publish
from service.bundle_watcher import SharedVersionFile
from tests.support.service.registry_service import RegistryService, until


async def test_the_current_version_of_the_registry_is_served(served: RegistryService) -> None:
    publish(served.registry, "new")

    await until(served, served.model_id("new"))


async def test_an_unchanged_current_version_does_not_undo_a_reload(served: RegistryService) -> None:
    await served.reload(bundle="new")

    await asyncio.sleep(0.3)

    assert await served.model() == served.model_id("new")


async def test_an_unforeseen_damage_of_a_bundle_does_not_end_the_watcher(
    served: RegistryService,
) -> None:
    manifest = served.registry / "broken" / MANIFEST
    shutil.copytree(served.registry / "new", manifest.parent)
    for damage in (
        '"retrieval": null',
        '"retrieval": []',
        '"created": 5',
        '"window": 1' + "0" * 30,
    ):
        whole = (served.registry / "new" / MANIFEST).read_text().rstrip()
        manifest.write_text(f"{whole[:-1]}, {damage}}}")  # of two equal keys the last one counts
        publish(served.registry, "broken")
        answer = await served.reload(bundle="broken")
        assert answer.status_code == 422, damage
    await asyncio.sleep(0.2)

    publish(served.registry, "new")

    await until(served, served.model_id("new"))


async def test_the_same_version_written_again_is_a_new_request(served: RegistryService) -> None:
    await served.reload(bundle="new")

    publish(served.registry, "old")  # which was the current version before

    await until(served, served.model_id("old"))


def test_a_request_to_other_workers_is_valid_until_the_current_version_is_written(
    tmp_path: Path,
) -> None:
    registry = tmp_path / "registry"
    for name in ("a", "b"):
        (registry / name).mkdir(parents=True)
        (registry / name / MANIFEST).write_text("{}")
    publish(registry, "a")
    shared_file = SharedVersionFile(tmp_path / "requested", registry)
    assert shared_file.read() is None

    shared_file.write(registry / "b")
    requested = shared_file.read()
    assert requested is not None
    assert requested.folder == registry / "b"

    publish(registry, "a")
    assert shared_file.read() is None


def test_concurrent_requests_do_not_disturb_each_other(tmp_path: Path) -> None:
    shared_file = SharedVersionFile(tmp_path / "requested", tmp_path)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(shared_file.write, [tmp_path / str(number) for number in range(200)]))

    assert shared_file.read() is not None
    assert [path.name for path in tmp_path.iterdir()] == ["requested"]
