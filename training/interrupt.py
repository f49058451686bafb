"""Ctrl-C and SIGTERM as a question asked between two steps, so that nothing is half done."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Stop:
    """`asked` turns true at the first signal; a second one interrupts at once."""

    asked: bool = False


@contextmanager
def stop_on_signal(outer: Stop | None = None) -> Iterator[Stop]:
    """outer: a question that a loop around this one asks already; its answer counts here too."""
    if outer is not None:
        yield outer
        return
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # Python delivers signals to the main thread alone
        return

    def note(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
