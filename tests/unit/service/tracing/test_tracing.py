"""Spans show where a request was, and hold no id of a user, a session or an item."""

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from recsys.errors import BadInput
from recsys.predictor import Predictor
from service.app import create_app
from service.logs import JsonFormatter
from service.serve import read_settings
from service.tracing.export import check
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.processes import ForkedProcess
from tests.support.service.app_client import ClientOf
from tests.support.service.otlp_receiver import OtlpReceiver, attributes_of, receiving
from tests.support.service.servers import listening
from tests.support.service.varied_requests import USERS

TENT, BAG = "aurora-tent", "aurora-sleeping-bag"
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SECRET = "a-secret-pepper-of-this-test"  # else the first call reads one from Redis
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
SERVER = Span.SpanKind.SPAN_KIND_SERVER


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    with receiving() as started:
        monkeypatch.setenv(ENDPOINT, started.url)
        yield started


def traceparent(sampled: bool) -> dict[str, str]:
    return {"traceparent": f"00-{TRACE}-{CALLER}-{'01' if sampled else '00'}"}


async def test_a_trace_goes_from_the_caller_to_redis_and_the_model(
    open_client: ClientOf, receiver: OtlpReceiver
) -> None:
    async with open_client(tracing=True, user_id_secret=SECRET) as client:
        body = {"user_id": "ada", "item_id": TENT}
        await client.post("/v1/recommendations", json=body, headers=traceparent(True))

    (request,) = [span for span in receiver.spans if span.kind == SERVER]
    assert request.name == "POST /v1/recommendations"
    assert request.trace_id.hex() == TRACE
    assert request.parent_span_id.hex() == CALLER
    assert attributes_of(request) == {
        "http.request.method": "POST",
        "http.route": "/v1/recommendations",
        "http.response.status_code": 200,
    }
    (batch,) = receiver.children(request)
    assert (batch.name, attributes_of(batch)) == ("batch", {"recsys.batch.size": 1})
    rank, visit = sorted(receiver.children(batch), key=lambda span: span.name)
    assert (rank.name, visit.name) == ("rank", "redis visit")
    assert attributes_of(visit) == {"db.system.name": "redis", "db.operation.name": "visit"}
    for span in (batch, rank, visit):
        assert request.start_time_unix_nano < span.start_time_unix_nano
        assert span.end_time_unix_nano < request.end_time_unix_nano
    (resource,) = receiver.resources
    assert resource["service.name"] == "session-recsys"


async def test_each_request_of_a_batch_has_the_spans_of_the_batch(
    open_client: ClientOf, receiver: OtlpReceiver
) -> None:
    async with open_client(tracing=True, user_id_secret=SECRET) as client:
        bodies = [{"user_id": "ada", "item_id": TENT}, {"user_id": "ben", "item_id": BAG}]
        await asyncio.gather(*(client.post("/v1/recommendations", json=b) for b in bodies))
        await client.post("/v1/recommendations:batch", json={"requests": bodies})

    *single, many = [span for span in receiver.spans if span.kind == SERVER]
    for request in (*single, many):
        (batch,) = receiver.children(request)
        assert attributes_of(batch) == {"recsys.batch.size": 2}
        assert {span.name for span in receiver.children(batch)} == {"redis visit", "rank"}


