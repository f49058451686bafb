import dataclasses
from pathlib import Path

import pytest

from recsys.errors import BadRecipe, RenamedSetting
from tests.support.training.builders import words
from training.checkpoint import fingerprint
from training.recipe import (
    SETTINGS,
    Recipe,
    checked_recipe,
    load_recipe,
    original_names,
    shipped_names,
)


def refused(name_or_path: str, *overrides: str) -> str:
    """Return the message that refuses the recipe."""
    with pytest.raises(BadRecipe) as caught:
        load_recipe(name_or_path, overrides)
    return str(caught.value)


@pytest.mark.parametrize("name", shipped_names("recipe"))
def test_every_built_in_recipe_loads_and_states_its_verified_result(name: str) -> None:
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


def test_true_is_not_a_number() -> None:
    assert "epochs must be int, got True" in refused("default", "epochs=true")


def test_values_out_of_range_are_refused_with_the_rule() -> None:
    message = refused("default", "hidden=0", "dropout_hidden=1.0")

    assert "hidden must be at least 1, got 0." in message
    assert "dropout_hidden must be at least 0 and below 1, got 1.0." in message


def test_a_cell_an_embedding_and_a_width_that_do_not_fit_are_refused_together() -> None:
    message = refused("default", "cell=gruu", "embedding_width=8", "scale=-1.0")

    assert "cell must be one of gru, gru-reset-before, lstm, rnn, got 'gruu'." in message
    assert "embedding_width must be 0 unless embedding is separate, got 8." in message
    assert "scale must be at least 0 and finite, got -1.0." in message


def test_infinity_and_nan_are_refused() -> None:
    assert "learning_rate" in refused("default", "learning_rate=nan")
    assert "learning_rate" in refused("default", "learning_rate=inf")


def test_the_error_for_an_unknown_recipe_lists_the_known_ones() -> None:
    assert "no recipe 'defaultt'. Did you mean default?" in refused("defaultt")


def test_a_file_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("hidden = = 3")

    assert "is not TOML" in refused(str(path))


def test_a_missing_recipe_file_is_named(tmp_path: Path) -> None:
    assert "No such file" in refused(str(tmp_path / "none.toml"))


def test_a_recipe_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("hidden = 12\n")

    assert load_recipe(str(path)) == Recipe(hidden=12)


@pytest.mark.parametrize("kind", ["ivf", "pq4", "fp16"])
def test_a_removed_retrieval_is_taken_as_int8_with_a_warning(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = checked_recipe({"retrieval": kind})

    assert recipe.retrieval == "int8"
    assert f"retrieval '{kind}' was removed" in caplog.text


def test_wrong_names_types_and_ranges_are_reported_together() -> None:
    message = refused("default", "epoch=5", "batch=1.5", "hidden=0", "momentum=1.0", "elu=nan")

    for problem in (
        "epoch is not a setting. Did you mean epochs?",
        "batch must be int, got 1.5.",
        "hidden must be at least 1, got 0.",
        "momentum must be at least 0 and below 1, got 1.0.",
        "elu must be at least 0 and finite, got nan.",
    ):
        assert problem in message


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["optimizer=adam", "momentum=0.1"], "momentum must be 0 unless optimizer is adagrad"),
        (["embedding_width=8"], "embedding_width must be 0 unless embedding is separate"),
        (["batch=1", "negatives=0"], "batch must be at least 2 where negatives is 0"),
        (["blend=vstan", "validation=0.0"], "blend_weight must be above 0 where blend is set"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    overrides: list[str], problem: str
) -> None:
    assert problem in refused("default", *overrides)


def test_one_row_without_negatives_is_possible_where_all_items_are_scored() -> None:
    recipe = load_recipe("default", ["batch=1", "negatives=0", "scored_items=all"])

    assert (recipe.batch, recipe.negatives) == (1, 0)


def test_every_setting_has_a_plain_type() -> None:
    assert {setting.type for setting in SETTINGS.values()} == {int, float, str, bool}
    assert list(SETTINGS) == [field.name for field in dataclasses.fields(Recipe)]


OLD = """
hidden = 12
optimiser = "adam"
batches = "lanes"
columns = "drawn"
"""
NEW = Recipe(
    hidden=12, optimizer="adam", batches="session-parallel", scored_items="with-duplicates"
)


def test_a_recipe_file_with_old_names_works_and_names_the_new_ones(tmp_path: Path) -> None:
    path = tmp_path / "old.toml"
    path.write_text(OLD)

    with pytest.warns(RenamedSetting) as caught:
        recipe = load_recipe(str(path), ["columns=drawn", "optimiser=adam"])

    assert recipe == NEW
    assert [str(warning.message) for warning in caught] == [
        "The recipe has old names, which still work: optimiser is now optimizer; "
        "batches = 'lanes' is now 'session-parallel'; columns is now scored_items; "
        "scored_items = 'drawn' is now 'with-duplicates'."
    ]


def test_an_old_name_overrides_and_names_the_new_one() -> None:
    with pytest.warns(RenamedSetting, match="optimiser is now optimizer"):
        recipe = load_recipe("default", ["optimiser=nadam"])

    assert recipe.optimizer == "nadam"


def test_the_recipe_of_an_old_manifest_is_read() -> None:
    """A manifest holds every setting, under the names of its version."""
    with pytest.warns(RenamedSetting):
        recipe = checked_recipe(original_names(NEW))

    assert recipe == NEW


def test_a_renamed_setting_leaves_the_fingerprint_of_a_checkpoint_as_it_was() -> None:
    """The digest is made of the names before the first renaming."""
    recipe = dataclasses.replace(NEW, hidden=192, neighbours=500, candidates=2500, warmup=0.01)

    assert fingerprint(words("ab", "ba"), None, recipe) == (
        "8c5a2bafc2a64ecc8c01f6f34e1dc2d122f63574d4e377b714f352da09d8baee"
    )
