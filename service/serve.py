"""`recsys serve`: read the settings, open the socket and run uvicorn, in one process or several."""

import faulthandler
import gc
import importlib
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from pydantic import SecretStr, ValidationError

from recsys.allocation import give_back_freed_memory
from recsys.errors import BadInput
from service.logs import log_to_stderr
from service.middleware.audit import log_audit
from service.server.embedded_redis import private_redis
from service.server.http_limits import ANSWERS_SHARE, PunctualServer, bounded
from service.server.workers import STOP_SIGNALS, address_of, run_workers, shared_port
from service.settings import EMBEDDED, Settings, misspelled

if TYPE_CHECKING:
    from fastapi import FastAPI
    from pydantic_core import ErrorDetails

# Modules that a worker imports before it answers. None of them computes or starts a thread.
WORKER_MODULES = ("service.app", "uvicorn.lifespan.on", "uvicorn.loops.auto")
SECRETS = Path("/run/secrets")  # folder for secrets of Docker and Kubernetes
OTHER_FILES = 200  # open files of a process beside its connections: bundle, libraries, log
log = logging.getLogger("recsys.service")


def read_settings(options: Mapping[str, Any], secrets: Path = SECRETS) -> Settings:
    """Read the settings from options, then the environment, then files of secrets.

    Raise `BadInput` with all invalid settings.
    """
    sources: dict[str, Any] = {"_secrets_dir": secrets} if secrets.is_dir() else {}
    try:
        return Settings(**sources, **options)
    except ValidationError as invalid:
        problems = [_problem(error) for error in invalid.errors()]
        raise BadInput("The settings cannot be used", problems) from invalid


def _problem(error: "ErrorDetails") -> str:
    name, message = str(error["loc"][0]), error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        message = f"is not set. Set it, or give --{name}"
    return f"RECSYS_{name.upper()}: {message}."


def serve(options: Mapping[str, Any]) -> int:
    """Serve until SIGTERM or Ctrl-C, finish accepted requests, and return the exit status."""
    settings = read_settings(options)
    log_to_stderr(settings.log_level, settings.log_format)
    log_audit(settings.audit_log)
    for sentence in misspelled([*os.environ, *_files_in(SECRETS)]):
        log.warning(sentence)
    allow_open_files(settings)
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        with _with_redis(settings) as complete:
            return _serve(complete)
    finally:  # not before: a second signal must not interrupt the clean-up after the first
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _files_in(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()] if folder.is_dir() else []


@contextmanager
def _with_redis(settings: Settings) -> Iterator[Settings]:
    """Yield settings with the URL of a Redis. An embedded Redis runs as long as the block."""
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
        with listen(settings) as listening:  # before the bundle is loaded, which takes longer
            app = _app(settings)
            _log_address(settings, listening)
            _run(app, listening, settings)
        return 0
    host, port, family = address_of(listen(settings))
    with shared_port(host, port, family) as bound:
        _log_address(settings, bound)
        resolved = settings.model_copy(update={"host": host, "port": port})
        return run_workers(work, resolved, prepare=import_worker_modules)


def import_worker_modules() -> None:
    """Import the modules of the workers once, so that all workers share their memory."""
    for name in WORKER_MODULES:
        importlib.import_module(name)
    freeze_garbage_collector()


def work(settings: Settings, ready: Callable[[], None]) -> None:
    """Run one of several workers on the port that all of them share."""
    app = _app(settings)
    with listen(settings, shared=True) as listening:
        ready()
        _run(app, listening, settings)


def _app(settings: Settings) -> "FastAPI":
    from service.app import create_app  # late: workers first set the folder of the metrics

    return create_app(settings)


def config_of(
    app: Callable[..., Any], settings: Settings, count: Callable[[int], None] = lambda status: None
) -> uvicorn.Config:
    """Return the configuration of uvicorn.

    `count` receives the status of each answer that the server gives without the application.
    """
    return uvicorn.Config(
        app,
        http=bounded(settings, count),
        ws="none",
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=ceil(settings.shutdown_seconds * ANSWERS_SHARE),
        log_config=None,
        access_log=False,  # its lines hold paths, and paths hold user ids
        proxy_headers=False,  # any client can send them
        server_header=False,
    )


def _run(app: "FastAPI", listening: socket.socket, settings: Settings) -> None:
    # A truncated file of a bundle ends the process with SIGBUS, which Python cannot catch.
    faulthandler.enable(sys.stderr)
    freeze_garbage_collector()
    give_back_freed_memory()
    # uvicorn sends itself the signal again after a clean end, which would look like a kill.
    signal.signal(signal.SIGTERM, lambda *_: None)
    config = config_of(app, settings, app.state.metrics.count_refused)
    PunctualServer(config, settings.shutdown_seconds).run(sockets=[listening])


def _log_address(settings: Settings, bound: socket.socket) -> None:
    host, port = bound.getsockname()[:2]
    log.info("Serving %s on http://%s:%d, examples at /docs", settings.bundle, host, port)


def freeze_garbage_collector() -> None:
    """Exclude all objects that exist now from later garbage collections.

    A collection of everything would stop all answers while it runs. It would also write to the
    memory that workers share, so that each of them would get a copy.
    """
    gc.collect()
    gc.freeze()


def listen(settings: Settings, *, shared: bool = False) -> socket.socket:
    """Open a listening socket, whose port other sockets may share if `shared` is true.

    Raise `BadInput` if the address is taken, is not of this machine, or would be public without a
    key.
    """
    host, port = settings.host, settings.port
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, _, _, _, address = addresses[0]
        refuse_public_address(str(address[0]), settings)
        return socket.create_server(address[:2], family=family, backlog=2048, reuse_port=shared)
    except OSError as error:
        raise BadInput(
            "The service cannot listen",
            [f"{host}:{port}: {error.strerror}. Choose another --host or --port."],
        ) from error


def refuse_public_address(address: str, settings: Settings) -> None:
    """Raise `BadInput` if other machines can reach the address and no key is set."""
    if settings.api_key_hashes or settings.public_without_key or ip_address(address).is_loopback:
        return
    raise BadInput(
        "The service would be open to all machines of the network",
        [
            f"Other machines can reach {settings.host}, and no key is set. Make a key with "
            "recsys key and set RECSYS_API_KEY_HASHES. If a proxy or a firewall controls access, "
            "set RECSYS_PUBLIC_WITHOUT_KEY=true."
        ],
    )


def allow_open_files(settings: Settings) -> None:
    """Raise the limit of open files of this process to what its connections need.

    Raise `BadInput` if the system does not allow that many.
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
