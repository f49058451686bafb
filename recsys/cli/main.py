"""Entry point of the command `recsys`: run it, and turn errors into a message and an exit code."""

import os
import sys
import warnings

from recsys.allocation import keep_freed_memory
from recsys.errors import Interrupted, RecsysError, RenamedSetting
from recsys.shadowing import check_packages

_python_format = warnings.formatwarning


def main() -> None:
    """Run a command. An error of the user is one message and exit code 2, ours a traceback."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads stall it
    keep_freed_memory()
    warnings.formatwarning = _in_plain_words
    try:
        check_packages()
        from recsys.cli.app import app  # after the check: it imports the packages

        app(prog_name="recsys")
    except Interrupted as interrupted:
        _stop(f"\n{interrupted}", interrupted.status)
    except KeyboardInterrupt:
        _stop("\nStopped.", Interrupted.status)
    except (OSError, RecsysError) as error:
        _stop(f"error: {error}", 2)


def _in_plain_words(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """Return our own warning without a Python file and line, and others as Python writes them."""
    if issubclass(category, RenamedSetting):
        return f"warning: {message}\n"
    return _python_format(message, category, filename, lineno, line)


def _stop(message: str, code: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(code)
