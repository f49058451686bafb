"""Log lines as text or JSON, without any data that clients sent.

The message of an exception may quote an id, an argument of a Redis command or a whole body. So a
line names the class of an exception and its traceback. The message is shown at level debug only.
"""

import asyncio
import json
import logging
import sys
import traceback
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

OWN_LOGGERS = ("recsys", "uvicorn")
# Shown in every line of a request, or if a log call gives them as `extra`.
FIELDS = ("request_id", "trace_id", "span_id", "route")
# The server runs each request in a task of its own, so the fields end with the request.
REQUEST_FIELDS: ContextVar[Mapping[str, str] | None] = ContextVar("request_fields", default=None)
log = logging.getLogger("recsys.service")


def log_to_stderr(level: str, form: Literal["text", "json"]) -> None:
    """Send the lines of all loggers of this process to stderr and nowhere else.

    Libraries log warnings, and everything at level debug.
    """
    others = "warning" if level == "info" else level
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        (JsonFormatter if form == "json" else TextFormatter)(messages=level == "debug")
    )
    logging.basicConfig(level=others.upper(), handlers=[handler], force=True)
    for name in OWN_LOGGERS:
        logging.getLogger(name).setLevel(level.upper())
    # one line for each would let clients fill the disk; `recsys_requests_total` counts them
    logging.getLogger("uvicorn.error").addFilter(_is_not_malformed_request)
    logging.captureWarnings(True)


def _is_not_malformed_request(record: logging.LogRecord) -> bool:
    """Return False for the line that uvicorn logs for each malformed request."""
    return record.msg != "Invalid HTTP request received."


class LineFormatter(logging.Formatter):
    """Base of both formatters; `messages`: whether messages of exceptions are shown."""

    def __init__(self, *, messages: bool) -> None:
        super().__init__()
        self._messages = messages

    def time_of(self, record: logging.LogRecord) -> str:
        """Return the time in UTC, as ISO 8601 with milliseconds."""
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")

    def error_of(self, record: logging.LogRecord) -> list[str]:
        """Return the exception and its causes, each with its traceback, innermost frame last."""
        error = record.exc_info[1] if record.exc_info else None
        lines: list[str] = []
        while error is not None and len(lines) < 100:
            message = f": {error}" if self._messages else ""
            lines.append(f"{type(error).__module__}.{type(error).__qualname__}{message}")
            frames = traceback.extract_tb(error.__traceback__)
            lines += [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
            error = error.__cause__ or error.__context__
        return lines

    def fields_of(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return the fields of `FIELDS` that the record or its request has."""
        of_request = REQUEST_FIELDS.get() or {}
        values = {name: getattr(record, name, of_request.get(name)) for name in FIELDS}
        return {name: value for name, value in values.items() if value is not None}


class TextFormatter(LineFormatter):
    """Formatter of text lines: time, level, message, then fields and the exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        fields = "".join(f" {name}={value}" for name, value in self.fields_of(record).items())
        line = f"{self.time_of(record)} {record.levelname.lower()} "
        return "\n".join([line + record.getMessage().strip() + fields, *self.error_of(record)])


class JsonFormatter(LineFormatter):
    """Formatter of JSON lines: one object for each record, with what it gives as `details`.

    A line is ASCII: an id with a separator of lines or a control character of Unicode neither ends
    the line nor changes the terminal that shows it.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the JSON of a record."""
        line: dict[str, Any] = {
            "time": self.time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage().strip(),
            **self.fields_of(record),
            **getattr(record, "details", {}),
        }
        error = self.error_of(record)
        if error:
            line["error"] = error
        return json.dumps(line)


def watch_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Log exceptions of tasks and callbacks that no code awaits.

    asyncio would print the arguments of the callback.
    """

    def handle(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        log.error("A background task failed.", exc_info=context.get("exception"))
        log.debug("Context of the failure: %s", context)

    loop.set_exception_handler(handle)
