"""Additions of small logs: too few or useless validation sessions give none, and no error."""

from pathlib import Path

import pandas as pd
import pytest

import recsys

SMALL = {"hidden": 8, "epochs": 1, "negatives": 8}


def log(sessions: list[str]) -> pd.DataFrame:
    rows = [
        (f"s{n}", item, n * 100 + at) for n, s in enumerate(sessions) for at, item in enumerate(s)
    ]
    return pd.DataFrame(rows, columns=["session_id", "item_id", "timestamp"])


TOO_FEW_TO_CUT = ["abcab", "bcab", "cabc", "abab", "bcbc", "caca"]
ONE_SESSION = ["abcab", "bcab", "cabc"] * 4 + ["za", "ab"]  # to validate on, and unknown clicks
UNKNOWN_FIRST_CLICKS = ["abcab", "bcab", "cabc"] * 40 + ["za"] * 12 + ["ab"] * 12


@pytest.mark.parametrize(
    ("recipe", "sessions"),
    [
        ("auto", TOO_FEW_TO_CUT),
        ("default", TOO_FEW_TO_CUT),
        ("auto", ONE_SESSION),
        ("accurate", UNKNOWN_FIRST_CLICKS),
    ],
)
def test_a_log_whose_validation_sessions_say_nothing_is_trained(
    tmp_path: Path, recipe: str, sessions: list[str]
) -> None:
    model = recsys.fit(
        log(sessions), recipe=recipe, settings=SMALL, out=tmp_path / "out", progress=False
    )

    assert len(model.recommend(["a"])) > 0
