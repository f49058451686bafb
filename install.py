"""Create the environment of this checkout and show what is being done. `make install` runs it.

    python3.11 install.py .venv

Needs the standard library only. The output of pip is in `install.log` of the environment. The file
`installed` there is written last; without it, `make` installs again.
"""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent
STAMP, LOG = "installed", "install.log"
QUIET_SECONDS = 15.0  # between two lines where there is no terminal
LAST_LINES = 6  # of the log, shown after a failure
WIDTH = 79

CAUSES = (  # words in the log, and what they mean
    (
        ("no space left", "errno 28", "disk quota"),
        "The disk is full. The environment needs about 2 GB, with CUDA libraries several more.",
    ),
    (
        ("connection", "timed out", "name resolution", "sslerror", "(from versions: none)"),
        "The package index does not answer. Check the network, and `pip config list`.",
    ),
    (
        ("no matching distribution", "could not find a version"),
        "The package index lacks a version of constraints.txt for this Python.",
    ),
    (
        ("permission denied", "read-only file system"),
        "The folder cannot be written to.",
    ),
    (
        ("/bin/python'", "not a directory"),
        "The environment is broken, or of a Python that is gone. Remove its folder, then repeat.",
    ),
)


class InstallFailed(Exception):
    """A command failed; the message holds the end of its output and what to do."""


class Progress:
    """Progress of pip, read from its output."""

    def __init__(self, environment: Path) -> None:
        """Watch the packages of the environment too: pip is silent while it unpacks them."""
        self._environment = environment
        self._found = self._before = self._total = 0
        self._step = "asking the package index"

    def read(self, line: str) -> None:
        """Take one line of output."""
        kind, _, rest = line.strip().partition(" ")
        if kind in ("Collecting", "Requirement"):
            self._found += 1
            name = re.split(r"[^\w.-]", rest.removeprefix("already satisfied: "))[0]
            self._step = f"package {self._found}: {name}"
        elif kind == "Downloading":
            wheel = re.sub(r"^(?:.*/)?([^-]+-[^-]+)\S*", r"\1", rest)
            self._step = f"package {self._found}: downloading {wheel}"
        elif line.startswith("Installing collected packages: "):
            self._before = self._unpacked()
            self._total = line.count(",") + 1

    def __str__(self) -> str:
        """Return the step in a few words."""
        if not self._total:
            return self._step
        return f"unpacked {self._unpacked() - self._before} of {self._total} packages"

    def _unpacked(self) -> int:
        return sum(1 for _ in self._environment.glob("lib/python3*/site-packages/*.dist-info"))


class ProgressLine:
    """Seconds and step: on a terminal one line, renewed each second, elsewhere some lines."""

    def __init__(self, *, terminal: bool) -> None:
        self._terminal = terminal
        self._began = time.monotonic()
        self._latest = -QUIET_SECONDS

    def show(self, step: object, *, last: bool = False) -> None:
        """Write the step; the last one ends the line."""
        seconds = time.monotonic() - self._began
        text = f"{seconds:4.0f} s  {step}"
        if self._terminal:
            sys.stdout.write(f"\r\033[K{text[:WIDTH]}" + "\n" * last)
        elif last or seconds - self._latest >= QUIET_SECONDS:
            self._latest = seconds
            sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    @contextmanager
    def renewed(self, step: object) -> Iterator[None]:
        """Show the step each second, as it is then."""
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(1):
                self.show(step)

        self.show(step)
        thread = threading.Thread(target=renew)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def install(environment: Path, line: ProgressLine) -> None:
    """Create the environment and install this checkout into it.

    Raises:
        InstallFailed: A command failed. The environment has no stamp then.
    """
    log, stamp = environment / LOG, environment / STAMP
    stamp.unlink(missing_ok=True)
    create = [sys.executable, "-m", "venv", str(environment)]
    with line.renewed(f"creating {environment}"):
        made = subprocess.run(create, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if made.returncode:
        raise InstallFailed(explained(made.stdout.splitlines()))
    progress = Progress(environment)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--no-input"]
    pip += ["--disable-pip-version-check", "--progress-bar", "off", "-c", "constraints.txt"]
    with log.open("w", encoding="utf-8") as written, line.renewed(progress):
        running = subprocess.Popen(
            [*pip, "-e", ".[dev]"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        assert running.stdout is not None
        for text in running.stdout:
            written.write(text)
            progress.read(text)
        failed = running.wait()
    if failed:
        told = explained(log.read_text(encoding="utf-8").splitlines())
        raise InstallFailed(f"{told}\n{log} has the output of pip.")
    stamp.touch()
    line.show(f"{environment} is ready", last=True)


def explained(output: Sequence[str]) -> str:
    """Return the last errors of a failed command, else its last lines, and what they mean."""
    lines = [line.strip() for line in output if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("error", "warning: retrying"))]
    text = "\n".join((errors or lines)[-LAST_LINES:])
    meant = (why for words, why in CAUSES if any(word in text.lower() for word in words))
    return "\n".join([text, next(meant, "")]).strip()


def main() -> int:
    """Install into the environment of the command line; return the exit status."""
    environment = Path(sys.argv[1])
    try:
        install(environment, ProgressLine(terminal=sys.stdout.isatty()))
    except (InstallFailed, OSError) as failed:
        told = str(failed) if isinstance(failed, InstallFailed) else explained([str(failed)])
        sys.stdout.write("\n")
        sys.stderr.write(f"{told}\nerror: The installation is incomplete.\n")
    except KeyboardInterrupt:
        sys.stderr.write(
            "\nerror: The installation was interrupted. Repeat the command to go on.\n"
        )
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
