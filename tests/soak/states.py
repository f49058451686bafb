"""Ten thousand random sequences of user events, each step compared with plain Python rules."""

import time
from pathlib import Path

from recsys.bundle.golden import open_predictor
from service.server.embedded_redis import private_redis
from tests.soak.bounds import Bound
from tests.support.bundles.model_kinds import ModelKinds
from tests.support.redis.session_machine import check_random_steps, service_under_test

STEPS = 15  # maximum of one sequence


def states(bundle: Path, folder: Path, plays: int) -> list[Bound]:
    kinds = ModelKinds(folder, open_predictor(bundle).catalogue)
    bundles = [kinds.typed_bundle("gru shared", window=9), kinds.bundle("lstm separate", window=4)]
    began, wrong, played = time.monotonic(), "", 0
    with private_redis() as redis, service_under_test(bundles, redis) as service:
        try:
            check_random_steps(service, plays, STEPS)
        except AssertionError as difference:
            wrong = f"{difference}; {difference.__notes__}"
        played = service.examples
    each = (time.monotonic() - began) / max(played, 1) * 1000
    return [
        Bound(f"sequences of up to {STEPS} steps", f"{played:,}, {each:.0f} ms each"),
        Bound("different from the plain rules", wrong or "0", "0", not wrong),
    ]
