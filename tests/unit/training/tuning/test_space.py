"""Search spaces suggest what their conditions allow, and report all problems of a file at once."""

from pathlib import Path

import pytest
from optuna.trial import FixedTrial

from recsys.errors import BadSpace, RenamedSetting
from training.recipe import Recipe, shipped_names
from training.tuning.space import Dimension, Space, load_space

LOWEST = {
    "loss": "cross-entropy", "hidden": 64, "batch": 32, "learning_rate": 0.01, "momentum": 0.0,
    "dropout_embedding": 0.0, "dropout_hidden": 0.0, "sample_alpha": 0.0, "bpreg": 0.0, "elu": 0.0,
}  # fmt: skip
HIGHEST = {
    "loss": "bpr-max", "hidden": 512, "batch": 256, "learning_rate": 0.25, "momentum": 0.9,
    "dropout_embedding": 0.5, "dropout_hidden": 0.7, "sample_alpha": 1.0, "bpreg": 2.0, "elu": 1.0,
}  # fmt: skip


def written(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def refused(folder: Path, text: str, base: Recipe | None = None) -> str:
    with pytest.raises(BadSpace) as caught:
        load_space(written(folder, text), base or Recipe())
    return str(caught.value)


@pytest.mark.parametrize("name", shipped_names("space"))
def test_every_built_in_space_loads_and_shows_its_command(name: str) -> None:
    load_space(name, Recipe())
    text = (Path("training/spaces") / f"{name}.toml").read_text()

    assert text.startswith("#")
    assert "recsys tune" in text


@pytest.mark.parametrize("name", shipped_names("space"))
def test_the_default_recipe_lies_within_every_built_in_space(name: str) -> None:
    """Its own score then informs the sampler about every dimension."""
    space = load_space(name, Recipe())

    assert space.holds(Recipe()) == space.values_of(Recipe())


def test_the_published_space_has_the_bounds_of_the_paper() -> None:
    space = load_space("published", Recipe())
    bounds = {d.name: (d.low, d.high, d.step) for d in space.dimensions if not d.choices}

    assert bounds == {
        "hidden": (64, 512, 32),
        "batch": (32, 256, 16),
        "learning_rate": (0.01, 0.25, 0.005),
        "momentum": (0.0, 0.9, 0.05),
        "dropout_embedding": (0.0, 0.5, 0.05),
        "dropout_hidden": (0.0, 0.7, 0.05),
        "sample_alpha": (0.0, 1.0, 0.1),
        "bpreg": (0.0, 2.0, 0.05),
    }


def test_a_setting_with_a_condition_is_tried_only_where_it_holds() -> None:
    space = load_space("published", Recipe())

    lowest = space.suggest(FixedTrial(LOWEST), Recipe())

    assert lowest == {name: value for name, value in LOWEST.items() if name not in ("bpreg", "elu")}
    assert space.suggest(FixedTrial(HIGHEST), Recipe()) == HIGHEST


def test_a_condition_on_a_setting_that_is_not_tried_looks_at_the_base() -> None:
    space = Space((Dimension("momentum", 0.0, 0.9, when=(("optimizer", ("adagrad",)),)),))

    assert "momentum" in space.suggest(FixedTrial(LOWEST), Recipe())
    assert "momentum" not in space.suggest(FixedTrial(LOWEST), Recipe(optimizer="adam"))


def test_values_lie_on_the_steps() -> None:
    numbers, whole = Dimension("elu", 0.01, 0.25, 0.005), Dimension("hidden", 64, 512, 32)

    assert numbers.contains(0.1)
    assert not numbers.contains(0.102)
    assert not numbers.contains(0.3)
    assert whole.contains(192)
    assert not whole.contains(200)
    assert not whole.contains(32)


def test_a_base_outside_the_space_is_named_with_its_own_values() -> None:
    space = load_space("quick", Recipe())
    base = Recipe(learning_rate=0.001)

    assert space.values_of(base)["learning_rate"] == 0.001
    assert "learning_rate" not in space.holds(base)
    assert "sample_alpha" in space.holds(base)


def test_all_problems_of_a_file_are_reported_together(tmp_path: Path) -> None:
    message = refused(
        tmp_path,
        """
        seed = 3
        [hiddn]
        low = 1
        [hidden]
        low = 64
        high = 500
        step = 32
        [batch]
        low = 16.5
        hgih = 32
        [learning_rate]
        low = 0.0
        high = 0.1
        log = true
        [loss]
        choices = ["cross-entropy", "bpr"]
        [optimizer]
        low = 1
        high = 2
        """,
    )

    assert "seed cannot be tried: a lucky seed is not a better recipe" in message
    assert "hiddn is not a setting. Did you mean hidden?" in message
    assert "hidden.step must lead from 64 to 500 in whole steps, got 32." in message
    assert "batch.hgih is not known. Did you mean high?" in message
    assert "batch.low: batch must be int, got 16.5." in message
    assert "batch has no high." in message
    assert "learning_rate.low must be above 0 where log is true, got 0.0." in message
    assert "loss must be one of cross-entropy, bpr-max, got 'bpr'." in message
    assert "optimizer needs choices" in message


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "it names no setting"),
        ("[hidden]\nlow = 9\nhigh = 3", "hidden.low must be below high, got 9 and 3."),
        ("[clip]\nlow = 0.0\nhigh = inf", "clip.high must be a finite number, got inf."),
        ("[clip]\nlow = 1\nhigh = 2\nstep = 1\nlog = true", "clip has both step and log"),
        ("[clip]\nlow = 1\nhigh = 2\nlog = 1", "clip.log must be true or false, got 1."),
        ("[clip]\nlow = 1\nhigh = 2\nstep = 0", "clip.step must lead from 1 to 2"),
        ("[elu]\nchoices = []", "elu.choices must be a list of at least one value"),
        ("[elu]\nchoices = [1, 1.0]", "elu.choices names a value twice"),
        ("[elu]\nchoices = [1]\nlow = 0", "elu has choices and low"),
        ("[elu]\nchoices = ['a']", "elu.choices: elu must be float, got 'a'."),
        ("[elu]\nlow = 0\nhigh = 1\nwhen = 3", "elu.when must be a table, got 3."),
        ("[elu]\nlow = 0\nhigh = 1\nwhen = {lost = 1}", "elu.when: lost is not a setting."),
        ("[elu]\nlow = 0\nhigh = 1\nwhen = {loss = []}", "elu.when: loss has no values"),
        (
            "[elu]\nlow = 0\nhigh = 1\nwhen = {loss = 'bpr-max'}\n[loss]\nchoices = ['bpr-max']",
            "elu.when looks at loss, which stands below. Move [loss] above.",
        ),
        ("[dropout_hidden]\nlow = 0\nhigh = 1", "dropout_hidden must be at least 0 and below 1"),
        ("hidden = 3", "hidden must be a table, got 3."),
        ("[refit]\nchoices = [true]", "refit cannot be tried"),
        ("[hidden", "is not TOML"),
    ],
)
def test_an_invalid_file_is_refused_with_its_problem(
    tmp_path: Path, text: str, sentence: str
) -> None:
    assert sentence in refused(tmp_path, text)


