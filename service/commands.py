"""`recsys serve`: settings from options and environment, then uvicorn."""

import gc
import socket
import sys
from collections.abc import Mapping
from typing import Any

import uvicorn
from pydantic import ValidationError

from recsys.errors import BadInput
from service.app import create_app
from service.settings import Settings


def read_settings(given: Mapping[str, Any]) -> Settings:
    """Options win over the environment; raises `BadInput` with every setting at fault."""
    try:
        return Settings(**given)
    except ValidationError as wrong:
        problems = [
            f"RECSYS_{str(error['loc'][0]).upper()}: {error['msg']}." for error in wrong.errors()
        ]
        raise BadInput("The settings cannot be used", problems) from wrong


def serve(given: Mapping[str, Any]) -> None:
    """Serve until SIGTERM or Ctrl-C; what is accepted is finished first."""
    settings = read_settings(given)
    with _listen(settings.host, settings.port) as listening:  # first: loading takes longer
        app = create_app(settings)
        keep_out_of_collections()
        # nothing here asks who the client is, so no header needs to say it
        config = uvicorn.Config(app, access_log=False, proxy_headers=False)
        host, port = listening.getsockname()[:2]
        print(
            f"Serving {settings.bundle} on http://{host}:{port}, examples at /docs",
            file=sys.stderr,
        )
        uvicorn.Server(config).run(sockets=[listening])


def keep_out_of_collections() -> None:
    """What is loaded by now stays for good: the garbage collector need not look at it again.

    A collection would else stop all answers for as long as it takes to walk the whole catalogue.
    """
    gc.collect()
    gc.freeze()


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket; raises `BadInput` where the address is taken or not ours."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as failed:
        raise BadInput(
            "The service cannot listen",
            [f"{host}:{port}: {failed.strerror}. Choose another --host or --port."],
        ) from failed
