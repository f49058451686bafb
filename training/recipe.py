"""One training run, written down: every number that changes the result.

A recipe is a TOML file of these settings, a built-in one by name, or the defaults; single
settings are overridden by `--set name=value`. All problems are reported together.
"""

import dataclasses
import difflib
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from recsys.errors import BadRecipe

CHOICES = {
    "optimiser": ("adagrad", "adam", "adamw", "nadam"),
    "schedule": ("constant", "linear", "cosine"),
    "loss": ("cross-entropy", "bpr-max"),
    "select_by": ("recall@20", "mrr@20", "ndcg@20"),
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """The numbers of a run; the comment says what each one is."""

    # model
    hidden: int = 192  # H, units per GRU layer and numbers per item
    layers: int = 1  # L
    # optimisation
    epochs: int = 10  # passes over the training sessions, at most
    batch: int = 128  # B, sessions side by side; also the in-batch negatives per step
    optimiser: str = "adagrad"  # or adam, adamw, nadam
    learning_rate: float = 0.1  # of the order of 0.1 for Adagrad, 0.003 for the others
    momentum: float = 0.0  # Adagrad's
    accumulator: float = 0.0  # Adagrad's squared gradients begin with it; above 0 to go on gently
    schedule: str = "constant"  # or linear, cosine: to zero over `epochs`
    warmup: float = 0.0  # share of the run in which the rate rises from zero
    clip: float = 0.0  # longest gradient, by its norm over everything; 0 for any
    weight_decay: float = 0.0  # L2 on all weights a batch touches; beside the gradient in adamw
    l1: float = 0.0  # L1 on the item vectors a batch touches
    dropout_embedding: float = 0.5  # share of the clicked item's numbers dropped
    dropout_hidden: float = 0.4  # share of each layer's output dropped
    # loss
    loss: str = "cross-entropy"  # or bpr-max
    bpreg: float = 1.0  # bpr-max: strength of the score regulariser
    elu: float = 0.5  # bpr-max: scores pass through ELU of this; 0 for none
    negatives: int = 2048  # S, extra sampled negatives per step, shared by the batch
    sample_alpha: float = 0.5  # negatives ∝ clicks^alpha: 0 uniform, 1 popularity
    logq: float = 1.0  # strength of the correction for how often an item is drawn
    # choosing the weights
    validation: float = 0.1  # last share of the training sessions kept apart; 0 for none
    patience: int = 2  # epochs without a better score before training stops
    select_by: str = "mrr@20"  # the validation metric that decides which weights are best
    refit: bool = True  # then train on all sessions for the best number of epochs
    window: int = 50  # clicks a state remembers, in evaluation and in the service
    seed: int = 1

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be {rule}, got {value!r}." for name, rule, value in self._broken()
        ]
        if problems:
            raise BadRecipe("The recipe cannot be used", problems)

    def _broken(self) -> list[tuple[str, str, object]]:
        """(name, rule, value) of every setting outside its range."""
        at_least_one = ("hidden", "layers", "epochs", "batch", "patience", "window")
        ranges = [(name, "at least 1", getattr(self, name) >= 1) for name in at_least_one]
        shares = ("dropout_embedding", "dropout_hidden", "momentum")
        ranges += [
            (name, "at least 0 and below 1", 0 <= getattr(self, name) < 1) for name in shares
        ]
        ranges += [
            ("learning_rate", "above 0 and finite", 0 < self.learning_rate < math.inf),
            (
                "momentum",
                "0 unless optimiser is adagrad",
                self.optimiser == "adagrad" or self.momentum == 0,
            ),
            ("warmup", "at least 0 and below 1", 0 <= self.warmup < 1),
            ("negatives", "at least 0", self.negatives >= 0),
            ("batch", "at least 2 where negatives is 0", self.batch >= 2 or self.negatives > 0),
            ("sample_alpha", "from 0 to 1", 0 <= self.sample_alpha <= 1),
            ("logq", "from 0 to 1", 0 <= self.logq <= 1),
            ("validation", "at least 0 and at most 0.5", 0 <= self.validation <= 0.5),
            ("seed", "from 0 to 4294967295", 0 <= self.seed < 2**32),
        ]
        ranges += [
            (name, "at least 0 and finite", 0 <= getattr(self, name) < math.inf)
            for name in ("accumulator", "clip", "weight_decay", "l1", "bpreg", "elu")
        ]
        ranges += [
            (name, f"one of {', '.join(words)}", getattr(self, name) in words)
            for name, words in CHOICES.items()
        ]
        return [(name, rule, getattr(self, name)) for name, rule, holds in ranges if not holds]


SETTINGS = {field.name: field for field in dataclasses.fields(Recipe)}


def recipe_names() -> list[str]:
    """Names of the built-in recipes."""
    folder = resources.files("training") / "recipes"
    return sorted(
        f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")
    )


def load_recipe(chosen: str, overrides: Sequence[str] = ()) -> Recipe:
    """A built-in recipe by name or a TOML file by path, with `name=value` overrides on top."""
    return checked_recipe(_parsed(_text_of(chosen), f"recipe {chosen}"), overrides)


def checked_recipe(given: Mapping[str, object], overrides: Sequence[str] = ()) -> Recipe:
    """Settings by name, with `name=value` overrides on top; raises `BadRecipe`."""
    values = dict(given)
    problems = []
    for override in overrides:
        name, equals, value = override.partition("=")
        if not equals:
            problems.append(f"--set {override!r} has no '='. Write --set name=value.")
            continue
        values[name.strip()] = _value(value.strip())
    settings, wrong = _checked(values)
    if problems + wrong:
        raise BadRecipe("The recipe cannot be used", problems + wrong)
    return Recipe(**settings)  # type: ignore[arg-type]  # _checked has compared every type


def _text_of(chosen: str) -> str:
    path = Path(chosen)
    try:
        if path.suffix == ".toml":
            return path.read_text(encoding="utf-8")
        if chosen in recipe_names():
            file = resources.files("training") / "recipes" / f"{chosen}.toml"
            return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as broken:
        raise BadRecipe("The recipe cannot be used", [f"{path}: {broken}."]) from broken
    near = difflib.get_close_matches(chosen, recipe_names(), n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise BadRecipe(
        "The recipe cannot be used",
        [
            f"there is no recipe {chosen!r}.{hint} Built in: {', '.join(recipe_names())}; "
            "or give a file that ends in .toml."
        ],
    )


def _parsed(text: str, what: str) -> Mapping[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as broken:
        raise BadRecipe("The recipe cannot be used", [f"{what} is not TOML: {broken}."]) from broken


def _value(text: str) -> object:
    """A TOML value where the text is one, the text itself otherwise (`select_by=mrr@20`)."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _checked(values: Mapping[str, object]) -> tuple[dict[str, object], list[str]]:
    """Settings of the right names and types, and a problem for each of the others."""
    settings: dict[str, object] = {}
    problems = []
    for name, value in values.items():
        if name not in SETTINGS:
            near = difflib.get_close_matches(name, SETTINGS, n=1)
            hint = f" Did you mean {near[0]}?" if near else f" Settings: {', '.join(SETTINGS)}."
            problems.append(f"{name} is not a setting.{hint}")
            continue
        wanted = SETTINGS[name].type
        assert isinstance(wanted, type), "settings are annotated with plain types"
        if wanted is float and type(value) is int:
            value = float(value)
        if type(value) is not wanted:
            problems.append(f"{name} must be {wanted.__name__}, got {value!r}.")
            continue
        settings[name] = value
    return settings, problems
