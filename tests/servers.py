"""Real server processes, started as a user starts them, and ended with the test."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from service.embedded_redis import free_port

START_SECONDS = 60.0


@contextmanager
def served(bundle: Path, redis: str, **environment: str) -> Iterator[str]:
    """`recsys serve` in a process of its own; gives its URL."""
    port = free_port()
    command = [sys.executable, "-c", "from recsys.cli import main; main()", "serve"]
    command += ["--bundle", str(bundle), "--redis", redis, "--port", str(port)]
    patient = {"RECSYS_REDIS_TIMEOUT_MS": "2000", "RECSYS_REDIS_BUDGET_MS": "5000"}
    server = subprocess.Popen(
        command,
        env={**os.environ, **patient, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _await_ready(server, url)
        yield url
    finally:
        server.terminate()
        _, said = server.communicate(timeout=20)
    assert server.returncode in (0, -15), said.decode()


@contextmanager
def several_served(count: int, bundle: Path, redis: str) -> Iterator[list[str]]:
    with ExitStack() as stack:
        yield [stack.enter_context(served(bundle, redis)) for _ in range(count)]


def _await_ready(server: "subprocess.Popen[bytes]", url: str) -> None:
    latest = time.monotonic() + START_SECONDS
    while time.monotonic() < latest:
        if server.poll() is not None:
            raise AssertionError(server.communicate()[1].decode())
        try:
            if httpx.get(f"{url}/health/ready", timeout=1).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("the server did not become ready")
