"""Requests that the OpenAPI document allows, and requests it does not, thousands of them.

    python tests/soak/fuzz_api.py --bundle runs/shop --cases 5000

Schemathesis makes them from the document that is served, with all of its checks: nothing that is
allowed is refused, nothing else is accepted, every answer is one that is documented, and no call
does without its key. A private Redis, a key of its own; without `--bundle`, the demo's shop.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from service.middleware.auth import hash_of, new_key
from service.server.embedded_redis import private_redis
from tests.support.service.servers import served
from training.demo import train_demo

KEY = new_key()
KEYED = {
    "RECSYS_API_KEY_HASHES": hash_of(KEY),
    "RECSYS_PLAYGROUND": "true",
    # generated URLs are longer than a client's; 414 and 431 have tests of their own
    "RECSYS_MAX_URL_BYTES": "500000",
    "RECSYS_MAX_HEAD_BYTES": "1000000",
}


def fuzz(url: str, *options: str, seed: int = 1) -> tuple[bool, int, str]:
    """One run on a service that has `KEY`: no check failed, the number of cases, all it said."""
    program = [sys.executable, "-m", "schemathesis.cli", "--no-color", "run"]
    given = ["--checks", "all", "--continue-on-failure", "--generation-database", "none"]
    given += ["--header", f"Authorization: Bearer {KEY}", "--seed", str(seed), *options]
    with tempfile.TemporaryDirectory() as folder:  # it leaves files where it runs
        ended = subprocess.run(
            [*program, f"{url}/openapi.json", *given],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    said = ended.stdout + ended.stderr
    made = re.search(r"([\d,]+) generated", said)
    return ended.returncode == 0, int(made[1].replace(",", "")) if made else 0, said


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--bundle", type=Path)
    options.add_argument("--cases", type=int, default=5000, help="at least")
    options.add_argument("--each", type=int, default=200, help="of one call that a run makes")
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, private_redis() as redis:
        if given.bundle is None:
            given.bundle = Path(folder) / "shop"
            train_demo(given.bundle, Console(stderr=True))
        log = Path(folder) / "log"
        with served(given.bundle, redis, log, **KEYED) as url:
            cases, seed = 0, given.seed
            while cases < given.cases:
                clean, made, said = fuzz(url, "--max-examples", str(given.each), seed=seed)
                if not clean or made == 0:
                    sys.stdout.write(said + log.read_text())
                    return 1
                cases, seed = cases + made, seed + 1
                sys.stdout.write(f"{cases:,} cases, all clean\n")
                sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
