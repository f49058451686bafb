"""Both clients send valid requests, return checked answers and count no click twice."""

import asyncio
import importlib
import inspect
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, assert_type

import httpx
import pytest

import recsys.client.http
import recsys.client.push
import recsys.client.schemas
import recsys.errors
from recsys_client import AsyncClient, Client, RecsysError, ServiceRefused, ServiceUnreachable
from recsys_client.http import RuleParams
from recsys_client.push import push_items
from recsys_client.schemas import ClicksTaken, SimilarItems
from service.app import create_app
from service.middleware.auth import hash_of, new_key
from service.settings import Settings
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.python_process import python
from tests.support.service.app_client import PATIENT
from tests.support.service.servers import listening

TENT, BAG = "aurora-tent", "aurora-sleeping-bag"
KEY, ADMIN = new_key(), new_key()
CALLS: dict[str, Callable[[Any], Any]] = {
    "recommend": lambda c: c.recommend(user_id="ada", item_id=TENT, k=3),
    "recommend_many": lambda c: c.recommend_many([{"user_id": "ada"}, {"items": [BAG], "k": 1}]),
    "record": lambda c: c.record("ada", [BAG, {"item_id": "mate", "timestamp": 5.0}]),
    "user": lambda c: c.user("ada"),
    "forget": lambda c: c.forget("ada"),
    "similar": lambda c: c.similar(TENT, k=2),
    "similar_by_rules": lambda c: c.similar_by_rules(TENT, filter={"category": ["Tea"]}, pin=[BAG]),
    "search": lambda c: c.search("tent", filter={"category": ["Camping", "Tea"]}, limit=5),
    "look_up": lambda c: c.look_up([TENT, "mate"]),
    "attributes": lambda c: c.attributes(),
    "model": lambda c: c.model(),
}

KEYED = ("reload", "roll_back", "change_items", "changes_of", "delete_items")  # by other keys


@pytest.fixture(scope="module")
def url(trained: TrainedShop, redis_server: str) -> Iterator[str]:
    keys = {"api_key_hashes": [hash_of(KEY)], "admin_key_hashes": [hash_of(ADMIN)]}
    given = {"bundle": trained.bundle, "redis": redis_server, **PATIENT, **keys}
    settings = Settings(**given)  # type: ignore[arg-type]
    with listening(create_app(settings), settings) as (host, port):
        yield f"http://{host}:{port}"


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url, api_key=KEY) as opened:
        opened.forget("ada")
        yield opened


def test_clicks_of_a_visit_are_recorded_read_and_forgotten(client: Client) -> None:
    client.forget("bea")
    first = client.recommend(user_id="bea", item_id=TENT, k=3)
    taken = client.record("bea", [BAG, {"item_id": "mate", "event_id": "e-9"}])
    again = client.record("bea", [{"item_id": "mate", "event_id": "e-9"}])
    both = client.recommend(user_id="bea", k=3)

    assert (first.source, first.stored, len(first.items)) == ("model", True, 3)
    assert (taken.accepted, taken.unknown_items, again.duplicates) == (2, ["mate"], 1)
    listed = client.recommend(items=[TENT, BAG], k=3).items
    assert [item.item_id for item in both.items] == [item.item_id for item in listed]
    scores = [item.score for item in listed]  # one state was computed click by click
    assert [item.score for item in both.items] == pytest.approx(scores, rel=1e-5)
    assert [click.item_id for click in client.user("bea").clicks] == [TENT, BAG, "mate"]
    client.forget("bea")
    assert client.user("bea").clicks == []


def test_items_are_found_looked_up_and_compared(client: Client) -> None:
    assert client.search("camping TENT").items[0].item_id == TENT
    assert client.search(filter={"category": ["Camping"]}).total == 10
    assert client.look_up([TENT, "mate"]).unknown_items == ["mate"]
    assert len(client.similar(TENT, k=4).items) == 4
    assert {found.name for found in client.attributes().attributes} == {"brand", "category", "name"}
    assert client.model().items == 200


def test_lists_are_made_by_rules(client: Client) -> None:
    rules = RuleParams(k=3, pin=[BAG, "mate"], max_per={"category": 2}, fields=["category"])
    boosted = RuleParams(**rules, boost={"category": {"Tea": 100}})
    filtered = RuleParams(**rules, filter={"category": ["Camping", "Tea"]})

    listed = client.recommend(items=[TENT], **boosted)
    similar = client.similar_by_rules(TENT, **filtered)

    assert [item.attributes for item in listed.items] == [
        {"category": name} for name in ("Camping", "Tea", "Tea")
    ]
    assert listed.unknown_items == similar.unknown_items == ["mate"]
    assert similar.items[0].item_id == BAG
    assert client.recommend(items=[TENT]).items[0].attributes is None
    with pytest.raises(ServiceRefused, match="'name' is text") as refused:
        client.recommend(items=[TENT], filter={"name": {"gte": 5}})
    assert list(refused.value.fields) == ["filter.name"]


