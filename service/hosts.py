"""One way to write a host, for the Host header and for `RECSYS_ALLOWED_HOSTS`."""

import re
from ipaddress import IPv6Address, ip_address

HOST = re.compile(r"[\w-]+(\.[\w-]+)*\.?|\[[0-9A-Fa-f:.]+\]", re.ASCII)


def canonical(host: str) -> str | None:
    """The host in lower case, without a dot at its end, an IPv6 address in its shortest form.

    None where the text is no host, or has a port.
    """
    if not HOST.fullmatch(host):
        return None
    if not host.startswith("["):
        return host.lower().removesuffix(".")
    try:
        return f"[{IPv6Address(host[1:-1])}]"
    except ValueError:
        return None


def is_address(host: str) -> bool:
    """The canonical host is an IP address, not a name."""
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
