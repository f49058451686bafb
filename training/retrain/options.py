"""Options of a retraining."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.content import NO_CONTENT, ContentOptions
from data.events.folder import DAY_SECONDS
from data.files import UTF_8
from recsys.errors import BadInput
from training.competition.budget import Budget

WAYS = TRAIN, FINETUNE, AUTO = ("train", "finetune", "auto")


@dataclass(frozen=True, slots=True)
class RetrainOptions:
    """Options of a retraining.

    Raises:
        BadInput: With every option that cannot be used.
    """

    events: Path
    registry: Path
    days: int = 28
    test_days: int = 1
    day_seconds: float = DAY_SECONDS
    least_cases: int = 500
    way: str = TRAIN
    margin: float = 0.01
    recipe: str = "auto"
    budget: Budget = dataclasses.field(default_factory=Budget)  # of the recipe auto
    settings: Sequence[str] = ()
    items: Path | None = None
    items_delimiter: str | None = None  # None: a comma, a tab in .tsv
    items_encoding: str = UTF_8
    content: ContentOptions = NO_CONTENT
    report: Path | None = None  # None: decisions.html in the registry
    keep: int | None = None  # bundles in the registry; None: all
    keep_shares: bool = False  # publish while an experiment runs, as its main version
    again: bool = False  # compare also where these days have been decided
    device: str = "auto"
    command: str = ""

    def __post_init__(self) -> None:
        rules = [
            (f"--way must be one of {', '.join(WAYS)}", self.way in WAYS, self.way),
            ("--test-days must be at least 1", self.test_days >= 1, self.test_days),
            ("--days must be more than --test-days", self.days > self.test_days, self.days),
            ("--margin must be from 0 to less than 1", 0 <= self.margin < 1, self.margin),
            ("--least-cases must be at least 1", self.least_cases >= 1, self.least_cases),
            ("--keep must be at least 2", self.keep is None or self.keep >= 2, self.keep),
        ]
        problems = [f"{rule}, got {value!r}." for rule, holds, value in rules if not holds]
        if problems:
            raise BadInput("The options cannot be used", problems)
