"""The Python API: DataFrames in and out, the model of the command line, clear errors."""

import copy
import dataclasses
import pickle
import re
import signal
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

import recsys
from data.click_options import ClickOptions
from recsys.bundle.manifest import read_manifest
from recsys.bundle.registry import publish
from recsys.errors import BadInput, BadRecipe, BundleRefused, Interrupted, RecsysError, UnknownItem
from recsys.predictor import Predictor
from recsys.retrieval.exact import RankingQuery
from recsys.shadowing import ROOT
from recsys_client import Client
from tests.support.bundles.trained_shop import SMALL, TrainedShop
from tests.support.processes import ForkedProcess
from tests.support.python_process import environment, python
from tests.support.redis.servers import wait_until
from tests.support.service.processes import family, gone
from training.evaluation.compare import RELATIVES
from training.pipeline import TrainOptions, train
from training.recipe import Recipe

DEFAULTS = dataclasses.asdict(Recipe())
RECIPE = dataclasses.replace(SMALL, epochs=2)
SETTINGS = {name: v for name, v in dataclasses.asdict(RECIPE).items() if v != DEFAULTS[name]}
QUICK = {"epochs": 1, "hidden": 8, "negatives": 8, "batch": 8}


@pytest.fixture(scope="module")
def clicks(trained: TrainedShop) -> pd.DataFrame:
    return pd.read_csv(trained.clicks)


@pytest.fixture(scope="module")
def some_clicks(clicks: pd.DataFrame) -> pd.DataFrame:
    return clicks[clicks["session_id"].isin(clicks["session_id"].unique()[:1000])]


@pytest.fixture(scope="module")
def model(trained: TrainedShop, some_clicks: pd.DataFrame) -> recsys.Model:
    items = pd.read_csv(trained.items)
    return recsys.fit(some_clicks, items=items, recipe="default", settings=SETTINGS, progress=False)


@pytest.fixture(scope="module")
def quick_model_id() -> str:
    return recsys.fit(quick_clicks(), settings=QUICK, progress=False).model_id


@pytest.fixture(scope="module")
def loaded(trained: TrainedShop) -> recsys.Model:
    return recsys.load(trained.bundle)


def test_importing_recsys_loads_neither_torch_nor_pandas() -> None:
    script = (
        "import sys, recsys, recsys.api\n"
        "print({'torch', 'pandas', 'numpy', 'rich'} & set(sys.modules))"
    )

    assert python(script).stdout == "set()\n"


def test_the_public_names_are_listed_and_no_others_exist() -> None:
    assert {"fit", "load", "Model", "__version__"} <= set(dir(recsys))
    with pytest.raises(AttributeError, match="fitt"):
        getattr(recsys, "fitt")  # noqa: B009


def test_a_dataframe_gives_the_model_that_the_command_line_gives_for_the_file(
    model: recsys.Model, trained: TrainedShop, some_clicks: pd.DataFrame, tmp_path: Path
) -> None:
    some_clicks.to_csv(tmp_path / "clicks.csv", index=False)
    options = ClickOptions(tmp_path / "clicks.csv")
    train(TrainOptions(options, tmp_path / "bundle", RECIPE, trained.items), Console(quiet=True))
    ours, theirs = read_manifest(model.folder), read_manifest(tmp_path / "bundle")

    assert model.model_id == theirs.model_id
    assert ours.files.keys() == theirs.files.keys()
    different = {name for name in ours.files if ours.files[name] != theirs.files[name]}
    # the report shows the command; torch numbers the classes that a process scripts, in the file
    assert different <= {"report.html", "model.ts"}


def test_recommendations_are_those_of_the_served_predictor(
    loaded: recsys.Model, predictor: Predictor
) -> None:
    clicked = predictor.catalogue.item_ids.take([3, 4])
    ranking = predictor.recommend([3, 4], RankingQuery(k=5))

    listed = loaded.recommend(clicked, k=5)

    assert listed["item_id"].tolist() == predictor.catalogue.item_ids.take(ranking.items)
    assert listed["score"].tolist() == pytest.approx(ranking.scores)
    assert list(listed.columns) == ["item_id", "score", "name", "category", "brand"]


