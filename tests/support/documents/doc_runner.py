"""Runner that executes every command of a page, from top to bottom, on small data.

The working folder holds the files that the pages assume: clicks, items, the logs under `$R`. The
commands run as they stand on the page, with two changes: `SMALLER` makes them short, and
`substitutions` gives the addresses and keys of this run. `recsys` runs in this process, servers and
scripts in forks of a process that has loaded the packages, `make` in a clean checkout. A command
that this machine cannot run is only checked, and `not_run` says why.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, chdir, redirect_stdout
from io import StringIO
from pathlib import Path
from shutil import which
from unittest.mock import patch

from recsys.cli.main import main
from tests.support.documents.clean_checkout import CleanCheckout
from tests.support.documents.command_check import check_command
from tests.support.documents.markdown import ASSIGNMENT, PROGRAMS, Block
from tests.support.documents.small_runs import END, ended, run_script
from tests.support.processes import start_fork
from tests.support.service.servers import served

SMALLER = {  # options that make a command take a moment instead of minutes
    "train": "--set epochs=1 --set hidden=8 --set negatives=32",
    "tune": "--trials 2 --set epochs=1 --set hidden=8 --set negatives=32",
    "finetune": "--set epochs=1",
    "retrain": "--recipe default --set epochs=4 --set hidden=16 --set batch=16 --least-cases 50",
    "bench": "--rate 20 --seconds 0.5 --warmup 0.1",
    "shop": "--visits 300",
    "demo-loop": "--check",
}
REDIS, SERVICE = "redis://127.0.0.1:6379/0", "http://127.0.0.1:8000"
PID = "PID"  # of the service
FIGURES = ("metrics", "training")  # fields with measured values


class DocRunner:
    def __init__(
        self,
        folder: Path,
        substitutions: Mapping[str, str],
        checkout: CleanCheckout,
        is_first: Callable[[str], bool],
    ) -> None:
        """is_first: whether no page has run this script yet; where it writes nothing, one does."""
        self.not_run: list[str] = []  # sentences
        self._folder = folder
        self._substitutions = dict(substitutions)
        self._checkout, self._is_first = checkout, is_first
        self._servers = ExitStack()
        self._names: dict[str, object] = {}  # of the Python blocks

    def __enter__(self) -> "DocRunner":
        return self

    def __exit__(self, *_: object) -> None:
        self._servers.close()

    def run_commands(self, block: Block, answer: object) -> None:
        """Run each command of a block and compare the output of the last one with the answer."""
        output, status = "", 200
        for line in block.commands:
            assert status < 300, f"{block.place}: {status} {output}"
            shared = line.startswith("python ") and " --out " not in line
            if shared and not self._is_first(line):
                continue
            words, environment = self._words(line)
            output, status = self._run(words, environment, block.place)
        expected = answer.get("status") if isinstance(answer, dict) else None
        expected = expected if isinstance(expected, int) else 200
        assert status == expected, f"{block.place}: {status} {output}"
        if answer is not None:
            body = json.loads(output)
            assert shape(body) == shape(answer), f"{block.place}: the output is\n{output}"

    def run_python(self, block: Block) -> None:
        """Run Python in the folder, with the names of the page's blocks above."""
        with chdir(self._folder):
            exec(compile(self._substituted(block.text), block.place, "exec"), self._names)

    def _substituted(self, text: str) -> str:
        for written, actual in self._substitutions.items():
            text = text.replace(written, actual)
        return text

    def _words(self, line: str) -> tuple[list[str], dict[str, str]]:
        """Return the words of a command, and the variables set for this command alone."""
        typed = shlex.split(self._substituted(line), comments=True)
        words = [os.path.expandvars(word) for word in typed]
        environment = {}
        while words and ASSIGNMENT.match(words[0]):
            name, _, value = words.pop(0).partition("=")
            environment[name] = value
        return words, environment

    def _run(self, words: list[str], environment: dict[str, str], place: str) -> tuple[str, int]:
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
                self._check_instead_if(self._checkout.make(target, place), words)
                return "", 200
            case [".", script]:
                self._check_instead_if(self._checkout.activate(script, place), words)
                return "", 200
            case ["py-spy", *_]:
                self._check_instead_if(self._profile(words, place), words)
                return "", 200
        raise AssertionError(
            f"{place}: {words} is none of {PROGRAMS}. If it cannot run here, put "
            "`<!-- not run: REASON -->` above it; "
            "tests/unit/documents/test_docs_commands.py lists the reasons."
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

    def _check_instead_if(self, reason: str | None, words: list[str]) -> None:
        if reason is not None:
            check_command(words)
            self.not_run.append(reason)

    def _profile(self, words: list[str], place: str) -> str | None:
        """Run py-spy for a second; return the reason if it is not installed or not permitted."""
        program = which(words[0]) or which(words[0], path=str(Path(sys.executable).parent))
        if program is None:
            return "py-spy was only checked: it is not installed."
        typed = [program, *words[1:]]
        typed[typed.index("--duration") + 1] = "1"
        code, output = ended(typed, self._folder)
        if code and "permission" in output.lower():
            return "py-spy was only checked: it may not read other processes here."
        assert code == 0, f"{place}: {shlex.join(typed)} exits with {code}\n{output[-END:]}"
        return None

    def _serve(self, options: list[str], environment: dict[str, str]) -> str:
        """Start a server that runs until the page ends or starts another one."""
        check_command(["recsys", "serve", *options])
        self._servers.close()
        named = dict(zip(options[::2], options[1::2], strict=True))
        bundle, redis = self._folder / named.pop("--bundle"), self._substitutions[REDIS]
        named.pop("--redis", None)
        given = {f"RECSYS_{option[2:].upper()}": value for option, value in named.items()}
        url = self._servers.enter_context(
            served(bundle, redis, None, start_fork, **given, **environment)
        )
        self._substitutions[SERVICE] = url
        return ""

    def _curl(self, options: list[str], place: str) -> tuple[str, int]:
        command = ["curl", "-sS", "--max-time", "30", "-w", "\n%{http_code}", *options]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, f"{place}: {ran.stderr}"
        body, _, status = ran.stdout.rpartition("\n")
        return body, 200 if status.startswith("2") else int(status)


def shape(value: object) -> object:
    """Return field names and kinds of values; lists by their first item, figures by name."""
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
