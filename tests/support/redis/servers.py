"""Real redis-servers: single, with a replica and sentinels, or as a cluster."""

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

from service.server.embedded_redis import find_redis_server, free_port

START_SECONDS = 60.0
SLOTS = 16384
FIRST_OUTGOING_PORT = 32_768  # of Linux
BUS_OFFSET = 10_000  # the bus port of a cluster server is this much higher
SENTINEL_NAME, DOWN_AFTER_MS = "the-shop", 1000
FAST_REPLICATION = ("--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0")
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


@dataclass(frozen=True)
class Certificates:
    """Certificate authority, and its certificate for 127.0.0.1, for server and client."""

    authority: Path
    certificate: Path
    key: Path

    @classmethod
    def create(cls, folder: Path) -> "Certificates":
        """Create them in a folder; skip the test if openssl is not installed."""
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not installed, so no certificates can be made.")
        created = cls(folder / "ca.pem", folder / "redis.pem", folder / "redis.key")
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
            created.authority,
            "-subj",
            "/CN=ours",
        )
        openssl("req", *new_key[:3], "-keyout", created.key, "-out", request, "-subj", "/CN=redis")
        signed = ("-CA", created.authority, "-CAkey", ca_key, "-CAcreateserial", "-days", "2")
        openssl(
            "x509", "-req", "-in", request, *signed, "-extfile", names, "-out", created.certificate
        )
        return created


def openssl(*arguments: str | Path) -> None:
    """Run openssl."""
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class RedisServer:
    """redis-server with its own port and folder, which it keeps when it is started again."""

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
        """Return the URL of database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis_py.Redis:
        """Return a client that sends each command once and waits for the reply without a limit.

        By default redis-py sends a command again after 5 seconds, an endless script included.
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
        """Start the process and wait until it listens."""
        self._process = subprocess.Popen(
            self._command, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        wait_until(self._listens, "redis-server listens")

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def pause(self) -> None:
        """Stop the process: connections are accepted by the kernel, and commands get no reply."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue after `pause`."""
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
            output = self._process.communicate()[0].decode(errors="replace")
            self._process = None
            if self._tls is not None and "tls" in output.lower():
                pytest.skip("This redis-server was built without TLS. Install one: make redis.")
            raise AssertionError(f"redis-server ended: {output[-400:]}")
        with closing(socket.socket()) as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class SentinelServer(RedisServer):
    """Sentinel of a primary with the name `SENTINEL_NAME`."""

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
        config = folder / "sentinel.conf"  # the sentinel rewrites it
        config.write_text("\n".join(["bind 127.0.0.1", *ports, *monitor, *lines]) + "\n")
        self._command = [find_redis_server(), str(config), "--sentinel"]


def wait_until(holds: Callable[[], bool], what: str, check_seconds: float = 0.02) -> None:
    """Wait until a condition holds; fail after `START_SECONDS`."""
    in_time = _wait(holds, START_SECONDS, check_seconds)
    assert in_time, f"Waited {START_SECONDS:g} s in vain until {what}."


def _wait(holds: Callable[[], bool], seconds: float, check_seconds: float = 0.02) -> bool:
    """Return whether the condition came to hold in time."""
    latest = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > latest:
            return False
        time.sleep(check_seconds)
    return True


def _port_with_bus() -> int:
    """Return a free port whose bus port is free, too, and below those of outgoing connections."""
    while True:
        port = free_port()
        bus = port + BUS_OFFSET
        with closing(socket.socket()) as probe, suppress(OSError):
            if bus < FIRST_OUTGOING_PORT:
                probe.bind(("127.0.0.1", bus))
                return port


@contextmanager
def own_redis(
    *arguments: str, tls: Certificates | None = None, port: int | None = None
) -> Iterator[RedisServer]:
    """Run a server and remove it afterwards."""
    with tempfile.TemporaryDirectory(prefix="recsys-redis-") as folder:
        server = RedisServer(Path(folder), *arguments, tls=tls, port=port)
        with _running(server):
            yield server


@contextmanager
def own_sentinel(
    primary: RedisServer, *lines: str, tls: Certificates | None = None, quorum: int = 1
) -> Iterator[SentinelServer]:
    """Run a sentinel of `primary`; lines: further lines of its configuration."""
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
    """Run a primary and a replica that has copied it."""
    with own_redis(*FAST_REPLICATION, *arguments) as primary:
        follow = ("--replicaof", "127.0.0.1", str(primary.port))
        with own_redis(*FAST_REPLICATION, *arguments, *follow) as replica:
            wait_until(partial(_follows, replica), "the replica has copied the primary")
            yield primary, replica


def _follows(replica: RedisServer) -> bool:
    with replica.client() as client:
        return bool(client.info("replication").get("master_link_status") == "up")


@contextmanager
def redis_sentinels(primary: RedisServer, count: int = 3) -> Iterator[list[SentinelServer]]:
    """Run sentinels that know each other and the replica of `primary`."""
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
    """Return the URL of the servers behind the sentinels."""
    hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
    return f"redis+sentinel://{hosts}/{SENTINEL_NAME}"


@contextmanager
def redis_cluster(
    primaries: int = 3, tls: Certificates | None = None, *, replicas: bool = False
) -> Iterator[list[RedisServer]]:
    """Run primaries that share the slots evenly; the others go on if one fails.

    replicas: the list has a replica of each primary after the primaries, in the same order.
    """
    arguments = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", *FAST_REPLICATION]
    arguments += ["--cluster-require-full-coverage", "no"]
    with ExitStack() as stack:
        servers = [
            stack.enter_context(own_redis(*arguments, tls=tls))
            for _ in range(primaries * (2 if replicas else 1))
        ]
        clients = [stack.enter_context(server.client()) for server in servers]
        for at, client in enumerate(clients[:primaries]):
            slots = range(SLOTS * at // primaries, SLOTS * (at + 1) // primaries)
            client.execute_command("CLUSTER", "ADDSLOTS", *slots)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", at + 1)
        wait_until(partial(_met, clients, servers, primaries), "the cluster is complete")
        for client, primary in zip(clients[primaries:], clients, strict=False):
            name = primary.execute_command("CLUSTER", "MYID")
            client.execute_command("CLUSTER", "REPLICATE", name)
        for server in servers[primaries:]:
            wait_until(partial(_follows, server), "the replicas have copied their primaries")
        yield servers


def _met(clients: Sequence[redis_py.Redis], servers: Sequence[RedisServer], primaries: int) -> bool:
    """Make the servers meet, again after 5 s: a handshake that takes too long is dropped."""
    for server in servers[1:]:
        clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", server.port)  # type: ignore[no-untyped-call]
    total = len(servers)
    return _wait(lambda: all(_is_complete(client, primaries, total) for client in clients), 5.0)


def _is_complete(client: redis_py.Redis, primaries: int, servers: int) -> bool:
    rows = client.execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]
    state = str(client.execute_command("CLUSTER", "INFO"))  # type: ignore[no-untyped-call]
    known = f"cluster_known_nodes:{servers}\\r" in state
    return len(rows) == primaries and "cluster_state:ok" in state and known
