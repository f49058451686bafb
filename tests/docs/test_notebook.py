"""The tutorial notebook runs from top to bottom, and is stored without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.python_process import SEARCH_PATH

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial.ipynb"
CELL_SECONDS = 600  # a limit for a hung kernel, not a claim about speed
WHOLE_SHOP, SMALL_SHOP = "write_demo_shop(folder)", "write_demo_shop(folder, visits=8000)"


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> nbformat.NotebookNode:
    notebook = read()
    shop = notebook.cells[next(at for at, c in enumerate(notebook.cells) if WHOLE_SHOP in c.source)]
    shop.source = shop.source.replace(WHOLE_SHOP, SMALL_SHOP)
    return run(notebook, tmp_path_factory.mktemp("notebook"))


def test_the_notebook_is_stored_without_outputs() -> None:
    notebook = read()

    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs"), cell.source
        assert cell.get("execution_count") is None, cell.source


def test_every_cell_of_the_tutorial_runs(executed: nbformat.NotebookNode) -> None:
    shown = shown_by(executed)

    first = shown['model.recommend(["aurora-tent", "aurora-sleeping-bag"], k=5)']
    assert "aurora-sleeping-mat" in first
    assert "birch-sleeping-bag" in shown["model.recommend("]
    assert "Did you mean 'aurora-kettle'?" in shown["try:"]
    assert "session popularity" in shown["report = model.evaluate(tomorrow)"]


def test_a_notebook_shows_bars_tables_and_the_model(executed: nbformat.NotebookNode) -> None:
    shown = shown_by(executed)

    assert "What was read" in shown["import recsys"]
    assert "widget-view" in shown["import recsys"]
    assert "<table" in shown["model"]


def run(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """Run a notebook in a folder outside the repository."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", SEARCH_PATH)
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        client = NotebookClient(
            notebook,
            timeout=CELL_SECONDS,
            iopub_timeout=CELL_SECONDS,  # else a slow machine loses outputs without an error
            resources={"metadata": {"path": str(folder)}},
        )
        return client.execute()


def read() -> nbformat.NotebookNode:
    notebook: nbformat.NotebookNode = nbformat.read(  # type: ignore[no-untyped-call]
        TUTORIAL, as_version=4
    )
    return notebook


def shown_by(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """Return the outputs of each code cell, as text, by the first line of the cell."""
    return {
        cell.source.splitlines()[0]: str(cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    }
