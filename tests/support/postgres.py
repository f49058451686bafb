"""A private PostgreSQL of this machine, in a temporary folder; None where none is installed."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from service.server.embedded_redis import free_port
from tests.support.redis.servers import wait_until

PASSWORD = "se:cr@t/1"
ENCODED = "se%3Acr%40t%2F1"
USER = "shop"


def postgres_folder() -> Path | None:
    """Return the folder of `initdb` and `postgres`, which Debian does not put on the path."""
    found = shutil.which("initdb")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return Path(found).resolve().parent if found else debian[-1].parent if debian else None


@contextmanager
def postgres(programs: Path) -> Iterator[int]:
    """Run a server that asks the user `shop` for the password; yield its port."""
    other: dict[str, Any] = {}
    with TemporaryDirectory(prefix="pg-") as name:
        folder, port = Path(name), free_port()
        (folder / "password").write_text(PASSWORD)
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            other = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            for path in (folder, folder / "password"):
                shutil.chown(path, "nobody", "nogroup")
        subprocess.run(
            [programs / "initdb", "-D", folder / "data", "-U", USER, "--auth=scram-sha-256",
             f"--pwfile={folder / 'password'}", "--no-sync", "--no-locale", "-E", "UTF8"],
            check=True, capture_output=True, **other,
        )  # fmt: skip
        server = subprocess.Popen(
            [programs / "postgres", "-D", folder / "data", "-p", str(port), "-k", folder,
             "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **other,
        )  # fmt: skip
        try:
            ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
            wait_until(lambda: subprocess.run(ready).returncode == 0, "PostgreSQL answers")
            yield port
        finally:
            server.terminate()
            server.wait()
