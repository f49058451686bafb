"""Log lines for people or for machines, without a word of what clients sent.

The message of an exception may quote an id, an argument of Redis or a whole body. So a line names
the kind of an exception and the places it came by, and leaves the message out; at level debug it
is shown.
"""

import asyncio
import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, Literal

OURS = ("recsys", "uvicorn")
FIELDS = ("request_id", "route")  # of a line, where whoever logs gives them as `extra`
log = logging.getLogger("recsys.service")


def log_to_stderr(level: str, form: Literal["text", "json"]) -> None:
    """All loggers of this process write to stderr and nowhere else.

    Of libraries warnings are enough, but at debug.
    """
    others = "warning" if level == "info" else level
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter((JsonLines if form == "json" else TextLines)(messages=level == "debug"))
    logging.basicConfig(level=others.upper(), handlers=[handler], force=True)
    for name in OURS:
        logging.getLogger(name).setLevel(level.upper())
    # a line for each would let clients fill the disk; `recsys_requests_total` counts them
    logging.getLogger("uvicorn.error").addFilter(_is_no_refusal)
    logging.captureWarnings(True)


def _is_no_refusal(record: logging.LogRecord) -> bool:
    """False for what uvicorn says of each malformed request."""
    return record.msg != "Invalid HTTP request received."


class Lines(logging.Formatter):
    """One record after another; `messages`: exceptions are shown with what they say."""

    def __init__(self, *, messages: bool) -> None:
        super().__init__()
        self._messages = messages

    def time_of(self, record: logging.LogRecord) -> str:
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")

    def error_of(self, record: logging.LogRecord) -> list[str]:
        """The exception and what led to it, each with its places, the innermost last."""
        failed = record.exc_info[1] if record.exc_info else None
        found: list[str] = []
        while failed is not None and len(found) < 100:
            said = f": {failed}" if self._messages else ""
            found.append(f"{type(failed).__module__}.{type(failed).__qualname__}{said}")
            frames = traceback.extract_tb(failed.__traceback__)
            found += [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
            failed = failed.__cause__ or failed.__context__
        return found

    def fields_of(self, record: logging.LogRecord) -> dict[str, Any]:
        given = {name: getattr(record, name, None) for name in FIELDS}
        return {name: value for name, value in given.items() if value is not None}


class TextLines(Lines):
    """Time, level and message; what is known of a request and an exception comes after."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in self.fields_of(record).items())
        line = f"{self.time_of(record)} {record.levelname.lower()} "
        return "\n".join([line + record.getMessage().strip() + fields, *self.error_of(record)])


class JsonLines(Lines):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        found: dict[str, Any] = {
            "time": self.time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage().strip(),
            **self.fields_of(record),
        }
        error = self.error_of(record)
        if error:
            found["error"] = error
        return json.dumps(found, ensure_ascii=False)


def watch_loop(loop: asyncio.AbstractEventLoop) -> None:
    """What nobody awaited is logged like everything else: asyncio would print its arguments."""

    def noted(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        log.error("Something failed that no request waits for.", exc_info=context.get("exception"))
        log.debug("asyncio says: %s", context)

    loop.set_exception_handler(noted)
