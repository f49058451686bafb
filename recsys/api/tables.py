"""Tables of metrics: as a DataFrame, and as a notebook shows them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame


def metrics_frame(metrics: Mapping[str, Mapping[str, float]]) -> "DataFrame":
    from pandas import DataFrame

    return DataFrame.from_dict(dict(metrics), orient="index").rename_axis("recommender")


def headline(metrics: "DataFrame") -> "DataFrame":
    """Return the columns that the command line shows."""
    from recsys.console import HEADINGS

    return metrics[[name for name in HEADINGS if name in metrics.columns]]


def metrics_html(metrics: "DataFrame") -> str:
    """Return a table with the best values of each column in bold; its row names are ours."""
    shown = headline(metrics).rename_axis(None)
    rounded = shown.round(4)
    texts = shown.map("{:.4f}".format).where(shown.notna(), "–")
    bold = "<b>" + texts + "</b>"
    return str(texts.mask(rounded.eq(rounded.max()), bold).to_html(escape=False, border=0))
