"""Start real redis-servers: single, with replicas and sentinels, or put together to a cluster."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import redis as redis_py
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.embedded_redis import find_redis_server, free_port

START_SECONDS = 60.0
SLOTS = 16384
FIRST_OUTGOING_PORT = 32_768  # of Linux
BUS = 10_000  # the members of a cluster talk to each other on the port so much higher
SENTINEL_NAME, DOWN_AFTER_MS = "the-shop", 1000
FAST_REPLICATION = ("--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0")
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
        """Return a client that sends each command once and waits until it is answered.

        redis-py's default sends a command again after 5 seconds, an endless script, too.
        """
        once = Retry(NoBackoff(), 0)
        if self._tls is None:
            return redis_py.Redis(port=self.port, socket_timeout=None, retry=once)
        return redis_py.Redis(
            port=self.port,
            socket_timeout=None,
            retry=once,
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

    def pause(self) -> None:
        """Leave it silent: it takes connections, and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """End `pause`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

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
                pytest.skip("The redis-server here was built without TLS. Install one: make redis.")
            raise AssertionError(f"redis-server ended: {said[-400:]}")
        with closing(socket.socket()) as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class SentinelServer(RedisServer):
    """A sentinel of a primary named `SENTINEL_NAME`."""

    def __init__(
        self, folder: Path, primary: int, *lines: str, tls: Certificates | None = None, quorum: int
    ) -> None:
        super().__init__(folder, tls=tls)
        given = self._ports()
        ports = (f"{name[2:]} {value}" for name, value in zip(given[::2], given[1::2], strict=True))
        monitor = (
            f"sentinel monitor {SENTINEL_NAME} 127.0.0.1 {primary} {quorum}",
            f"sentinel down-after-milliseconds {SENTINEL_NAME} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SENTINEL_NAME} 10000",
        )
        config = folder / "sentinel.conf"  # it writes down there what it learns
        config.write_text("\n".join(["bind 127.0.0.1", *ports, *monitor, *lines]) + "\n")
        self._command = [find_redis_server(), str(config), "--sentinel"]


def wait_until(holds: Callable[[], bool], what: str, look_seconds: float = 0.02) -> None:
    assert _comes(holds, START_SECONDS, look_seconds), f"It did not come to be that {what}."


def _comes(holds: Callable[[], bool], seconds: float, look_seconds: float = 0.02) -> bool:
    latest = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > latest:
            return False
        time.sleep(look_seconds)
    return True


def _port_with_bus() -> int:
    """Return a free port whose bus port is free, too, and below those of outgoing connections."""
    while True:
        port = free_port()
        with closing(socket.socket()) as probe, suppress(OSError):
            if port + BUS < FIRST_OUTGOING_PORT:
                probe.bind(("127.0.0.1", port + BUS))
                return port


@contextmanager
def own_redis(
    *arguments: str, tls: Certificates | None = None, port: int | None = None
) -> Iterator[RedisServer]:
    """A running one, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="recsys-redis-") as folder:
        server = RedisServer(Path(folder), *arguments, tls=tls, port=port)
        with _running(server):
            yield server


@contextmanager
def own_sentinel(
    primary: RedisServer, *lines: str, tls: Certificates | None = None, quorum: int = 1
) -> Iterator[SentinelServer]:
    """A running sentinel of `primary`; lines: of its configuration, besides."""
    with tempfile.TemporaryDirectory(prefix="recsys-redis-") as folder:
        sentinel = SentinelServer(Path(folder), primary.port, *lines, tls=tls, quorum=quorum)
        with _running(sentinel):
            yield sentinel


@contextmanager
def _running(server: RedisServer) -> Iterator[RedisServer]:
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextmanager
def redis_pair(*arguments: str) -> Iterator[tuple[RedisServer, RedisServer]]:
    """A primary, and a replica in step with it."""
    with own_redis(*FAST_REPLICATION, *arguments) as primary:
        follow = ("--replicaof", "127.0.0.1", str(primary.port))
        with own_redis(*FAST_REPLICATION, *arguments, *follow) as replica:
            wait_until(partial(_follows, replica), "the replica is in step")
            yield primary, replica


def _follows(replica: RedisServer) -> bool:
    with replica.client() as client:
        return bool(client.info("replication").get("master_link_status") == "up")


@contextmanager
def redis_sentinels(primary: RedisServer, count: int = 3) -> Iterator[list[SentinelServer]]:
    """Sentinels that know each other and the replica of `primary`."""
    with ExitStack() as stack:
        sentinels = [
            stack.enter_context(own_sentinel(primary, quorum=count // 2 + 1)) for _ in range(count)
        ]
        for sentinel in sentinels:
            wait_until(partial(_knows, sentinel, count - 1), "the sentinels know each other")
        yield sentinels


def _knows(sentinel: SentinelServer, others: int) -> bool:
    with sentinel.client() as client:
        state = client.sentinel_master(SENTINEL_NAME)
    return bool(state["num-other-sentinels"] == others and state["num-slaves"] == 1)


def sentinel_url(sentinels: Sequence[SentinelServer]) -> str:
    """The URL of the servers behind them."""
    hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
    return f"redis+sentinel://{hosts}/{SENTINEL_NAME}"


@contextmanager
def redis_cluster(
    masters: int = 3, tls: Certificates | None = None, *, replicas: bool = False
) -> Iterator[list[RedisServer]]:
    """Masters that share the slots evenly; one that dies takes only its own slots along.

    replicas: one for each master follows the masters in the list, in the same order.
    """
    own = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", *FAST_REPLICATION]
    own += ["--cluster-require-full-coverage", "no"]
    with ExitStack() as stack:
        servers = [
            stack.enter_context(own_redis(*own, tls=tls))
            for _ in range(masters * (2 if replicas else 1))
        ]
        clients = [stack.enter_context(server.client()) for server in servers]
        for at, client in enumerate(clients[:masters]):
            mine = range(SLOTS * at // masters, SLOTS * (at + 1) // masters)
            client.execute_command("CLUSTER", "ADDSLOTS", *mine)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", at + 1)
        wait_until(partial(_met, clients, servers, masters), "the cluster is whole")
        for client, master in zip(clients[masters:], clients, strict=False):
            name = master.execute_command("CLUSTER", "MYID")
            client.execute_command("CLUSTER", "REPLICATE", name)
        for server in servers[masters:]:
            wait_until(partial(_follows, server), "the replicas are in step")
        yield servers


def _met(clients: Sequence[redis_py.Redis], servers: Sequence[RedisServer], masters: int) -> bool:
    """Introduce them, and again if need be: who took too long for a handshake was forgotten."""
    for server in servers[1:]:
        clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", server.port)  # type: ignore[no-untyped-call]
    return _comes(lambda: all(_whole(client, masters, len(servers)) for client in clients), 5.0)


def _whole(client: redis_py.Redis, masters: int, servers: int) -> bool:
    rows = client.execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]
    state = str(client.execute_command("CLUSTER", "INFO"))  # type: ignore[no-untyped-call]
    known = f"cluster_known_nodes:{servers}\\r" in state
    return len(rows) == masters and "cluster_state:ok" in state and known
