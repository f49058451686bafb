"""The report is complete, self-contained, accessible, and takes no markup from outside."""

import dataclasses
import json
import re
from importlib import resources
from typing import Any

import pytest

from data.sessions import SessionCounts
from data.statistics import describe
from recsys.bundle.layout import MANIFEST, REPORT
from recsys.bundle.manifest import Manifest
from recsys.model.gru4rec import ModelSize
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.documents.html_page import Element, Page
from tests.support.training.builders import words
from tests.support.training.scorers import BACKWARD, COUNTS, FORWARD, evaluated
from training.checkpoint import EpochResult
from training.evaluation.compare import COMPARED, HEADLINE, RELATIVES, compare_with_intervals
from training.recipe import Recipe
from training.report.examples import ExampleVisit, ShownItem
from training.report.render import ReportData, render_report, warnings_of

SECTIONS = ("warnings", "results", "examples", "position", "popularity", "training", "data", "run")
EVIL = "</pre><script>alert(1)</script><img src=x onerror=alert(1)> \"'& {{ 7 * 7 }}"


@pytest.fixture(scope="module")
def page(trained: TrainedShop) -> Page:
    """Return the report that `recsys train` wrote for the synthetic shop."""
    return Page((trained.bundle / REPORT).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def manifest(trained: TrainedShop) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((trained.bundle / MANIFEST).read_text(encoding="utf-8"))
    return found


def report_data(**other: Any) -> tuple[Manifest, ReportData]:
    """Build the data of a small report, and its manifest."""
    sessions = ["ab", "yx", "bac", "xa"] * 10
    results = other.pop("results", evaluated(*sessions, model=FORWARD, markov=BACKWARD))
    given: dict[str, Any] = {
        "command": "recsys train",
        "device": "cpu",
        "counts": [SessionCounts("read", 40, 90, 4)],
        "log_warnings": (),
        "train": describe(words(*sessions)),
        "test": describe(words(*sessions)),
        "epochs": [
            EpochResult("search", 1, 2.5, 4.0, 1000, {"recall@20": 0.5, "mrr@20": 0.2}, 1.5),
            EpochResult("search", 2, 2.0, 4.0, 1000, {"recall@20": 0.6, "mrr@20": 0.3}, 1.2),
            EpochResult("refit", 1, 2.4, 5.0, 1100, {}, 1.4),
        ],
        "results": results,
        "comparison": compare_with_intervals(results, COUNTS),
        **other,
    }
    manifest = Manifest(
        format_version=1,
        model_id="0123456789abcdef",
        created="2026-01-01T00:00:00+00:00",
        size=ModelSize(25, 8),
        window=50,
        recipe=dataclasses.asdict(Recipe()),
        metrics={},
        training={"best_epoch": 2, "cut_off": "2026-01-01T00:00:00+00:00"},
        versions={"session-recsys": "0.1.0"},
        files={},
    )
    return manifest, ReportData(**given)


def rows(page: Page, caption: str) -> list[list[str]]:
    """Return the cells of the table of that caption, row by row."""
    at = next(n for n, e in enumerate(page.elements) if e.tag == "caption" and caption in e.text)
    found: list[list[str]] = []
    for element in page.elements[at:]:
        if element.tag == "tr":
            found.append([])
        elif element.tag in ("th", "td") and found:
            found[-1].append(element.text)
        elif element.tag == "table":
            break
    return found


def test_every_section_is_there_and_every_link_leads_to_one(page: Page) -> None:
    ids = [section.attributes.get("id") for section in page.all("section")]

    assert tuple(ids) == SECTIONS
    assert [link.attributes["href"] for link in page.all("a")] == [f"#{name}" for name in SECTIONS]


def test_the_page_loads_nothing_and_runs_nothing(page: Page) -> None:
    for element in page.elements:
        assert element.tag not in ("script", "iframe", "object", "embed", "img", "form", "base")
        assert not {"src", "srcset", "action"} & set(element.attributes)
        assert not [name for name in element.attributes if name.startswith("on")]
        assert "url(" not in element.attributes.get("style", "")
        for name in ("href", "xlink:href"):
            link = element.attributes.get(name, "#")
            assert link.startswith("#") or link == "data:,", link
    (style,) = page.all("style")
    assert "url(" not in style.text
    assert "@import" not in style.text
    policy = next(m for m in page.all("meta") if "http-equiv" in m.attributes)
    assert "default-src 'none'" in policy.attributes["content"]


def test_the_table_holds_the_numbers_of_the_manifest(page: Page, manifest: dict[str, Any]) -> None:
    metrics = manifest["metrics"]
    expected = {"model": metrics["model"], **metrics["baselines"]}

    head, *body = rows(page, "The model and all baselines")

    assert head == ["recommender", *COMPARED, "coverage@20"]
    assert [row[0] for row in body] == list(expected)
    for name, *cells in body:
        shown = dict(zip(head[1:], cells, strict=True))
        for metric, text in shown.items():
            assert text.startswith(f"{expected[name][metric]:.4f}"), (name, metric)
        for metric, (low, high) in metrics["intervals"][name].items():
            assert shown[metric] == f"{expected[name][metric]:.4f}{low:.4f} – {high:.4f}"


def test_recipe_versions_cut_off_and_model_id_are_shown(
    page: Page, manifest: dict[str, Any]
) -> None:
    terms = [element.text for element in page.all("dt")]
    values = [element.text for element in page.all("dd")]
    said = dict(zip(terms, values, strict=True))

    for part in ("recipe", "versions"):
        for name, value in manifest[part].items():
            assert said[name] == str(value)
    assert {"numpy", "pandas", "pyarrow", "safetensors", "torch"} <= set(terms)
    assert manifest["training"]["cut_off"] in page.all("section", id="data")[0].text
    assert page.all("h1")[0].text == f"Model {manifest['model_id']}"


def test_counts_and_cases_add_up(page: Page, manifest: dict[str, Any]) -> None:
    counts = {row[0]: row[1:] for row in rows(page, "What was left after each step")[1:]}
    assert counts["read"][0] == "4,000"
    assert counts["training part"][1] == f"{manifest['training']['clicks']:,}"

    for section in ("clicks before", "decile"):
        _, *groups = rows_of_slices(page, section)
        column = 1 if section == "clicks before" else 3
        cases = [int(row[column].replace(",", "")) for row in groups]
        assert sum(cases) == manifest["metrics"]["cases"]


def rows_of_slices(page: Page, first: str) -> list[list[str]]:
    at = next(n for n, e in enumerate(page.elements) if e.tag == "th" and e.text == first)
    rest = Page("")
    rest.elements = [Element("caption", {}, [first]), Element("tr", {}), *page.elements[at:]]
    return rows(rest, first)


def test_every_epoch_is_listed_with_its_speed() -> None:
    page = Page(render_report(*report_data()))

    assert rows(page, "Every epoch")[1:] == [
        ["search", "1", "2.5000", "0.5000", "0.2000", "1.5000", "4.0", "1,000", "250"],
        ["search", "2", "2.0000", "0.6000", "0.3000", "1.2000", "4.0", "1,000", "250"],
        ["refit", "1", "2.4000", "–", "–", "1.4000", "5.0", "1,100", "220"],
    ]


def test_a_screen_reader_finds_names_and_captions(page: Page, manifest: dict[str, Any]) -> None:
    assert page.all("html")[0].attributes["lang"] == "en"
    assert all(cell.attributes.get("scope") in ("row", "col") for cell in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert len(page.all("figcaption")) == len(page.all("figure")) == 6
    drawings = page.all("svg")
    assert len(drawings) == 2 + 1 + 2 + 2 + 4 + 2 + relatives_in(manifest)
    assert all(drawing.attributes["role"] == "img" for drawing in drawings)
    names = [drawing.attributes["aria-label"] for drawing in drawings]
    assert len(set(names)) == len(names)


def relatives_in(manifest: dict[str, Any]) -> int:
    """Return how many rows of the results are of models: 1 where a repeat term was fitted."""
    return len(manifest["metrics"]["baselines"].keys() & set(RELATIVES))


def test_every_chart_stands_in_a_table_too(page: Page, manifest: dict[str, Any]) -> None:
    """No figure is in a chart alone."""
    results = rows(page, "The model and all baselines")
    differences = len(COMPARED) + len(HEADLINE) * relatives_in(manifest)
    assert len(rows(page, "Model vs the best baseline")) == 1 + differences
    for caption in ("Share of sessions of each length", "Clicks on the item of some ranks"):
        assert len(rows(page, caption)) > 5
    (chart,) = (d for d in page.all("svg") if d.attributes["aria-label"].startswith("MRR@20 of"))
    for name, cells in ((row[0], row[1:]) for row in results[1:]):
        figure = cells[COMPARED.index("mrr@20")][:6]
        assert f"{name}: {figure}" in chart.text


def test_no_id_occurs_twice(page: Page) -> None:
    ids = [e.attributes["id"] for e in page.elements if "id" in e.attributes]

    assert len(set(ids)) == len(ids)


def test_the_first_words_are_the_summary(page: Page, manifest: dict[str, Any]) -> None:
    recall = manifest["metrics"]["model"]["recall@20"]
    box = next(d for d in page.all("div") if d.attributes.get("class") == "summary-box")

    cases = manifest["metrics"]["cases"]
    found = f"first 20 items in {recall:.1%} of {cases:,} cases. It "
    assert box.text.startswith(f"The next click is among the model's {found}")
    assert "of eight baselines" in box.text


def test_sessions_are_resampled_not_cases(page: Page) -> None:
    assert "resamples of whole sessions, not of single cases" in page.all("main")[0].text


def test_nothing_from_outside_becomes_markup() -> None:
    results = evaluated(*["ab", "ya"] * 10, **{"model": FORWARD, EVIL: BACKWARD})
    results["model"] = dataclasses.replace(results["model"], warning=EVIL)
    manifest, data = report_data(
        command=EVIL, device=EVIL, counts=[SessionCounts(EVIL, 1, 2, 3)], results=results
    )
    hostile = dataclasses.replace(
        manifest,
        model_id=EVIL,
        created=EVIL,
        recipe={EVIL: EVIL},
        versions={EVIL: EVIL},
        training={"best_epoch": EVIL, "cut_off": EVIL},
    )

    page = Page(render_report(hostile, data))

    assert not page.all("script") + page.all("img")
    words_of = " ".join(EVIL.split())
    assert page.all("pre")[0].text == words_of
    assert page.all("h1")[0].text == f"Model {words_of}"
    assert page.all("section", id="warnings")[0].text.count(words_of) >= 1
    assert any(row[0] == words_of for row in rows(page, "The model and all baselines"))
    assert "49" not in re.sub(r"[^\d ]", " ", page.all("pre")[0].text).split()


def test_examples_show_names_pictures_and_the_rank() -> None:
    tent, mat = ShownItem("Tent", "Camping · 9.95", "data:image/png;base64,AA=="), ShownItem(EVIL)
    found = ExampleVisit([tent], 2, [mat, tent], tent, rank=2, place_in_list=1)
    missed = ExampleVisit([mat], 0, [mat], tent, rank=21, place_in_list=None)
    new = ExampleVisit([tent], 0, [mat], mat, rank=None, place_in_list=None)

    page = Page(render_report(*report_data(examples=[found, missed, new])))

    headings = [heading.text for heading in page.all("h3")[:3]]
    assert headings[0] == "Tent → found, at place 2"
    assert headings[1].endswith("not among the first 20: place 21 of 25")
    assert headings[2] == "Tent → an item that the model does not know"
    assert {image.attributes["src"] for image in page.all("img")} == {tent.picture}
    assert len(page.all("li", **{"class": "hit"})) == 2  # in the list, and as the next click
    assert "Clicked, after 2 earlier clicks" in [heading.text for heading in page.all("h4")]


def test_an_evaluation_alone_has_no_section_on_training() -> None:
    manifest, data = report_data(epochs=[], train=None)

    page = Page(render_report(manifest, data))

    ids = [section.attributes.get("id") for section in page.all("section")]
    assert ids == [name for name in SECTIONS if name not in ("training", "examples")]
    assert rows(page, "The parts")[0] == ["of the part", "test"]


def test_a_report_without_a_flaw_has_no_warning() -> None:
    manifest, data = report_data()

    assert warnings_of(manifest, data) == []
    assert "None." in Page(render_report(manifest, data)).all("section", id="warnings")[0].text


def test_weak_results_are_warnings() -> None:
    results = evaluated(*["ab", "bz"] * 20, model=BACKWARD, markov=FORWARD)
    results["model"] = dataclasses.replace(results["model"], warning="Scores tie.")
    manifest, data = report_data(results=results)
    manifest = dataclasses.replace(manifest, training={"best_epoch": 10})

    warnings = warnings_of(manifest, data)
    said = [str(warning) for warning in warnings]

    assert said[0] == "model: Scores tie."
    assert any(
        s.startswith("markov beats the model: MRR@20 −0.25") and "vs markov" in s for s in said
    )
    assert any("50.0% of the next clicks are on items that training never saw" in s for s in said)
    assert any("The last epoch allowed was the best one" in s for s in said)
    serious = {str(warning).split(":")[0] for warning in warnings if warning.is_serious}
    assert serious == {"model", "markov beats the model"}


def test_every_page_has_the_same_frame() -> None:
    """The policy that lets a page load and run nothing stands in one file."""
    templates = resources.files("training.report") / "templates"
    pages = [
        path.read_text(encoding="utf-8")
        for path in templates.iterdir()
        if path.name.endswith(".html") and path.name not in ("page.html", "parts.html")
    ]
    assert len(pages) > 1
    assert all(page.startswith('{% extends "page.html" %}') for page in pages)
