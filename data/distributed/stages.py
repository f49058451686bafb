"""Records of finished stages: a run that was stopped goes on after the last of them.

Each stage has a folder of its name in the folder of unfinished work, and ends with a record: its
result, and the size of every file that a later stage needs. A record comes after its files have
reached the disk, and a folder is removed after the record of the stage that made it superfluous.
So a run that is killed at any moment, also by a loss of power, finds the files of a finished stage,
and a file that was truncated since then is found by its size.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import recsys
from data.prepared.manifest import Origin
from recsys.fileio import replace_file

RECORD = ".json"  # ends the name of a record; before it is that of the stage
SPILL = "spill"  # folder of the workers' own files, which no later run needs
ORIGIN = "origin"  # name of the record of the clicks and options


class StageResult(Protocol):
    """Result of a stage for the next ones; its files are in the folder of the stage."""

    def values(self) -> Mapping[str, Any]:
        """Return the result as values of JSON."""
        ...

    @classmethod
    def of(cls, values: Mapping[str, Any], folder: Path) -> Self:
        """Return the result whose values were recorded; its files may be gone."""
        ...


Result = TypeVar("Result", bound=StageResult)


@dataclass
class Stages:
    """Stages of one run; those that are recorded already are not run again."""

    work: Path
    recorded: dict[str, Mapping[str, Any]] = field(default_factory=dict)  # stage → its values

    @classmethod
    def open(
        cls, work: Path, origin: Origin, names: Sequence[str], say: Callable[[str], None]
    ) -> "Stages":
        """Return the stages that an earlier run of the same clicks and options has finished.

        All others are removed.

        Args:
            work: Folder of unfinished work.
            origin: Clicks and options of this run.
            names: Names of all stages in their order.
            say: Called with a sentence on what an earlier run has left.
        """
        wanted = json.loads(json.dumps({"program": recsys.__version__, **asdict(origin)}))
        found = _read(work / f"{ORIGIN}{RECORD}")
        stages = cls(work, _usable(work, names, say) if found == wanted else {})
        if found is not None and found != wanted:
            say(f"{work} is of other clicks, options or version, and begins anew.")
        if stages.recorded:
            say(f"Going on after the stage {list(stages.recorded)[-1]!r}, from {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            _write(work / f"{ORIGIN}{RECORD}", wanted)
        return stages

    def run(
        self,
        name: str,
        kind: type[Result],
        make: Callable[[Path], Result],
        superfluous: Sequence[str] = (),
    ) -> Result:
        """Return the result of a stage, which is made unless it is recorded.

        Args:
            name: Name of the stage and of its folder.
            kind: Class of the result.
            make: Fills the folder of the stage.
            superfluous: Folders that no later stage needs.
        """
        folder = self.work / name
        if name not in self.recorded:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            result = make(folder)
            _sync_all(folder)
            files = _sizes(self.work, [SPILL, *superfluous])
            _write(self.work / f"{name}{RECORD}", {"files": files, "values": result.values()})
            self.recorded[name] = result.values()
        for other in superfluous:
            shutil.rmtree(self.work / other, ignore_errors=True)
        return kind.of(self.recorded[name], folder)


def _usable(
    work: Path, names: Sequence[str], say: Callable[[str], None]
) -> dict[str, Mapping[str, Any]]:
    """Return the stages up to the last one whose files are complete."""
    told = False
    for count in range(len(names), 0, -1):
        records = {name: _read(work / f"{name}{RECORD}") for name in names[:count]}
        if None in records.values():
            continue
        damage = _damage(work, records[names[count - 1]]["files"])
        if damage is None:
            for later in names[count:]:
                (work / f"{later}{RECORD}").unlink(missing_ok=True)
            return {name: record["values"] for name, record in records.items()}
        if not told:
            say(f"{damage} The stages that made it begin anew.")
        told = True
    return {}


def _damage(work: Path, sizes: Mapping[str, int]) -> str | None:
    """Return a sentence about the first file that is not as it was written."""
    for name, size in sizes.items():
        path = work / name
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            state = "is missing" if found is None else f"has {found:,} bytes, not {size:,}"
            return f"{path} {state}."
    return None


def _sizes(work: Path, without: Sequence[str]) -> dict[str, int]:
    """Return the size of each file in the folders of stages, but for some of these."""
    files = (path for path in sorted(work.glob("*/**/*")) if path.is_file())
    sizes = {str(path.relative_to(work)): path.stat().st_size for path in files}
    return {name: size for name, size in sizes.items() if Path(name).parts[0] not in without}


def _sync_all(folder: Path) -> None:
    """Return when the files have reached the disk."""
    for path in [folder, *folder.rglob("*")]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _read(path: Path) -> Any:
    """Return the values of a record, or None where there is none that can be read."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _write(path: Path, values: Mapping[str, Any]) -> None:
    replace_file(path, lambda beside: beside.write_text(json.dumps(values), encoding="utf-8"))
