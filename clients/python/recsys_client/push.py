"""Push of many items to the live catalogue: in calls of many, and only what changed.

A record file holds a digest of each item that the service has acknowledged, so that the next push
sends what differs, and one that was stopped goes on. The record is of one live catalogue. If Redis
lost it, its `epoch` is another one, and everything is sent again.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, TextIO

from recsys_client.http import Client, ItemParams
from recsys_client.schemas import MAX_CHANGES, ItemProblem

MAX_CALL_BYTES, MAX_CALL_VALUES = 600_000, 15_000  # within the limits of a body


@dataclass(slots=True)
class PushResult:
    """Counts of a push."""

    sent: int = 0
    changed: int = 0
    as_before: int = 0  # not sent, because an earlier push sent them
    not_placed: int = 0
    errors: list[ItemProblem] = field(default_factory=list)


class PushRecord:
    """File of the items that a service has acknowledged: item id → digest.

    Its first line names the service and the live catalogue; a line follows for each item. A line
    that was not written to its end counts as missing.
    """

    def __init__(self, path: Path, url: str) -> None:
        self._path, self._url = path, url
        self.epoch, self._digests = self._read()
        self._file: TextIO | None = None

    def has(self, item: ItemParams) -> bool:
        """Return whether the service has acknowledged the item as it is."""
        return self._digests.get(item["item_id"]) == digest_of(item)

    def begin(self, epoch: str) -> None:
        """Begin anew, for another live catalogue."""
        self.close()
        self.epoch, self._digests = epoch, {}
        self._file = self._path.open("w", encoding="utf-8")
        self._write({"url": self._url, "epoch": epoch})

    def add(self, items: Sequence[ItemParams]) -> None:
        """Add items that were acknowledged."""
        if self._file is None:
            self._file = self._path.open("a", encoding="utf-8")
            self._file.write("\n")  # ends a line that a stopped push left
        for item in items:
            self._digests[item["item_id"]] = digest_of(item)
            self._write([item["item_id"], self._digests[item["item_id"]]])
        self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, line: object) -> None:
        assert self._file is not None, "it is opened before"
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def _read(self) -> tuple[str, dict[str, str]]:
        if not self._path.exists():
            return "", {}
        text = self._path.read_text(encoding="utf-8")
        head, *lines = map(_parsed, text.split("\n"))
        if not isinstance(head, dict) or head.get("url") != self._url:
            return "", {}
        pairs = [line for line in lines if isinstance(line, list) and len(line) == 2]
        return str(head.get("epoch")), {str(item_id): str(digest) for item_id, digest in pairs}


def digest_of(item: ItemParams) -> str:
    """Return a digest of all that an item says."""
    text = json.dumps(item, sort_keys=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=12).hexdigest()


def push_items(
    client: Client,
    items: Sequence[ItemParams],
    record: PushRecord,
    progress: Callable[[int], None] = lambda items: None,
) -> PushResult:
    """Send the items that the record lacks.

    Args:
        client: with a catalogue key.
        items: at least one.
        record: it is updated after each call, so that a push that is stopped can go on.
        progress: called with the number of items that are done.
    """
    result = PushResult()
    # the first item is always sent: the answer says whether the record is of this live catalogue
    for call in _calls(items[:1]):
        _send(client, call, record, result)
    done = 1
    progress(done)
    missing = [item for item in items[1:] if not record.has(item)]
    result.as_before = len(items) - 1 - len(missing)
    progress(done + result.as_before)
    done += result.as_before
    for call in _calls(missing):
        _send(client, call, record, result)
        done += len(call)
        progress(done)
    return result


def _send(
    client: Client, items: Sequence[ItemParams], record: PushRecord, result: PushResult
) -> None:
    answer = client.change_items(items)
    if answer.epoch != record.epoch:
        record.begin(answer.epoch)
    wrong = {error.position for error in answer.errors}
    record.add([item for position, item in enumerate(items) if position not in wrong])
    result.sent += len(items)
    result.changed += answer.changed
    result.not_placed += len(answer.not_placed)
    result.errors += answer.errors


def _calls(items: Sequence[ItemParams]) -> Iterator[list[ItemParams]]:
    """Yield the items of each call."""
    call: list[ItemParams] = []
    size, values = 0, 0
    for item in items:
        more, count = len(json.dumps(item)), _count(item)
        full = size + more > MAX_CALL_BYTES or values + count > MAX_CALL_VALUES
        if call and (full or len(call) == MAX_CHANGES):
            yield call
            call, size, values = [], 0, 0
        call.append(item)
        size, values = size + more, values + count
    if call:
        yield call


def _count(value: object) -> int:
    """Return the number of values in JSON content, those of lists and objects included."""
    if isinstance(value, Mapping):
        return 1 + sum(map(_count, value.values()))
    return 1 + sum(map(_count, value)) if isinstance(value, list) else 1


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None