def test_several_sessions_are_numbered_and_each_gets_its_own_list(loaded: recsys.Model) -> None:
    sessions = [["aurora-tent"], [], ["aurora-kettle", "aurora-teapot"]] * 40

    listed = loaded.recommend(sessions, k=3)

    assert listed["session"].tolist() == [place for place in range(120) for _ in range(3)]
    for place in (0, 1, 2, 119):
        alone = loaded.recommend(sessions[place], k=3)
        of_place = listed[listed["session"] == place]
        assert of_place["item_id"].tolist() == alone["item_id"].tolist()
    assert next(iter(loaded.recommend([], k=3).columns)) == "item_id"


def test_lists_leave_out_what_they_are_told_to(loaded: recsys.Model) -> None:
    everything = loaded.recommend(["aurora-tent"], k=200)["item_id"].tolist()
    best = next(item_id for item_id in everything if item_id != "aurora-tent")

    listed = loaded.recommend(
        ["aurora-tent"],
        k=200,
        exclude_seen=True,
        exclude_items=[best, "no-such-item"],
        filter={"category": ["Camping", "Hiking"], "brand": "Aurora"},
    )

    assert set(listed["category"]) == {"Camping", "Hiking"}
    assert {"aurora-tent", best} & set(listed["item_id"]) == set()
    assert len(listed) == len(set(everything) & set(listed["item_id"])) == 20 - 2


def test_an_unknown_item_is_named_with_the_most_similar_id(loaded: recsys.Model) -> None:
    with pytest.raises(UnknownItem, match=r"'aurora-tint'.*Did you mean 'aurora-tent'\?"):
        loaded.recommend(["aurora-tint"])
    with pytest.raises(UnknownItem, match=r"Did you mean 'aurora-tent'\?"):
        loaded.similar("aurora-tint")

    ignored = loaded.recommend(["aurora-tint", "aurora-kettle"], unknown="ignore")

    assert ignored["item_id"].tolist() == loaded.recommend(["aurora-kettle"])["item_id"].tolist()


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ("aurora-tent", "got 'aurora-tent'. Give a list of item ids"),
        (["aurora-tent", ["aurora-kettle"]], "Give a list of item ids, or a list of such lists"),
        ([[7]], "item ids are texts, got 7. Write '7'."),
        ([7, 8], "item ids are texts, got 7. Write '7'."),
        (None, "got NoneType. Give a list of item ids"),
        (pd.DataFrame({"item_id": ["aurora-tent"]}), "got DataFrame. Give a list of item ids"),
    ],
)
def test_a_session_that_is_no_list_of_ids_is_refused(
    loaded: recsys.Model, items: list[str], message: str
) -> None:
    with pytest.raises(BadInput, match=re.escape(message)):
        loaded.recommend(items)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k must be at least 1, got 0. Give a whole number."),
        ({"k": 2.5}, "k must be at least 1, got 2.5."),
        ({"k": "3"}, "k must be at least 1, got '3'."),
        ({"unknown": "drop"}, "unknown is 'raise' or 'ignore', got 'drop'."),
        ({"exclude_items": [7]}, "exclude_items cannot be used: it takes texts, got 7. Write '7'."),
        ({"filter": "brand=Aurora"}, "filter cannot be used: got 'brand=Aurora'."),
        ({"filter": {"brand": 7}}, "filter['brand'] cannot be used: it takes texts, got 7."),
    ],
)
def test_arguments_of_a_list_that_cannot_be_used_are_refused(
    loaded: recsys.Model, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=re.escape(message)):
        loaded.recommend(["aurora-tent"], **arguments)
    with pytest.raises(BadInput, match="k must be at least 1, got 0"):
        loaded.similar("aurora-tent", k=0)


@pytest.mark.parametrize("item", [["aurora-tent"], 7, None])
def test_similar_takes_the_id_of_one_item(loaded: recsys.Model, item: str) -> None:
    message = f"item cannot be used: it takes the id of one item, got {item!r}. Give a text."

    with pytest.raises(BadInput, match=re.escape(message)):
        loaded.similar(item)


@pytest.mark.parametrize("path", [None, 7, b"runs/shop"])
def test_what_is_no_path_is_refused(loaded: recsys.Model, path: str) -> None:
    message = re.escape(f"path cannot be used: it takes a path, got {path!r}.")

    with pytest.raises(BadInput, match=message):
        recsys.load(path)
    with pytest.raises(BadInput, match=message):
        loaded.save(path)


def test_one_text_is_one_id_and_lists_end_with_the_catalogue(loaded: recsys.Model) -> None:
    everything = loaded.recommend(["aurora-tent"], k=10_000)
    without = loaded.recommend(["aurora-tent"], k=10_000, exclude_items="aurora-kettle")

    assert len(everything) == 200
    assert set(everything["item_id"]) - set(without["item_id"]) == {"aurora-kettle"}


