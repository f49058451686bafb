"""Where Redis is and how to speak with it, read from a URL; what is wrong with one is a sentence.

    redis://[user:password@]host[:port][/database]            rediss:// with TLS
    redis+cluster://[user:password@]host[:port][,host[:port]…]    rediss+cluster:// with TLS
    unix://[user:password@]/path/to/socket

With TLS, after '?': ssl_ca_certs=FILE instead of the system's authorities, ssl_certfile=FILE and
ssl_keyfile=FILE where Redis asks for a certificate. The sentences never show a part of the URL: a
password with a '/' in it stands where one would not expect it.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

SCHEMES = ("redis", "rediss", "redis+cluster", "rediss+cluster", "unix")
FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
LIST = "redis://, rediss://, redis+cluster://, rediss+cluster:// or unix://"
ESCAPES = "in a user or password, write '/' as %2F, '?' as %3F, '#' as %23, '@' as %40, ':' as %3A"
DEFAULT_PORT = 6379

Server = tuple[str, int]  # host and port


@dataclass(frozen=True, slots=True)
class Address:
    """The servers to begin with, and what redis-py's connections take besides."""

    servers: tuple[Server, ...]  # empty for a socket file
    options: Mapping[str, Any]
    tls: bool
    cluster: bool


def read_url(url: str) -> Address:
    """Raises `ValueError` with a sentence that follows the setting's name."""
    try:
        parts = urlsplit(url)
    except ValueError:  # its message may show the password
        raise ValueError(f"cannot be read; {ESCAPES}") from None
    if parts.scheme not in SCHEMES:
        raise ValueError(f"must begin with {LIST}")
    login, _, hosts = parts.netloc.rpartition("@")
    cluster, tls = parts.scheme.endswith("+cluster"), parts.scheme.startswith("rediss")
    if parts.fragment:
        raise ValueError(f"has a '#'; {ESCAPES}")
    options = {**_login(login), **_files(parts.query, tls)}
    if parts.scheme == "unix":
        if not parts.path.strip("/"):
            raise ValueError("names no socket: write unix:///path/to/socket")
        return Address((), {**options, "path": unquote(parts.path)}, tls, cluster)
    servers = tuple(_server(host) for host in hosts.split(","))
    if len(servers) > 1 and not cluster:
        raise ValueError("names several servers; only redis+cluster:// takes more than one")
    return Address(servers, {**options, **_database(parts.path, cluster)}, tls, cluster)


def _login(login: str) -> dict[str, str]:
    user, colon, password = login.partition(":")
    if user and not password:
        raise ValueError(
            "names a user without a password: write user:password@ or, without a user, :password@"
        )
    if ":" in password or "@" in login:
        raise ValueError(f"has a user and password that cannot be told apart; {ESCAPES}")
    given = {"username": unquote(user), "password": unquote(password)} if colon else {}
    return {name: value for name, value in given.items() if value}


def _server(host: str) -> Server:
    try:
        parts = urlsplit(f"//{host}")
        port = parts.port
    except ValueError:
        raise ValueError(f"has a port that is no number from 0 to 65535; {ESCAPES}") from None
    return parts.hostname or "localhost", DEFAULT_PORT if port is None else port


def _database(path: str, cluster: bool) -> dict[str, int]:
    named = path.strip("/")
    if named and not (named.isascii() and named.isdigit()):
        raise ValueError(f"has a database that is no number; {ESCAPES}")
    if cluster and int(named or 0):
        raise ValueError("names a database, but a cluster has only database 0")
    return {"db": int(named or 0)}


def _files(query: str, tls: bool) -> dict[str, str]:
    given = dict(parse_qsl(query, keep_blank_values=True))
    if given and not tls:
        raise ValueError("takes no parameters after '?', unless it begins with rediss")
    if not given.keys() <= set(FILES):
        raise ValueError(f"takes after '?' only {', '.join(FILES)}; {ESCAPES}")
    if "ssl_keyfile" in given and "ssl_certfile" not in given:
        raise ValueError("has ssl_keyfile without ssl_certfile")
    context = ssl.create_default_context()
    try:
        if "ssl_ca_certs" in given:
            context.load_verify_locations(given["ssl_ca_certs"])
        if "ssl_certfile" in given:
            # with a password, even a wrong one, it does not stop to ask the terminal for one
            context.load_cert_chain(given["ssl_certfile"], given.get("ssl_keyfile"), password="")
    except ssl.SSLError:
        raise ValueError("names files in which no certificate or no key of it is found") from None
    except OSError as failed:
        said = failed.strerror or type(failed).__name__
        raise ValueError(f"names files that cannot be used for TLS ({said})") from None
    return given
