"""Decisions are added once, survive being written, and say their reason."""

import dataclasses
import math
from pathlib import Path

import pytest

from recsys.errors import BadInput
from training.retrain.days import Days
from training.retrain.decision import (
    DECISIONS,
    Decision,
    add_decision,
    moment,
    read_decisions,
    reason_of,
)
from training.retrain.gate import RelativeDifference, Verdict
from training.retrain.page import render_decisions

RECALL = RelativeDifference("recall@20", 0.4, 0.5, -0.2, -0.3, -0.1)
MRR = RelativeDifference("mrr@20", 0.2, 0.2, 0.0, -0.1, 0.1)
VERDICT = Verdict(False, 0.01, 1000, 300, 0.2, RECALL, MRR, 9_000)
DECISION = Decision(
    time="2026-11-30T00:10:00+00:00",
    days=Days(0.0, 86_400.0, 172_800.0),
    published=False,
    reason="<because>",
    way="train",
    recipe="default",
    bundle="20261130-001000",
    model_id="new",
    compared_with="old",
    compared_model_id="0123",
    seen_sessions=7,
    verdict=VERDICT,
)
FIRST = dataclasses.replace(
    DECISION,
    published=True,
    compared_with=None,
    verdict=dataclasses.replace(
        VERDICT, passes=True, recall=RelativeDifference("recall@20", 0.4, 0, *[math.inf] * 3)
    ),
)


def test_a_decision_is_read_as_it_was_written_and_added_once(tmp_path: Path) -> None:
    for decision in (FIRST, DECISION, DECISION):
        add_decision(tmp_path, decision)

    assert read_decisions(tmp_path) == [FIRST, DECISION]


WRONG_FIGURES = '{"days": {}, "verdict": {"recall": "x", "mrr": 1}}'


@pytest.mark.parametrize("content", ["{", "[]", '{"time": 1}', "{}", WRONG_FIGURES])
def test_a_damaged_history_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / DECISIONS).write_text(content)

    with pytest.raises(BadInput, match=r"decisions\.jsonl: .* Move the file"):
        read_decisions(tmp_path)


def test_the_reason_names_figures_bound_and_the_cases_that_are_needed() -> None:
    unsure = dataclasses.replace(RECALL, difference=0.01, low=-0.02, high=0.04)

    reason = reason_of(dataclasses.replace(VERDICT, recall=unsure), "old")

    assert "0.4000 of the candidate and 0.5000 of old on 1,000 next clicks: +1.00 %" in reason
    assert "more than −2.00 %, which is not above −1.00 %. With 9,000 next clicks" in reason


def test_more_cases_do_not_help_a_model_that_is_worse() -> None:
    assert reason_of(VERDICT, "old").endswith("which is not above −1.00 %.")


def test_a_day_is_named_by_its_date_and_a_shorter_one_by_its_time() -> None:
    assert (moment(86_400), moment(86_460)) == ("1970-01-02", "1970-01-02 00:01:00")


def test_the_page_shows_the_last_decision_escaped_and_those_before() -> None:
    page = render_decisions([FIRST, DECISION])

    assert "The current model was kept" in page
    assert "&lt;because&gt;" in page
    assert "7 sessions of the tested days are left out" in page
    assert ("+∞" in page, page.count("<svg")) == (True, 1)
