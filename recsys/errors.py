"""Every exception we raise on purpose.

    RecsysError                 the user's world is wrong; the message says what to do
    ├── BadInput                a click file, an option or a folder cannot be used
    ├── BadRecipe               a recipe has unknown or wrongly typed settings
    ├── BadSpace                a search space names or bounds settings wrongly
    ├── BundleRefused           a bundle is incomplete, damaged or of another format
    ├── TrainingStopped         training cannot go on (the loss is no number)
    ├── Interrupted             the user pressed Ctrl-C; what was done is saved
    ├── UnknownItem             an item id is not in the catalogue
    ├── UnknownAttribute        a filter names an attribute the catalogue does not have
    ├── StoreUnavailable        Redis did not answer in time
    ├── NoPreviousModel         a roll-back where only one model was ever served
    ├── Overloaded              the queue is full, or has stood longer than the deadline
    ├── ServiceRefused          a client of ours was answered with a problem
    └── ServiceUnreachable      a client of ours was not answered

Messages have three parts: what is wrong, what we got, what to do.
"""

from collections.abc import Mapping, Sequence

SHOWN_PROBLEMS = 10  # a longer list hides the first problem instead of showing the rest


class RecsysError(Exception):
    """Something outside this program must change; the message says what."""


class Problems(RecsysError):
    """One heading and every problem found under it, so that all are mended in one go."""

    def __init__(self, heading: str, problems: Sequence[str]) -> None:
        self.heading = heading
        self.problems = tuple(problems)
        super().__init__(_listed(heading, self.problems))


class BadInput(Problems):
    """A click file, an option or a folder cannot be used."""


class BadRecipe(Problems):
    """A recipe has unknown or wrongly typed settings."""


class BadSpace(Problems):
    """A search space names or bounds settings wrongly."""


class BundleRefused(RecsysError):
    """A bundle is incomplete, damaged, of another format, or answers wrongly."""


class TrainingStopped(RecsysError):
    """Training cannot go on; the last good checkpoint is kept."""


class Interrupted(RecsysError):
    """The user pressed Ctrl-C; the message says where the work so far is kept."""


class UnknownItem(RecsysError):
    """An item id is not in the catalogue."""

    def __init__(self, item_id: str, known: int) -> None:
        super().__init__(
            f"Item {item_id!r} is not in the catalogue of {known:,} items. "
            "It is new since the model was trained, or the id is misspelt."
        )


class UnknownAttribute(RecsysError):
    """A filter names an attribute the catalogue does not have; `field` says which filter."""

    def __init__(self, attribute: str, known: Sequence[str], field: str = "filter") -> None:
        self.field = field
        have = ", ".join(known) if known else "none (train with --items to have some)"
        super().__init__(f"{attribute!r} is not an attribute of the items. They have: {have}.")


class StoreUnavailable(RecsysError):
    """Redis did not answer in time, refused, or holds no session; `reason` is a metric label."""

    def __init__(self, message: str, reason: str = "unavailable") -> None:
        super().__init__(message)
        self.reason = reason


class NoPreviousModel(RecsysError):
    """There is no model to go back to."""


class Overloaded(RecsysError):
    """The queue is full, or has stood longer than the deadline; ask again a little later."""


class ServiceRefused(RecsysError):
    """The service answered with a problem: `fields` says what is wrong with which of them."""

    def __init__(
        self,
        detail: str,
        status: int,
        fields: Mapping[str, str] | None = None,
        request_id: str | None = None,
    ) -> None:
        self.status = status
        self.fields = dict(fields or {})
        self.request_id = request_id
        wrong = "".join(f" {name}: {said}." for name, said in self.fields.items())
        super().__init__(f"{status}: {detail}{wrong}")


class ServiceUnreachable(RecsysError):
    """The service did not answer, however often it was asked."""


def _listed(heading: str, problems: tuple[str, ...]) -> str:
    """One problem stands on the heading's line, several stand below it as a list."""
    if not problems:
        return heading
    if len(problems) == 1:
        return f"{heading}: {problems[0]}"
    lines = [f"  - {problem}" for problem in problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        lines.append(f"  … and {len(problems) - SHOWN_PROBLEMS:,} more.")
    return "\n".join([f"{heading}:", *lines])
