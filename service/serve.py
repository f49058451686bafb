"""`recsys serve`: settings from options and environment, then uvicorn."""

import faulthandler
import gc
import importlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from pydantic import SecretStr, ValidationError

from recsys.allocation import give_back_freed_memory
from recsys.errors import BadInput
from service.logs import log_to_stderr
from service.server.embedded_redis import private_redis
from service.server.http_limits import ANSWERS_SHARE, PunctualServer, bounded
from service.server.listening import listen, make_room
from service.server.workers import STOPS, free, shared_port, watch
from service.settings import EMBEDDED, Settings, misspelled

if TYPE_CHECKING:
    from fastapi import FastAPI

# all that a worker imports until it answers; nothing of it computes or starts a thread of its own
CODE = ("service.app", "uvicorn.lifespan.on", "uvicorn.loops.auto")
SECRETS = Path("/run/secrets")  # where Docker and Kubernetes put files: recsys_user_id_secret, …
log = logging.getLogger("recsys.service")


def read_settings(given: Mapping[str, Any], secrets: Path = SECRETS) -> Settings:
    """Options win over the environment, and that over files; raises `BadInput` with all faults."""
    sources: dict[str, Any] = {"_secrets_dir": secrets} if secrets.is_dir() else {}
    try:
        return Settings(**sources, **given)
    except ValidationError as wrong:
        problems = [_problem(error["loc"][0], error["msg"]) for error in wrong.errors()]
        raise BadInput("The settings cannot be used", problems) from wrong


def _problem(name: int | str, said: str) -> str:
    return f"RECSYS_{str(name).upper()}: {said.removeprefix('Value error, ')}."


def serve(given: Mapping[str, Any]) -> int:
    """Serve until SIGTERM or Ctrl-C, finishing what is accepted; returns the exit status."""
    settings = read_settings(given)
    log_to_stderr(settings.log_level, settings.log_format)
    for sentence in misspelled([*os.environ, *_files_in(SECRETS)]):
        log.warning(sentence)
    make_room(settings)
    before = {number: signal.getsignal(number) for number in STOPS}
    try:
        with _with_redis(settings) as complete:
            return _serve(complete)
    finally:  # not before: a second signal must not cut short what ends behind the first
        for number, handler in before.items():
            signal.signal(number, handler)


def _files_in(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()] if folder.is_dir() else []


@contextmanager
def _with_redis(settings: Settings) -> Iterator[Settings]:
    """Settings with the URL of a Redis; a private one runs as long as the block."""
    if settings.redis.get_secret_value() != EMBEDDED:
        yield settings
        return
    with private_redis(socket_file=True) as url:
        log.info(
            "Sessions are kept in a private Redis and end with this service. Name a Redis with "
            "--redis or RECSYS_REDIS to keep them."
        )
        yield settings.model_copy(update={"redis": SecretStr(url)})


def _serve(settings: Settings) -> int:
    if settings.workers == 1:
        with listen(settings) as listening:  # first: loading takes longer
            app = _app(settings)
            _say(settings, listening)
            _run(app, listening, settings)
        return 0
    host, port, family = free(listen(settings))
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
    with listen(settings, shared=True) as listening:
        answers()
        _run(app, listening, settings)


def _app(settings: Settings) -> "FastAPI":
    from service.app import create_app  # late: workers have to be told where metrics are kept

    return create_app(settings)


def config_of(
    app: Callable[..., Any],
    settings: Settings,
    count: Callable[[int], None] = lambda status: None,
) -> uvicorn.Config:
    """Return uvicorn's settings; `count` is told the status of each answer it gives itself."""
    return uvicorn.Config(
        app,
        http=bounded(settings, count),
        ws="none",
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=ceil(settings.shutdown_seconds * ANSWERS_SHARE),
        log_config=None,
        access_log=False,  # its lines hold paths, and these hold user ids
        proxy_headers=False,  # anybody can write them
        server_header=False,
    )


def _run(app: "FastAPI", listening: socket.socket, settings: Settings) -> None:
    # a truncated file of a bundle ends the process by SIGBUS, which no Python code can catch
    faulthandler.enable(sys.stderr)
    keep_out_of_collections()
    give_back_freed_memory()
    # uvicorn ends well and then sends itself the signal again, as if it had been killed by it
    signal.signal(signal.SIGTERM, lambda *_: None)
    config = config_of(app, settings, app.state.metrics.count_refused)
    PunctualServer(config, settings.shutdown_seconds).run(sockets=[listening])


def _say(settings: Settings, bound: socket.socket) -> None:
    host, port = bound.getsockname()[:2]
    log.info("Serving %s on http://%s:%d, examples at /docs", settings.bundle, host, port)


def keep_out_of_collections() -> None:
    """What is loaded by now stays for good: the garbage collector need not look at it again.

    A collection would else stop all answers while it walks everything, and write to it: what
    processes share would become each one's own.
    """
    gc.collect()
    gc.freeze()
