"""Child processes that end with the process that starts them, even if that is killed."""

import subprocess
import sys
from collections.abc import Mapping, Sequence

from recsys.errors import RecsysError


def start_guard(pid: int, *folders: str) -> "subprocess.Popen[bytes]":
    """Start a shell that ends a process when this one has ended, and deletes the folders.

    The shell waits for the end of its input, which comes when the last process that holds the
    other end of the pipe has ended, for whatever reason. Linux and macOS have what it needs.
    """
    script = 'cat >/dev/null; kill "$1"; shift; rm -rf "$@"'
    return subprocess.Popen(
        ["sh", "-c", script, "sh", str(pid), *folders],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C must not reach it
    )


def end_guard(guard: "subprocess.Popen[bytes]") -> None:
    """End a guard whose process has ended: another process may get the same process id."""
    guard.kill()
    guard.communicate()


def run_until_interrupted(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run a process and pass its log on; an interrupt ends it in good order.

    Raises:
        RecsysError: the process ended with an error.
    """
    last = ""
    # in a session of its own, so that Ctrl-C reaches it once, as SIGTERM
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        guard = start_guard(process.pid)
        try:
            for line in process.stderr:
                sys.stderr.write(line)
                last = line
            process.wait()
        except KeyboardInterrupt:
            process.terminate()
            sys.stderr.write(process.communicate()[1])
            return
        finally:
            end_guard(guard)
    if process.returncode != 0:
        reason = last.strip().removeprefix("error: ")
        raise RecsysError(f"The service ended with status {process.returncode}: {reason}")
