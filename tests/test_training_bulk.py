"""Lists for a whole click file: the same as one visitor after another gets."""

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import TrainedShop
from rich.console import Console
from typer.testing import CliRunner

from data.columns import Columns
from recsys.cli import app
from recsys.errors import BadInput
from recsys.predictor import Predictor
from recsys.retrieval import Wish
from training import bulk
from training.bulk import BulkOptions, recommend_all

TENT, BAG = "aurora-tent", "aurora-sleeping-bag"


@pytest.fixture
def clicks(tmp_path: Path) -> Path:
    """Three visitors; the second one's clicks stand in the wrong order, the third's are unknown."""
    rows = [("a", TENT, 1), ("b", BAG, 9), ("b", TENT, 5), ("a", BAG, 2), ("c", "no such", 3)]
    path = tmp_path / "clicks.csv"
    pd.DataFrame(rows, columns=["who", "item_id", "timestamp"]).to_csv(path, index=False)
    return path


def made(trained: TrainedShop, clicks: Path, out: Path, **options: object) -> pd.DataFrame:
    given = BulkOptions(trained.bundle, clicks, out, Columns(session="who"), **options)  # type: ignore[arg-type]
    recommend_all(given, Console(quiet=True))
    lists: pd.DataFrame = pq.read_table(out).to_pandas()
    return lists


def test_everybody_gets_the_list_after_their_clicks_in_order_of_time(
    trained: TrainedShop, predictor: Predictor, clicks: Path, tmp_path: Path
) -> None:
    lists = made(trained, clicks, tmp_path / "r.parquet", k=5)

    ids = predictor.catalogue.item_ids
    both = [predictor.catalogue.index(item) for item in (TENT, BAG)]
    ranking = predictor.recommend(both, Wish(5))
    for who in ("a", "b"):
        mine = lists[lists["who"] == who]
        assert mine["item_id"].tolist() == [ids[item] for item in ranking.items]
        assert mine["score"].tolist() == pytest.approx(ranking.scores, abs=1e-5)
        assert mine["place"].tolist() == [1, 2, 3, 4, 5]
        assert set(mine["source"]) == {"model"}
    assert set(lists[lists["who"] == "c"]["source"]) == {"popular"}


def test_what_was_seen_may_be_left_out(trained: TrainedShop, clicks: Path, tmp_path: Path) -> None:
    lists = made(trained, clicks, tmp_path / "r.parquet", exclude_seen=True)

    assert not {TENT, BAG} & set(lists[lists["who"] == "a"]["item_id"])


def test_many_are_written_piece_by_piece(
    trained: TrainedShop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "AT_ONCE", 7)
    monkeypatch.setattr(bulk, "WRITTEN_AT_ONCE", 50)
    out = tmp_path / "r.parquet"
    given = BulkOptions(trained.bundle, trained.clicks, out, Columns(session="session_id"), k=3)

    visitors = recommend_all(given, Console(quiet=True))

    file = pq.ParquetFile(out)
    assert file.metadata.num_row_groups == -(-visitors // 50)
    read = pd.read_csv(trained.clicks)
    assert (
        file.read().to_pandas()["session_id"].nunique() == read["session_id"].nunique() == visitors
    )


def test_a_run_that_fails_leaves_the_old_file(
    trained: TrainedShop, clicks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "r.parquet"
    out.write_bytes(b"yesterday's")

    def full(*_: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bulk, "_table", full)
    with pytest.raises(BadInput, match="No space left"):
        made(trained, clicks, out)

    assert out.read_bytes() == b"yesterday's"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clicks.csv", "r.parquet"]


@pytest.mark.parametrize(
    "arguments", [[], [TENT, "--clicks", "x.csv", "--out", "r"], ["--clicks", "x.csv"]]
)
def test_one_of_two_ways_must_be_chosen(trained: TrainedShop, arguments: list[str]) -> None:
    ran = CliRunner().invoke(app, ["recommend", "--bundle", str(trained.bundle), *arguments])

    assert isinstance(ran.exception, BadInput)
    assert "give item ids, or --clicks" in str(ran.exception)


def test_the_command_writes_the_file(trained: TrainedShop, clicks: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.parquet"
    arguments = ["--bundle", str(trained.bundle), "--clicks", str(clicks), "--out", str(out)]

    ran = CliRunner().invoke(app, ["recommend", *arguments, "--by", "who", "--k", "4"])

    assert ran.exit_code == 0, ran.output
    assert len(pq.read_table(out)) == 3 * 4
