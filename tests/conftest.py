"""What tests share: a private Redis, a small trained shop, a client on its service."""

import asyncio
import dataclasses
import logging
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads stall it

import httpx
import pytest
import redis as redis_py
import torch
import uvloop
from fastapi import FastAPI
from hypothesis import HealthCheck, settings
from kinds import Zoo
from rich.console import Console

from data.synthetic import Shop, write_shop
from recsys.golden import open_predictor
from recsys.predictor import Predictor
from service.app import create_app
from service.embedded_redis import private_redis
from service.logs import OURS, Lines
from service.settings import Settings
from training.commands import TrainOptions, train
from training.prepare import ClickOptions
from training.recipe import Recipe


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """uvicorn takes uvloop where it can; tests that care run on both loops."""
    plain = {"asyncio": asyncio.new_event_loop}
    both = item.get_closest_marker("both_loops") is not None
    return {**plain, "uvloop": uvloop.new_event_loop} if both else plain


def pytest_report_header(config: pytest.Config) -> str:
    """One line at the top of a run: what is left out, and the command that brings it."""
    left_out = ["commands of the documents (make docs-check)", "browser (make browser-test)"]
    left_out += ["long runs (make soak)"]
    if not os.environ.get("RECSYS_REAL_DATA"):
        left_out.append("real click logs (RECSYS_REAL_DATA=FOLDER make test)")
    if shutil.which("redis-server") is None:
        left_out.append("Redis by TLS and of version 7 (make redis)")
    if shutil.which("openssl") is None:
        left_out.append("Redis by TLS (install openssl)")
    return f"make test leaves out: {', '.join(left_out)}"


# a slow machine is no failure, neither of one example nor of finding many
PATIENTLY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("moderate", PATIENTLY, max_examples=25)  # `make test`
settings.register_profile("thorough", PATIENTLY, max_examples=500)  # `make soak`
settings.load_profile("moderate")

SMALL = Recipe(hidden=32, epochs=5, batch=32, negatives=64, sample_alpha=0.5, dropout_embedding=0.1)


@dataclass(frozen=True)
class TrainedShop:
    """A synthetic shop of 200 products, its files, and the bundle learned from them."""

    shop: Shop
    clicks: Path
    items: Path
    bundle: Path


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """`recsys serve` in this process sets up logging for all of it."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)
    for name in OURS:
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.captureWarnings(False)
    for handler in root.handlers[:]:
        if isinstance(handler.formatter, Lines):
            root.removeHandler(handler)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedShop:
    folder = tmp_path_factory.mktemp("shop")
    shop = write_shop(folder, makers=1, sessions=4000)
    options = TrainOptions(
        ClickOptions(folder / "clicks.csv"), folder / "bundle", SMALL, folder / "items.csv"
    )
    train(options, Console(quiet=True))
    return TrainedShop(shop, folder / "clicks.csv", folder / "items.csv", folder / "bundle")


@pytest.fixture(scope="session")
def blended(trained: TrainedShop, tmp_path_factory: pytest.TempPathFactory) -> TrainedShop:
    """The same shop with session neighbours blended in."""
    out = tmp_path_factory.mktemp("blended") / "bundle"
    recipe = dataclasses.replace(SMALL, blend="vstan", blend_weight=0.3, refit=False)
    train(TrainOptions(ClickOptions(trained.clicks), out, recipe), Console(quiet=True))
    return dataclasses.replace(trained, bundle=out)


@pytest.fixture(scope="session", params=["model", "blended"])
def any_shop(request: pytest.FixtureRequest, trained: TrainedShop) -> TrainedShop:
    """What holds for the model alone must hold with neighbours beside it."""
    found = trained if request.param == "model" else request.getfixturevalue("blended")
    assert isinstance(found, TrainedShop)
    return found


@pytest.fixture(scope="session")
def other_bundle(trained: TrainedShop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model of the same shop: other weights, and another size of state."""
    out = tmp_path_factory.mktemp("other") / "bundle"
    recipe = dataclasses.replace(SMALL, hidden=16, layers=2, epochs=1, refit=False)
    return train(TrainOptions(ClickOptions(trained.clicks), out, recipe), Console(quiet=True))


@pytest.fixture(scope="session")
def predictor(trained: TrainedShop) -> Predictor:
    return open_predictor(trained.bundle)


@pytest.fixture(scope="session")
def zoo(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """One model of every kind over the shop's items."""
    return Zoo(tmp_path_factory.mktemp("zoo"), predictor.catalogue)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    with private_redis() as url:
        yield url


@pytest.fixture
def redis_url(redis_server: str) -> Iterator[str]:
    """A real Redis with nothing in it."""
    with redis_py.Redis.from_url(redis_server) as client:
        client.flushall()
        yield redis_server


# tests run beside others on busy machines: 50 ms for a reply would test the machine, not us
PATIENT = {"redis_timeout_ms": 2000, "redis_budget_ms": 5000, "deadline_ms": 20_000}

ClientOf = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application in this process, its lifespan included."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        yield client


@pytest.fixture
def open_client(trained: TrainedShop, redis_url: str) -> ClientOf:
    """Opens a client of the trained shop's service; keyword arguments are settings."""

    def open_it(**settings: object) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        given = {"bundle": trained.bundle, "redis": redis_url, **PATIENT, **settings}
        return client_of(create_app(Settings(**given)))  # type: ignore[arg-type]

    return open_it


@pytest.fixture
async def client(open_client: ClientOf) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client() as opened:
        yield opened


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real click logs; the test is skipped where there is none."""
    folder = os.environ.get("RECSYS_REAL_DATA")
    if not folder:
        pytest.skip("RECSYS_REAL_DATA is not set: the real click logs are not at hand")
    return Path(folder)
