"""Exceptions that this project raises on purpose.

    RecsysError                 something outside the program is wrong; the message says what to do
    ├── BadInput                a click file, an option or a folder cannot be used
    ├── BadRecipe               a recipe has unknown or wrongly typed settings
    ├── BadSpace                a search space names or bounds settings wrongly
    ├── BundleRefused           a bundle is incomplete, damaged or of another format
    ├── TrainingStopped         training cannot continue (the loss is NaN or infinite)
    ├── AnotherProcessFailed    one of several processes of a run cannot go on without another one
    ├── Interrupted             the user pressed Ctrl-C; the work so far is saved
    ├── UnknownItem             an item id is not in the catalogue
    ├── WrongAttribute
    │   ├── UnknownAttribute    a request names an attribute the catalogue does not have
    │   └── TextAttribute       a range is asked of an attribute that is text
    ├── WrongContent            an attribute or a vector of a new item cannot be used
    ├── StoreUnavailable        Redis did not answer in time
    ├── NoPreviousModel         a rollback without a previous model
    ├── Overloaded              the queue is full, or older than the deadline
    └── ServiceRefused, ServiceUnreachable    of the HTTP client: recsys_client/errors.py

Messages have three parts: what is wrong, what we got, what to do.

`RenamedSetting` is the one warning; a program goes on after it.
"""

import difflib
from collections.abc import Sequence

from recsys_client.errors import RecsysError as RecsysError
from recsys_client.errors import ServiceRefused as ServiceRefused
from recsys_client.errors import ServiceUnreachable as ServiceUnreachable

SHOWN_PROBLEMS = 10  # the first problems must stay visible


class RenamedSetting(FutureWarning):
    """Old name of a setting or of a value, which still works; the message gives the new one."""


class Problems(RecsysError):
    """One heading and all problems below it, so that they can be corrected together."""

    def __init__(self, heading: str, problems: Sequence[str]) -> None:
        self.heading = heading
        self.problems = tuple(problems)
        super().__init__(_format_problems(heading, self.problems))

    def __reduce__(self) -> tuple[type["Problems"], tuple[str, tuple[str, ...]]]:
        """Return how a copy is made in another process, which knows the message alone."""
        return type(self), (self.heading, self.problems)


class BadInput(Problems):
    """Unusable click file, option or folder."""


class BadRecipe(Problems):
    """Recipe with unknown or wrongly typed settings."""


class BadSpace(Problems):
    """Search space with wrong names or bounds of settings."""


class BundleRefused(RecsysError):
    """Bundle that is incomplete, damaged, of another format, or gives wrong answers."""


class TrainingStopped(RecsysError):
    """Training that cannot continue; the last good checkpoint is kept."""


class AnotherProcessFailed(RecsysError):
    """End of a process whose run cannot go on, because of another process of the run."""


class Interrupted(RecsysError):
    """Interruption by Ctrl-C; the message names where the work so far is saved."""

    status = 130  # of the process that ends by it, as shells have it for Ctrl-C


class UnknownItem(RecsysError):
    """Item id that the catalogue lacks."""

    def __init__(self, item_id: str, known: int) -> None:
        super().__init__(
            f"Item {item_id!r} is not in the catalogue of {known:,} items. "
            "It is new since the model was trained, or the id is misspelt."
        )


class WrongAttribute(RecsysError):
    """Attribute that a request cannot name there; `field` is the field of the request."""

    field: str


class UnknownAttribute(WrongAttribute):
    """Attribute of a request that the catalogue lacks."""

    def __init__(self, attribute: str, known: Sequence[str], field: str = "filter") -> None:
        self.field = field
        known_text = ", ".join(known) if known else "none (train with a table of items)"
        near = difflib.get_close_matches(attribute, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        super().__init__(
            f"{attribute!r} is not an attribute of the items.{hint} They have: {known_text}."
        )


class TextAttribute(WrongAttribute):
    """Attribute with a range although not all of its values are numbers."""

    def __init__(self, attribute: str, field: str) -> None:
        self.field = field
        super().__init__(
            f"{attribute!r} is text: not every value of it is a number, so that it has no range. "
            "Give a list of values."
        )


class WrongContent(RecsysError):
    """Attribute or vector of an item that its content cannot have; `field` names it."""

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        super().__init__(f"{field} {problem}")


class StoreUnavailable(RecsysError):
    """Redis did not answer in time, refused, or holds no session; `reason` is a metric label."""

    def __init__(self, message: str, reason: str = "unavailable") -> None:
        super().__init__(message)
        self.reason = reason


class NoPreviousModel(RecsysError):
    """Rollback without a previous model."""


class Overloaded(RecsysError):
    """Queue that is full, or older than the deadline; the client should retry later."""


def _format_problems(heading: str, problems: tuple[str, ...]) -> str:
    """Put one problem on the line of the heading, several below it as a list."""
    if not problems:
        return heading
    if len(problems) == 1:
        return f"{heading}: {problems[0]}"
    lines = [f"  - {problem}" for problem in problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        lines.append(f"  … and {len(problems) - SHOWN_PROBLEMS:,} more.")
    return "\n".join([f"{heading}:", *lines])
