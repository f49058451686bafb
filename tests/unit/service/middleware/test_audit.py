"""Each call that needs an admin or catalogue key has a line of JSON, refused ones as well."""

import json
import logging
import os
import resource
import stat
from pathlib import Path
from typing import Any

import pytest

from recsys.errors import BadInput
from service.middleware import audit
from service.middleware.audit import MAX_ITEM_IDS, log_audit
from service.middleware.auth import fingerprint, hash_of, new_key
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.service.app_client import ClientOf

API, ADMIN, CATALOGUE, OLD = (new_key() for _ in range(4))
KEYS = {
    "api_key_hashes": [hash_of(API)],
    "admin_key_hashes": [hash_of(ADMIN)],
    "catalogue_key_hashes": [hash_of(CATALOGUE)],
}


SHOP = "https://shop.example"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def short(key: str) -> str:
    return fingerprint(bytes.fromhex(hash_of(key).removeprefix("sha256:")))


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_a_line_says_who_called_what_when_and_with_which_outcome(
    open_client: ClientOf, trained: TrainedShop, tmp_path: Path
) -> None:
    path = tmp_path / "audit.jsonl"
    log_audit(path)
    items = [{"item_id": f"new-{n}", "attributes": {"name": "secret tent"}} for n in range(60)]
    async with open_client(**KEYS) as client:
        asked = bearer(CATALOGUE) | {"X-Request-ID": "one"}
        answer = await client.put("/v1/items", json={"items": [*items, {}]}, headers=asked)
        assert answer.status_code == 200, answer.text
        for call, body, key in (
            ("/v1/items:delete", {"item_ids": ["new-1"]}, CATALOGUE),
            ("/v1/items:delete", {"item_ids": []}, CATALOGUE),
            ("/v1/items:delete", {"item_ids": ["new-1"]}, API),
            ("/v1/admin/reload", {"bundle": trained.bundle.name}, ADMIN),
            ("/v1/admin/rollback", {}, ADMIN),
            ("/v1/admin/reload", {}, OLD),
            ("/v1/admin/hushed", {}, ADMIN),
        ):
            await client.post(call, json=body, headers=bearer(key))
        await client.post("/v1/admin/reload", json={})
        await client.get("/v1/model", headers=bearer(API))

    put, *rest = lines_of(path)
    assert put["item_ids"] == [item["item_id"] for item in items[:MAX_ITEM_IDS]]
    assert {name: put[name] for name in ("items", "changed", "unchanged", "refused")} == {
        "items": 61,
        "changed": 60,
        "unchanged": 0,
        "refused": 1,
    }
    assert (put["request_id"], put["key"], put["method"]) == ("one", short(CATALOGUE), "PUT")
    assert put["time"].endswith("+00:00")
    assert [(each["route"], each["status"], each["outcome"], each["key"]) for each in rest] == [
        ("/v1/items:delete", 200, "done", short(CATALOGUE)),
        ("/v1/items:delete", 422, "refused", short(CATALOGUE)),
        ("/v1/items:delete", 403, "refused", short(API)),
        ("/v1/admin/reload", 200, "done", short(ADMIN)),
        ("/v1/admin/rollback", 409, "refused", short(ADMIN)),
        ("/v1/admin/reload", 401, "refused", short(OLD)),
        ("unmatched", 404, "refused", short(ADMIN)),
        ("/v1/admin/reload", 401, "refused", None),
    ]
    assert rest[3]["bundle"] == trained.bundle.name
    assert rest[3]["model_id"] == rest[3]["previous_model_id"]
    for hidden in (API, ADMIN, CATALOGUE, OLD, "secret tent", "hushed"):
        assert hidden not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0, "others cannot read it"


async def test_calls_without_a_valid_key_cannot_fill_the_disk(
    open_client: ClientOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two lines an hour are written here; a call with a key then tells how many are missing."""
    monkeypatch.setattr(audit, "MAX_REFUSED_LINES", 2)
    monkeypatch.setattr(audit, "REFUSED_SECONDS", 3600.0)
    log_audit(tmp_path / "audit.jsonl")
    asks = {"Origin": SHOP, "Access-Control-Request-Method": "POST"}
    async with open_client(**KEYS, cors_origins=[SHOP]) as client:
        assert (await client.options("/v1/admin/rollback", headers=asks)).status_code == 200
        for _ in range(7):
            await client.post("/v1/admin/rollback", headers=bearer(OLD))
        for _ in range(2):
            await client.post("/v1/admin/rollback", headers=bearer(ADMIN))

    lines = lines_of(tmp_path / "audit.jsonl")
    assert [each["status"] for each in lines] == [401, 401, 409, 409]
    assert [each.get("not_logged") for each in lines] == [None, None, 7 - 2, None]


def test_a_file_that_was_renamed_is_made_anew_and_one_that_fails_goes_to_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "logs" / "audit.jsonl"
    with pytest.raises(BadInput, match="RECSYS_AUDIT_LOG"):
        log_audit(path)
    path.parent.mkdir()
    log_audit(path)
    logger = logging.getLogger("recsys.audit")

    logger.info("one")
    path.rename(tmp_path / "old")
    logger.info("two")
    path.unlink()
    path.parent.rmdir()
    logger.info("three")

    assert [each["message"] for each in lines_of(tmp_path / "old")] == ["one"]
    assert json.loads(capsys.readouterr().err)["message"] == "three"


def test_no_id_ends_a_line_and_a_full_disk_cuts_one_line_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "audit.jsonl"
    log_audit(path)
    logger = logging.getLogger("recsys.audit")
    ids = ["a\nb", "\u2028", "\x85", "\x9b31m", "\x1b[31m"]

    logger.info("one", extra={"details": {"item_ids": ids}})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 9, limits[1]))
    try:
        logger.info("two")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    logger.info("three")

    one, cut, three = path.read_text().splitlines()
    assert json.loads(one)["item_ids"] == ids
    assert one.isascii()
    assert len(cut) == 9
    assert json.loads(three)["message"] == "three"
    assert json.loads(capsys.readouterr().err.splitlines()[-1])["message"] == "two"


def test_a_pipe_without_a_reader_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadInput, match="RECSYS_AUDIT_LOG"):
        log_audit(tmp_path / "pipe")
