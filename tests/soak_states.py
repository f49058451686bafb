"""Ten thousand plays of what can happen to users, each compared with plain Python at every step."""

import time
from pathlib import Path

from bounds import Bound
from kinds import Zoo
from session_machine import play, stage_of

from recsys.golden import open_predictor
from service.embedded_redis import private_redis

STEPS = 15  # of a play, at most


def states(bundle: Path, folder: Path, plays: int) -> list[Bound]:
    zoo = Zoo(folder, open_predictor(bundle).catalogue)
    bundles = [zoo.bundle("gru shared", window=9), zoo.bundle("lstm separate", window=4)]
    began, wrong, played = time.monotonic(), "", 0
    with private_redis() as redis, stage_of(bundles, redis) as stage:
        try:
            play(stage, plays, STEPS)
        except AssertionError as found:
            wrong = f"{found}; {found.__notes__}"
        played = stage.plays
    each = (time.monotonic() - began) / max(played, 1) * 1000
    return [
        Bound(f"plays of up to {STEPS} steps", f"{played:,}, {each:.0f} ms each"),
        Bound("other than in plain Python", wrong or "0", "0", not wrong),
    ]
