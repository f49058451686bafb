"""`recsys collect` as a process: it collects, waits for another collector, and stops when told."""

import os
import signal
import socket
from pathlib import Path

import httpx
import pytest
import redis as redis_py

from data.events.reading import read_clicks
from data.events.writing import only_writer
from service.feedback.entries import ClickEntry, stream_key
from service.server.embedded_redis import free_port
from tests.support.processes import start_fork
from tests.support.redis.servers import wait_until
from tests.support.training.command_line import run


def add_click(redis_url: str, number: int) -> None:
    entry = ClickEntry("ada", "1" * 16, number, f"item-{number}")
    with redis_py.Redis.from_url(redis_url) as redis:
        redis.xadd(stream_key(3), {**entry.fields()})


def items_in(folder: Path) -> list[str]:
    if not (folder / "recsys-events.json").exists():
        return []
    items: list[str] = read_clicks(folder)["item_id"].tolist()
    return items


def test_a_second_collector_goes_on_where_a_killed_one_was(redis_url: str, tmp_path: Path) -> None:
    folder, log, port = tmp_path / "events", tmp_path / "log", free_port()
    words = ["collect", "--redis", redis_url, "--out", str(folder), "--every", "1"]
    add_click(redis_url, 1)
    first = start_fork([*words, "--metrics-port", str(port)], log, os.environ)
    wait_until(lambda: items_in(folder) == ["item-1"], "the first click is collected")
    second = start_fork(words, log, os.environ)
    wait_until(lambda: "This one waits until that one ends" in log.read_text(), "it waits")
    assert 'rows_total{kind="clicks"} 1.0' in httpx.get(f"http://127.0.0.1:{port}/metrics").text
    first.kill()
    first.wait()
    add_click(redis_url, 2)
    wait_until(lambda: items_in(folder) == ["item-1", "item-2"], "the second click is collected")
    second.send_signal(signal.SIGTERM)
    assert second.wait(60) == 0
    assert "Traceback" not in log.read_text()


def test_one_collection_ends_by_itself_and_bad_options_are_refused(
    capsys: pytest.CaptureFixture[str], redis_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "events"
    words = ("collect", "--redis", redis_url, "--out", str(folder), "--once")
    add_click(redis_url, 1)
    code, _, err = run(capsys, *words)
    assert (code, items_in(folder)) == (0, ["item-1"])
    assert "Collected clicks: 1. Waiting in Redis: 0." in err
    file = tmp_path / "file"
    file.write_text("")
    with socket.create_server(("127.0.0.1", 0)) as taken, only_writer(folder):
        port = str(taken.getsockname()[1])
        for more, message in [
            ((), "another process collects into"),
            (("--keep-days", "0"), "--keep-days must be above 0, got 0.0. Give a number of days."),
            (("--redis", "embedded"), "--redis must begin with redis://"),
            (("--out", str(file)), f"{file} cannot be written"),
            (("--metrics-port", port), "Give another --metrics-port."),
            (("--metrics-port", "99999"), "a port is at most 65535. Give another --metrics-port."),
            (("--log-format", "xml"), "--log-format 'xml': give text or json."),
        ]:
            code, _, err = run(capsys, *words, *more)
            assert (code, message in err, "Traceback" in err) == (2, True, False), err
