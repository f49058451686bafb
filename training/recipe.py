"""One training run, written down: every number that changes the result.

A recipe is a TOML file of these settings, a built-in one by name, or the defaults; single
settings are overridden by `--set name=value`. All problems are reported together.
"""

import ast
import dataclasses
import difflib
import json
import logging
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from recsys.errors import BadRecipe, Problems
from recsys.model.cells import CELLS
from recsys.model.gru4rec import EMBEDDINGS, ModelSize
from recsys.retrieval.candidates import KINDS, REMOVED_KINDS

log = logging.getLogger("recsys")


def shipped_names(kind: str) -> list[str]:
    """Names of the built-in files of this kind."""
    folder = resources.files("training") / f"{kind}s"
    return sorted(
        f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")
    )


def read_toml(chosen: str, kind: str, refusal: type[Problems]) -> dict[str, Any]:
    """The tables of a built-in file or of a path that ends in .toml; raises `refusal`."""
    try:
        return tomllib.loads(_text_of(chosen, kind, refusal))
    except tomllib.TOMLDecodeError as broken:
        raise refusal(
            f"The {kind} cannot be used", [f"{kind} {chosen} is not TOML: {broken}."]
        ) from broken


def _text_of(chosen: str, kind: str, refusal: type[Problems]) -> str:
    path, names = Path(chosen), shipped_names(kind)
    try:
        if path.suffix == ".toml":
            return path.read_text(encoding="utf-8")
        if chosen in names:
            file = resources.files("training") / f"{kind}s" / f"{chosen}.toml"
            return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as broken:
        raise refusal(f"The {kind} cannot be used", [f"{path}: {broken}."]) from broken
    near = difflib.get_close_matches(chosen, names, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise refusal(
        f"The {kind} cannot be used",
        [
            f"there is no {kind} {chosen!r}.{hint} Built in: {', '.join(names)}; "
            "or give a file that ends in .toml."
        ],
    )


CHOICES = {
    "cell": tuple(CELLS),
    "embedding": EMBEDDINGS,
    "optimiser": ("adagrad", "adam", "adamw", "nadam"),
    "schedule": ("constant", "linear", "cosine"),
    "loss": ("cross-entropy", "bpr-max"),
    "batches": ("sessions", "lanes"),
    "precision": ("float32", "bfloat16"),
    "columns": ("distinct", "drawn", "full"),
    "blend": ("none", "v-sknn", "vstan"),
    "retrieval": ("auto", "exact", *reversed(KINDS)),
    "select_by": ("recall@20", "mrr@20", "ndcg@20"),
}
FROM_ONE = (
    *("hidden", "layers", "epochs", "batch", "patience", "window"),
    *("neighbours", "candidates"),
)
SHARES = (
    *("dropout_embedding", "dropout_hidden", "momentum", "average", "warmup"),
    "blend_weight",
)
FROM_ZERO = (
    *("accumulator", "clip", "weight_decay", "l1", "bpreg", "elu", "scale"),
    *("idf", "click_decay", "age_decay_days", "distance_decay"),
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """The numbers of a run; the comment says what each one is."""

    # model
    hidden: int = 192  # H, units per layer and numbers per item
    layers: int = 1  # L, one upon the other
    cell: str = "gru"  # or gru-reset-before, lstm, rnn
    embedding: str = "shared"  # clicks are read from the item matrix; or separate, none (one-hot)
    embedding_width: int = 0  # X, numbers per clicked item where embedding is separate; 0 for H
    scale: float = 16.0  # of cosine scores, of the order of 16; 0 for inner products
    # optimisation
    epochs: int = 10  # passes over the training sessions, at most
    batches: str = "sessions"  # read whole; or lanes, one click of each a step (the paper's)
    batch: int = 128  # B, sessions side by side, about so many where they are read whole
    optimiser: str = "adagrad"  # or adam, adamw, nadam
    learning_rate: float = 0.1  # of the order of 0.1 for Adagrad, 0.003 for the others
    momentum: float = 0.0  # Adagrad's, a heavy ball's; 0 for none
    accumulator: float = 0.0  # Adagrad's squared gradients begin with it; above 0 to go on gently
    schedule: str = "constant"  # or linear, cosine: to zero over `epochs`
    warmup: float = 0.01  # share of the run in which the rate rises from zero
    clip: float = 0.0  # longest gradient, by its norm over everything; 0 for any
    weight_decay: float = 0.0  # L2 on all weights a batch touches; beside the gradient in adamw
    average: float = 0.0  # decay a step of the weights' moving average, which is shipped; 0: none
    l1: float = 0.0  # L1 on the item vectors a batch touches
    dropout_embedding: float = 0.45  # share of the clicked item's numbers dropped
    dropout_hidden: float = 0.15  # share of each layer's output dropped
    precision: str = "float32"  # of the scores' product; bfloat16 where a processor is built for it
    # loss
    loss: str = "cross-entropy"  # or bpr-max
    bpreg: float = 1.0  # bpr-max: strength of the score regulariser
    elu: float = 0.5  # bpr-max: scores pass through ELU of this; 0 for none
    columns: str = "distinct"  # scored in a step: distinct items, all those drawn, or full
    mask: bool = True  # drawn: columns that hold a row's own target by accident do not count
    negatives: int = 2048  # S, extra sampled negatives per step, shared by the batch
    sample_alpha: float = 0.0  # negatives ∝ clicks^alpha: 0 uniform, 1 popularity
    logq: float = 1.0  # strength of the correction for how often an item is drawn
    # choosing the weights
    validation: float = 0.1  # last share of the training sessions kept apart; 0 for none
    patience: int = 2  # epochs without a better score before training stops
    select_by: str = "mrr@20"  # the validation metric that decides which weights are best
    refit: bool = True  # then train on all sessions for the best number of epochs
    window: int = 50  # clicks a state remembers, in evaluation and in the service
    seed: int = 1  # of all random numbers: the same seed, the same weights
    retrieval: str = "auto"  # how a bundle finds items: exact, int8, ivf, lists; or auto
    # session neighbours beside the model (recsys/neighbours/scoring.py)
    blend: str = "none"  # or v-sknn, vstan
    blend_weight: float = 0.0  # the neighbours' part; 0 to choose it on the validation sessions
    neighbours: int = 500  # most similar sessions that are asked
    candidates: int = 2500  # most recent sessions that are compared
    idf: float = 1.0  # strength of the inverse item frequency
    click_decay: float = 2.0  # vstan: clicks back until a weight of 1/e; 0 for linear
    age_decay_days: float = 60.0  # vstan: age of a neighbour until 1/e; 0 for any age alike
    distance_decay: float = 3.0  # vstan: clicks from the shared item until 1/e; 0 for none

    def __post_init__(self) -> None:
        if self.retrieval in REMOVED_KINDS:
            log.warning("retrieval %r was removed: int8 is used instead.", self.retrieval)
            object.__setattr__(self, "retrieval", "int8")
        problems = [
            f"{name} must be {rule}, got {value!r}." for name, rule, value in self._broken()
        ]
        if problems:
            raise BadRecipe("The recipe cannot be used", problems)

    def _broken(self) -> list[tuple[str, str, object]]:
        """(name, rule, value) of every setting outside its range."""
        ranges = [
            *((name, "at least 1", getattr(self, name) >= 1) for name in FROM_ONE),
            *((name, "at least 0 and below 1", 0 <= getattr(self, name) < 1) for name in SHARES),
            *(
                (name, "at least 0 and finite", 0 <= getattr(self, name) < math.inf)
                for name in FROM_ZERO
            ),
            *self._rules(),
            *(
                (name, f"one of {', '.join(words)}", getattr(self, name) in words)
                for name, words in CHOICES.items()
            ),
        ]
        return [(name, rule, getattr(self, name)) for name, rule, holds in ranges if not holds]

    def _rules(self) -> list[tuple[str, str, bool]]:
        """(name, rule, whether it holds) of what has a range of its own, or hangs together."""
        separate = self.embedding == "separate"
        return [
            ("learning_rate", "above 0 and finite", 0 < self.learning_rate < math.inf),
            (
                "momentum",
                "0 unless optimiser is adagrad",
                self.optimiser == "adagrad" or self.momentum == 0,
            ),
            (
                "embedding_width",
                "at least 0, and 0 unless embedding is separate",
                self.embedding_width == 0 or (self.embedding_width > 0 and separate),
            ),
            ("negatives", "at least 0", self.negatives >= 0),
            (
                "batch",
                "at least 2 where negatives is 0",
                self.batch >= 2 or self.negatives > 0 or self.columns == "full",
            ),
            ("sample_alpha", "from 0 to 1", 0 <= self.sample_alpha <= 1),
            ("logq", "from 0 to 1", 0 <= self.logq <= 1),
            ("validation", "at least 0 and at most 0.5", 0 <= self.validation <= 0.5),
            ("neighbours", "at most 1048576", self.neighbours <= 1 << 20),
            ("candidates", "at most 1048576", self.candidates <= 1 << 20),
            (
                "blend_weight",
                "above 0 where blend is set and validation is 0, which leaves nothing to choose on",
                self.blend == "none" or self.blend_weight > 0 or self.validation > 0,
            ),
            ("seed", "from 0 to 4294967295", 0 <= self.seed < 2**32),
        ]

    def size(self, items: int) -> ModelSize:
        """Of this recipe's model over a catalogue of so many items."""
        return ModelSize(
            items,
            self.hidden,
            self.layers,
            self.cell,
            self.embedding,
            self.embedding_width,
            self.scale,
        )


SETTINGS = {field.name: field for field in dataclasses.fields(Recipe)}


def recipe_names() -> list[str]:
    """Names of the built-in recipes."""
    return shipped_names("recipe")


def load_recipe(chosen: str, overrides: Sequence[str] = ()) -> Recipe:
    """A built-in recipe by name or a TOML file by path, with `name=value` overrides on top."""
    return checked_recipe(read_toml(chosen, "recipe", BadRecipe), overrides)


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
    settings, wrong = checked_settings(values)
    if problems + wrong:
        raise BadRecipe("The recipe cannot be used", problems + wrong)
    return Recipe(**settings)  # type: ignore[arg-type]  # checked_settings has compared every type


def as_toml(recipe: Recipe) -> str:
    """Every setting, one a line, as `load_recipe` reads it."""
    values = dataclasses.asdict(recipe)
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())


def _value(text: str) -> object:
    """A value as TOML or Python writes it (`.1`, `False`), else the text (`select_by=mrr@20`)."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def checked_settings(values: Mapping[str, object]) -> tuple[dict[str, object], list[str]]:
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
