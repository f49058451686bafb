"""Real servers, in a process as users start them or in a thread; they end with the test."""

import contextlib
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import uvicorn
from starlette.types import ASGIApp

from service.serve import config_of
from service.server.embedded_redis import free_port
from service.settings import Settings
from tests.support.processes import Process, Start, start_python

MOST_LOOKS, LOOK_SECONDS, STOP_SECONDS = 1200, 0.05, 20.0
PATIENT = {
    "RECSYS_REDIS_TIMEOUT_MS": "2000",
    "RECSYS_REDIS_BUDGET_MS": "5000",
    "RECSYS_DEADLINE_MS": "20000",
}


def look_until(holds: Callable[[], bool], message: str) -> None:
    """Wait until a condition holds; raise `AssertionError` with the message if it never does.

    A number of looks is the limit, not a deadline: the machine may pause.
    """
    for _ in range(MOST_LOOKS):
        if holds():
            return
        time.sleep(LOOK_SECONDS)
    raise AssertionError(message)


class ServerProcess:
    """`recsys serve` in a process of its own; it can be killed and restarted on the same port."""

    def __init__(
        self,
        bundle: Path,
        redis: str,
        log: Path,
        start: Start = start_python,
        /,
        **environment: str,
    ) -> None:
        """start: starts the process; environment: settings; log: file that gets the output."""
        self.port = free_port()
        self._log, self._start = log, start
        self._words = ["serve", "--bundle", str(bundle), "--redis", redis, "--port", str(self.port)]
        self._environment = {**os.environ, **environment}
        self._process: Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._running.pid

    @property
    def log_text(self) -> str:
        return self._log.read_text(errors="replace")

    def start(self) -> None:
        """Start the process and wait until it answers."""
        self._process = self._start(self._words, self._log, self._environment)
        look_until(self._is_ready, "the server did not become ready")

    def _is_ready(self) -> bool:
        """Return whether the process answers; raise `AssertionError` if it has ended."""
        assert self._running.poll() is None, self.log_text
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/health/ready", timeout=1).status_code == 200
        return False

    def kill(self) -> None:
        """Send SIGKILL, as the kernel does when memory runs out."""
        self._running.kill()
        self._running.wait()
        self._process = None

    def stop(self) -> int:
        """Send SIGTERM, wait for the end, and return the exit status."""
        self._running.terminate()
        try:
            return self._running.wait(STOP_SECONDS)
        finally:
            self.kill()  # no effect if it has ended

    @property
    def _running(self) -> Process:
        assert self._process is not None, "the server is not running"
        return self._process

    def __enter__(self) -> "ServerProcess":
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()


@contextmanager
def served(
    bundle: Path,
    redis: str,
    log: Path | None = None,
    start: Start = start_python,
    /,
    **environment: str,
) -> Iterator[str]:
    """Run `recsys serve` with generous time limits; yield its URL."""
    with started(bundle, redis, log, start, **environment) as server:
        yield server.url


@contextmanager
def started(
    bundle: Path,
    redis: str,
    log: Path | None = None,
    start: Start = start_python,
    /,
    **environment: str,
) -> Iterator[ServerProcess]:
    """Run `recsys serve` with generous time limits; yield the process."""
    with tempfile.TemporaryDirectory() as folder:
        log = log or Path(folder) / "log"
        with ServerProcess(bundle, redis, log, start, **PATIENT | environment) as server:
            yield server
            assert server.stop() == 0, server.log_text


@contextmanager
def listening(
    app: ASGIApp,
    settings: Settings,
    count: Callable[[int], None] = lambda status: None,
    *,
    send_buffer: int | None = None,
) -> Iterator[tuple[str, int]]:
    """Run an application on the server of `recsys serve`, in a thread; yield host and port.

    count: called with the status of each request that the server refuses itself.
    send_buffer: bytes that the kernel keeps for a client that does not read.
    """
    server = uvicorn.Server(config_of(app, settings, count))
    with socket.create_server(("127.0.0.1", 0)) as bound:
        if send_buffer is not None:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            host, port = bound.getsockname()
            yield host, port
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def several_served(
    count: int, bundle: Path, redis: str, start: Start = start_python
) -> Iterator[list[str]]:
    with ExitStack() as stack:
        yield [stack.enter_context(served(bundle, redis, None, start)) for _ in range(count)]
