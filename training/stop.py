"""Request to stop a run, which a signal sets: the run saves its work and ends in good order."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass(slots=True)
class Stop:
    """Request to stop, set by the first signal; a second signal interrupts at once."""

    requested: bool = False


@contextmanager
def stop_on_signal(stop: Stop | None = None, *, patient: bool = False) -> Iterator[Stop]:
    """Turn SIGINT and SIGTERM into a request to stop.

    Args:
        stop: The request of an enclosing `stop_on_signal`, which then handles the signals.
        patient: Ignore a second signal. One of several processes receives Ctrl-C twice, from the
            terminal and from its launcher, which kills it if it takes too long.
    """
    if stop is not None:
        yield stop
        return
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # Python delivers signals to the main thread alone
        return

    def request(number: int, frame: FrameType | None) -> None:
        if stop.requested and not patient:
            raise KeyboardInterrupt
        stop.requested = True

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
