"""Real servers, in a process as users start them or in a thread, ended with the test."""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import uvicorn
from starlette.types import ASGIApp

from service.commands import config_of
from service.embedded_redis import free_port
from service.settings import Settings

START_SECONDS = 60.0


@contextmanager
def served(bundle: Path, redis: str, log: Path | None = None, **environment: str) -> Iterator[str]:
    """`recsys serve` in a process of its own; gives its URL. What it says is added to `log`."""
    port = free_port()
    command = [sys.executable, "-c", "from recsys.cli import main; main()", "serve"]
    command += ["--bundle", str(bundle), "--redis", redis, "--port", str(port)]
    patient = {"RECSYS_REDIS_TIMEOUT_MS": "2000", "RECSYS_REDIS_BUDGET_MS": "5000"}
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        log = log or Path(folder) / "log"
        with log.open("ab") as said:
            server = subprocess.Popen(
                command, env={**os.environ, **patient, **environment}, stdout=said, stderr=said
            )
        try:
            _await_ready(server, url, log)
            yield url
        finally:
            server.terminate()
            server.wait(timeout=20)
        assert server.returncode in (0, -15), log.read_text()


@contextmanager
def listening(app: ASGIApp, settings: Settings) -> Iterator[tuple[str, int]]:
    """An application on the server that `recsys serve` uses, in a thread; gives host and port."""
    server = uvicorn.Server(config_of(app, settings))
    with socket.create_server(("127.0.0.1", 0)) as bound:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            host, port = bound.getsockname()
            yield host, port
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def several_served(count: int, bundle: Path, redis: str) -> Iterator[list[str]]:
    with ExitStack() as stack:
        yield [stack.enter_context(served(bundle, redis)) for _ in range(count)]


def _await_ready(server: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    latest = time.monotonic() + START_SECONDS
    while time.monotonic() < latest:
        if server.poll() is not None:
            raise AssertionError(log.read_text())
        try:
            if httpx.get(f"{url}/health/ready", timeout=1).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("the server did not become ready")
