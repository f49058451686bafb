"""Several workers share a port, and a worker that ends is replaced."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from service.server.embedded_redis import free_port
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.processes import start_fork
from tests.support.service.processes import family, resident
from tests.support.service.servers import look_until, served

TENT = "aurora-tent"
PATH = "/v1/recommendations"


@pytest.fixture(scope="module")
def url(trained: TrainedShop, redis_server: str) -> Iterator[str]:
    with served(trained.bundle, redis_server, RECSYS_WORKERS="2") as found:
        yield found


def ask(url: str, user: str) -> httpx.Response:
    """Ask on a new connection, which the kernel gives to any worker."""
    return httpx.post(url + PATH, json={"user_id": user, "item_id": TENT}, timeout=10)


def workers_of(url: str) -> set[int]:
    """Return the ids of the processes that listen on the port."""
    port = f":{int(url.rsplit(':', 1)[1]):04X}"
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(port) and row[3] == "0A"}
    return {
        int(folder.parent.name)
        for folder in Path("/proc").glob("[0-9]*/fd")
        if sockets.intersection(open_files(folder))
    }


def open_files(folder: Path) -> Iterator[str]:
    """Yield what the open files of a process are; a process closes and opens files meanwhile."""
    with suppress(OSError):  # the process has ended or belongs to another user
        for link in folder.iterdir():
            with suppress(FileNotFoundError):  # this file was closed
                yield str(link.readlink())


def test_metrics_are_the_sums_of_all_workers(url: str) -> None:
    for number in range(30):
        assert ask(url, f"user {number}").status_code == 200

    shown = {httpx.get(url + "/metrics", timeout=10).text for _ in range(4)}
    name = f'recsys_requests_total{{method="POST",route="{PATH}",status="200"}}'
    counts = {
        float(row.rsplit(" ", 1)[1]) for text in shown for row in text.splitlines() if name in row
    }
    assert counts == {30.0}


def test_a_worker_that_is_killed_is_replaced_and_no_click_is_lost(url: str) -> None:
    before = workers_of(url)
    assert len(before) == 2
    for number in range(3):
        assert ask(url, "the survivor").json()["stored"], number
    killed = min(before)

    os.kill(killed, signal.SIGKILL)

    look_until(lambda: len(workers_of(url) - {killed}) == 2, "the worker was not replaced")
    clicks = httpx.get(f"{url}/v1/users/the%20survivor", timeout=10).json()["clicks"]
    assert len(clicks) == 3


def test_workers_share_the_memory_of_code_and_model(url: str) -> None:
    """Torch alone needs more than 100 MB; the promise is 250 MB a worker, with items."""
    for number in range(30):
        assert ask(url, f"visitor {number}").status_code == 200

    own = [resident(pid).private for pid in workers_of(url)]

    assert max(own) < 120, own


def test_a_stop_ends_workers_that_have_just_started(
    trained: TrainedShop, redis_server: str
) -> None:
    command = [sys.executable, "-m", "recsys", "serve", "--bundle", str(trained.bundle)]
    command += ["--redis", redis_server, "--port", str(free_port()), "--workers", "2"]
    supervisor = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        while len(started := family(supervisor.pid)) < 2:
            assert supervisor.poll() is None
            time.sleep(0.005)
        supervisor.send_signal(signal.SIGTERM)
        _, output = supervisor.communicate(timeout=60)
    finally:
        supervisor.kill()

    assert supervisor.returncode == 0
    assert b"Traceback" not in output
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]


def test_workers_end_if_the_supervisor_is_killed(
    trained: TrainedShop, redis_server: str, tmp_path: Path
) -> None:
    port = free_port()
    words = ["serve", "--bundle", str(trained.bundle), "--redis", redis_server]
    words += ["--port", str(port), "--workers", "2"]
    supervisor = start_fork(words, tmp_path / "log", os.environ)
    try:
        while len(workers_of(f"http://127.0.0.1:{port}")) < 2:
            assert supervisor.poll() is None
            time.sleep(0.05)
    finally:
        supervisor.kill()
    supervisor.wait()

    look_until(lambda: not workers_of(f"http://127.0.0.1:{port}"), "a worker still listens")


def test_a_service_whose_workers_cannot_start_ends_with_the_reason(
    redis_server: str, tmp_path: Path
) -> None:
    words = ["serve", "--bundle", str(tmp_path / "none"), "--redis", redis_server]
    words += ["--port", str(free_port()), "--workers", "2"]

    ended = start_fork(words, tmp_path / "log", os.environ)

    assert ended.wait(60) == 1
    said = (tmp_path / "log").read_text()
    assert "There is no bundle folder" in said
    assert "Traceback" not in said
