"""Shared fixtures: a private Redis, a small trained shop, a client of its service."""

import asyncio
import dataclasses
import gc
import logging
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads stall it
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before scipy: its fits have tiny matrices

import httpx
import pytest
import redis as redis_py
import torch
import uvloop
from hypothesis import HealthCheck, settings
from rich.console import Console

from data.click_options import ClickOptions
from data.synthetic import Shop, write_shop
from recsys.bundle.golden import open_predictor
from recsys.predictor import Predictor
from service.app import create_app
from service.logs import OWN_LOGGERS, LineFormatter
from service.redis_client.client import RedisClient
from service.server.embedded_redis import private_redis
from service.settings import Settings
from tests.support.bundles.model_kinds import ModelKinds
from tests.support.bundles.trained_shop import SMALL, TrainedShop
from tests.support.redis.stores import redis_client_for
from tests.support.service.app_client import PATIENT, ClientOf, client_of
from tests.support.service.registry_service import RegistryService, serving
from tests.support.shared_folders import SharedFolders
from tests.support.training.report import reports_with_charts, reports_without_charts
from training.pipeline import TrainOptions, train
from training.recipe import Recipe


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run tests marked `both_loops` on asyncio and on uvloop, which uvicorn uses if present."""
    plain = {"asyncio": asyncio.new_event_loop}
    both = item.get_closest_marker("both_loops") is not None
    return {**plain, "uvloop": uvloop.new_event_loop} if both else plain


def pytest_report_header(config: pytest.Config) -> str:
    """Report at the top of a run which tests are left out, and the commands that run them."""
    left_out = ["commands of the documents (make docs-check)", "browser (make browser-test)"]
    left_out += [
        "long tests (make long-test)",
        "packages (make packages-check)",
        "long runs (make soak)",
    ]
    if not os.environ.get("RECSYS_REAL_DATA"):
        left_out.append("real click logs (RECSYS_REAL_DATA=FOLDER make test)")
    if shutil.which("redis-server") is None:
        left_out.append("Redis by TLS and of version 7 (make redis)")
    if shutil.which("openssl") is None:
        left_out.append("Redis by TLS (install openssl)")
    return f"make test leaves out: {', '.join(left_out)}"


# slow machines are no failure: no deadline for one example or for many
NO_DEADLINE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("moderate", NO_DEADLINE, max_examples=25)  # `make test`
settings.register_profile("thorough", NO_DEADLINE, max_examples=500)  # `make soak`
settings.load_profile("moderate")


def pytest_collection_finish() -> None:
    """Leave all that is loaded by now out of garbage collections: a million objects stay."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def without_charts() -> Iterator[None]:
    """Leave charts out of reports, but for the trained shop and the tests of the report."""
    with reports_without_charts():
        yield


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    """Restore the logging setup: `recsys serve` in this process changes it."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)
    for name in OWN_LOGGERS:
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.captureWarnings(False)
    audit = logging.getLogger("recsys.audit")
    audit.handlers, audit.propagate = [], True
    for handler in root.handlers[:]:
        if isinstance(handler.formatter, LineFormatter):
            root.removeHandler(handler)


@pytest.fixture(scope="session")
def shared_folders(tmp_path_factory: pytest.TempPathFactory) -> SharedFolders:
    """Return folders that the processes of `make test` share."""
    base = tmp_path_factory.getbasetemp()
    return SharedFolders(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)


@pytest.fixture(scope="session")
def trained(shared_folders: SharedFolders) -> TrainedShop:
    folder = shared_folders.made_once("shop", train_shop)
    return TrainedShop(
        Shop(makers=1), folder / "clicks.csv", folder / "items.csv", folder / "bundle"
    )


def train_shop(folder: Path) -> None:
    write_shop(folder, makers=1, sessions=4000)
    clicks, items = ClickOptions(folder / "clicks.csv"), folder / "items.csv"
    with reports_with_charts():
        train(TrainOptions(clicks, folder / "bundle", SMALL, items), Console(quiet=True))


@pytest.fixture(scope="session")
def blended(trained: TrainedShop, shared_folders: SharedFolders) -> TrainedShop:
    """Train the same shop with session neighbours blended in."""
    recipe = dataclasses.replace(SMALL, blend="vstan", blend_weight=0.3, refit=False)
    out = shared_folders.made_once("blended", partial(train_as_bundle, trained, recipe))
    return dataclasses.replace(trained, bundle=out / "bundle")


def train_as_bundle(shop: TrainedShop, recipe: Recipe, folder: Path) -> None:
    options = TrainOptions(ClickOptions(shop.clicks), folder / "bundle", recipe)
    train(options, Console(quiet=True))


@pytest.fixture(scope="session", params=["model", "blended"])
def any_shop(request: pytest.FixtureRequest, trained: TrainedShop) -> TrainedShop:
    """Run a test with the model alone, and with neighbours blended in."""
    shop = trained if request.param == "model" else request.getfixturevalue("blended")
    assert isinstance(shop, TrainedShop)
    return shop


@pytest.fixture(scope="session")
def other_bundle(trained: TrainedShop, shared_folders: SharedFolders) -> Path:
    """Train another model of the same shop, with another state size."""
    recipe = dataclasses.replace(SMALL, hidden=16, layers=2, epochs=1, refit=False)
    make = partial(train_as_bundle, trained, recipe)
    return shared_folders.made_once("other", make) / "bundle"


@pytest.fixture(scope="session")
def predictor(trained: TrainedShop) -> Predictor:
    return open_predictor(trained.bundle)


@pytest.fixture(scope="session")
def model_kinds(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> ModelKinds:
    """Return one model of every kind over the items of the shop."""
    return ModelKinds(tmp_path_factory.mktemp("kinds"), predictor.catalogue)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    with private_redis() as url:
        yield url


@pytest.fixture
def redis_url(redis_server: str) -> Iterator[str]:
    """Empty a real Redis and yield its URL."""
    with redis_py.Redis.from_url(redis_server) as client:
        client.flushall()
        yield redis_server


@pytest.fixture
async def redis_client(redis_url: str) -> AsyncIterator[RedisClient]:
    opened = redis_client_for(redis_url)
    yield opened
    await opened.close()


@pytest.fixture
def open_client(trained: TrainedShop, redis_url: str) -> ClientOf:
    """Return a function that opens a client of the service; keyword arguments are settings."""

    def open_with(**settings: object) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        given = {"bundle": trained.bundle, "redis": redis_url, **PATIENT, **settings}
        return client_of(create_app(Settings(**given)))  # type: ignore[arg-type]

    return open_with


@pytest.fixture
async def client(open_client: ClientOf) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client() as opened:
        yield opened


@pytest.fixture
async def served(
    trained: TrainedShop, other_bundle: Path, tmp_path: Path, redis_url: str
) -> AsyncIterator[RegistryService]:
    async with serving(trained.bundle, other_bundle, tmp_path, redis_url) as service:
        yield service


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real click logs, or skip the test."""
    folder = os.environ.get("RECSYS_REAL_DATA")
    if not folder:
        pytest.skip("RECSYS_REAL_DATA is not set: there are no real click logs")
    return Path(folder)