def test_bounds_are_checked_on_top_of_the_base_recipe(tmp_path: Path) -> None:
    text = "[momentum]\nlow = 0.0\nhigh = 0.9"

    assert "momentum must be 0 unless" in refused(tmp_path, text, Recipe(optimizer="adam"))
    assert load_space(written(tmp_path, text), Recipe())


def test_an_unknown_space_is_answered_with_the_known_ones() -> None:
    with pytest.raises(
        BadSpace, match=r"no space 'quik'. Did you mean quick\? Built in: published"
    ):
        load_space("quik", Recipe())


def test_a_space_with_old_names_works_and_names_the_new_ones(tmp_path: Path) -> None:
    text = """
        [columns]
        choices = ["distinct", "drawn"]
        [momentum]
        low = 0.0
        high = 0.5
        when = { optimiser = "adagrad" }
    """
    path = tmp_path / "old.toml"
    path.write_text(text)

    with pytest.warns(RenamedSetting) as caught:
        space = load_space(str(path), Recipe())

    assert [str(warning.message) for warning in caught] == [
        "The space has old names, which still work: columns is now scored_items; "
        "scored_items = ['distinct', 'drawn'] is now ['unique', 'with-duplicates']; "
        "optimiser is now optimizer."
    ]
    assert space.dimensions[0] == Dimension("scored_items", choices=("unique", "with-duplicates"))
    assert space.dimensions[1].when == (("optimizer", ("adagrad",)),)
