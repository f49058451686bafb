"""Decisions of retrainings: what was compared, and whether it was published.

The file `decisions.jsonl` of a registry has one line for each decision, the oldest first.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recsys.errors import BadInput
from recsys.fileio import replace_file
from training.report.json_values import json_values
from training.retrain.days import Days
from training.retrain.gate import RelativeDifference, Verdict

DECISIONS = "decisions.jsonl"
POPULARITY = "popularity"  # compared with the first model of a registry


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision, with everything that it was made of."""

    time: str  # UTC, ISO 8601
    days: Days
    published: bool
    reason: str
    way: str  # train or finetune
    recipe: str
    bundle: str  # name that a published candidate has in the registry
    model_id: str  # of the candidate
    compared_with: str | None  # name of the bundle that was current; None: there was none
    compared_model_id: str  # of that bundle; or popularity
    seen_sessions: int  # of the tested days, left out because the current model has learned them
    verdict: Verdict

    def to_json(self) -> str:
        """Return one line; an infinite difference is null."""
        return json.dumps(json_values(self), ensure_ascii=False, allow_nan=False)

    @classmethod
    def of_json(cls, line: str) -> "Decision":
        """Read one line; raise `ValueError` where it is none of ours."""
        try:
            values = json.loads(line)
            verdict = values["verdict"]
            compared = {name: _difference(verdict[name]) for name in ("recall", "mrr")}
            return cls(
                **{
                    **values,
                    "days": Days(**values["days"]),
                    "verdict": Verdict(**{**verdict, **compared}),
                }
            )
        except (TypeError, LookupError, AttributeError) as wrong:
            raise ValueError(f"it is no decision ({wrong})") from wrong


def read_decisions(registry: Path) -> list[Decision]:
    """Return the decisions of a registry, the oldest first.

    Raises:
        BadInput: The file cannot be read.
    """
    path = registry / DECISIONS
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [Decision.of_json(line) for line in lines]
    except (OSError, ValueError) as broken:
        raise BadInput(
            "The decisions of earlier retrainings cannot be read",
            [f"{path}: {broken}. Move the file out of the registry; a new one begins."],
        ) from broken


def add_decision(registry: Path, decision: Decision) -> None:
    """Add a decision to the file, unless it is the last one already; raise `BadInput`."""
    earlier = [one.to_json() for one in read_decisions(registry)]
    line = decision.to_json()
    if earlier[-1:] == [line]:
        return
    text = "".join(f"{one}\n" for one in (*earlier, line))
    replace_file(registry / DECISIONS, lambda path: path.write_text(text, encoding="utf-8"))


def moment(seconds: float) -> str:
    """Format seconds since 1970 for a sentence: 2026-11-29, or 2026-11-29 10:15:30."""
    time = datetime.fromtimestamp(seconds, UTC)
    is_midnight = time.time() == datetime.min.time()
    return f"{time:%Y-%m-%d}" if is_midnight else f"{time:%Y-%m-%d %H:%M:%S}"


def reason_of(verdict: Verdict, compared_with: str | None) -> str:
    """Return a sentence about the comparison."""
    recall = verdict.recall
    found = (
        f"Recall@20 {recall.candidate:.4f} of the candidate and {recall.current:.4f} of "
        f"{compared_with or 'the most popular items'} on {verdict.cases:,} next clicks: "
        f"{percent(recall.difference)}, with 95 % confidence more than {percent(recall.low)}"
    )
    if compared_with is None:
        means = "it is better" if verdict.passes else "it may not be better"
        return f"{found}, so {means}."
    bound = percent(-verdict.margin)
    if verdict.passes:
        return f"{found}, which is above {bound}."
    needed = ""
    if verdict.cases_needed is not None and recall.high > -verdict.margin:
        needed = (
            f" With {verdict.cases_needed:,} next clicks, an equally good model would pass four "
            "times in five."
        )
    return f"{found}, which is not above {bound}.{needed}"


def percent(value: float) -> str:
    """Format a share with its sign: −1.00 %."""
    return f"{value:+.2%}".replace("-", "−").replace("%", " %") if math.isfinite(value) else "+∞"


def _difference(values: Mapping[str, Any]) -> RelativeDifference:
    infinite = {name: math.inf for name, value in values.items() if value is None}
    return RelativeDifference(**{**values, **infinite})
