"""Trace the project files whose functions run, in the order of their first call.

    python tests/support/documents/file_trace.py

Trains a small shop with `recsys train`, serves the bundle as `recsys serve` does, and prints both
lists as JSON. Functions that run while a module is imported do not count. The request is the second
one of its kind: connections are open, and Redis has the scripts.
"""

import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from inspect import CO_OPTIMIZED
from io import StringIO
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).parents[3]
NAMES = ("clients/python/recsys_client", "data", "recsys", "service", "training")
PACKAGES = tuple(f"{ROOT / name}/" for name in NAMES)
TRAIN = "--set epochs=1 --set hidden=8 --set negatives=32"
QUIET_SECONDS = 600  # no check for another bundle falls into the request
SETTLE_SECONDS = 0.2  # the service still counts a request when the client has the answer


class Tracer:
    """Profile function that notes project files, of every thread that starts after `watching`."""

    def __init__(self) -> None:
        self._files: dict[str, None] | None = None

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        name = frame.f_code.co_filename
        if self._files is None or event != "call" or name in self._files:
            return
        if name.startswith(PACKAGES) and is_call(frame):
            self._files[name] = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        threading.setprofile(self)
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    @contextmanager
    def tracing(self) -> Iterator[list[str]]:
        """Collect the paths of files, relative to the repository, while the block runs."""
        files: dict[str, None] = {}
        self._files = files
        paths: list[str] = []
        yield paths
        self._files = None
        paths += [str(Path(name).relative_to(ROOT)) for name in files]


def is_call(frame: FrameType) -> bool:
    """Return whether a function runs, outside the import of a project module."""
    if not frame.f_code.co_flags & CO_OPTIMIZED:
        return False
    below = frame.f_back
    while below is not None:
        if below.f_code.co_name == "<module>" and below.f_code.co_filename.startswith(PACKAGES):
            return False
        below = below.f_back
    return True


def trace_training(folder: Path, tracer: Tracer) -> list[str]:
    """Trace `recsys train` on the shop in the folder; it writes `bundle` there."""
    from data.synthetic import write_shop
    from recsys.cli.main import main

    write_shop(folder, makers=1, sessions=1000)
    sys.argv = ["recsys", "train", "--clicks", str(folder / "clicks.csv")]
    sys.argv += ["--items", str(folder / "items.csv"), "--out", str(folder / "bundle")]
    sys.argv += TRAIN.split()
    messages = StringIO()
    with redirect_stderr(messages), tracer.tracing() as files, suppress(SystemExit):
        main()
    assert (folder / "bundle").is_dir(), messages.getvalue()
    return files


def trace_request(folder: Path, tracer: Tracer) -> list[str]:
    """Trace one POST /v1/recommendations to a service of the bundle that training wrote."""
    import httpx

    from recsys.bundle.golden import open_predictor
    from service.app import create_app
    from service.serve import read_settings
    from service.server.embedded_redis import private_redis
    from tests.support.service.app_client import PATIENT
    from tests.support.service.servers import listening

    bundle = folder / "bundle"
    item = open_predictor(bundle).catalogue.item_ids[0]
    click = {"user_id": "a", "item_id": item}
    with private_redis() as redis:
        quiet = {"follow_seconds": QUIET_SECONDS, **PATIENT}
        settings = read_settings({"bundle": bundle, "redis": redis, **quiet})
        with (
            listening(create_app(settings), settings) as (host, port),
            httpx.Client(base_url=f"http://{host}:{port}") as client,
        ):
            client.post("/v1/recommendations", json=click).raise_for_status()
            time.sleep(SETTLE_SECONDS)
            with tracer.tracing() as files:
                answer = client.post("/v1/recommendations", json=click).raise_for_status()
                time.sleep(SETTLE_SECONDS)
            assert not answer.json()["degraded"], answer.text
    return files


def traced() -> dict[str, list[str]]:
    """Return the lists by name, from a fresh process in which nothing is cached yet."""
    program = [sys.executable, "-W", "ignore", str(Path(__file__))]
    ran = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    lists: dict[str, list[str]] = json.loads(ran.stdout)
    return lists


def with_traces(page: str, lists: dict[str, list[str]]) -> str:
    """Return the page with each list between `<!-- trace: NAME -->` and `<!-- /trace -->`."""
    for name, files in lists.items():
        between = re.compile(rf"(<!-- trace: {name} -->\n).*?(<!-- /trace -->)", re.DOTALL)
        assert between.search(page), f"The page has no place for the trace {name!r}."
        rows = "".join(f"{at}. `{file}`\n" for at, file in enumerate(files, 1))
        page = between.sub(rf"\g<1>\n{rows}\n\g<2>", page)
    return page


def main() -> None:
    sys.path.insert(0, str(ROOT))
    tracer = Tracer()
    with tempfile.TemporaryDirectory() as folder, tracer.watching():
        lists = {
            "train": trace_training(Path(folder), tracer),
            "request": trace_request(Path(folder), tracer),
        }
    sys.stdout.write(json.dumps(lists, indent=1))


if __name__ == "__main__":
    main()
