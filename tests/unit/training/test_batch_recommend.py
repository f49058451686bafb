"""Batch recommendation gives the lists that single requests give."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from typer.testing import CliRunner

from data.click_options import ClickOptions
from recsys.cli.app import app
from recsys.errors import BadInput, UnknownAttribute
from recsys.predictor import Predictor
from recsys.retrieval.exact import RankingQuery
from tests.support.bundles.trained_shop import TrainedShop
from training import batch_recommend as bulk
from training.batch_recommend import BatchOptions, recommend_all

TENT, BAG = "aurora-tent", "aurora-sleeping-bag"


@pytest.fixture
def clicks(tmp_path: Path) -> Path:
    """Three visitors; the second one's clicks stand in the wrong order, the third's are unknown."""
    rows = [("a", TENT, 1), ("b", BAG, 9), ("b", TENT, 5), ("a", BAG, 2), ("c", "no such", 3)]
    path = tmp_path / "clicks.csv"
    pd.DataFrame(rows, columns=["who", "item_id", "timestamp"]).to_csv(path, index=False)
    return path


def made(trained: TrainedShop, clicks: Path, out: Path, **options: object) -> pd.DataFrame:
    read = ClickOptions(clicks, session_column="who")
    given = BatchOptions(trained.bundle, read, out, **options)  # type: ignore[arg-type]
    recommend_all(given, Console(quiet=True))
    lists: pd.DataFrame = pq.read_table(out).to_pandas()
    return lists


def test_every_visitor_gets_the_list_after_its_clicks_in_order_of_time(
    trained: TrainedShop, predictor: Predictor, clicks: Path, tmp_path: Path
) -> None:
    lists = made(trained, clicks, tmp_path / "r.parquet", k=5)

    ids = predictor.catalogue.item_ids
    both = [predictor.catalogue.index(item) for item in (TENT, BAG)]
    ranking = predictor.recommend(both, RankingQuery(5))
    for who in ("a", "b"):
        mine = lists[lists["who"] == who]
        assert mine["item_id"].tolist() == [ids[item] for item in ranking.items]
        assert mine["score"].tolist() == pytest.approx(ranking.scores, abs=1e-5)
        assert mine["place"].tolist() == [1, 2, 3, 4, 5]
        assert set(mine["source"]) == {"model"}
    assert set(lists[lists["who"] == "c"]["source"]) == {"popular"}


def test_clicked_items_can_be_excluded(trained: TrainedShop, clicks: Path, tmp_path: Path) -> None:
    lists = made(trained, clicks, tmp_path / "r.parquet", exclude_seen=True)

    assert not {TENT, BAG} & set(lists[lists["who"] == "a"]["item_id"])


def test_many_lists_are_written_in_row_groups(
    trained: TrainedShop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "BATCH_VISITORS", 7)
    monkeypatch.setattr(bulk, "ROW_GROUP_VISITORS", 50)
    out = tmp_path / "r.parquet"
    given = BatchOptions(trained.bundle, ClickOptions(trained.clicks), out, k=3)

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

    monkeypatch.setattr(bulk, "list_table", full)
    with pytest.raises(BadInput, match="No space left"):
        made(trained, clicks, out)

    assert out.read_bytes() == b"yesterday's"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clicks.csv", "r.parquet"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [TENT, "--clicks", "x.csv", "--out", "r.csv"],
        ["--clicks", "x.csv"],
        ["--clicks", "x.csv", "--out", "r.csv", "--json"],
        [TENT, "--out", "r.csv"],
    ],
)
def test_item_ids_or_a_click_file_must_be_given(trained: TrainedShop, arguments: list[str]) -> None:
    ran = CliRunner().invoke(app, ["recommend", "--bundle", str(trained.bundle), *arguments])

    assert isinstance(ran.exception, BadInput)
    assert "give item ids, or --clicks" in str(ran.exception)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--idle-gap", "5"], "--idle-gap"),
        (["--by", "who", "--events", "view", "--drop-duplicates"], "--by, --events, --drop-d"),
        (["--session-column", "who"], "--session-column"),
    ],
)
def test_options_of_click_files_are_refused_with_item_ids(
    trained: TrainedShop, arguments: list[str], named: str
) -> None:
    ran = CliRunner().invoke(app, ["recommend", "--bundle", str(trained.bundle), *arguments, TENT])

    assert isinstance(ran.exception, BadInput)
    assert named in str(ran.exception)
    assert "say how --clicks FILE is read" in str(ran.exception)


@pytest.mark.parametrize(
    ("name", "out"),
    [
        *((name, "--json") for name in ("model_id", "source", "items")),
        *((name, "r.csv") for name in ("place", "item_id", "score", "source")),
    ],
)
def test_a_visitor_column_named_like_a_part_of_the_list_is_refused(
    trained: TrainedShop, tmp_path: Path, name: str, out: str
) -> None:
    path = tmp_path / "clicks.csv"
    path.write_text(f"{name},sku,timestamp\na,{TENT},1\n")
    there = ["--json"] if out == "--json" else ["--out", str(tmp_path / out)]
    read = ["--clicks", str(path), "--item-column", "sku", "--by", name]

    ran = CliRunner().invoke(app, ["recommend", "--bundle", str(trained.bundle), *read, *there])

    assert isinstance(ran.exception, BadInput)
    assert f"{name!r} would name the visitor and a part of the list" in str(ran.exception)
    assert ran.stdout == ""
    assert list(tmp_path.iterdir()) == [path]


def test_a_visitor_column_may_be_named_like_a_part_of_the_other_format(
    trained: TrainedShop, tmp_path: Path
) -> None:
    path = tmp_path / "clicks.csv"
    path.write_text(f"items,place,item_id,timestamp\na,b,{TENT},1\n")
    out = tmp_path / "r.csv"

    recommended(trained, "--clicks", path, "--by", "items", "--out", out)
    (line,) = recommended(trained, "--clicks", path, "--by", "place", "--json").splitlines()

    assert set(pd.read_csv(out)["items"]) == {"a"}
    assert json.loads(line)["place"] == "b"


def test_the_command_writes_the_file(trained: TrainedShop, clicks: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.parquet"
    arguments = ["--bundle", str(trained.bundle), "--clicks", str(clicks), "--out", str(out)]

    ran = CliRunner().invoke(app, ["recommend", *arguments, "--by", "who", "--k", "4"])

    assert ran.exit_code == 0, ran.output
    assert len(pq.read_table(out)) == 3 * 4


HOUR = 3600


@pytest.fixture
def week(tmp_path: Path) -> Path:
    """Write a visitor who came on three days, with carts, separated by semicolons."""
    rows = [
        ("a", BAG, 0, "view"),
        ("a", TENT, 24 * HOUR, "view"),
        ("b", BAG, 5, "view"),
        ("a", TENT, 48 * HOUR, "view"),
        ("a", BAG, 48 * HOUR + 1799, "view"),
        ("a", "aurora-desk", 48 * HOUR + 1800, "cart"),
    ]
    path = tmp_path / "week.csv"
    columns = ["visitor", "item_id", "timestamp", "event_type"]
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False, sep=";")
    return path


def recommended(trained: TrainedShop, *arguments: object) -> str:
    words = ["recommend", "--bundle", str(trained.bundle), *map(str, arguments)]
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 0, ran.output
    return ran.stdout


def test_the_newest_session_of_a_visitor_counts(
    trained: TrainedShop, predictor: Predictor, week: Path
) -> None:
    given = ("--clicks", week, "--delimiter", ";", "--events", "view", "--json", "--k", 4)
    first, second = (
        [json.loads(line) for line in recommended(trained, *given, *visitor).splitlines()]
        for visitor in (
            ("--by", "visitor"),
            ("--session-column", "none", "--user-column", "visitor"),
        )
    )

    index, ids = predictor.catalogue.index, predictor.catalogue.item_ids
    newest = predictor.recommend([index(TENT), index(BAG)], RankingQuery(4))
    assert first == second
    assert [one["visitor"] for one in first] == ["a", "b"]
    assert [item["item_id"] for item in first[0]["items"]] == ids.take(newest.items)
    whole = ("--session-column", "visitor")
    seen = json.loads(recommended(trained, *given, *whole).splitlines()[0])
    assert seen["items"] != first[0]["items"]
    short = ("--by", "visitor", "--idle-gap", 1798)
    last = json.loads(recommended(trained, *given, *short).splitlines()[0])
    alone = predictor.recommend([index(BAG)], RankingQuery(4))
    assert [item["item_id"] for item in last["items"]] == ids.take(alone.items)


def test_a_filter_holds_for_one_list_and_for_many(trained: TrainedShop, week: Path) -> None:
    wanted = ("--filter", "category:Camping", "--filter", "brand:Aurora", "--json")
    given = ("--clicks", week, "--delimiter", ";", "--by", "visitor")
    kinds = pd.read_csv(trained.items).set_index("item_id")["category"]

    one = json.loads(recommended(trained, TENT, "no such", "--exclude-seen", *wanted))
    many = [json.loads(line) for line in recommended(trained, *given, *wanted).splitlines()]

    assert one["unknown_items"] == ["no such"]
    assert TENT not in {item["item_id"] for item in one["items"]}
    for found in (one, *many):
        assert found["items"]
        assert {kinds[item["item_id"]] for item in found["items"]} == {"Camping"}
    words = ["recommend", "--bundle", str(trained.bundle), TENT, "--filter", "colour:red"]
    with pytest.raises(UnknownAttribute, match="'colour' is not an attribute"):
        CliRunner().invoke(app, words, catch_exceptions=False)


def test_the_suffix_of_the_file_decides_its_format(
    trained: TrainedShop, clicks: Path, tmp_path: Path
) -> None:
    columnar = made(trained, clicks, tmp_path / "r.parquet", k=5)
    given = BatchOptions(
        trained.bundle, ClickOptions(clicks, session_column="who"), tmp_path / "r.csv", k=5
    )
    recommend_all(given, Console(quiet=True))

    text = pd.read_csv(tmp_path / "r.csv")
    assert text.columns.tolist() == columnar.columns.tolist()
    assert text["item_id"].tolist() == columnar["item_id"].tolist()
    assert text["score"].tolist() == pytest.approx(columnar["score"].tolist(), rel=1e-5)
    for name in ("r", "r.txt", "r.json"):
        with pytest.raises(BadInput, match=r"must end in .csv or .parquet"):
            made(trained, clicks, tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clicks.csv", "r.csv", "r.parquet"]


def test_clicks_are_read_as_in_the_training_unless_options_are_given(
    trained: TrainedShop, week: Path, tmp_path: Path
) -> None:
    """`trained` was read by the defaults, so that a copy of its manifest remembers others."""
    copy = shutil.copytree(trained.bundle, tmp_path / "bundle")
    manifest = json.loads((copy / "manifest.json").read_text())
    assert "reading" not in manifest["training"]
    reading = {"delimiter": ";", "session_column": "none", "user_column": "nobody"}
    manifest["training"]["reading"] = reading
    (copy / "manifest.json").write_text(json.dumps(manifest))
    given = ("--clicks", str(week), "--user-column", "visitor", "--json")

    ran = CliRunner().invoke(app, ["recommend", "--bundle", str(copy), *given])

    options = ("--delimiter", ";", "--session-column", "none")
    assert ran.stdout == recommended(trained, *given, *options)
    assert "as in the training" in ran.stderr
    assert "--session-column none --delimiter ';' (options given win)" in ran.stderr
