"""Result of an evaluation, in a terminal and in a notebook."""

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recsys.api.tables import headline, metrics_html

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, eq=False)
class EvaluationReport:
    """Result of `Model.evaluate`."""

    metrics: "DataFrame"  # one row for the model and each baseline; a column for each metric
    summary: str  # the result in sentences
    cases: int  # next clicks that were ranked
    unseen_targets: int  # next clicks on items that the catalogue lacks, counted as misses

    def __repr__(self) -> str:
        table = headline(self.metrics).to_string(float_format="{:.4f}".format)
        return f"{table}\n{self.summary}"

    def _repr_html_(self) -> str:
        return f"{metrics_html(self.metrics)}<p>{html.escape(self.summary)}</p>"
