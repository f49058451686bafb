"""A push sends an items file, then only what changed; one that was stopped goes on."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from recsys.cli.app import app
from recsys_client import Client
from recsys_client.http import ItemParams
from recsys_client.push import PushRecord, push_items
from service.app import create_app
from service.middleware.auth import hash_of, new_key
from service.settings import Settings
from tests.support.bundles.content_bundle import IDS, write_content_bundle
from tests.support.service.app_client import PATIENT
from tests.support.service.servers import listening

KEY = new_key()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, redis_server: str) -> Iterator[str]:
    bundle = write_content_bundle(tmp_path_factory.mktemp("push") / "bundle")
    given = {"bundle": bundle, "redis": redis_server, "catalogue_key_hashes": [hash_of(KEY)]}
    settings = Settings(**given, **PATIENT)  # type: ignore[arg-type]
    with listening(create_app(settings), settings) as (host, port):
        yield f"http://{host}:{port}"


def push(items: Path, url: str, *options: str) -> Result:
    command = ["catalogue", "push", "--items", str(items), "--url", url, "--catalogue-key", KEY]
    return CliRunner().invoke(app, [*command, *options])


def test_a_file_is_pushed_and_then_what_changed(tmp_path: Path, url: str, redis_url: str) -> None:
    """An empty cell changes nothing to nothing; a wrong row is named, and sent again."""
    items, images = tmp_path / "items.parquet", tmp_path / "images.parquet"
    rows = pd.DataFrame(
        {
            "item_id": [*IDS[:3], "new"],
            "brand": ["Ada", "Dee", None, "Cy"],
            "price": [1.0, 2.5, float("nan"), 9.0],
            "available": [True, True, False, True],
        }
    )
    rows.to_parquet(items)
    pd.DataFrame({"item_id": ["new"], "image": [[1.0, 2.0]]}).to_parquet(images)
    vectors = ("--vectors", f"image={images}")

    first = push(items, url, *vectors)
    again = push(items, url, *vectors)
    rows.loc[1, "price"] = 3.5
    rows.to_parquet(items)
    changed = push(items, url, *vectors)
    with Client(url, api_key=KEY) as client:
        new, second, third = (client.changes_of(each) for each in ("new", *IDS[1:3]))

    assert "4 items sent, of which 4 changed; 0 are" in first.stderr, first.stderr
    assert "1 items sent, of which 0 changed; 3 are" in again.stderr
    assert "2 items sent, of which 1 changed; 2 are" in changed.stderr
    assert (new.placed, new.vectors, new.attributes) == (
        True,
        {"image": 2},
        {"brand": "Cy", "price": 9},
    )
    assert second.attributes == {"brand": "Dee", "price": 3.5}
    assert (third.available, third.attributes) == (False, {"brand": None, "price": None})


def test_items_that_are_refused_end_the_push_with_their_fields(
    tmp_path: Path, url: str, redis_url: str
) -> None:
    items = tmp_path / "items.csv"
    items.write_text("item_id,brand,colour\na,Ada,red\nb,Bob,blue\n")

    refused = push(items, url)

    assert refused.exit_code != 0
    assert "attributes.colour" in str(refused.exception)


def test_a_stopped_push_goes_on_and_a_lost_catalogue_is_sent_again(
    tmp_path: Path, url: str, redis_url: str
) -> None:
    path = tmp_path / "record"
    items = [ItemParams(item_id=f"n{n}", attributes={"brand": "Ada"}) for n in range(5)]
    with Client(url, api_key=KEY) as client:
        record = PushRecord(path, url)
        push_items(client, items[:3], record)
        record.close()
        with path.open("a") as file:
            file.write('["n3", "half a li')  # the push was stopped

        resumed = PushRecord(path, url)
        rest = push_items(client, items, resumed)
        resumed.close()
        lost = PushRecord(path, url)
        lost.epoch = "another"
        everything = push_items(client, items, lost)
        lost.close()

    assert (rest.sent, rest.as_before) == (3, 2)
    assert (everything.sent, everything.as_before) == (5, 0)
    assert not PushRecord(path, "http://another").epoch
