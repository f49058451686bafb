"""Redis deployments that can fail over: by Sentinel, behind a moving address, on a Cluster."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from service.server.embedded_redis import free_port
from tests.support.redis.chaos_proxy import ChaosProxy
from tests.support.redis.servers import (
    RedisServer,
    redis_cluster,
    redis_pair,
    redis_sentinels,
    sentinel_url,
    wait_until,
)
from tests.support.redis.stores import primary_of

PRIMARIES, FAILING_PRIMARY = 3, 1  # of the cluster; the second primary fails
OnPromotion = Callable[[RedisServer], None]  # called with the replica when it is promoted


@dataclass(frozen=True, slots=True)
class Failover:
    """Deployment whose `primary` can fail, so that its `replica` takes over.

    fail: makes the primary fail, calls its argument at the promotion, and returns the time
        (`perf_counter`) from which on the service can reach the new primary.
    affects: whether the data of a user is on the primary that fails.
    """

    url: str
    primary: RedisServer
    replica: RedisServer
    fail: Callable[[OnPromotion], float]
    affects: Callable[[str], bool] = lambda user: True

    def wait_for_replica(self) -> None:
        """Wait until the replica has all writes of the primary."""
        with self.primary.client() as client:
            wait_until(lambda: client.wait(1, 1000) == 1, "the replica has acknowledged")


RunningFailover = AbstractAsyncContextManager[Failover]


@asynccontextmanager
async def sentinel_failover() -> AsyncIterator[Failover]:
    """Run a primary, a replica and three sentinels; `fail` kills the primary."""
    with redis_pair() as (primary, replica), redis_sentinels(primary) as sentinels:
        fail = _killer(primary, replica)
        yield Failover(sentinel_url(sentinels), primary, replica, fail)


@asynccontextmanager
async def address_failover(move_seconds: float) -> AsyncIterator[Failover]:
    """Run a primary and a replica behind an address that moves.

    `fail` promotes the replica and demotes the primary to a replica; `move_seconds` later the
    address leads to the promoted server. Connections to the demoted server stay open and get
    replies.
    """
    with redis_pair() as (primary, replica):
        async with ChaosProxy(free_port(), primary.port) as address:

            def fail(on_promotion: OnPromotion) -> float:
                with primary.client() as old, replica.client() as new:
                    new.replicaof("NO", "ONE")
                    on_promotion(replica)
                    old.replicaof("127.0.0.1", str(replica.port))
                time.sleep(move_seconds)
                address.set_redis_port(replica.port)
                return time.perf_counter()

            yield Failover(f"redis://127.0.0.1:{address.port}", primary, replica, fail)


@asynccontextmanager
async def cluster_failover(secret: str) -> AsyncIterator[Failover]:
    """Run a cluster with a replica of each primary; `fail` kills one primary.

    secret: the key of the service's hashes, which decide where a user's data is.
    """
    with redis_cluster(PRIMARIES, replicas=True) as servers:
        primary, replica = servers[FAILING_PRIMARY], servers[FAILING_PRIMARY + PRIMARIES]
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers[:PRIMARIES])
        yield Failover(
            f"redis+cluster://{hosts}",
            primary,
            replica,
            _killer(primary, replica),
            lambda user: primary_of(user, secret, PRIMARIES) == FAILING_PRIMARY,
        )


def _killer(primary: RedisServer, replica: RedisServer) -> Callable[[OnPromotion], float]:
    def fail(on_promotion: OnPromotion) -> float:
        primary.kill()
        with replica.client() as client:
            wait_until(
                lambda: client.info("replication")["role"] == "master", "it is promoted", 0.002
            )
        promoted_at = time.perf_counter()
        on_promotion(replica)
        return promoted_at

    return fail
