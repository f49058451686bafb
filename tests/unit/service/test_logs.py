"""The log says what failed and where, and holds no data that clients sent."""

import asyncio
import io
import json
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette

from recsys.predictor import Predictor
from service.logs import (
    REQUEST_FIELDS,
    JsonFormatter,
    LineFormatter,
    TextFormatter,
    log_to_stderr,
    watch_loop,
)
from service.middleware.auth import hash_of
from service.redis_client.background_tasks import TaskSet
from service.serve import read_settings
from service.server.embedded_redis import private_redis
from service.store.unstored_clicks import LOG_SECONDS, UnstoredClicks
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.processes import start_fork
from tests.support.service.app_client import ClientOf
from tests.support.service.otlp_receiver import attributes_of, receiving
from tests.support.service.raw_http import problem
from tests.support.service.servers import listening, served
from tests.support.service.varied_requests import KEY, USERS, WRONG, varied_requests

TENT = "aurora-tent"
STATUS = "http.response.status_code"
SPAN_ATTRIBUTES = {"http.request.method", "http.route", STATUS, "error.type"} | {
    "recsys.batch.size",
    "db.system.name",
    "db.operation.name",
}
PASSWORD, SECRET = "open-sesame-redis", "a-secret-pepper-of-this-test"


@contextmanager
def logged(lines: LineFormatter) -> Iterator[io.StringIO]:
    """Yield a stream with the lines of all loggers."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(lines)
    logging.getLogger().addHandler(handler)
    try:
        yield stream
    finally:
        logging.getLogger().removeHandler(handler)


def broken(*_: object) -> None:
    try:
        raise KeyError(USERS[0])
    except KeyError as inner:
        raise RuntimeError(f"no state of {USERS[1]}") from inner


async def test_an_exception_of_a_request_is_one_line_with_its_request_and_traceback(
    open_client: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_client() as client:
        monkeypatch.setattr(Predictor, "advance", broken)
        with logged(JsonFormatter(messages=False)) as stream:
            answer = await client.post(
                "/v1/recommendations", json={"user_id": USERS[2], "item_id": TENT}
            )
            by_path = await client.get(f"/v1/users/{USERS[3]}/recommendations")

    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert answer.status_code == by_path.status_code == 500
    assert first["level"] == "error"
    assert first["message"] == "A request failed."
    assert first["request_id"] == answer.json()["request_id"] == answer.headers["x-request-id"]
    assert (first["route"], second["route"]) == (
        "/v1/recommendations",
        "/v1/users/{user_id}/recommendations",
    )
    assert {"builtins.RuntimeError", "builtins.KeyError"} <= set(first["error"])
    assert any(place.endswith("in broken") for place in first["error"])
    assert "hushed" not in stream.getvalue()


@pytest.mark.parametrize("form", [JsonFormatter, TextFormatter])
def test_messages_of_exceptions_are_shown_at_debug_only(form: type[LineFormatter]) -> None:
    for messages in (False, True):
        with logged(form(messages=messages)) as stream:
            try:
                broken()
            except RuntimeError:
                logging.getLogger("recsys.service").exception("It failed.")

        assert (USERS[1] in stream.getvalue()) is messages
        assert "RuntimeError" in stream.getvalue()


def test_a_circle_of_causes_ends() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    with logged(TextFormatter(messages=False)) as stream:
        logging.getLogger("recsys.service").error("It failed.", exc_info=one)

    assert "It failed." in stream.getvalue()


async def test_an_exception_of_a_callback_is_logged_without_its_arguments() -> None:
    loop = asyncio.get_running_loop()
    watch_loop(loop)

    def fails(user: str) -> None:
        raise ValueError(user)

    with logged(JsonFormatter(messages=False)) as stream:
        loop.call_soon(fails, USERS[0])
        await asyncio.sleep(0.01)

    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["error"][0] == "builtins.ValueError"
    assert USERS[0] not in line


def test_the_level_and_the_form_are_settings(capsys: pytest.CaptureFixture[str]) -> None:
    def say() -> list[str]:
        logging.getLogger("uvicorn.error").info("Started")
        logging.getLogger("recsys.service").warning("Full")
        logging.getLogger("faiss.loader").info("Loading")
        return capsys.readouterr().err.splitlines()

    log_to_stderr("warning", "json")
    (line,) = say()
    assert json.loads(line)["message"] == "Full"
    assert json.loads(line)["level"] == "warning"

    log_to_stderr("debug", "text")
    assert say()[-1].endswith(" info Loading")

    log_to_stderr("info", "text")
    first, second = say()
    assert first.endswith(" info Started")
    assert second.endswith(" warning Full")


def test_malformed_requests_are_not_logged_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    """They are counted instead: a client could fill the disk with lines."""
    log_to_stderr("info", "text")
    counted: list[int] = []

    settings = read_settings({"bundle": Path("none")})
    with listening(Starlette(), settings, counted.append) as address:
        for _ in range(3):
            with closing(socket.create_connection(address, timeout=10)) as client:
                client.sendall(b"hushed\r\n\r\n")
                assert problem(client)["status"] == 400

    assert counted == [400] * 3
    assert "Invalid" not in capsys.readouterr().err


def test_no_secret_and_no_user_is_in_the_logs_and_spans_of_a_session(
    trained: TrainedShop, tmp_path: Path
) -> None:
    """The requests include wrong keys, malformed requests, and a Redis that ends.

    Two workers send all of their spans at SIGTERM: the queue would wait for ten minutes.
    """
    log, audit = tmp_path / "log", tmp_path / "audit"
    with ExitStack() as redis, receiving() as receiver:
        settings = {
            "RECSYS_API_KEY_HASHES": hash_of(KEY),
            "RECSYS_USER_ID_SECRET": SECRET,
            "RECSYS_LOG_FORMAT": "json",
            "RECSYS_AUDIT_LOG": str(audit),
            "RECSYS_READ_SECONDS": "0.5",
            "RECSYS_MAX_HEAD_BYTES": "1024",
            "RECSYS_REDIS_TIMEOUT_MS": "200",
            "RECSYS_REDIS_BUDGET_MS": "400",
            "RECSYS_TRACING": "true",
            "RECSYS_WORKERS": "2",
            "RECSYS_SHUTDOWN_SECONDS": "60",
            "OTEL_BSP_SCHEDULE_DELAY": "600000",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        }
        address = redis.enter_context(private_redis(["--requirepass", PASSWORD]))
        secured = address.replace("redis://", f"redis://:{PASSWORD}@")
        with served(trained.bundle, secured, log, start_fork, **settings) as url:
            assert varied_requests(url) == 200
            for _ in range(30):  # on new connections, which the kernel gives to any worker
                with closing(HTTPConnection(urlsplit(url).netloc)) as connection:
                    connection.request("GET", "/v1/model")
                    assert connection.getresponse().status == 401
            redis.close()
            assert varied_requests(url) == 503
            assert receiver.spans == []

    text, audited = log.read_text(), audit.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) > 5
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    refused = [json.loads(line) for line in audited.splitlines()]
    assert [(line["route"], line["status"]) for line in refused] == [("/v1/admin/reload", 403)] * 2
    assert len({each["service.instance.id"] for each in receiver.resources}) == 2
    found = [attributes_of(span) for span in receiver.spans]
    assert {200, 401, 403, 404, 413, 422, 503} <= {a.get(STATUS) for a in found}
    assert {name for each in found for name in each} == SPAN_ATTRIBUTES
    assert not any(span.trace_state or span.events for span in receiver.spans)
    for hidden in (KEY, WRONG, PASSWORD, SECRET, *USERS, "hushed", hash_of(KEY)[7:]):
        assert hidden not in text + audited
        assert hidden.encode() not in receiver.bytes
    for hidden in (TENT, "recsys:", "redis://", "visit.lua", "EVALSHA"):
        assert hidden.encode() not in receiver.bytes


async def test_a_line_of_background_work_names_no_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The request that starts the work may have ended, and others may be counted in the line."""
    caplog.handler.setFormatter(JsonFormatter(messages=False))
    times = iter([0.0, 0.0, LOG_SECONDS - 0.001, LOG_SECONDS])
    ended = asyncio.Event()

    async def work() -> None:
        logging.getLogger("recsys.service").warning("Redis answers again.")

    REQUEST_FIELDS.set({"request_id": "one"})
    unstored = UnstoredClicks(lambda *_: None, clock=lambda: next(times))
    for _ in range(2):
        unstored.add("oom", 1)
    await TaskSet().start(work())
    asyncio.get_running_loop().call_later(0.01, ended.set)
    await ended.wait()

    lines = [json.loads(line) for line in caplog.text.splitlines()]
    assert [line.get("request_id") for line in lines] == ["one", None, None]
