"""Click files, recipes and options that cannot be used: one message, exit 2, nothing written."""

from pathlib import Path

import pandas as pd
import pytest

from tests.support.training.command_line import GOOD, run


def bad(tmp_path: Path) -> dict[str, tuple[list[str], str]]:
    """Return name → (arguments of train without --out, a part of the message)."""

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
