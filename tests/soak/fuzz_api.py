"""Send thousands of valid and invalid requests, generated from the OpenAPI document.

    python tests/soak/fuzz_api.py --bundle runs/shop --cases 5000

Schemathesis generates them from the served document and runs all of its checks: the service accepts
each valid request, refuses each invalid one, answers as documented, and requires the API key. The
script starts a private Redis and a service; without `--bundle` it trains the shop of the demo.
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
    # generated URLs are very long; other tests check the limits (414 and 431)
    "RECSYS_MAX_URL_BYTES": "500000",
    "RECSYS_MAX_HEAD_BYTES": "1000000",
}


def fuzz(url: str, *options: str, seed: int = 1) -> tuple[bool, int, str]:
    """Run Schemathesis once: return whether all checks hold, the number of cases, the output."""
    program = [sys.executable, "-m", "schemathesis.cli", "--no-color", "run"]
    given = ["--checks", "all", "--continue-on-failure", "--generation-database", "none"]
    given += ["--header", f"Authorization: Bearer {KEY}", "--seed", str(seed), *options]
    with tempfile.TemporaryDirectory() as folder:  # Schemathesis leaves files in its working folder
        ended = subprocess.run(
            [*program, f"{url}/openapi.json", *given],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    output = ended.stdout + ended.stderr
    made = re.search(r"([\d,]+) generated", output)
    return ended.returncode == 0, int(made[1].replace(",", "")) if made else 0, output


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--bundle", type=Path, help="without it, train the shop of the demo")
    options.add_argument("--cases", type=int, default=5000, help="minimum number of requests")
    options.add_argument(
        "--each", type=int, default=200, help="requests for each call of the API in one run"
    )
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
                clean, made, output = fuzz(url, "--max-examples", str(given.each), seed=seed)
                if not clean or made == 0:
                    sys.stdout.write(output + log.read_text())
                    return 1
                cases, seed = cases + made, seed + 1
                sys.stdout.write(f"{cases:,} cases, all clean\n")
                sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
