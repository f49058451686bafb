from pathlib import Path

import pytest

from recsys.errors import BadRecipe
from training.recipe import Recipe, checked_recipe, load_recipe, recipe_names


def refused(chosen: str, *overrides: str) -> str:
    with pytest.raises(BadRecipe) as caught:
        load_recipe(chosen, overrides)
    return str(caught.value)


@pytest.mark.parametrize("name", recipe_names())
def test_every_built_in_recipe_loads_and_says_what_it_reached(name: str) -> None:
    load_recipe(name)
    text = (Path("training/recipes") / f"{name}.toml").read_text()

    assert text.startswith("#")
    assert "recsys " in text
    assert "Verified" in text


def test_settings_override_the_recipe() -> None:
    recipe = load_recipe("default", ["epochs=3", "select_by=recall@20", "learning_rate=1"])

    assert (recipe.epochs, recipe.select_by, recipe.learning_rate) == (3, "recall@20", 1.0)


def test_values_may_be_written_as_python_writes_them() -> None:
    recipe = load_recipe("default", ["learning_rate=.25", "refit=False"])

    assert (recipe.learning_rate, recipe.refit) == (0.25, False)


def test_all_problems_are_reported_together_with_the_nearest_name() -> None:
    message = refused("default", "epoch=5", 'batch="big"', "refit")

    assert "epoch is not a setting. Did you mean epochs?" in message
    assert "batch must be int, got 'big'." in message
    assert "--set 'refit' has no '='" in message


def test_true_is_no_number() -> None:
    assert "epochs must be int, got True" in refused("default", "epochs=true")


def test_values_out_of_range_are_refused_with_the_rule() -> None:
    message = refused("default", "hidden=0", "dropout_hidden=1.0")

    assert "hidden must be at least 1, got 0." in message
    assert "dropout_hidden must be at least 0 and below 1, got 1.0." in message


def test_a_cell_an_embedding_and_a_width_that_do_not_fit_are_refused_together() -> None:
    message = refused("default", "cell=gruu", "embedding_width=8", "scale=-1.0")

    assert "cell must be one of gru, gru-reset-before, lstm, rnn, got 'gruu'." in message
    assert "embedding_width must be at least 0, and 0 unless embedding is separate" in message
    assert "scale must be at least 0 and finite, got -1.0." in message


def test_infinity_and_nan_are_refused() -> None:
    assert "learning_rate" in refused("default", "learning_rate=nan")
    assert "learning_rate" in refused("default", "learning_rate=inf")


def test_an_unknown_recipe_is_answered_with_the_known_ones() -> None:
    assert "no recipe 'defaultt'. Did you mean default?" in refused("defaultt")


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("hidden = = 3")

    assert "is not TOML" in refused(str(path))


def test_a_missing_recipe_file_is_named(tmp_path: Path) -> None:
    assert "No such file" in refused(str(tmp_path / "none.toml"))


def test_a_recipe_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("hidden = 12\n")

    assert load_recipe(str(path)) == Recipe(hidden=12)


@pytest.mark.parametrize("kind", ["pq4", "fp16"])
def test_a_removed_retrieval_is_taken_as_int8_with_a_warning(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = checked_recipe({"retrieval": kind})

    assert recipe.retrieval == "int8"
    assert f"retrieval '{kind}' was removed" in caplog.text
