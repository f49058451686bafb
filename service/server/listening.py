"""The address that is listened on; one that others can reach is refused where no key is set."""

import resource
import socket
from ipaddress import ip_address

from recsys.errors import BadInput
from service.settings import Settings

OTHER_FILES = 200  # that a process has open beside its connections: bundle, libraries, log


def listen(settings: Settings, *, shared: bool = False) -> socket.socket:
    """A listening socket, whose port others may share or not.

    Raises `BadInput` where the address is taken, is not ours, or would be open to everybody.
    """
    host, port = settings.host, settings.port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, _, _, _, address = found[0]
        guard(str(address[0]), settings)
        return socket.create_server(address[:2], family=family, backlog=2048, reuse_port=shared)
    except OSError as failed:
        raise BadInput(
            "The service cannot listen",
            [f"{host}:{port}: {failed.strerror}. Choose another --host or --port."],
        ) from failed


def guard(address: str, settings: Settings) -> None:
    """Raises `BadInput` where others can reach the address and nothing asks them for a key."""
    if settings.api_key_hashes or settings.public_without_key or ip_address(address).is_loopback:
        return
    raise BadInput(
        "The service would be open to everybody",
        [
            f"{settings.host} can be reached from other machines, and no key is set. Make one with "
            "recsys key and set RECSYS_API_KEY_HASHES. Where something else keeps others out, say "
            "RECSYS_PUBLIC_WITHOUT_KEY=true."
        ],
    )


def make_room(settings: Settings) -> None:
    """Let this process have as many files open as its connections need.

    Raises `BadInput` where the system does not allow that many.
    """
    needed = settings.max_connections + settings.redis_connections + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft in (resource.RLIM_INFINITY, needed) or soft > needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise BadInput(
            "RECSYS_MAX_CONNECTIONS is too large",
            [
                f"{settings.max_connections:,} connections need {needed:,} open files, and the "
                f"system allows {hard:,}. Raise it (ulimit -Hn) or lower the setting."
            ],
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