@pytest.mark.parametrize("name", CALLS)
async def test_the_async_client_returns_the_same(url: str, client: Client, name: str) -> None:
    waited = await asyncio.to_thread(CALLS[name], client)
    async with AsyncClient(url, api_key=KEY) as other:
        await other.forget("ada")
        if name in ("user", "recommend"):
            await asyncio.to_thread(client.forget, "ada")
        assert await CALLS[name](other) == waited


def test_both_clients_have_the_same_methods() -> None:
    def signatures(kind: type) -> dict[str, Any]:
        public = inspect.getmembers(kind, inspect.isfunction)
        return {n: inspect.signature(f) for n, f in public if not n.startswith("_")}

    assert signatures(Client) == signatures(AsyncClient)
    assert signatures(Client).keys() == {*CALLS, *KEYED, "close"}


def test_a_refusal_names_the_wrong_field(client: Client, url: str) -> None:
    with pytest.raises(ServiceRefused, match=r"^422: k: ") as refused:
        client.recommend(user_id="ada", k=0)
    assert (refused.value.status, list(refused.value.fields)) == (422, ["k"])
    assert refused.value.request_id
    assert str(refused.value).count("k: ") == 1
    copy = pickle.loads(pickle.dumps(refused.value))  # as from a process of a pool
    assert (str(copy), vars(copy)) == (str(refused.value), vars(refused.value))
    with pytest.raises(ServiceRefused, match="not in the catalogue") as unknown:
        client.similar("a/b ?#%")
    assert unknown.value.status == 404
    with Client(url) as keyless, pytest.raises(ServiceRefused, match="401"):
        keyless.model()


def test_an_admin_key_may_reload_the_bundle(url: str) -> None:
    with Client(url, api_key=ADMIN, timeout=60) as admin:
        reloaded = admin.reload()
        assert reloaded.model_id == reloaded.previous_model_id
        with pytest.raises(ServiceRefused, match="409"):
            admin.roll_back()


def transport_of(
    *responses: httpx.Response | Exception,
) -> tuple[httpx.MockTransport, list[httpx.Request]]:
    """Return a service with these responses, in order, and the list of its requests."""
    left, sent = list(responses), []

    def handle(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return httpx.MockTransport(handle), sent


TAKEN = {"accepted": 1, "duplicates": 0, "unknown_items": []}


def test_a_repeated_call_keeps_its_event_id() -> None:
    busy = httpx.Response(503, headers={"Retry-After": "0"})
    for failed in (busy, httpx.ReadTimeout("too late"), httpx.ConnectError("refused")):
        transport, sent = transport_of(failed, httpx.Response(200, json=TAKEN))
        with Client("http://shop", transport=transport) as client:
            assert client.record("ada", [TENT]).accepted == 1
        first, second = (request.content for request in sent)
        assert first == second
        assert b'"event_id"' in first


async def test_a_call_is_sent_once_more_for_each_retry() -> None:
    down = [httpx.ConnectError("refused")] * 4
    transport, sent = transport_of(*down)
    with (
        Client("http://shop", transport=transport, retries=2) as client,
        pytest.raises(ServiceUnreachable, match=r"http://shop: refused\. Is it running"),
    ):
        client.model()
    assert len(sent) == 3
    async with AsyncClient("http://shop", transport=transport, retries=0) as other:
        with pytest.raises(ServiceUnreachable):
            await other.model()


def test_a_rollback_is_never_repeated() -> None:
    transport, sent = transport_of(httpx.ReadTimeout("too late"))
    with Client("http://shop", transport=transport) as client, pytest.raises(ServiceUnreachable):
        client.roll_back()
    assert len(sent) == 1


def test_a_page_of_a_proxy_is_no_answer_of_the_service() -> None:
    page = httpx.Response(200, html="<p>Sign in</p>")
    transport, _ = transport_of(page)
    told = pytest.raises(ServiceUnreachable, match=r"not one of this API \(text/html")
    with Client("http://shop", transport=transport) as client, told:
        client.model()


def test_an_address_without_a_scheme_is_told() -> None:
    told = pytest.raises(ServiceUnreachable, match=r"protocol\. Give the whole URL, http://")
    with Client("127.0.0.1:8000", retries=0) as client, told:
        client.model()


def test_a_refusal_of_a_proxy_is_reported_by_its_status() -> None:
    page, odd = "<html>Bad gateway</html>", [(b"Retry-After", "²".encode("latin-1"))]
    answers = [httpx.Response(502, text=page, headers=odd) for _ in range(2)]
    transport, _ = transport_of(*answers)
    with (
        Client("http://shop", transport=transport) as client,
        pytest.raises(ServiceRefused, match="502: Bad Gateway"),
    ):
        client.model()


@contextmanager
def losing_proxy(url: str, how: str) -> Iterator[str]:
    """Run a proxy that drops the first answer for each path, after the service gave it."""
    lost: set[str] = set()

    class Losing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name: self.headers[name] for name in ("Authorization", "Content-Type")}
            answer = httpx.post(url + self.path, content=body, headers=headers, timeout=60)
            assert answer.status_code == 200, answer.text
            first = self.path not in lost
            lost.add(self.path)
            if first and how == "hangs up":
                self.close_connection = True
                return
            self.send_response(504 if first else 200)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Losing) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_port}"
        finally:
            proxy.shutdown()
            thread.join()


