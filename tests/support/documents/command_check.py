"""Check that program, verb, options and target of a command exist, without running it."""

import runpy
import shlex
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import click
import yaml
from typer.main import get_command

from recsys.cli.app import app
from tests.support.documents.markdown import ROOT

COMPOSE = {
    "up",
    "down",
    "cp",
    "logs",
    "build",
    "run",
    "ps",
    "exec",
    "stop",
    "start",
    "restart",
    "config",
}
OTHERS = {"git", "docker", "cd", ".", "py-spy"}  # other projects' options


class OptionsParsed(Exception):
    """The options are valid; the program must not go on."""


def check_command(words: list[str]) -> None:
    """Raise `AssertionError`, with the reason, if the command does not exist in this form."""
    match words:
        case ["recsys", verb, "--help"]:
            assert verb in get_command(app).commands, f"recsys {verb} is no command"  # type: ignore[attr-defined]
        case ["recsys", "--version"]:
            return
        case ["recsys", *options]:
            with _parse_only():
                get_command(app).main(options, standalone_mode=False)
        case ["python", script, *options] if script.startswith("tests/"):
            with _parse_only(), patch.object(sys, "argv", [script, *options]):
                runpy.run_path(str(ROOT / script), run_name="__main__")
        case ["make", *_]:
            ran = subprocess.run([words[0], "-n", *words[1:]], cwd=ROOT, capture_output=True)
            assert ran.returncode == 0, f"{shlex.join(words)}: {ran.stderr.decode()}"
        case ["docker", "compose", *options]:
            _check_compose([word for word in options if not word.startswith("-")])
        case [program, *_]:
            assert program in OTHERS, f"{shlex.join(words)}: {program} is unknown"


def _check_compose(words: list[str]) -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    verb, *named = words
    assert verb in COMPOSE, f"docker compose {verb} is no command"
    assert not named or named[0] in services or verb in ("exec", "run"), f"no service {named}"


@contextmanager
def _parse_only() -> Iterator[None]:
    """Stop programs of argparse, click and typer after they have parsed their options."""
    parse: Callable[..., Any] = ArgumentParser.parse_args

    def parse_only(self: ArgumentParser, *given: Any) -> None:
        parse(self, *given)
        raise OptionsParsed

    def invoke(self: click.Command, context: click.Context) -> None:
        raise OptionsParsed

    with (
        patch.object(ArgumentParser, "parse_args", parse_only),
        patch("typer.core.TyperCommand.invoke", invoke),
    ):
        try:
            yield
        except OptionsParsed:
            return
        except SystemExit as ended:  # its message says why
            raise AssertionError(f"the options are refused, exit {ended.code}") from ended
    raise AssertionError("the options were not parsed")
