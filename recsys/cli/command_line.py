"""The command line of this process."""

import shlex
import sys
from pathlib import Path


def as_typed() -> str:
    """Return the command line of this process, quoted for a shell."""
    program, *arguments = sys.argv
    return shlex.join([Path(program).name, *arguments])
