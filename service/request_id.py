"""Names every request, so that an answer, its problem and a log line can be put side by side."""

import os
import re

from starlette.types import Scope

SANE = re.compile(rb"[A-Za-z0-9._:=+@-]{1,128}")  # fits a header, a log line and a shell


def request_id_of(scope: Scope) -> str:
    """The client's own X-Request-ID where it is sane, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and SANE.fullmatch(value):
            sent: bytes = value
            return sent.decode()
    return new_request_id()


def new_request_id() -> str:
    return os.urandom(8).hex()