@pytest.mark.parametrize("how", ["hangs up", "504"])
async def test_a_click_counts_once_if_its_answer_was_lost(
    url: str, client: Client, how: str
) -> None:
    """This includes clicks whose event id is given as None."""
    unnamed: Any = {"item_id": TENT, "event_id": None}
    with losing_proxy(url, how) as proxy, Client(proxy, api_key=KEY, timeout=60) as losing:
        losing.recommend(user_id="ada", **unnamed)
        losing.recommend_many([unnamed | {"user_id": "ada"}])
        losing.record("ada", [unnamed, TENT])
    assert len(client.user("ada").clicks) == 4
    client.forget("ada")
    with losing_proxy(url, how) as proxy:
        async with AsyncClient(proxy, api_key=KEY, timeout=60) as awaited:
            await awaited.recommend(user_id="ada", item_id=TENT)
            await awaited.record("ada", [unnamed])
    assert len(client.user("ada").clicks) == 2


def test_a_request_without_a_click_gets_no_event_id(client: Client) -> None:
    nothing: Any = {"item_id": None}

    assert client.recommend(user_id="ada", k=3, **nothing).items
    assert client.user("ada").clicks == []


OTHERS = ("recsys", "service", "data", "training", "torch", "faiss", "numpy", "pandas", "fastapi")


def test_the_client_imports_no_heavy_library_and_no_other_package_of_ours(tmp_path: Path) -> None:
    """Tests of tests/packages show that it also works where none of them is installed."""
    code = "import sys; from recsys_client import Client; print(*sys.modules)"

    imported = {name.partition(".")[0] for name in python(code, tmp_path).stdout.split()}

    assert {"recsys_client", "httpx", "pydantic"} <= imported
    assert not imported & set(OTHERS)


def test_errors_and_schemas_load_no_http_library(tmp_path: Path) -> None:
    """The service and a training import them."""
    code = "import sys, recsys_client.schemas, recsys_client.errors; print(*sys.modules)"

    imported = python(code, tmp_path).stdout.split()

    assert "pydantic" in imported
    assert "httpx" not in imported


def test_old_import_paths_give_the_same_objects() -> None:
    with pytest.warns(DeprecationWarning, match="from recsys_client"):
        oldest = importlib.import_module("service.client")

    for module in (oldest, recsys.client):
        assert (module.Client, module.AsyncClient) == (Client, AsyncClient)
    assert recsys.client.http.RuleParams is RuleParams
    assert recsys.client.push.push_items is push_items
    assert recsys.client.schemas.SimilarItems is SimilarItems
    assert recsys.errors.ServiceRefused is ServiceRefused
    assert recsys.RecsysError is recsys.errors.RecsysError is RecsysError


def test_help_of_a_method_shows_its_arguments_and_its_answer() -> None:
    signature = inspect.signature(Client("http://shop").record)

    assert list(signature.parameters) == ["user_id", "clicks", "consent"]
    assert signature.return_annotation is ClicksTaken


async def test_a_type_checker_knows_the_answers_of_both_clients(url: str, client: Client) -> None:
    """Mypy checks these calls; `assert_type` has no effect at run time."""
    assert_type(client.similar(TENT, k=2), SimilarItems)
    async with AsyncClient(url, api_key=KEY) as awaited:
        assert_type(await awaited.similar(TENT), SimilarItems)
