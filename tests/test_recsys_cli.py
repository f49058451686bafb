"""The command line as a person meets it: help, one-line errors, exit codes, nothing half-done."""

import fcntl
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import TrainedShop

from recsys import __version__
from recsys.cli import main

GOOD = "session_id,item_id,timestamp\n" + "".join(
    f"s{s},i{(s + c) % 5},{100 * s + c}\n" for s in range(30) for c in range(3)
)
QUICK = ["--set", "epochs=1", "--set", "hidden=8", "--set", "negatives=8", "--set", "batch=8"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    sys.argv = ["recsys", *arguments]
    code = 0
    try:
        main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.fixture
def clicks(tmp_path: Path) -> Path:
    path = tmp_path / "clicks.csv"
    path.write_text(GOOD)
    return path


@pytest.mark.parametrize("verb", ["demo", "train", "evaluate", "serve", "recommend"])
def test_every_verb_explains_itself(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    code, out, _ = run(capsys, verb, "--help")

    assert code == 0
    assert f"Usage: recsys {verb}" in out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"{__version__}\n", "")


def test_a_typing_mistake_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "train", "--clicsk", "x")

    assert code == 2
    assert "--clicks" in err


def test_train_writes_a_bundle_that_evaluate_and_recommend_take(
    capsys: pytest.CaptureFixture[str], clicks: Path, tmp_path: Path
) -> None:
    out = tmp_path / "runs" / "bundle"

    code, _, err = run(capsys, "train", "--clicks", str(clicks), "--out", str(out), *QUICK)
    assert (code, "markov" in err) == (0, True), err
    code, said, _ = run(capsys, "evaluate", "--bundle", str(out), "--clicks", str(clicks), "--json")
    assert code == 0
    found = json.loads(said)
    assert {"model", "baselines", "cases", "unseen_targets", "latency_ms"} <= found.keys()
    assert {"popularity", "session popularity", "markov", "vstan"} <= set(found["baselines"])
    assert set(found["latency_ms"]) == {"p50", "p90", "p99"}
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["metrics"]["model"] == found["model"]
    code, said, _ = run(capsys, "recommend", "i1", "nothing", "--bundle", str(out), "--k", "3")
    assert code == 0
    assert "'nothing'" in said
    assert "Likely next" in said
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["bundle"]


def test_evaluate_tests_every_session_when_asked(
    capsys: pytest.CaptureFixture[str], trained: TrainedShop, clicks: Path
) -> None:
    code, said, _ = run(
        capsys, "evaluate", "--bundle", str(trained.bundle), "--clicks", str(trained.clicks),
        "--all-sessions", "--json",
    )  # fmt: skip
    found = json.loads(said)

    assert code == 0
    assert found["baselines"] == {}
    assert found["cases"] > 15_000


def bad(tmp_path: Path) -> dict[str, tuple[list[str], str]]:
    """Name → (arguments of train without --out, a part of the sentence)."""

    def file(name: str, text: str) -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    truncated = tmp_path / "cut.parquet"
    pd.DataFrame({"session_id": ["a"] * 500}).to_parquet(truncated)
    truncated.write_bytes(truncated.read_bytes()[:-50])
    head = "session_id,item_id,timestamp\n"
    split = "session_id,item_id,timestamp,split\n"
    good = file("good.csv", GOOD)
    return {
        "missing file": (["--clicks", str(tmp_path / "no.csv")], "does not exist"),
        "empty file": (["--clicks", file("empty.csv", "")], "is empty"),
        "wrong delimiter": (["--clicks", file("semi.csv", GOOD.replace(",", ";"))], "semicolon"),
        "missing column": (
            ["--clicks", good, "--item-column", "itm_id"],
            "Did you mean 'item_id'?",
        ),
        "unparsable time": (["--clicks", file("t.csv", head + "s,a,noon\n")], "row 1, timestamp"),
        "empty id": (["--clicks", file("nan.csv", head + "s,,1\ns,NaN,2\n")], "row 2, item_id"),
        "one click only": (["--clicks", file("one.csv", head + "s,a,1\n")], "No session is left"),
        "all filtered": (["--clicks", good, "--min-length", "9"], "No session is left"),
        "items too rare": (["--clicks", good, "--min-support", "99"], "No training session"),
        "empty test": (
            ["--clicks", file("train.csv", split + "s,a,1,train\ns,b,2,train\n"),
             "--split-column", "split"],
            "no session is labelled 'test'",
        ),
        "strangers in test": (
            ["--clicks",
             file("new.csv", split + "s,a,1,train\ns,b,2,train\nt,c,3,test\nt,d,4,test\n"),
             "--split-column", "split"],
            "none of its 1 next clicks is on an item of training",
        ),
        "truncated parquet": (["--clicks", str(truncated)], "not a readable Parquet file"),
        "unknown recipe": (["--clicks", good, "--recipe", "magic"], "no recipe 'magic'"),
        "recipe key": (["--clicks", good, "--set", "epoch=1"], "Did you mean epochs?"),
        "recipe type": (["--clicks", good, "--set", "epochs=many"], "epochs must be int"),
        "no such device": (["--clicks", good, "--device", "tpu"], "--device cannot be used"),
        "events without column": (
            ["--clicks", good, "--events", "pv"],
            "no column 'event_type'",
        ),
        "option out of range": (["--clicks", good, "--test-fraction", "2"], "--test-fraction"),
        "items file": (["--clicks", good, "--items", file("i.csv", "x\n1\n")], "no column"),
    }  # fmt: skip


NAMES = [
    "missing file", "empty file", "wrong delimiter", "missing column", "unparsable time",
    "empty id", "one click only", "all filtered", "items too rare", "empty test",
    "strangers in test", "truncated parquet", "unknown recipe", "recipe key", "recipe type",
    "no such device", "events without column", "option out of range", "items file",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_bad_input_is_one_message_exit_2_and_nothing_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    arguments, sentence = bad(tmp_path)[name]
    before = sorted(tmp_path.iterdir())

    code, out, err = run(capsys, "train", *arguments, "--out", str(tmp_path / "out"))

    assert code == 2
    assert out == ""
    message = err[err.index("error: ") :]
    assert sentence in message
    assert "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before


def test_every_bad_input_is_tried(tmp_path: Path) -> None:
    assert sorted(bad(tmp_path)) == sorted(NAMES)


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
    other = os.open(work, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)

    code, _, err = run(
        capsys, "train", "--clicks", str(clicks), "--out", str(tmp_path / "out"), *QUICK
    )

    os.close(other)
    assert code == 2
    assert "Another run is at work" in err
    assert work.exists()


def test_a_path_is_never_markup(
    capsys: pytest.CaptureFixture[str], clicks: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o_[test]"

    code, _, err = run(capsys, "train", "--clicks", str(clicks), "--out", str(out), *QUICK)

    assert code == 0
    assert f"--bundle {out}" in err


def test_a_taken_port_is_said_before_anything_is_loaded(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = run(capsys, "serve", "--bundle", str(tmp_path), "--port", str(port))

    assert code == 2
    assert f"127.0.0.1:{port}: Address already in use" in err


def test_help_needs_neither_torch_nor_pandas_nor_the_web(tmp_path: Path) -> None:
    """A serving machine has no pandas; nobody should wait for torch to read a help text."""
    code = (
        "import sys; from recsys.cli import app; "
        "heavy = {'torch', 'pandas', 'fastapi', 'uvicorn'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
