"""What was measured, beside what is promised of it: rows of a table, and whether each holds."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Bound:
    """One figure; where nothing is promised of it, it always holds."""

    what: str
    measured: str
    promised: str = ""
    holds: bool = True


def show(title: str, bounds: Sequence[Bound], console: Console) -> bool:
    """The table; gives whether all of them hold."""
    table = Table("", "measured", "promised", "", title=title, title_justify="left")
    for bound in bounds:
        verdict = "" if not bound.promised else "holds" if bound.holds else "[red]BROKEN"
        table.add_row(bound.what, bound.measured, bound.promised, verdict)
    console.print(table)
    return all(bound.holds for bound in bounds)
