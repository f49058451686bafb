"""The command `recsys` run in this process, and the text of a usable click file."""

import sys

import pytest

from recsys.cli.main import main

GOOD = "session_id,item_id,timestamp\n" + "".join(
    f"s{s},i{(s + c) % 5},{100 * s + c}\n" for s in range(30) for c in range(3)
)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run a command; return the exit code, standard output and standard error."""
    sys.argv = ["recsys", *arguments]
    code = 0
    try:
        main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err
