"""Read a Redis URL: where Redis is and how to connect to it.

    redis://[user:password@]host[:port][/database]            rediss:// with TLS
    redis+cluster://[user:password@]host[:port][,host[:port]…]    rediss+cluster:// with TLS
    redis+sentinel://[user:password@]sentinel[:port][,sentinel[:port]…]/primary-name[/database]
                                                              rediss+sentinel:// with TLS
    unix://[user:password@]/path/to/socket

Parameters follow a '?'. With TLS: ssl_ca_certs=FILE replaces the authorities of the system;
ssl_certfile=FILE and ssl_keyfile=FILE are for a Redis that asks for a certificate. For sentinels
with a password: sentinel_username and sentinel_password. User and password before the hosts are for
the Redis servers.

Error messages never show a part of the URL, because a password with an unescaped '/' in it can
stand anywhere.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import unquote, urlsplit


class DeploymentKind(StrEnum):
    """Kind of Redis deployment: one server, a cluster, or servers behind Sentinel."""

    SINGLE = ""
    CLUSTER = "+cluster"
    SENTINEL = "+sentinel"


SCHEMES = (
    "unix",
    *(f"{scheme}{kind}" for kind in DeploymentKind for scheme in ("redis", "rediss")),
)
TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
SENTINEL_LOGIN = ("sentinel_username", "sentinel_password")
SCHEME_NAMES = (
    "redis://, rediss://, redis+cluster://, redis+sentinel:// (both also rediss+) or unix://, "
    "as redis://127.0.0.1:6379/0"
)
ESCAPES = "in a user or password, write '/' as %2F, '?' as %3F, '#' as %23, '@' as %40, ':' as %3A"
DEFAULT_PORTS = {
    DeploymentKind.SINGLE: 6379,
    DeploymentKind.CLUSTER: 6379,
    DeploymentKind.SENTINEL: 26379,
}

HostPort = tuple[str, int]


@dataclass(frozen=True, slots=True)
class RedisTarget:
    """Hosts to connect to first, and further arguments of redis-py's connections."""

    hosts: tuple[HostPort, ...]  # of servers, or of sentinels; empty for a socket file
    options: Mapping[str, Any]
    tls: bool
    kind: DeploymentKind = DeploymentKind.SINGLE
    primary_name: str = ""  # the name by which the sentinels know the servers
    sentinel_options: Mapping[str, Any] = field(default_factory=dict)


def read_url(url: str) -> RedisTarget:
    """Read a Redis URL.

    Raises:
        ValueError: if the URL cannot be used. The message continues the name of the setting.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # its message may show the password
        raise ValueError(f"cannot be read; {ESCAPES}") from None
    if parts.scheme not in SCHEMES:
        raise ValueError(f"must begin with {SCHEME_NAMES}")
    login, _, hosts = parts.netloc.rpartition("@")
    scheme, plus, kind_name = parts.scheme.partition("+")
    kind, tls = DeploymentKind(plus + kind_name), scheme == "rediss"
    if parts.fragment:
        raise ValueError(f"has a '#'; {ESCAPES}")
    parameters = _parameters(parts.query, tls, kind)
    files = {name: parameters[name] for name in TLS_FILES if name in parameters}
    options = {**_login(login), **files}
    if scheme == "unix":
        if not parts.path.strip("/"):
            raise ValueError("names no socket: write unix:///path/to/socket")
        return RedisTarget((), {**options, "path": unquote(parts.path)}, tls)
    servers = tuple(_host_port(host, DEFAULT_PORTS[kind]) for host in hosts.split(","))
    if len(servers) > 1 and not all(hosts.split(",")):
        raise ValueError("has a comma without a server before or after it")
    if len(servers) > 1 and kind is DeploymentKind.SINGLE:
        raise ValueError(
            "names several servers; only redis+cluster:// and redis+sentinel:// take more than one"
        )
    name, path = "", parts.path
    if kind is DeploymentKind.SENTINEL:
        name, _, path = path.lstrip("/").partition("/")
        if not name:
            raise ValueError("names no primary: write redis+sentinel://host:port/primary-name")
    sentinel_login = {
        short: parameters[long]
        for short, long in zip(("username", "password"), SENTINEL_LOGIN, strict=True)
        if parameters.get(long)
    }
    return RedisTarget(
        servers,
        {**options, **_database(path, kind)},
        tls,
        kind,
        unquote(name),
        {**sentinel_login, **files} if kind is DeploymentKind.SENTINEL else {},
    )


def _login(login: str) -> dict[str, str]:
    user, colon, password = login.partition(":")
    if user and not password:
        raise ValueError(
            "names a user without a password: write user:password@ or, without a user, :password@"
        )
    if ":" in password or "@" in login:
        raise ValueError(f"has a user and password that cannot be separated; {ESCAPES}")
    values = {"username": unquote(user), "password": unquote(password)} if colon else {}
    return {name: value for name, value in values.items() if value}


def _host_port(host: str, default_port: int) -> HostPort:
    try:
        parts = urlsplit(f"//{host}")
        port = parts.port
    except ValueError:
        raise ValueError(f"has a port that is no number from 0 to 65535; {ESCAPES}") from None
    return parts.hostname or "localhost", default_port if port is None else port


def _database(path: str, kind: DeploymentKind) -> dict[str, int]:
    number = path.strip("/")
    if number and not (number.isascii() and number.isdigit()):
        raise ValueError(f"has a database that is no number; {ESCAPES}")
    if kind is DeploymentKind.CLUSTER and int(number or 0):
        raise ValueError("names a database, but a cluster has only database 0")
    return {"db": int(number or 0)}


def _parameters(query: str, tls: bool, kind: DeploymentKind) -> dict[str, str]:
    """Split the part after '?'. A '+' is not decoded, as in the rest of the URL."""
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    given = {name: unquote(value) for name, _, value in pairs}
    sentinel = kind is DeploymentKind.SENTINEL
    allowed = (*(TLS_FILES if tls else ()), *(SENTINEL_LOGIN if sentinel else ()))
    if given and not allowed:
        raise ValueError(
            "takes no parameters after '?', unless it begins with rediss or names sentinels"
        )
    if not given.keys() <= set(allowed):
        raise ValueError(f"takes after '?' only {', '.join(allowed)}; {ESCAPES}")
    if given.get("sentinel_username") and not given.get("sentinel_password"):
        raise ValueError("has sentinel_username without sentinel_password")
    if tls:
        _check_files(given)
    return given


def _check_files(given: Mapping[str, str]) -> None:
    if "ssl_keyfile" in given and "ssl_certfile" not in given:
        raise ValueError("has ssl_keyfile without ssl_certfile")
    context = ssl.create_default_context()
    try:
        if "ssl_ca_certs" in given:
            context.load_verify_locations(given["ssl_ca_certs"])
        if "ssl_certfile" in given:
            # given any password, it does not ask for one on the terminal
            context.load_cert_chain(given["ssl_certfile"], given.get("ssl_keyfile"), password="")
    except ssl.SSLError:
        raise ValueError("names files without a certificate or without its key") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ValueError(f"names files that cannot be used for TLS ({reason})") from None