def test_similar_items_are_those_of_the_predictor(
    loaded: recsys.Model, predictor: Predictor
) -> None:
    ranking = predictor.similar(predictor.catalogue.index("aurora-tent"), RankingQuery(4))

    listed = loaded.similar("aurora-tent", k=4)

    assert listed["item_id"].tolist() == predictor.catalogue.item_ids.take(ranking.items)
    assert listed["score"].is_monotonic_decreasing


def test_a_fitted_model_is_evaluated_beside_the_baselines_of_its_training_part(
    model: recsys.Model, clicks: pd.DataFrame
) -> None:
    newest = clicks.groupby("session_id")["timestamp"].min().nlargest(100).index
    test = clicks[clicks["session_id"].isin(newest)]

    report = model.evaluate(test, progress=False)

    assert report.cases == len(test) - 100
    assert report.metrics.index[0] == "model"
    baselines = [name for name in report.metrics.index[1:] if name not in RELATIVES]
    assert baselines[0] == "popularity"
    assert len(baselines) == 8
    assert report.metrics["recall@20"]["model"] > report.metrics["recall@20"]["popularity"]
    assert "first 20 items" in report.summary
    assert report.summary in repr(report)
    assert "<table" in report._repr_html_()


def test_a_loaded_model_has_baselines_only_if_it_is_given_training_clicks(
    loaded: recsys.Model, trained: TrainedShop, clicks: pd.DataFrame
) -> None:
    test = clicks.tail(500).rename(columns={"session_id": "visit"})
    train = clicks.head(2000).rename(columns={"session_id": "visit"})

    alone = loaded.evaluate(test, session="visit", progress=False)
    beside = loaded.evaluate(test, session="visit", train=train, progress=False)

    assert list(alone.metrics.index) == ["model"]
    assert len(set(beside.metrics.index) - set(RELATIVES)) == 1 + 8
    assert list(alone.metrics.loc["model"]) == list(beside.metrics.loc["model"])


def test_metrics_of_a_model_are_those_of_its_bundle(loaded: recsys.Model) -> None:
    measured = read_manifest(loaded.folder).metrics

    assert loaded.metrics.to_dict(orient="index")["model"] == measured["model"]
    assert loaded.metrics.to_dict(orient="index")["markov"] == measured["baselines"]["markov"]


def test_a_saved_model_is_loaded_again_and_no_folder_is_written_over(
    model: recsys.Model, tmp_path: Path
) -> None:
    saved = model.save(tmp_path / "shop")

    assert recsys.load(saved).model_id == model.model_id
    assert sorted(f.name for f in saved.iterdir()) == sorted(f.name for f in model.folder.iterdir())
    with pytest.raises(BadInput, match="is not an empty folder"):
        model.save(saved)


def test_a_model_is_saved_and_not_pickled(loaded: recsys.Model) -> None:
    for copied in (pickle.dumps, copy.deepcopy):
        with pytest.raises(RecsysError, match=r"cannot be pickled or copied.*recsys\.load\(path\)"):
            copied(loaded)


