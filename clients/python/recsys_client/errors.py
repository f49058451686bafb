"""Exceptions of the client, and the base class of all exceptions of this project.

RecsysError                 something outside the program is wrong; the message says what to do
├── ServiceRefused          the client received an error from the service
└── ServiceUnreachable      the client received no answer
"""

from collections.abc import Mapping
from typing import Any


class RecsysError(Exception):
    """Base class: something outside this program must change; the message says what."""


class ServiceRefused(RecsysError):
    """Error answer of the service; `fields` maps a field of the request to its problem."""

    def __init__(
        self,
        detail: str,
        status: int,
        fields: Mapping[str, str] | None = None,
        request_id: str | None = None,
    ) -> None:
        self.detail = detail
        self.status = status
        self.fields = dict(fields or {})
        self.request_id = request_id
        more = [(name, text) for name, text in self.fields.items() if text not in detail]
        problems = "".join(f" {name}: {problem}." for name, problem in more)
        super().__init__(f"{status}: {detail}{problems}")

    def __reduce__(self) -> tuple[type["ServiceRefused"], tuple[Any, ...]]:
        """Return how a copy is made in another process, which knows the message alone."""
        return type(self), (self.detail, self.status, self.fields, self.request_id)


class ServiceUnreachable(RecsysError):
    """Service that did not answer any attempt."""
