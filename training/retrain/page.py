"""Page about the retrainings of a registry: the last decision, and those before it."""

import math
from collections.abc import Sequence
from pathlib import Path

from recsys.fileio import replace_file
from training.report.charts import Line, line_chart
from training.report.render import render_page
from training.retrain.decision import Decision, moment, percent

SHOWN = 60  # decisions
MOST_NAMES = 10  # of days below the chart


def write_page(path: Path, decisions: Sequence[Decision]) -> None:
    """Write the page about at least one decision, the oldest first; raise `BadInput`."""
    page = render_decisions(decisions)
    replace_file(path, lambda beside: beside.write_text(page, encoding="utf-8"))


def render_decisions(decisions: Sequence[Decision]) -> str:
    """Render the page as HTML."""
    last = decisions[-1]
    return render_page(
        "decisions.html",
        last=last,
        compared_with=last.compared_with or "the most popular items",
        days=[
            ("trained on, from", moment(last.days.since)),
            ("tested on, from", moment(last.days.border)),
            ("until", moment(last.days.until)),
        ],
        tested=moment,
        percent=percent,
        newest_first=decisions[: -SHOWN - 1 : -1],
        charts=_charts(decisions[-SHOWN:]),
    )


def _charts(decisions: Sequence[Decision]) -> list[object]:
    """Draw Recall@20 of candidates and current models over the decisions, if there are several."""
    if len(decisions) < 2:
        return []
    step = math.ceil(len(decisions) / MOST_NAMES)
    names = [
        moment(one.days.border)[5:10] if at % step == 0 else "" for at, one in enumerate(decisions)
    ]
    recalls = [one.verdict.recall for one in decisions]
    points = {
        "candidate": [(at, recall.candidate) for at, recall in enumerate(recalls)],
        "current model": [
            (at, recall.current)
            for at, recall in enumerate(recalls)
            if decisions[at].compared_with is not None
        ],
    }
    chart = line_chart(
        [Line(name, found) for name, found in points.items() if found],
        title="Recall@20",
        x_label="tested day",
        y_label="on its next clicks",
        names=names,
    )
    return [chart]