def test_a_path_may_start_at_the_home_folder(
    trained: TrainedShop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    quick_clicks().to_csv(tmp_path / "clicks.csv", index=False)

    model = recsys.fit("~/clicks.csv", out="~/bundle", settings=QUICK, progress=False)

    assert model.folder == tmp_path / "bundle"
    assert model.save("~/saved") == tmp_path / "saved"
    assert recsys.load("~/saved").model_id == model.model_id


@pytest.mark.parametrize(
    "change",
    [
        lambda clicks: clicks.astype({"item_id": "category", "session_id": "category"}),
        lambda clicks: clicks.set_index("session_id"),
        lambda clicks: clicks.assign(
            timestamp=pd.to_datetime(clicks["timestamp"], unit="s", utc=True).dt.tz_convert(
                "Asia/Tokyo"
            )
        ),
        lambda clicks: clicks.assign(event_type="view", note=[[]] * len(clicks)),
    ],
    ids=["categories", "index", "time zone", "other columns"],
)
def test_other_forms_of_the_same_clicks_give_the_same_model(
    quick_model_id: str, change: Callable[[pd.DataFrame], pd.DataFrame]
) -> None:
    model = recsys.fit(change(quick_clicks()), events=[], settings=QUICK, progress=False)

    assert model.model_id == quick_model_id


def test_items_may_be_indexed_by_their_id_and_columns_may_be_numbered() -> None:
    clicks = quick_clicks().set_axis([0, 1, 2], axis="columns")
    items = pd.DataFrame({1: ["i0", "i1"], "brand": ["Aurora", None]}).set_index(1)

    model = recsys.fit(
        clicks,
        session=0,  # type: ignore[arg-type]
        item=1,  # type: ignore[arg-type]
        time=2,  # type: ignore[arg-type]
        items=items.rename_axis("1"),
        settings=QUICK,
        progress=False,
    )

    assert model.recommend(["i0"], filter={"brand": "Aurora"})["item_id"].tolist() == ["i0"]


@pytest.mark.long
def test_two_trainings_at_once_give_the_same_model() -> None:
    def train(_: int) -> str:
        return recsys.fit(quick_clicks(), settings=QUICK, progress=False).model_id

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(train, range(2))

    assert first == second == train(0)


def test_a_temporary_folder_lives_as_long_as_its_model(tmp_path: Path) -> None:
    model = recsys.fit(quick_clicks(), settings=QUICK, progress=False)
    folder = model.folder

    assert (folder / "manifest.json").is_file()
    del model
    assert not folder.exists()


def test_users_are_cut_into_sessions_where_they_pause(tmp_path: Path) -> None:
    clicks = quick_clicks().rename(columns={"session_id": "visitor"})
    clicks["visitor"] = "v" + (clicks["visitor"].str[1:].astype(int) // 10).astype(str)
    clicks["timestamp"] = pd.to_datetime(clicks["timestamp"], unit="s", utc=True)

    model = recsys.fit(
        clicks, user="visitor", idle_gap_seconds=60, seed=7, settings=QUICK, progress=False
    )

    assert read_manifest(model.folder).training["sessions"] == 30 * 0.9
    assert read_manifest(model.folder).recipe["seed"] == 7


@pytest.mark.parametrize(
    ("out", "message"),
    [(None, "its temporary folder is deleted"), ("bundle", "bundle.unfinished; go on with resume")],
)
def test_a_stopped_training_says_whether_it_can_be_continued(
    out: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(options: TrainOptions, _: object) -> None:
        raise Interrupted(f"Stopped. The work so far is in {options.work}; go on with --resume.")

    monkeypatch.setattr("training.pipeline.train", stopped)

    with pytest.raises(Interrupted, match=message):
        recsys.fit(quick_clicks(), out=None if out is None else tmp_path / out)


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({"item_id": "itm_id"}, {}, "no column 'item_id'. Did you mean 'itm_id'?"),
        ({}, {"time": "at"}, "the DataFrame: no column 'at'."),
        ({"item_id": "itemid"}, {}, "Set item to one of them."),
        ({"session_id": "item_id"}, {"session": "item_id", "item": "i"}, "no column 'i'."),
        ({}, {"events": "view"}, "no column 'event_type'."),
        ({}, {"events": 7}, "events cannot be used: it takes texts, got 7. Write '7'."),
        ({}, {"device": "gpu"}, "device cannot be used: got 'gpu'; torch sees"),
        ({}, {"items": pd.DataFrame({"itemid": ["i1"]})}, "Did you mean 'itemid'?"),
        ({}, {"test_fraction": 2}, "test_fraction must be above 0 and below 1, got 2"),
        (
            {},
            {"test_fraction": "0.1"},
            "test_fraction must be above 0 and below 1, got '0.1'. Give a number.",
        ),
        ({}, {"test_days": "7"}, "test_days must be above 0 and finite, got '7'."),
        ({}, {"min_length": "2"}, "min_length must be at least 2, got '2'."),
        ({}, {"min_support": None}, "min_support must be at least 1, got None."),
        ({}, {"idle_gap_seconds": 0}, "idle_gap_seconds must be at least 1 second, got 0"),
        ({}, {"idle_gap_seconds": "60"}, "idle_gap_seconds must be at least 1 second, got '60'."),
        ({}, {"delimiter": 7}, "delimiter must be one character, or tab, got 7."),
        ({}, {"event": 7}, "the DataFrame: no column '7'."),
        ({}, {"split_column": 7}, "the DataFrame: no column '7'."),
        ({}, {"device": None}, "device cannot be used: got 'None'; torch sees"),
        ({}, {"out": 7}, "out cannot be used: it takes a path, got 7. Give the path of a folder."),
    ],
)
def test_what_is_wrong_is_said_in_terms_of_the_arguments(
    change: dict[str, str], arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(BadInput, match=re.escape(message)):
        recsys.fit(quick_clicks().rename(columns=change), progress=False, **arguments)  # type: ignore[arg-type]


def test_values_of_a_dataframe_are_checked_as_those_of_a_file() -> None:
    clicks = quick_clicks()
    mixed = clicks.astype({"item_id": object})
    mixed.loc[3, "item_id"] = 7
    clicks["timestamp"] = "yesterday"

    with pytest.raises(BadInput, match="the DataFrame: row 1, timestamp: 'yesterday'"):
        recsys.fit(clicks, progress=False)
    with pytest.raises(BadInput, match="two columns are called 'item_id'"):
        recsys.fit(pd.concat([clicks, clicks[["item_id"]]], axis="columns"), progress=False)
    with pytest.raises(BadInput, match=r"no column 'item_id'\. It has: none\."):
        recsys.fit(pd.DataFrame(), progress=False)
    with pytest.raises(BadInput, match="has a header but no clicks"):
        recsys.fit(clicks.head(0), progress=False)
    with pytest.raises(BadInput, match="Give each column one type"):
        recsys.fit(mixed, progress=False)
    with pytest.raises(BadInput, match=r"got list\. Give a DataFrame, or the path"):
        recsys.fit([1], progress=False)  # type: ignore[arg-type]
    with pytest.raises(BadRecipe, match=r"epoch is not a setting\. Did you mean epochs\?"):
        recsys.fit(clicks, settings={"epoch": 3}, progress=False)
    with pytest.raises(BadRecipe, match=r"settings are names with values, got \['epochs=3'\]"):
        recsys.fit(clicks, settings=["epochs=3"], progress=False)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=r"^budget cannot be used:\s.*got 'much'\. Write 2x"):
        recsys.fit(clicks, budget="much", progress=False)
    with pytest.raises(BadRecipe, match=r"no recipe 'accuratte'\. Did you mean accurate\?"):
        recsys.fit(clicks, recipe="accuratte", progress=False)


def test_a_registry_gives_its_current_version(loaded: recsys.Model, tmp_path: Path) -> None:
    loaded.save(tmp_path / "first")
    with pytest.raises(BundleRefused, match=r"has no manifest\.json"):
        recsys.load(tmp_path)
    publish(tmp_path, "first")

    assert recsys.load(tmp_path).folder == tmp_path / "first"


def test_a_folder_without_a_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleRefused, match=r"it has no manifest\.json"):
        recsys.load(tmp_path)


