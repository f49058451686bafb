"""Real redis-servers: to be killed, started again, spoken TLS with, put together to a cluster."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import redis as redis_py

from service.embedded_redis import find_redis_server, free_port

START_SECONDS = 10.0
SLOTS = 16384
BUS = 10_000  # the members of a cluster talk to each other on the port so much higher
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


@dataclass(frozen=True)
class Certificates:
    """An authority, and a certificate of it for 127.0.0.1 that server and client may both show."""

    authority: Path
    certificate: Path
    key: Path

    @classmethod
    def made_in(cls, folder: Path) -> "Certificates":
        """Skips the test where there is no openssl."""
        if shutil.which("openssl") is None:
            pytest.skip("There is no openssl here to make certificates with.")
        found = cls(folder / "ca.pem", folder / "redis.pem", folder / "redis.key")
        ca_key, request, names = folder / "ca.key", folder / "redis.csr", folder / "names"
        names.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost")
        new_key = ("-newkey", "rsa:2048", "-nodes", "-days", "2")
        openssl(
            "req",
            "-x509",
            *new_key,
            "-keyout",
            ca_key,
            "-out",
            found.authority,
            "-subj",
            "/CN=ours",
        )
        openssl("req", *new_key[:3], "-keyout", found.key, "-out", request, "-subj", "/CN=redis")
        signed = ("-CA", found.authority, "-CAkey", ca_key, "-CAcreateserial", "-days", "2")
        openssl(
            "x509", "-req", "-in", request, *signed, "-extfile", names, "-out", found.certificate
        )
        return found


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


class RedisServer:
    """One on a port and in a folder of its own; killed, it comes back on the same."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        tls: Certificates | None = None,
        port: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._environment = {**os.environ, **(environment or {})}
        self.port = _port_with_bus() if port is None else port
        self.folder = folder
        self._tls = tls
        self._command = [find_redis_server(), "--bind", "127.0.0.1", "--save", ""]
        self._command += ["--dir", str(folder), *self._ports(), *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis_py.Redis:
        if self._tls is None:
            return redis_py.Redis(port=self.port)
        return redis_py.Redis(
            port=self.port,
            ssl=True,
            ssl_ca_certs=str(self._tls.authority),
            ssl_certfile=str(self._tls.certificate),
            ssl_keyfile=str(self._tls.key),
        )

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        wait_until(self._listens, "redis-server listens")

    def kill(self) -> None:
        """As the kernel does it when memory runs out."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _ports(self) -> list[str]:
        if self._tls is None:
            return ["--port", str(self.port)]
        return [
            *("--port", "0", "--tls-port", str(self.port), "--tls-cluster", "yes"),
            *("--tls-ca-cert-file", str(self._tls.authority)),
            *("--tls-cert-file", str(self._tls.certificate)),
            *("--tls-key-file", str(self._tls.key)),
        ]

    def _listens(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            said = self._process.communicate()[0].decode(errors="replace")
            self._process = None
            if self._tls is not None and "tls" in said.lower():
                pytest.skip("The redis-server here was built without TLS.")
            raise AssertionError(f"redis-server ended: {said[-400:]}")
        with closing(socket.socket()) as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def wait_until(holds: Callable[[], bool], what: str) -> None:
    latest = time.monotonic() + START_SECONDS
    while not holds():
        assert time.monotonic() < latest, f"It did not come to be that {what}."
        time.sleep(0.02)


def _port_with_bus() -> int:
    """A free one whose bus port is free, too."""
    while True:
        port = free_port()
        with closing(socket.socket()) as probe:
            if port + BUS < 65536 and probe.connect_ex(("127.0.0.1", port + BUS)) != 0:
                return port


@contextmanager
def own_redis(
    *arguments: str, tls: Certificates | None = None, port: int | None = None
) -> Iterator[RedisServer]:
    """A running one, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="recsys-redis-") as folder:
        server = RedisServer(Path(folder), *arguments, tls=tls, port=port)
        try:
            server.start()
            yield server
        finally:
            server.kill()


@contextmanager
def redis_cluster(masters: int = 3, tls: Certificates | None = None) -> Iterator[list[RedisServer]]:
    """Masters that share the slots evenly; one that dies takes only its own slots along."""
    own = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
    with ExitStack() as stack:
        servers = [
            stack.enter_context(own_redis(*own, "--cluster-require-full-coverage", "no", tls=tls))
            for _ in range(masters)
        ]
        clients = [stack.enter_context(server.client()) for server in servers]
        for at, client in enumerate(clients):
            mine = range(SLOTS * at // masters, SLOTS * (at + 1) // masters)
            client.execute_command("CLUSTER", "ADDSLOTS", *mine)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", at + 1)
        for server in servers[1:]:
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", server.port)
        for client in clients:
            wait_until(partial(_whole, client, masters), "the cluster is whole")
        yield servers


def _whole(client: redis_py.Redis, masters: int) -> bool:
    rows = client.execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]
    state = client.execute_command("CLUSTER", "INFO")  # type: ignore[no-untyped-call]
    return len(rows) == masters and "cluster_state:ok" in str(state)
