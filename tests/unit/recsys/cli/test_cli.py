"""The command line: help, error messages, exit codes, and no partial output."""

import fcntl
import html
import json
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from recsys import __version__
from recsys.bundle.manifest import Manifest
from recsys.errors import BadInput
from recsys.fileio import locked_folder
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.training.command_line import GOOD, run
from training.export import Export, write_bundle

QUICK = ["--set", "epochs=1", "--set", "hidden=8", "--set", "negatives=8", "--set", "batch=8"]


@pytest.fixture
def clicks(tmp_path: Path) -> Path:
    path = tmp_path / "clicks.csv"
    path.write_text(GOOD)
    return path


@pytest.mark.parametrize(
    "verb", ["demo", "train", "tune", "evaluate", "serve", "recommend", "shop", "collect"]
)
def test_every_verb_has_a_help_text(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    code, out, _ = run(capsys, verb, "--help")

    assert code == 0
    assert f"Usage: recsys {verb}" in out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"{__version__}\n", "")


def test_a_typing_mistake_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "train", "--clicsk", "x")

    assert code == 2
    assert "--clicks" in err


def test_the_shop_is_written_as_files_that_train_takes_and_never_over_others(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "shop"

    code, _, said = run(capsys, "shop", "--out", str(out), "--visits", "300")
    assert (code, "300 visits" in said) == (0, True), said
    files = ("--clicks", str(out / "clicks.csv"), "--items", str(out / "items.csv"))
    code, _, _ = run(capsys, "train", *files, "--out", str(tmp_path / "bundle"), *QUICK)
    assert code == 0
    assert run(capsys, "shop", "--out", str(out))[0] == 2


def test_train_writes_a_bundle_that_evaluate_and_recommend_take(
    capsys: pytest.CaptureFixture[str], clicks: Path, tmp_path: Path
) -> None:
    out = tmp_path / "runs" / "bundle"

    code, _, err = run(capsys, "train", "--clicks", str(clicks), "--out", str(out), *QUICK)
    assert (code, "markov" in err) == (0, True), err
    assert f"\n  {out / 'report.html'}\n" in err
    code, said, _ = run(capsys, "evaluate", "--bundle", str(out), "--clicks", str(clicks), "--json")
    assert code == 0
    found = json.loads(said)
    assert {"model", "baselines", "cases", "unseen_targets", "latency_ms"} <= found.keys()
    assert {"popularity", "session popularity", "markov", "vstan"} <= set(found["baselines"])
    assert set(found["latency_ms"]) == {"p50", "p90", "p99"}
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["metrics"]["model"] == found["model"]
    low, high = manifest["metrics"]["intervals"]["model"]["mrr@20"]
    assert low <= found["model"]["mrr@20"] <= high
    code, said, _ = run(capsys, "recommend", "i1", "nothing", "--bundle", str(out), "--k", "3")
    assert code == 0
    assert "'nothing'" in said
    assert "Likely next" in said
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["bundle"]


def test_the_report_shows_the_command_as_it_was_typed(
    capsys: pytest.CaptureFixture[str], clicks: Path, tmp_path: Path
) -> None:
    hostile = clicks.rename(tmp_path / "it's <script>alert(1)<.csv")
    out, page = tmp_path / "bundle", tmp_path / "page.html"
    typed = ["train", "--clicks", str(hostile), "--out", str(out), *QUICK]

    assert run(capsys, *typed)[0] == 0
    text = (out / "report.html").read_text()
    assert html.unescape(text).count(shlex.join(["recsys", *typed])) == 1
    assert "<script" not in text
    again = ["evaluate", "--bundle", str(out), "--clicks", str(hostile), "--report", str(page)]
    assert run(capsys, *again)[0] == 0
    assert shlex.join(["recsys", *again]) in html.unescape(page.read_text())
    assert "<script" not in page.read_text()


def test_a_report_that_cannot_be_written_is_refused_before_any_work(
    capsys: pytest.CaptureFixture[str], trained: TrainedShop, tmp_path: Path
) -> None:
    arguments = ["evaluate", "--bundle", str(trained.bundle), "--clicks", str(tmp_path / "none")]

    for path, sentence in ((tmp_path, "is a folder"), (tmp_path / "a" / "b", "cannot be written")):
        code, _, err = run(capsys, *arguments, "--report", str(path))
        assert (code, sentence in err) == (2, True), err


def test_evaluate_tests_every_session_when_asked(
    capsys: pytest.CaptureFixture[str], trained: TrainedShop, clicks: Path
) -> None:
    code, said, _ = run(
        capsys, "evaluate", "--bundle", str(trained.bundle), "--clicks", str(trained.clicks),
        "--all-sessions", "--json", "--report", str(clicks.with_name("report.html")),
    )  # fmt: skip
    found = json.loads(said)
    page = clicks.with_name("report.html").read_text()
    assert f"{found['cases']:,} next clicks" in page
    assert 'id="training"' not in page

    assert code == 0
    assert found["baselines"] == {}
    assert found["cases"] > 15_000


def test_an_output_folder_with_files_is_refused_before_any_work(
    capsys: pytest.CaptureFixture[str], clicks: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("")

    code, _, err = run(capsys, "train", "--clicks", str(clicks), "--out", str(tmp_path / "out"))

    assert code == 2
    assert "is not an empty folder" in err
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["precious"]


def test_an_output_that_cannot_be_written_is_refused(
    capsys: pytest.CaptureFixture[str], clicks: Path
) -> None:
    code, _, err = run(capsys, "train", "--clicks", str(clicks), "--out", "/proc/none/bundle")

    assert code == 2
    assert "cannot be written" in err


def test_an_unfinished_run_is_not_overwritten(
    capsys: pytest.CaptureFixture[str], clicks: Path, tmp_path: Path
) -> None:
    work = tmp_path / "out.unfinished"
    work.mkdir()
    (work / "checkpoint.safetensors").write_text("hours of work")

    code, _, err = run(capsys, "train", "--clicks", str(clicks), "--out", str(tmp_path / "out"))

    assert code == 2
    assert "--resume" in err
    assert (work / "checkpoint.safetensors").read_text() == "hours of work"


@pytest.mark.parametrize("verb", ["serve", "recommend", "evaluate"])
def test_a_missing_bundle_is_named(
    capsys: pytest.CaptureFixture[str], clicks: Path, tmp_path: Path, verb: str
) -> None:
    arguments = {
        "serve": ["--port", "0"],
        "recommend": ["a"],
        "evaluate": ["--clicks", str(clicks)],
    }[verb]

    code, _, err = run(capsys, verb, *arguments, "--bundle", str(tmp_path / "none"))

    assert code == 2
    assert "There is no bundle folder" in err


def test_settings_at_fault_are_named_together(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_BATCH_SIZE", "many")
    monkeypatch.setenv("RECSYS_QUEUE_SIZE", "0")
    monkeypatch.delenv("RECSYS_BUNDLE", raising=False)

    code, _, err = run(capsys, "serve")

    assert code == 2
    assert all(name in err for name in ("RECSYS_BATCH_SIZE", "RECSYS_QUEUE_SIZE", "RECSYS_BUNDLE"))


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://nope", "must begin with redis://"),
        ("redis://:pepper@127.0.0.1:99999/0", "has a port that is no number"),
    ],
)
def test_a_bad_redis_url_is_refused_and_its_password_not_shown(
    capsys: pytest.CaptureFixture[str], trained: TrainedShop, url: str, sentence: str
) -> None:
    code, _, err = run(capsys, "serve", "--bundle", str(trained.bundle), "--redis", url)

    assert code == 2
    assert sentence in err
    assert "pepper" not in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--delimiter", "ab"], "--delimiter must be one character"),
        (["--test-days", "inf"], "--test-days must be above 0 and finite"),
        (["--session-column", ""], "column names must differ and not be empty"),
        (["--session-column", "item_id"], "column names must differ and not be empty"),
        (["--clicks", "/dev/null"], "is neither file nor folder"),
        (["--clicks", "x" * 5000], "File name too long"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_odd_options_are_refused_too(
    capsys: pytest.CaptureFixture[str],
    clicks: Path,
    tmp_path: Path,
    arguments: list[str],
    sentence: str,
) -> None:
    given = ["--clicks", str(clicks), "--out", str(tmp_path / "out"), *arguments]

    code, _, err = run(capsys, "train", *given)

    assert code == 2
    assert sentence in err
    assert "Traceback" not in err


def test_a_second_run_on_the_same_output_is_refused(
    capsys: pytest.CaptureFixture[str], clicks: Path, tmp_path: Path
) -> None:
    work = tmp_path / "out.unfinished"
    work.mkdir()
    (work / "checkpoint.safetensors").touch()  # it is not the advice to delete it that is shown
    other = os.open(work, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)

    code, _, err = run(
        capsys, "train", "--clicks", str(clicks), "--out", str(tmp_path / "out"), *QUICK
    )

    os.close(other)
    assert code == 2
    assert "Another run is at work" in err
    assert work.exists()


def test_no_second_run_begins_until_the_bundle_is_written(
    capsys: pytest.CaptureFixture[str],
    clicks: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, written = tmp_path / "out", []

    def write(folder: Path, export: Export) -> Manifest:
        with (
            pytest.raises(BadInput, match="in use"),
            locked_folder(tmp_path / "out.unfinished", BadInput("in use", [])),
        ):
            pass
        written.append(folder)
        return write_bundle(folder, export)

    monkeypatch.setattr("training.pipeline.write_bundle", write)

    code, _, _ = run(capsys, "train", "--clicks", str(clicks), "--out", str(out), *QUICK)

    assert code == 0
    assert written == [out]
    assert not (tmp_path / "out.unfinished").exists()


def test_an_error_after_the_bundle_is_the_one_that_is_raised(
    capsys: pytest.CaptureFixture[str],
    clicks: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def show(*_: object) -> None:
        raise BadInput("The terminal is gone", ["it was closed."])

    monkeypatch.setattr("training.pipeline.show", show)
    out = tmp_path / "out"

    code, _, err = run(capsys, "train", "--clicks", str(clicks), "--out", str(out), *QUICK)

    assert code == 2
    assert "The terminal is gone" in err
    assert out.exists()


def test_a_path_is_never_markup(
    capsys: pytest.CaptureFixture[str], clicks: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o_[test]"

    code, _, err = run(capsys, "train", "--clicks", str(clicks), "--out", str(out), *QUICK)

    assert code == 0
    assert f"--bundle {out}" in err


def test_a_port_in_use_is_reported_before_anything_is_loaded(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = run(capsys, "serve", "--bundle", str(tmp_path), "--port", str(port))

    assert code == 2
    assert f"127.0.0.1:{port}: Address already in use" in err


def test_help_needs_neither_torch_nor_pandas_nor_the_web(tmp_path: Path) -> None:
    """A serving machine has no pandas, and a help text must not wait for torch."""
    code = (
        "import sys; from recsys.cli.app import app; "
        "heavy = {'torch', 'pandas', 'optuna', 'fastapi', 'uvicorn'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


def test_the_service_does_not_load_the_client_library() -> None:
    """The schemas stand beside the client; each worker would load httpx in vain."""
    code = "import sys, service.app; sys.exit('httpx' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_old_names_are_one_warning_in_plain_words(tmp_path: Path, clicks: Path) -> None:
    recipe = tmp_path / "old.toml"
    recipe.write_text('optimiser = "adam"\ncolumns = "drawn"\nbatches = "lanes"\n')
    settings = [*QUICK, "--set", "columns=full", "--set", "validation=0.0"]
    files = ["--clicks", str(clicks), "--out", str(tmp_path / "bundle"), "--recipe", str(recipe)]

    done = subprocess.run(
        [sys.executable, "-m", "recsys", "train", *files, *settings],
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == (
        "warning: The recipe has old names, which still work: optimiser is now optimizer; "
        "columns is now scored_items; scored_items = 'drawn' is now 'with-duplicates'; "
        "batches = 'lanes' is now 'session-parallel'; scored_items = 'full' is now 'all'."
    )
    assert done.stderr.count("old names") == 1
    assert ".py:" not in done.stderr


@pytest.mark.parametrize("command", ["prepare", "shop"])
def test_a_command_that_only_reads_or_writes_clicks_loads_no_torch(
    tmp_path: Path, clicks: Path, command: str
) -> None:
    """Loading torch takes longer than the work on a small log."""
    options = {"prepare": ["--clicks", str(clicks)], "shop": ["--visits", "30"]}[command]
    code = (
        "import sys; from recsys.cli.main import main\n"
        "try: main()\n"
        "finally: sys.exit('torch' in sys.modules)"
    )
    words = [command, *options, "--out", str(tmp_path / "out")]

    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").is_dir()
