"""Audit log: one JSON line for each call that needs an admin or catalogue key.

A line names the key by its fingerprint, the call by its method and route, and the outcome, also of
refused calls. It has the numbers and ids of items, and no other content of a call.
"""

import errno
import logging
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aiolimiter import AsyncLimiter
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from recsys.errors import BadInput
from service.answer_status import AnswerStatus
from service.logs import JsonFormatter
from service.middleware.auth import API_KEY, digest_of, fingerprint, part_of

MAX_ITEM_IDS = 50  # in one line; the counts are always complete
# Lines of calls without a valid key, so that no client can fill the disk.
MAX_REFUSED_LINES, REFUSED_SECONDS = 60, 60.0
audit = logging.getLogger("recsys.audit")
log = logging.getLogger("recsys.service")


def note(scope: Scope, **details: Any) -> None:
    """Add details of a call to its line; `item_ids` are cut to `MAX_ITEM_IDS`."""
    if "item_ids" in details:
        details["item_ids"] = details["item_ids"][:MAX_ITEM_IDS]
    scope["audit"].update(details)


def outcome_of(status: int) -> str:
    """Return done, refused (an error of the caller) or failed (an error of the service)."""
    if status >= 500:
        return "failed"
    return "refused" if status >= 400 else "done"


class Audit:
    """ASGI middleware that writes the lines; `routes`: all that need such a key."""

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        self._paths = {getattr(route, "path", None) for route in routes}
        self._refused = AsyncLimiter(MAX_REFUSED_LINES, REFUSED_SECONDS)
        self._left_out = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or part_of(scope["path"], scope["method"]) == API_KEY:
            await self._app(scope, receive, send)
            return
        scope["audit"] = {}
        answer = AnswerStatus(send)
        try:
            await self._app(scope, receive, answer)
        finally:
            await self._write(scope, answer.status)

    async def _write(self, scope: Scope, status: int) -> None:
        if "caller" not in scope:
            if status < 400:  # a browser's question before a call, which needs no key
                return
            if not self._refused.has_capacity():
                self._left_out += 1
                return
            await self._refused.acquire()  # does not wait, as there is room
        digest = digest_of(scope)
        path = scope["path"]
        details = {
            "key": None if digest is None else fingerprint(digest),
            "method": scope["method"],
            "route": path if path in self._paths else "unmatched",
            "status": status,
            "outcome": outcome_of(status),
            **scope["audit"],
        }
        if self._left_out:
            details["not_logged"], self._left_out = self._left_out, 0
        audit.info("%s", details["outcome"], extra={"details": details})


class AuditFile(logging.Handler):
    """Handler that appends each line to a file with one write.

    The lines of several workers do not mix, and a file that was renamed is made anew. If the file
    cannot be written, the line goes to stderr.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._end = b""  # of a line that was cut, when the disk was full

    def emit(self, record: logging.LogRecord) -> None:
        """Append the line of a record."""
        line = self.format(record) + "\n"
        try:
            self.append(line.encode())
        except OSError as error:
            log.error("The audit file cannot be written (%s). Its line follows.", error.strerror)
            sys.stderr.write(line)

    def append(self, data: bytes) -> None:
        """Append bytes to the file; raise `OSError` if it cannot be written.

        A pipe without a reader fails, too: to wait for one would stop all answers.
        """
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK
        file = os.open(self._path, flags, 0o640)
        data = self._end + data
        try:
            written = os.write(file, data)
        finally:
            os.close(file)
        self._end = b"\n" if 0 < written < len(data) else b""
        if written < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def log_audit(path: Path | None) -> None:
    """Send the lines of the audit log to a file, or to stderr, whatever the level of the log.

    Raise `BadInput` if the file cannot be written.
    """
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if path is not None:
        handler = AuditFile(path)
        try:
            handler.append(b"")
        except OSError as error:
            raise BadInput(
                "The audit log cannot be written",
                [f"{path}: {error.strerror}. Set RECSYS_AUDIT_LOG to a file in a writable folder."],
            ) from error
    handler.setFormatter(JsonFormatter(messages=False))
    audit.handlers = [handler]
    audit.setLevel(logging.INFO)
    audit.propagate = False
