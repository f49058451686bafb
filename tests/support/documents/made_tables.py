"""Generate the tables of the documents from the code: settings, recipe, metrics.

Each table stands between two comments of its page. `make docs` writes them, a test compares them.
"""

import inspect
import json
import re
from dataclasses import fields

from service.collector.metrics import CollectorMetrics
from service.metrics import ServiceMetrics
from service.settings import REQUIRED, described
from tests.support.documents.markdown import ROOT
from training.recipe import CHOICES, Recipe

SUFFIXES = {"counter": "_total"}  # that Prometheus adds to a name


def settings_table() -> str:
    """Return the table of the settings of the service."""
    rows = ["| variable | default | is |", "|---|---|---|"]
    for variable, default, description in described():
        cell = default if default in ("", REQUIRED) else f"`{default}`"
        rows.append(f"| `{variable}` | {cell} | {description} |")
    return "\n".join(rows)


def recipe_table() -> str:
    """Return the table of the recipe; the comments in the code describe the settings."""
    source = inspect.getsource(Recipe)
    comments = dict(re.findall(r"^    (\w+): \w+ = .*?  # (.+)$", source, re.MULTILINE))
    rows = ["| setting | default | is |", "|---|---|---|"]
    for field in fields(Recipe):
        description = comments[field.name]
        missing = [
            f"`{w}`"
            for w in CHOICES.get(field.name, ())
            if w not in f"{description} {field.default}"
        ]
        if missing:
            description += f"; or {', '.join(missing)}"
        rows.append(f"| `{field.name}` | `{json.dumps(field.default)}` | {description} |")
    return "\n".join(rows)


def metrics_table() -> str:
    """Return the table of the metrics of the service, under their names at `/metrics`."""
    return _table_of(ServiceMetrics())


def collector_metrics_table() -> str:
    """Return the table of the metrics of the collector."""
    return _table_of(CollectorMetrics())


def _table_of(metrics: object) -> str:
    rows = ["| metric | kind | labels | is |", "|---|---|---|---|"]
    for metric in vars(metrics).values():
        if not hasattr(metric, "describe"):
            continue
        (family,) = metric.describe()
        name = family.name + SUFFIXES.get(family.type, "")
        # no public attribute has the labels of a metric without values
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        rows.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |")
    return "\n".join(rows)


MADE = {  # page → the name in its comments, and the function that makes the table
    "docs/settings.md": ("settings", settings_table),
    "docs/choosing-a-recipe.md": ("recipe", recipe_table),
    "docs/metrics.md": ("metrics", metrics_table),
    "docs/collecting.md": ("collector metrics", collector_metrics_table),
}


def with_table(text: str, name: str, table: str) -> str:
    """Return the page with this table between its comments."""
    between = re.compile(rf"(<!-- {name}: [^\n]* -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    assert between.search(text), f"the page has no place for {name}"
    return between.sub(lambda match: f"{match[1]}{table}\n{match[2]}", text)


def as_made(page: str) -> str:
    """Return the page with its table as the code has it now."""
    name, make = MADE[page]
    return with_table((ROOT / page).read_text(encoding="utf-8"), name, make())