def test_a_notebook_shows_metrics_and_an_example_and_escapes_what_it_shows(
    loaded: recsys.Model,
) -> None:
    page = loaded._repr_html_()

    assert page.count("<table") == 2
    assert "session popularity" in page
    assert "next clicks); the best are bold" in page
    best = loaded.metrics["mrr@20"].max()
    assert f"<td><b>{best:.4f}</b></td>" in page
    assert "<p>After " in page
    assert re.fullmatch(
        r"<recsys\.Model [0-9a-f]{16}: 200 items, recall@20 0\.\d{4}, in /\S+>", repr(loaded)
    )


def test_a_model_names_the_recipe_that_won() -> None:
    settings = {**QUICK, "validation": 0.5}  # recipes compete on at least 20 validation sessions
    model = recsys.fit(quick_clicks(60), settings=settings, budget="3x", progress=False)

    training = read_manifest(model.folder).training
    assert training["budget"] == "3x"
    assert training["recipe"] in {row["recipe"] for row in training["tried"]}
    assert f"items, recipe {training['recipe']}, recall@20" in repr(model)
    named = recsys.fit(quick_clicks(), recipe="default", settings=QUICK, progress=False)
    assert "items, recipe default, recall@20" in repr(named)


def test_progress_is_written_to_the_error_stream_or_nowhere(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    recsys.fit(quick_clicks(), settings=QUICK, out=tmp_path / "bundle")
    shown = capsys.readouterr()

    assert "search epoch  1" in shown.err
    assert shown.out == ""
    recsys.fit(quick_clicks(), settings=QUICK, progress=False)
    assert capsys.readouterr() == ("", "")


def load_and_serve(bundle: Path) -> None:
    recsys.load(bundle).serve(port=0)


@contextmanager
def served_from_python(bundle: Path, log: Path) -> Iterator[tuple[ForkedProcess, str]]:
    """Serve a bundle by the Python API; yield its process and the URL of the service."""
    process = ForkedProcess(load_and_serve, (bundle,), log, environment())

    def serves() -> bool:
        assert process.poll() is None, log.read_text()
        return "Serving" in log.read_text()

    try:
        wait_until(serves, "it serves")
        found = re.search(r"http://[\d.]+:\d+", log.read_text())
        assert found is not None
        yield process, found[0]
    finally:
        process.kill()


def test_a_served_model_answers_until_it_is_interrupted(
    trained: TrainedShop, tmp_path: Path
) -> None:
    with served_from_python(trained.bundle, tmp_path / "log") as (process, url):
        with Client(url, retries=20) as client:
            answer = client.recommend(user_id="ada", item_id="aurora-tent", k=3)
        process.send_signal(signal.SIGINT)
        status = process.wait(60)

    assert (answer.stored, len(answer.items), status) == (True, 3, 0)


def test_a_service_ends_with_the_process_that_serves_even_if_that_is_killed(
    trained: TrainedShop, tmp_path: Path
) -> None:
    with served_from_python(trained.bundle, tmp_path / "log") as (process, url):
        with Client(url, retries=20) as client:
            assert client.recommend(user_id="ada", item_id="aurora-tent", k=3).stored
        processes = family(process.pid)  # with the service, its Redis and their guards
        process.kill()
        process.wait(60)

    assert len(processes) >= 3
    wait_until(lambda: all(map(gone, processes)), "the service has ended")


def test_a_service_that_cannot_start_says_why(loaded: recsys.Model) -> None:
    with pytest.raises(RecsysError, match=r"The service ended with status 2.*RECSYS_REDIS"):
        loaded.serve(redis="nonsense")


def test_a_project_with_packages_of_our_names_can_load_recommend_and_call_the_service(
    trained: TrainedShop, tmp_path: Path
) -> None:
    for name in ("data", "training", "service"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('not ours')")
    script = (
        "import recsys\n"
        "from recsys_client import AsyncClient, Client\n"
        f"model = recsys.load({str(trained.bundle)!r})\n"
        "print(len(model.recommend(['aurora-tent'], k=4)), len(model.similar('aurora-tent', k=3)))"
    )

    done = python(script, cwd=tmp_path)

    assert done.stdout == "4 3\n", done.stderr


@pytest.mark.long
def test_scripts_outside_the_repository_see_the_types(tmp_path: Path) -> None:
    """Check `py.typed`: without it mypy ignores the types of an installed package."""
    script = tmp_path / "shop.py"
    script.write_text(
        "import recsys\n"
        "from recsys_client import Client\n"
        "model = recsys.fit('clicks.csv', recipe='shop', settings={'epochs': 3})\n"
        "model = recsys.load('runs/shop')\n"
        "reveal_type(model.recommend(['a'], k=10))\n"
        "reveal_type(model.evaluate('test.csv').cases)\n"
        "reveal_type(recsys.__version__)\n"
        "with Client('http://127.0.0.1:8000') as client:\n"
        "    reveal_type(client.recommend(items=['a'], k=3).items[0].score)\n"
        "model.recommend('a', k='ten')\n"
        "recsys.fitt('clicks.csv')\n"
    )
    # packages that the API does not show; following them takes minutes
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nstrict = true\n"
        + "".join(
            f"[mypy-{name}.*]\nfollow_imports = skip\nfollow_imports_for_stubs = true\n"
            "ignore_missing_imports = true\n"
            for name in (
                *("torch", "numpy", "data", "training", "service", "rich", "pyarrow"),
                *("sqlalchemy", "matplotlib", "prompt_toolkit", "IPython", "jinja2"),
            )
        )
    )
    other = tmp_path / "venv"
    venv.create(other, with_pip=False)
    (site,) = other.glob("lib/*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--no-incremental"),
            *("--python-executable", str(other / "bin" / "python"), "shop.py"),
        ],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ROOT / "recsys" / "py.typed").is_file()
    assert re.findall(r'type is "([\w.]+)"', done.stdout) == [
        "pandas.core.frame.DataFrame",
        "int",
        "str",
        "float",
    ], done.stdout + done.stderr
    assert re.findall(r"py:(\d+): error", done.stdout) == ["10", "11"], done.stdout


def quick_clicks(sessions: int = 30) -> pd.DataFrame:
    """Return sessions of 3 clicks on 5 items."""
    rows = [(f"s{s}", f"i{(s + c) % 5}", 100 * s + c) for s in range(sessions) for c in range(3)]
    return pd.DataFrame(rows, columns=["session_id", "item_id", "timestamp"])
