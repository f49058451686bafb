"""Table of measured values beside the promised bounds."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Bound:
    """One measured value; without a promise, it always holds."""

    name: str
    measured: str
    promised: str = ""
    holds: bool = True


def show(title: str, bounds: Sequence[Bound], console: Console) -> bool:
    """Print the table and return whether every bound holds."""
    table = Table("", "measured", "promised", "", title=title, title_justify="left")
    for bound in bounds:
        status = "" if not bound.promised else "holds" if bound.holds else "[red]BROKEN"
        table.add_row(bound.name, bound.measured, bound.promised, status)
    console.print(table)
    return all(bound.holds for bound in bounds)
