"""If a file of a served bundle is truncated, the log names the file and the signal."""

import os
import shutil
import signal
from pathlib import Path

import httpx
import pytest

from recsys.bundle.layout import WEIGHTS
from service.server.embedded_redis import free_port
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.processes import start_fork
from tests.support.service.servers import look_until

CHANGED = f"{WEIGHTS} was changed while it is served: it has 100 bytes"
TENT = {"items": ["aurora-tent"]}


@pytest.mark.parametrize("workers", [1, 2])
def test_the_file_and_the_signal_are_in_the_log(
    trained: TrainedShop, redis_server: str, tmp_path: Path, workers: int
) -> None:
    bundle, log, port = tmp_path / "bundle", tmp_path / "log", free_port()
    shutil.copytree(trained.bundle, bundle)
    words = ["serve", "--bundle", str(bundle), "--redis", redis_server]
    words += ["--port", str(port), "--workers", str(workers)]
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx.post(f"{url}/v1/recommendations", json=TENT).status_code == 200
        except httpx.TransportError:
            return False

    server = start_fork(words, log, {**os.environ, "RECSYS_FOLLOW_SECONDS": "0.05"})
    try:
        look_until(answers, "it does not answer")
        with (bundle / WEIGHTS).open("r+b") as file:
            file.truncate(100)
        look_until(lambda: CHANGED in log.read_text(), log.read_text())
        for _ in range(20):
            answers()
        crash = "Fatal Python error: Bus error"
        look_until(lambda: crash in log.read_text(), "no bus error in the log")
        if workers == 1:
            assert server.wait(60) == -signal.SIGBUS
        else:
            explanation = "A worker ended: SIGBUS. A file of the bundle was truncated"
            look_until(lambda: explanation in log.read_text(), log.read_text())
            assert server.poll() is None
    finally:
        server.terminate()
        server.wait(60)
