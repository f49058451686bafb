"""Run the commands of both images, from which unused files were removed (`docker/prune.py`).

Each check takes the project, returns what it measured in a few words, and raises `AssertionError`
or `CommandFailed` if the claim does not hold.
"""

import tempfile
from pathlib import Path

from data.synthetic import write_shop
from recsys.bundle.manifest import read_manifest
from tests.compose.claims import SERVE, TRAIN
from tests.compose.project import Project, run
from tests.support.bundles.content_bundle import write_content_bundle

KINDS = ("exact", "lists", "int8")  # how items are found, and names of bundles
QUICK = "--recipe default --set epochs=3 --set hidden=32 --set refit=false"
TRAINING = f"""
train() {{ recsys train --clicks shop/clicks.csv --items shop/items.csv {QUICK} "$@"; }}
train --set retrieval=lists --out lists
train --set retrieval=int8 --set blend=vstan --out int8
train --content category --processes 2 --out exact
recsys prepare --clicks shop/clicks.csv --out prepared
recsys train --prepared prepared {QUICK} --set epochs=1 --out from-prepared
recsys finetune --bundle int8 --clicks shop/clicks.csv --out finetuned
recsys evaluate --bundle finetuned --clicks shop/clicks.csv
recsys recommend --bundle lists --clicks shop/clicks.csv --out lists.csv
recsys tune --clicks shop/clicks.csv --recipe default --set epochs=1 --trials 1 --out tuned
"""
SERVING = """
for bundle in exact lists int8 vectors; do
    recsys inspect $bundle
    recsys serve --bundle $bundle --host 127.0.0.1 --port 8001 & service=$!
    python ask.py
    kill $service
    wait $service
done
cp -r exact int8 /tmp
recsys publish /tmp int8
"""
ASK = """
import time, httpx

with httpx.Client(base_url="http://127.0.0.1:8001", timeout=10) as client:
    for _ in range(300):
        try:
            client.get("/health/ready").raise_for_status()
            break
        except httpx.HTTPError:
            time.sleep(0.1)
    for page in ("/", "/docs", "/metrics", "/v1/model"):
        client.get(page).raise_for_status()
    popular = client.get("/v1/users/ada/recommendations").raise_for_status().json()["items"]
    click = {"user_id": "ada", "item_id": popular[0]["item_id"]}
    answer = client.post("/v1/recommendations", json=click).raise_for_status().json()
    assert answer["source"] == "model" and answer["items"], answer
"""


def both_images_work(_: Project) -> str:
    """Train and prepare in one image; check and serve bundles of every retrieval in the other."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)  # the user of the containers is another one
        (folder / "shop").mkdir()
        write_shop(folder / "shop", makers=2, sessions=4000)
        write_content_bundle(folder / "vectors")
        (folder / "ask.py").write_text(ASK, encoding="utf-8")
        try:
            _in_image(TRAIN, TRAINING, folder)
            kinds = [read_manifest(folder / kind).retrieval.kind for kind in KINDS]
            assert kinds == list(KINDS), kinds
            _in_image(SERVE, SERVING, folder)
        finally:  # files of that user
            _in_image(TRAIN, "rm -r $(ls | grep -v -e shop -e vectors -e ask.py)", folder)
    return f"trained, prepared, tuned; served {', '.join(KINDS)}, with content and neighbours"


def the_collector_works(project: Project) -> str:
    """Collect once from the Redis of the project, into a folder of the container."""
    collect = ("--entrypoint", "recsys", "collect", "collect", "--out=/tmp/events", "--once")
    project("--profile", "feedback", "run", "--rm", "-T", "--no-deps", *collect)
    return "collected"


def _in_image(image: str, script: str, folder: Path) -> str:
    """Run a shell script in a container without a network, in this folder."""
    command = ["docker", "run", "--rm", "--network=none", "--read-only", "--tmpfs=/tmp"]
    command += ["--shm-size=256m", f"--volume={folder}:/work", "--workdir=/work"]
    return run([*command, "--entrypoint=sh", "--env=RECSYS_PLAYGROUND=true", image, "-ec", script])
