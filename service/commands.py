"""`recsys serve`: settings from options and environment, then uvicorn."""

import gc
import importlib
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any

import uvicorn
from pydantic import ValidationError

from recsys.allocation import give_back_freed_memory
from recsys.errors import BadInput
from service.settings import Settings
from service.workers import free, shared_port, watch

# all that a worker imports until it answers; nothing of it computes or starts a thread of its own
CODE = (
    "service.app",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
)


def read_settings(given: Mapping[str, Any]) -> Settings:
    """Options win over the environment; raises `BadInput` with every setting at fault."""
    try:
        return Settings(**given)
    except ValidationError as wrong:
        problems = [
            f"RECSYS_{str(error['loc'][0]).upper()}: {error['msg']}." for error in wrong.errors()
        ]
        raise BadInput("The settings cannot be used", problems) from wrong


def serve(given: Mapping[str, Any]) -> int:
    """Serve until SIGTERM or Ctrl-C, finishing what is accepted; returns the exit status."""
    settings = read_settings(given)
    if settings.workers == 1:
        with _listen(settings.host, settings.port) as listening:  # first: loading takes longer
            app = _app(settings)
            _say(settings, listening)
            _run(app, listening)
        return 0
    host, port, family = free(_listen(settings.host, settings.port))
    with shared_port(host, port, family) as held:
        _say(settings, held)
        found = settings.model_copy(update={"host": host, "port": port})
        return watch(work, found, before=load_code)


def load_code() -> None:
    """Import what each worker needs, once, so that they share its memory."""
    for name in CODE:
        importlib.import_module(name)
    keep_out_of_collections()


def work(settings: Settings, answers: Callable[[], None]) -> None:
    """One of several workers: listens when it can answer, on the port that all of them share."""
    app = _app(settings)
    with _listen(settings.host, settings.port, shared=True) as listening:
        answers()
        _run(app, listening)


def _app(settings: Settings) -> Callable[..., Any]:
    from service.app import create_app  # late: workers have to be told where metrics are kept

    return create_app(settings)


def _run(app: Callable[..., Any], listening: socket.socket) -> None:
    keep_out_of_collections()
    give_back_freed_memory()
    # nothing here asks who the client is, so no header needs to say it
    config = uvicorn.Config(app, access_log=False, proxy_headers=False)
    uvicorn.Server(config).run(sockets=[listening])


def _say(settings: Settings, bound: socket.socket) -> None:
    host, port = bound.getsockname()[:2]
    print(f"Serving {settings.bundle} on http://{host}:{port}, examples at /docs", file=sys.stderr)


def keep_out_of_collections() -> None:
    """What is loaded by now stays for good: the garbage collector need not look at it again.

    A collection would else stop all answers while it walks everything, and write to it: what
    processes share would become each one's own.
    """
    gc.collect()
    gc.freeze()


def _listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket, whose port others may share or not.

    Raises `BadInput` where the address is taken or not ours.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048, reuse_port=shared)
    except OSError as failed:
        raise BadInput(
            "The service cannot listen",
            [f"{host}:{port}: {failed.strerror}. Choose another --host or --port."],
        ) from failed
