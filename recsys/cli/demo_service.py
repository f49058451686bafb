"""Service in a thread of this process, for the demos."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import uvicorn

from recsys.errors import RecsysError
from service.app import create_app
from service.serve import config_of, listen, read_settings

START_SECONDS = 30.0


@contextmanager
def running_service(options: Mapping[str, Any]) -> Iterator[str]:
    """Run the service with these settings; yield its URL."""
    settings = read_settings(options)
    with listen(settings) as bound:
        server = uvicorn.Server(config_of(create_app(settings), settings))
        thread = threading.Thread(target=server.run, args=([bound],), name="service", daemon=True)
        thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise RecsysError(f"The service did not start within {START_SECONDS:.0f} s.")
            time.sleep(0.02)
        try:
            host, listened = bound.getsockname()[:2]
            yield f"http://{host}:{listened}"
        finally:
            server.should_exit = True
            thread.join()
