"""Recipes: every setting of one training run that changes the result.

A recipe is a TOML file of these settings, a built-in recipe by name, or the defaults. `--set
name=value` overrides single settings. All problems are reported together. Old names of settings and
values are accepted with a warning.
"""

import ast
import dataclasses
import difflib
import json
import logging
import math
import tomllib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Self

import pydantic
from pydantic import ConfigDict, Field, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from recsys.errors import BadRecipe, Problems, RenamedSetting
from recsys.model.cells import CELLS
from recsys.model.gru4rec import EMBEDDINGS, ModelSize
from recsys.retrieval.candidates import KINDS, REMOVED_KINDS

log = logging.getLogger("recsys")

HEADING = "The recipe cannot be used"


def shipped_names(kind: str) -> list[str]:
    """Return the names of the built-in files of this kind, `recipe` or `space`."""
    folder = resources.files("training") / f"{kind}s"
    return sorted(
        f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")
    )


def read_toml(
    name_or_path: str, kind: str, error: type[Problems], also: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the tables of a built-in file, or of a path that ends in .toml; raise `error`."""
    try:
        return tomllib.loads(_text_of(name_or_path, kind, error, also))
    except tomllib.TOMLDecodeError as broken:
        raise error(
            f"The {kind} cannot be used", [f"{kind} {name_or_path} is not TOML: {broken}."]
        ) from broken


def _text_of(name_or_path: str, kind: str, error: type[Problems], also: Sequence[str]) -> str:
    path, names = Path(name_or_path), [*also, *shipped_names(kind)]
    try:
        if path.suffix == ".toml":
            return path.read_text(encoding="utf-8")
        if name_or_path in shipped_names(kind):
            file = resources.files("training") / f"{kind}s" / f"{name_or_path}.toml"
            return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as broken:
        raise error(f"The {kind} cannot be used", [f"{path}: {broken}."]) from broken
    near = difflib.get_close_matches(name_or_path, names, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise error(
        f"The {kind} cannot be used",
        [
            f"there is no {kind} {name_or_path!r}.{hint} Built in: {', '.join(names)}; "
            "or give a file that ends in .toml."
        ],
    )


CHOICES = {
    "cell": tuple(CELLS),
    "embedding": EMBEDDINGS,
    "optimizer": ("adagrad", "adam", "adamw", "nadam"),
    "schedule": ("constant", "linear", "cosine"),
    "loss": ("cross-entropy", "bpr-max"),
    "batches": ("sessions", "session-parallel"),
    "precision": ("float32", "bfloat16"),
    "scored_items": ("unique", "with-duplicates", "all"),
    "recent_popularity": ("auto", "none"),
    "repeats": ("auto", "none"),
    "blend": ("none", "auto", "v-sknn", "vstan"),
    "retrieval": ("auto", "exact", *reversed(KINDS)),
    "select_by": ("recall@20", "mrr@20", "ndcg@20"),
}
# Old names, which recipes, bundles and checkpoints of earlier versions hold.
RENAMED_SETTINGS = {"optimiser": "optimizer", "columns": "scored_items"}
RENAMED_VALUES = {
    "batches": {"lanes": "session-parallel"},
    "scored_items": {"distinct": "unique", "drawn": "with-duplicates", "full": "all"},
}

AtLeastOne = Annotated[int, Field(ge=1)]
AtLeastZero = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Sessions = Annotated[int, Field(ge=1, le=1 << 20)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
UnitInterval = Annotated[float, Field(ge=0, le=1)]
UpToHalf = Annotated[float, Field(ge=0, le=0.5)]


@pydantic.dataclasses.dataclass(
    frozen=True,
    slots=True,
    config=ConfigDict(strict=True, allow_inf_nan=False, validate_default=True, extra="forbid"),
)
class Recipe:
    """Settings of a run; the comment beside each one explains it."""

    # model
    hidden: AtLeastOne = 192  # units of each layer (H), and length of an item vector
    layers: AtLeastOne = 1  # recurrent layers (L)
    cell: str = "gru"  # recurrent cell: gru, gru-reset-before, lstm, rnn
    embedding: str = "shared"  # input vectors: shared with the output, separate, none (one-hot)
    embedding_width: AtLeastZero = 0  # length of a separate input vector; 0: same as hidden
    scale: NonNegative = 16.0  # factor of cosine scores, about 16; 0: inner products
    # optimization
    epochs: AtLeastOne = 10  # highest number of passes over the training sessions
    batches: str = "sessions"  # whole sessions; or session-parallel: one click of each per step
    batch: AtLeastOne = 128  # sessions in a mini-batch (B); an average with whole sessions
    optimizer: str = "adagrad"  # adagrad, adam, adamw or nadam
    learning_rate: Positive = 0.1  # about 0.1 for Adagrad, 0.003 for the others
    momentum: Share = 0.0  # heavy-ball momentum of Adagrad; 0: none
    accumulator: NonNegative = 0.0  # initial value of Adagrad's accumulator of squared gradients
    schedule: str = "constant"  # learning rate: constant, or linear or cosine decay to 0
    warmup: NonNegative = 64.0  # steps until the full learning rate; below 1: share of the run
    clip: NonNegative = 0.0  # largest norm of the whole gradient; 0: no clipping
    weight_decay: NonNegative = 0.0  # L2 on all weights of a step; decoupled in adamw
    average: Share = 0.0  # decay per step of the weights' moving average, which is exported; 0: off
    l1: NonNegative = 0.0  # L1 on the item vectors of a step
    dropout_embedding: Share = 0.45  # dropout rate of the input vectors
    dropout_hidden: Share = 0.15  # dropout rate of each layer's output
    dropout_items: Share = 0.5  # with content: share of a step's items without their own vector
    precision: str = "float32"  # of the scores' product; bfloat16 is slow without instructions
    # loss
    loss: str = "cross-entropy"  # cross-entropy or bpr-max
    bpreg: NonNegative = 1.0  # bpr-max: strength of the score regularization
    elu: NonNegative = 0.5  # bpr-max: alpha of the ELU on the scores; 0: no ELU
    scored_items: str = "unique"  # candidates of a step: unique, with-duplicates, or all items
    mask: bool = True  # with-duplicates: ignore sampled copies of a row's own target
    negatives: AtLeastZero = 2048  # sampled negatives of a step, shared by the batch (S)
    sample_alpha: UnitInterval = 0.0  # sample negatives by clicks^alpha; 0: uniform, 1: popularity
    logq: UnitInterval = 1.0  # strength of the logQ correction for sampling frequency
    # event types of clicks, with --event-column
    event_weights: str = ""  # weight in the loss of targets of a type, 1 for others: cart=3,order=6
    event_targets: str = ""  # learn only targets of these types: cart,order; empty: of all types
    exclude_after: str = ""  # leave items with such a click out of the session's lists: order
    # model selection
    validation: UpToHalf = 0.1  # last share of sessions to validate on, small logs more; 0: none
    patience: AtLeastOne = 2  # epochs without a better validation score before training stops
    select_by: str = "mrr@20"  # validation metric that selects the best epoch
    refit: bool = True  # then train on all sessions for the best number of epochs
    window: AtLeastOne = 50  # last clicks that a state is computed from, offline and in the service
    seed: Seed = 1  # of all random numbers; the same seed gives the same weights
    max_cases: AtLeastZero = 1_000_000  # next clicks to evaluate; of more, a sample; 0: all
    retrieval: str = "auto"  # how a bundle finds items; auto: the fastest way with enough recall
    recent_popularity: str = "auto"  # term of each item for its newest clicks: auto, none
    new_item_cost: Share = 0.01  # with content: share of recall that items without clicks may cost
    repeats: str = "auto"  # bonus for items of the session: auto, fitted on validation; none
    # session neighbours blended with the model (recsys/neighbours/scoring.py)
    blend: str = "none"  # none, v-sknn, vstan; auto: vstan, its settings chosen, too
    blend_weight: Share = 0.0  # weight of the neighbours; 0: chosen on the validation sessions
    neighbours: Sessions = 100  # most similar sessions that vote (k)
    candidates: Sessions = 500  # most recent sessions that are compared (m)
    idf: NonNegative = 1.0  # strength of the inverse item frequency
    click_decay: NonNegative = 2.0  # vstan: clicks back until the weight is 1/e; 0: linear
    age_decay_days: NonNegative = 60.0  # vstan: neighbour's age until the weight is 1/e; 0: none
    distance_decay: NonNegative = 3.0  # vstan: clicks from the shared item until 1/e; 0: none

    @pydantic.field_validator(*CHOICES)
    @classmethod
    def _is_a_choice(cls, value: str, info: ValidationInfo) -> str:
        if info.field_name == "retrieval" and value in REMOVED_KINDS:
            log.warning("retrieval %r was removed: int8 is used instead.", value)
            return "int8"
        words = CHOICES[info.field_name or ""]
        if value not in words:
            raise _broken_rule(f"{info.field_name} must be one of {', '.join(words)}", value)
        return value

    @pydantic.field_validator("event_weights")
    @classmethod
    def _has_weights(cls, value: str) -> str:
        try:
            weights = weights_of(value)
        except ValueError:
            weights = {"": 0.0}
        if not all(name and 0 < weight < math.inf for name, weight in weights.items()):
            raise _broken_rule("event_weights must be type=number above 0, by commas", value)
        return value

    @pydantic.field_validator("momentum", "embedding_width", "negatives", "blend_weight")
    @classmethod
    def _agrees_with_the_settings_above(cls, value: float, info: ValidationInfo) -> float:
        """Raise where two valid settings contradict each other; `info.data` holds those above."""
        above = info.data
        match info.field_name:
            case "momentum" if value > 0 and above.get("optimizer", "adagrad") != "adagrad":
                raise _broken_rule("momentum must be 0 unless optimizer is adagrad", value)
            case "embedding_width" if value > 0 and above.get("embedding") != "separate":
                raise _broken_rule("embedding_width must be 0 unless embedding is separate", value)
            case "negatives" if value == 0 and above.get("scored_items") != "all":
                if above.get("batch") == 1:
                    raise _broken_rule("batch must be at least 2 where negatives is 0", 1)
            case "blend_weight" if value == 0 and above.get("blend", "none") != "none":
                if above.get("validation") == 0:
                    raise _broken_rule(
                        "blend_weight must be above 0 where blend is set and validation is 0, "
                        "which leaves no sessions to choose it on",
                        value,
                    )
        return value

    @pydantic.model_validator(mode="wrap")
    @classmethod
    def _report_all_problems(
        cls, values: Any, handler: pydantic.ModelWrapValidatorHandler[Self]
    ) -> Self:
        try:
            return handler(values)
        except ValidationError as invalid:
            raise BadRecipe(HEADING, [_problem(error) for error in invalid.errors()]) from None

    def size(self, items: int, event_types: int = 1) -> ModelSize:
        """Return the size of this recipe's model over so many items and numbers of event types."""
        return ModelSize(
            items,
            self.hidden,
            self.layers,
            self.cell,
            self.embedding,
            self.embedding_width,
            self.scale,
            event_types,
        )


def names_of(value: str) -> tuple[str, ...]:
    """Return the names of a setting that has them by commas."""
    return tuple(name.strip() for name in value.split(",") if name.strip())


def weights_of(value: str) -> dict[str, float]:
    """Return name → weight of a setting like `cart=3,order=6`; raise `ValueError`."""
    pairs = [name.rpartition("=") for name in names_of(value)]
    return {name.strip(): float(weight) for name, _, weight in pairs}


@dataclass(frozen=True, slots=True)
class Setting:
    """Name, type and default of one setting."""

    name: str
    type: type[int | float | str]
    default: int | float | str


SETTINGS = {
    field.name: Setting(field.name, type(field.default), field.default)
    for field in dataclasses.fields(Recipe)
    if isinstance(field.default, int | float | str)
}


def load_recipe(
    name_or_path: str, overrides: Sequence[str] = (), also: Sequence[str] = ()
) -> Recipe:
    """Return a built-in recipe, or that of a TOML file, with `name=value` overrides on top.

    Args:
        name_or_path: Name of a built-in recipe, or a path that ends in .toml.
        overrides: Settings as `--set` takes them, `name=value`.
        also: Further names that the caller takes, for the message about a name that is unknown.

    Raises:
        BadRecipe: There is no such recipe, or a setting is wrong. It lists every problem.
    """
    return checked_recipe(read_toml(name_or_path, "recipe", BadRecipe, also), overrides)


def checked_recipe(given: Mapping[str, object], overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe of these settings, with `name=value` overrides on top.

    Raises:
        BadRecipe: A setting is unknown, of the wrong type or out of range. It lists every problem.
    """
    old_names: list[str] = []
    values, problems = current_names(given, old_names), []
    for override in overrides:
        name, equals, text = override.partition("=")
        if equals:
            values |= current_names({name.strip(): _value(text.strip())}, old_names)
        else:
            problems.append(f"--set {override!r} has no '='. Write --set name=value.")
    warn_of_old_names("recipe", old_names)
    try:
        recipe = Recipe(**values)  # type: ignore[arg-type]  # pydantic checks every type
    except BadRecipe as wrong:
        raise BadRecipe(HEADING, [*problems, *wrong.problems]) from None
    if problems:
        raise BadRecipe(HEADING, problems)
    return recipe


def current_names(values: Mapping[str, object], old_names: list[str]) -> dict[str, object]:
    """Return the settings under their current names and values; add each old one to `old_names`."""
    settings: dict[str, object] = {}
    for old, given in values.items():
        name = RENAMED_SETTINGS.get(old, old)
        value = _current_value(name, given)
        if name != old:
            old_names.append(f"{old} is now {name}")
        if isinstance(given, str | list) and value != given:
            old_names.append(f"{name} = {given!r} is now {value!r}")
        settings[name] = value
    return settings


def _current_value(name: str, value: object) -> object:
    if isinstance(value, list):
        return [_current_value(name, one) for one in value]
    return RENAMED_VALUES.get(name, {}).get(value, value) if isinstance(value, str) else value


def warn_of_old_names(kind: str, old_names: Sequence[str]) -> None:
    """Give one warning with all old names of a recipe or a space."""
    if old_names:
        text = "; ".join(dict.fromkeys(old_names))
        message = f"The {kind} has old names, which still work: {text}."
        warnings.warn(message, RenamedSetting, stacklevel=4)


def original_names(recipe: Recipe) -> dict[str, object]:
    """Return the settings as the first version spells them; fingerprints are made of these."""
    values = dataclasses.asdict(recipe)
    for name, renamed in RENAMED_VALUES.items():
        old = {new: value for value, new in renamed.items()}
        values[name] = old.get(values[name], values[name])
    old_names = {new: old for old, new in RENAMED_SETTINGS.items()}
    return {old_names.get(name, name): value for name, value in values.items()}


def as_toml(recipe: Recipe) -> str:
    """Return every setting on a line of its own, as `load_recipe` reads it."""
    values = dataclasses.asdict(recipe)
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())


def checked_settings(values: Mapping[str, object]) -> tuple[dict[str, object], list[str]]:
    """Return the settings of a known name and the right type, and a problem for each other one.

    A search space checks single settings so: ranges and contradictions depend on the base recipe.
    """
    settings: dict[str, object] = {}
    problems = []
    for name, value in values.items():
        if name not in SETTINGS:
            problems.append(_unknown(name))
            continue
        kind = SETTINGS[name].type
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is kind:
            settings[name] = value
        else:
            problems.append(f"{name} must be {kind.__name__}, got {value!r}.")
    return settings, problems


def _value(text: str) -> object:
    """Return a value written as in TOML or Python (`.1`, `False`), else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, SETTINGS, n=1)
    hint = f" Did you mean {near[0]}?" if near else f" Settings: {', '.join(SETTINGS)}."
    return f"{name} is not a setting.{hint}"


def _broken_rule(rule: str, value: object) -> PydanticCustomError:
    return PydanticCustomError("rule", "{text}", {"text": f"{rule}, got {value!r}."})


def _problem(error: ErrorDetails) -> str:
    """Return one problem in our words: setting, rule, and the value that we got."""
    name = str(error["loc"][0])
    if error["type"] == "rule":
        return error["msg"]
    if name not in SETTINGS:
        return _unknown(name)
    kind = SETTINGS[name].type
    rule = kind.__name__ if error["type"].endswith("_type") else " and ".join(_range(name))
    return f"{name} must be {rule}, got {error['input']!r}."


def _range(name: str) -> Iterator[str]:
    """Yield the limits of a setting, as its annotation has them."""
    schema = pydantic.TypeAdapter(Recipe).json_schema()["properties"][name]
    for key, word in (
        ("minimum", "at least"),
        ("exclusiveMinimum", "above"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "below"),
    ):
        if key in schema:
            yield f"{word} {schema[key]}"
    if SETTINGS[name].type is float and not {"maximum", "exclusiveMaximum"} & schema.keys():
        yield "finite"
