"""The Reader: reads a page from top to bottom and types every command in it, on small data.

It sits in a folder that holds what the pages take for granted: clicks, items, the logs that `$R`
names. What it types is what stands there, but for `SMALLER`, which saves its time, and for
`moved`, the addresses and keys of this run. `recsys` runs in this process, servers and scripts in
their own, `make` in a yard. What a machine does not let it run is looked at, and `left` says so.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack, chdir, redirect_stdout
from io import StringIO
from pathlib import Path
from shutil import which
from unittest.mock import patch

from recsys.cli.main import main
from tests.support.documents.clean_checkout import Yard
from tests.support.documents.command_check import check_command
from tests.support.documents.markdown import ASSIGNMENT, PROGRAMS, Block
from tests.support.documents.small_runs import END, ended, run_script
from tests.support.service.servers import served

SMALLER = {  # what a command is followed by, so that it takes a moment instead of minutes
    "train": "--set epochs=1 --set hidden=8 --set negatives=32",
    "tune": "--trials 2 --set epochs=1 --set hidden=8 --set negatives=32",
    "finetune": "--set epochs=1",
    "bench": "--rate 20 --seconds 0.5 --warmup 0.1",
    "shop": "--visits 300",
}
REDIS, SERVICE = "redis://127.0.0.1:6379/0", "http://127.0.0.1:8000"
PID = "PID"  # of the service
FIGURES = ("metrics", "training")  # whatever was measured


class Reader:
    def __init__(self, folder: Path, moved: Mapping[str, str], yard: Yard, once: set[str]) -> None:
        """once: scripts that another page had run, and so are not run again."""
        self.left: list[str] = []  # sentences
        self._folder = folder
        self._moved = dict(moved)
        self._yard, self._once = yard, once
        self._servers = ExitStack()
        self._names: dict[str, object] = {}  # of the Python blocks

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._servers.close()

    def type(self, block: Block, answer: object) -> None:
        """Every command of a block; the last one prints the answer, where the page shows one."""
        said, status = "", 200
        for line in block.commands:
            assert status < 300, f"{block.place}: {status} {said}"
            if line in self._once:
                continue
            if line.startswith("python "):
                self._once.add(line)
            words, environment = self._words(line)
            said, status = self._type(words, environment, block.place)
        expected = answer.get("status") if isinstance(answer, dict) else None
        expected = expected if isinstance(expected, int) else 200
        assert status == expected, f"{block.place}: {status} {said}"
        if answer is not None:
            found = json.loads(said)
            assert shape(found) == shape(answer), f"{block.place}: it says\n{said}"

    def run(self, block: Block) -> None:
        """Run Python in the folder, with the names of the page's blocks above."""
        with chdir(self._folder):
            exec(compile(self._meant(block.text), block.place, "exec"), self._names)

    def _meant(self, text: str) -> str:
        for written, meant in self._moved.items():
            text = text.replace(written, meant)
        return text

    def _words(self, line: str) -> tuple[list[str], dict[str, str]]:
        """What is typed in fact, and the variables set for this command alone."""
        typed = shlex.split(self._meant(line), comments=True)
        words = [os.path.expandvars(word) for word in typed]
        environment = {}
        while words and ASSIGNMENT.match(words[0]):
            name, _, value = words.pop(0).partition("=")
            environment[name] = value
        return words, environment

    def _type(self, words: list[str], environment: dict[str, str], place: str) -> tuple[str, int]:
        match words:
            case ["recsys", "serve", *options]:
                return self._serve(options, environment), 200
            case ["recsys", *options]:
                return self._recsys(options, place), 200
            case ["curl", *options]:
                return self._curl(options, place)
            case ["python", *script]:
                return run_script(script, self._folder, place), 200
            case ["make", *target]:
                self._look_at_it_if(self._yard.make(target, place), words)
                return "", 200
            case [".", script]:
                self._look_at_it_if(self._yard.activate(script, place), words)
                return "", 200
            case ["py-spy", *_]:
                self._look_at_it_if(self._spied(words, place), words)
                return "", 200
        raise AssertionError(
            f"{place}: {words} is none of {PROGRAMS}. Where it cannot be run here, put "
            "`<!-- not run: REASON -->` above it; "
            "tests/unit/documents/test_docs_commands.py has the reasons."
        )

    def _recsys(self, words: list[str], place: str) -> str:
        typed = ["recsys", *words, *shlex.split(SMALLER.get(words[0], ""))]
        printed = StringIO()
        with chdir(self._folder), patch.object(sys, "argv", typed), redirect_stdout(printed):
            code: object = 0
            try:
                main()
            except SystemExit as ended:
                code = ended.code
        assert not code, f"{place}: {shlex.join(typed)} exits with {code}"
        return printed.getvalue()

    def _look_at_it_if(self, reason: str | None, words: list[str]) -> None:
        if reason is not None:
            check_command(words)
            self.left.append(reason)

    def _spied(self, words: list[str], place: str) -> str | None:
        """A second of it; the reason where it is not installed, or may not look."""
        program = which(words[0]) or which(words[0], path=str(Path(sys.executable).parent))
        if program is None:
            return "py-spy was only looked at: it is not installed."
        typed = [program, *words[1:]]
        typed[typed.index("--duration") + 1] = "1"
        code, said = ended(typed, self._folder)
        if code and "permission" in said.lower():
            return "py-spy was only looked at: it may not look into other processes here."
        assert code == 0, f"{place}: {shlex.join(typed)} exits with {code}\n{said[-END:]}"
        return None

    def _serve(self, options: list[str], environment: dict[str, str]) -> str:
        """It stays until the page ends, or until another one is started."""
        check_command(["recsys", "serve", *options])
        self._servers.close()
        named = dict(zip(options[::2], options[1::2], strict=True))
        bundle, redis = self._folder / named.pop("--bundle"), self._moved[REDIS]
        named.pop("--redis", None)
        given = {f"RECSYS_{option[2:].upper()}": value for option, value in named.items()}
        url = self._servers.enter_context(served(bundle, redis, None, **given, **environment))
        self._moved[SERVICE] = url
        return ""

    def _curl(self, options: list[str], place: str) -> tuple[str, int]:
        command = ["curl", "-sS", "--max-time", "30", "-w", "\n%{http_code}", *options]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, f"{place}: {ran.stderr}"
        said, _, status = ran.stdout.rpartition("\n")
        return said, 200 if status.startswith("2") else int(status)


def shape(value: object) -> object:
    """The fields and the kinds of their values; lists by their first item, figures as such."""
    match value:
        case dict():
            return {n: n if n in FIGURES else shape(part) for n, part in value.items()}
        case [first, *_]:
            return [shape(first)]
        case bool() | None:
            return "maybe"
        case int() | float():
            return "number"
    return type(value).__name__