async def test_the_caller_and_the_sampler_decide_what_is_sent(
    open_client: ClientOf, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_client(tracing=True, user_id_secret=SECRET) as client:
        await client.get("/v1/model", headers=traceparent(False))
        await client.get("/health/live")
        await client.get("/metrics")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    async with open_client(tracing=True, user_id_secret=SECRET) as client:
        await client.get("/v1/model")
        await client.get("/v1/items:search?q=tent", headers=traceparent(True))
        await client.get("/v1/users/ada", headers={"traceparent": f"00-{USERS[0]}-{CALLER}-01"})

    assert [span.name for span in receiver.spans] == ["GET"]


async def test_a_failure_has_its_kind_and_its_trace_in_the_log_and_no_message(
    open_client: ClientOf,
    receiver: OtlpReceiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: object) -> None:
        raise KeyError(USERS[1])

    async with open_client(tracing=True, user_id_secret=SECRET) as client:
        monkeypatch.setattr(Predictor, "advance", broken)
        asked = {"X-Request-ID": "one", **traceparent(True)}
        answer = await client.get(f"/v1/users/{USERS[0]}/recommendations", headers=asked)

    assert answer.status_code == 500
    spans = {span.name: span for span in receiver.spans}
    assert attributes_of(spans["rank"])["error.type"] == "KeyError"
    request = spans["GET /v1/users/{user_id}/recommendations"]
    assert attributes_of(request)["error.type"] == "500"
    assert request.status == Status(code=Status.StatusCode.STATUS_CODE_ERROR)
    assert not any(span.events for span in receiver.spans)
    assert b"hushed" not in receiver.bytes
    (record,) = [r for r in caplog.records if r.getMessage() == "A request failed."]
    assert not hasattr(record, "request_id"), "the formatter adds the fields of the request"


async def test_lines_of_a_request_have_its_ids(
    open_client: ClientOf, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []

    def says(*_: object) -> bool:
        record = logging.LogRecord("recsys.service", logging.INFO, "", 1, "Said.", None, None)
        lines.append(JsonFormatter(messages=False).format(record))
        return True

    async with open_client(tracing=True, user_id_secret=SECRET) as client:
        monkeypatch.setattr("service.batcher.Batcher.check", says)
        await client.post(
            "/v1/recommendations",
            json={"items": [TENT]},
            headers={"X-Request-ID": "one", **traceparent(False)},
        )

    line = json.loads(lines[0])
    assert (line["request_id"], line["trace_id"]) == ("one", TRACE)


async def test_answers_do_not_wait_for_a_receiver_that_does_not_answer(
    open_client: ClientOf,
    receiver: OtlpReceiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ten spans may wait, and a span that finds them there is dropped and counted."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    receiver.answers.clear()
    async with open_client(tracing=True, shutdown_seconds=1) as client:
        for _ in range(50):
            assert (await client.get("/v1/model")).status_code == 200
        shown = (await client.get("/metrics")).text

    (dropped,) = [row for row in shown.splitlines() if 'spans_total{outcome="dropped"' in row]
    assert 50 - 2 * 10 <= float(dropped.rsplit(" ", 1)[1]) <= 50 - 10
    assert receiver.spans == []
    assert "did not take the last spans within 0.1 s" in caplog.text


async def test_a_receiver_that_is_away_is_logged_once_and_counted(
    open_client: ClientOf,
    receiver: OtlpReceiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
    receiver.status = 400
    async with open_client(tracing=True, user_id_secret=SECRET) as client:
        for number in range(3):
            await client.get("/v1/model")
            async with asyncio.timeout(20):
                while f'outcome="failed"}} {number + 1}' not in (await client.get("/metrics")).text:
                    await asyncio.sleep(0.01)
        receiver.status = 200
        await client.get("/v1/model")

    assert caplog.text.count("does not take spans") == 1
    assert caplog.text.count("takes spans again") == 1
    assert len(receiver.spans) == 1


def test_fastapi_sends_nothing_by_itself(
    trained: TrainedShop, redis_url: str, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its spans have the path, and its logs the messages of exceptions."""
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    settings = read_settings({"bundle": trained.bundle, "redis": redis_url})
    with listening(create_app(settings), settings) as (host, port):
        httpx.get(f"http://{host}:{port}/v1/users/{USERS[0]}")

    assert receiver.bytes == b""


def test_a_service_without_tracing_does_not_load_it(tmp_path: Path) -> None:
    """The fork server has loaded the service."""
    looks = "import sys; assert 'service.app' in sys.modules; print(*sys.modules, file=sys.stderr)"
    process = ForkedProcess(exec, (looks,), tmp_path / "out", {})

    assert process.wait(60) == 0
    loaded = (tmp_path / "out").read_text().split()
    assert not {"service.tracing", "opentelemetry.exporter", "google.protobuf"} & set(loaded)


def test_variables_that_the_sdk_would_ignore_are_refused() -> None:
    check({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", ENDPOINT: "", "OTEL_BSP_MAX": "x"})

    with pytest.raises(BadInput) as refused:
        check(
            {
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                ENDPOINT: "collector:4317",
                "OTEL_BSP_MAX_QUEUE_SIZE": "0",
                "OTEL_BSP_SCHEDULE_DELAY": "-1",
                "OTEL_TRACES_SAMPLER": "traceidratoi",
            }
        )

    assert "OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf; got 'grpc'" in str(refused.value)
    assert f"{ENDPOINT} must be a URL such as http://collector:4318" in str(refused.value)
    assert "OTEL_BSP_MAX_QUEUE_SIZE must be a number above 0; got '0'" in str(refused.value)
    assert "OTEL_BSP_SCHEDULE_DELAY must be a number above 0; got '-1'" in str(refused.value)
    assert "parentbased_traceidratio; got 'traceidratoi'" in str(refused.value)
    ratio = {"OTEL_TRACES_SAMPLER": "traceidratio"}
    check(ratio | {"OTEL_TRACES_SAMPLER_ARG": "0.01"})
    for share in ("0,01", "5", "nan"):
        with pytest.raises(BadInput, match="must be a number from 0 to 1"):
            check(ratio | {"OTEL_TRACES_SAMPLER_ARG": share})
    for url in ("http://[::1", "http://x:99999999"):
        with pytest.raises(BadInput, match="must be a URL"):
            check({ENDPOINT: url})
