"""Ten thousand plays of what can happen to users, each compared with plain Python at every step."""

import time
from pathlib import Path

from recsys.bundle.golden import open_predictor
from service.server.embedded_redis import private_redis
from tests.soak.bounds import Bound
from tests.support.bundles.model_kinds import ModelKinds
from tests.support.redis.session_machine import check_random_steps, service_under_test

STEPS = 15  # of a play, at most


def states(bundle: Path, folder: Path, plays: int) -> list[Bound]:
    zoo = ModelKinds(folder, open_predictor(bundle).catalogue)
    bundles = [zoo.bundle("gru shared", window=9), zoo.bundle("lstm separate", window=4)]
    began, wrong, played = time.monotonic(), "", 0
    with private_redis() as redis, service_under_test(bundles, redis) as service:
        try:
            check_random_steps(service, plays, STEPS)
        except AssertionError as found:
            wrong = f"{found}; {found.__notes__}"
        played = service.examples
    each = (time.monotonic() - began) / max(played, 1) * 1000
    return [
        Bound(f"plays of up to {STEPS} steps", f"{played:,}, {each:.0f} ms each"),
        Bound("other than in plain Python", wrong or "0", "0", not wrong),
    ]
