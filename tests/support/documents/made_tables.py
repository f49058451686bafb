"""Tables in the documents that are made from the code: settings, recipe, metrics.

Each stands between two comments of its page. `make docs` writes them, a test compares.
"""

import inspect
import json
import re
from dataclasses import fields

from service.metrics import ServiceMetrics
from service.settings import REQUIRED, described
from tests.support.documents.markdown import ROOT
from training.recipe import CHOICES, Recipe

COUNTED = {"counter": "_total"}  # what Prometheus adds to a name


def settings_table() -> str:
    """One row a setting of the service."""
    rows = ["| variable | default | is |", "|---|---|---|"]
    for variable, default, description in described():
        cell = default if default in ("", REQUIRED) else f"`{default}`"
        rows.append(f"| `{variable}` | {cell} | {description} |")
    return "\n".join(rows)


def recipe_table() -> str:
    """One row a setting of a run; what it is, is the comment beside it in the code."""
    source = inspect.getsource(Recipe)
    said = dict(re.findall(r"^    (\w+): \w+ = .*?  # (.+)$", source, re.MULTILINE))
    rows = ["| setting | default | is |", "|---|---|---|"]
    for field in fields(Recipe):
        what = said[field.name]
        unsaid = [
            f"`{w}`" for w in CHOICES.get(field.name, ()) if w not in f"{what} {field.default}"
        ]
        if unsaid:
            what += f"; or {', '.join(unsaid)}"
        rows.append(f"| `{field.name}` | `{json.dumps(field.default)}` | {what} |")
    return "\n".join(rows)


def metrics_table() -> str:
    """One row a metric, under the name it has at `/metrics`."""
    rows = ["| metric | kind | labels | is |", "|---|---|---|---|"]
    for metric in vars(ServiceMetrics()).values():
        if not hasattr(metric, "describe"):
            continue
        (family,) = metric.describe()
        name = family.name + COUNTED.get(family.type, "")
        # nothing public says which labels a metric has before it has any values
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        rows.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |")
    return "\n".join(rows)


MADE = {  # page → the name between its comments, and what makes the table
    "docs/settings.md": ("settings", settings_table),
    "docs/choosing-a-recipe.md": ("recipe", recipe_table),
    "docs/metrics.md": ("metrics", metrics_table),
}


def with_table(text: str, name: str, table: str) -> str:
    """The page with this table between its comments."""
    between = re.compile(rf"(<!-- {name}: [^\n]* -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    assert between.search(text), f"the page has no place for {name}"
    return between.sub(lambda found: f"{found[1]}{table}\n{found[2]}", text)


def as_made(page: str) -> str:
    """The page as it should be."""
    name, make = MADE[page]
    return with_table((ROOT / page).read_text(encoding="utf-8"), name, make())
