"""`recsys train`: read clicks, train, compare with the baselines, write the bundle."""

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console

from data.click_options import ClickOptions
from data.content import NO_CONTENT, ContentOptions, ItemContent, read_content
from data.files import UTF_8
from data.items import items_text, read_items
from data.prepare import Prepared
from data.prepared.folder import ClickSource, PreparedFolder, open_source
from data.sessions import Sessions, known_items
from data.statistics import describe
from recsys.bundle.layout import REPORT
from recsys.bundle.manifest import Manifest
from recsys.bundle.registry import UNFINISHED
from recsys.catalogue.catalogue import Catalogue
from recsys.errors import BadInput, BadRecipe
from recsys.fileio import check_new_folder, locked_folder
from recsys.model.recent_popularity import RecentPopularity
from recsys.neighbours.blend import Blend
from recsys.predictor import Predictor
from recsys.retrieval.exact import describe_retrieval
from training.additions.blend import blend_of, blend_summary
from training.additions.chooser import chooser_of
from training.additions.recent_popularity import recent_of
from training.baselines.newest import limits_of
from training.checkpoint import CHECKPOINT, Additions
from training.competition.budget import Budget
from training.competition.competition import Choice, Competition
from training.competition.rivals import Rival, incumbent_first
from training.competition.standing import LEAST_SESSIONS, judging_sessions, standings_table
from training.competition.standing import as_json as standings_as_json
from training.device import choose_device, device_warning
from training.evaluation.compare import (
    MODEL,
    Limits,
    as_json,
    compare_with_intervals,
    evaluate_with_baselines,
)
from training.evaluation.evaluate import Evaluation
from training.evaluation.new_items import evaluate_new_items
from training.evaluation.sample import sampled
from training.export import Export, golden_clicks, write_bundle
from training.model.weights import eager_predictor
from training.parallel.processes import ALONE, Processes
from training.progress import NamedProgress, TrainingBars, bar, counts_table, status, warn
from training.recipe import Recipe
from training.report.examples import example_visits
from training.report.render import ReportData, render_report
from training.report.summary import show
from training.retrieval.recall_check import ChosenRetrieval, choose_retrieval, states_from
from training.stop import Stop, stop_on_signal
from training.trainer import (
    CHECKPOINT_SECONDS,
    FromScratch,
    Initialiser,
    ItemTexts,
    Trainer,
    TrainingResult,
)
from training.validation import validation_split
from training.warm_start import WarmStart, merged_attributes


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Options of one run: input, output, recipe and device."""

    clicks: ClickSource
    out: Path
    recipe: Recipe = field(default_factory=Recipe)
    items: Path | None = None
    items_delimiter: str | None = None  # of the items file; None: that of the clicks
    items_encoding: str = UTF_8
    content: ContentOptions = NO_CONTENT  # attributes and vectors that are part of the model
    resume: bool = False
    device: str = "auto"
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    command: str = ""  # the command line, for the report
    recipe_name: str = ""  # for the bundle
    rivals: Sequence[Rival] = ()  # that compete with the recipe; none: exactly the recipe
    budget: Budget = field(default_factory=Budget)  # of the competition and the refit
    warm_start: WarmStart | None = None  # initial weights of a bundle; None: random ones
    attributes_of: Catalogue | None = None  # whose attributes stay where the items file has none

    def __post_init__(self) -> None:
        if not self.checkpoint_seconds >= 0:
            raise BadInput(
                "The options cannot be used",
                [f"--checkpoint-seconds must be at least 0, got {self.checkpoint_seconds}."],
            )

    @property
    def work(self) -> Path:
        """Return the folder of an unfinished run's checkpoint, beside the bundle."""
        return self.out.with_name(self.out.name + UNFINISHED)


def train(options: TrainOptions, console: Console, processes: Processes = ALONE) -> Path:
    """Run `train_bundle` and say where its bundle is; return the bundle's folder."""
    manifest = train_bundle(options, console, processes)
    if manifest is not None:
        console.print(
            f"\nBundle {options.out} holds model {manifest.model_id}; the report is in\n"
            f"  {options.out / REPORT}\n"
            f"Serve it:\n"
            f"  recsys serve --bundle {options.out}",
            soft_wrap=True,
            markup=False,  # a path is never markup
        )
    return options.out


def train_bundle(
    options: TrainOptions, console: Console, processes: Processes = ALONE
) -> Manifest | None:
    """Train on a click log and write a bundle; return its manifest, None in other processes.

    Args:
        options: Options of the run.
        console: Where progress and results are shown.
        processes: They share the training and the test of the model. The first of them tests the
            baselines and writes the bundle; the others return before.

    Raises:
        BadInput: Clicks, items, output folder, device or checkpoint cannot be used.
        Interrupted: A signal stopped the run; `--resume` goes on.
        TrainingStopped: The loss or a weight is NaN or infinite.
        AnotherProcessFailed: Another process cannot go on, and has the message.
    """
    with ExitStack() as stack:
        with processes.all_or_none():
            _check_embedding(options)
            device = choose_device(options.device)
            if processes.is_first:
                check_new_folder(options.out, "The bundle")
                stack.enter_context(work_folder(options.work))
                _check_unfinished(options, is_restart=processes.is_restart)
            prepared, about_items = _read(options, console)
        return _train_and_write(options, prepared, about_items, device, console, processes)


@dataclass(frozen=True)
class AboutItems:
    """Contents of the items file: attributes of the catalogue, and content of the model."""

    attributes: ItemTexts
    content: ItemContent | None = None


def _read(options: TrainOptions, console: Console) -> tuple[Prepared, AboutItems]:
    """Read clicks and items, and show what was read."""
    with bar(console, "Reading clicks", "") as progress:
        prepared = open_source(options.clicks, progress)
    about_items, summary = _read_items(options, prepared.train)
    console.print(counts_table(prepared.counts))
    warn(console, *prepared.warnings)
    if summary:
        console.print(summary, markup=False)
    if options.warm_start is not None:
        console.print(options.warm_start.summary(prepared.train))
    return prepared, about_items


def _train_and_write(
    options: TrainOptions,
    prepared: Prepared,
    about_items: AboutItems,
    device: torch.device,
    console: Console,
    processes: Processes,
) -> Manifest | None:
    """Train on the clicks that were read, test and write the bundle; see `train_bundle`."""
    choice, trained = _fit(options, prepared, about_items, device, console, processes)
    options = dataclasses.replace(options, recipe=choice.rival.recipe)
    recipe, catalogue, additions = options.recipe, trained.catalogue, trained.additions
    blend = blend_of(additions.blend, catalogue, prepared.train)
    recent = recent_of(additions.recent, catalogue, prepared.train)
    _show_additions(recipe, additions, console)
    predictor = eager_predictor(
        trained.weights, catalogue, recipe, blend, additions.repeats, recent
    )
    retrieval = _retrieval(recipe, prepared, trained, predictor, console, processes)
    results, limits = _test(options, prepared, predictor, console, processes)
    if not processes.is_first:
        return None
    report_data = _report_data(
        options, prepared, choice, trained, device, results, limits, predictor
    )
    export = _export(options, prepared, choice, trained, report_data, blend, recent, retrieval)
    manifest = write_bundle(options.out, export)
    shutil.rmtree(options.work)
    show(report_data.results, report_data.comparison, console)
    return manifest


def _fit(
    options: TrainOptions,
    prepared: Prepared,
    items: AboutItems,
    device: torch.device,
    console: Console,
    processes: Processes,
) -> tuple[Choice, TrainingResult]:
    """Choose the recipe and train its model, or resume this."""
    initialiser: Initialiser = FromScratch(items.attributes, items.content)
    if options.warm_start is not None:
        initialiser = options.warm_start.with_items(items.attributes, items.content)
    with ExitStack() as stack:
        bars = stack.enter_context(TrainingBars(console))
        stop = stack.enter_context(stop_on_signal(patient=processes.size > 1))
        base_model = None if options.warm_start is None else options.warm_start.base_model
        kept = None if base_model is None else base_model.additions
        rivals = incumbent_first(
            [Rival(options.recipe_name, options.recipe), *options.rivals], len(prepared.train.items)
        )
        alone = _without_competition(options, rivals, prepared, console)

        def trainer_of(rival: Rival, search_epochs: int, *, wins: bool = False) -> Trainer:
            folder = options.work if alone is not None else options.work / rival.name
            if processes.is_first:
                folder.mkdir(exist_ok=True)
            keeps_blend = base_model is not None and base_model.keeps_blend(rival.recipe)
            choose = chooser_of(rival.recipe, kept, keeps_blend=keeps_blend)
            return Trainer(
                rival.recipe,
                folder,
                device,
                bars if alone is not None else NamedProgress(bars, rival.name),
                choose_additions=choose if wins else None,
                checkpoint_seconds=options.checkpoint_seconds,
                search_epochs=search_epochs,
                processes=processes,
            )

        choice = alone or _compete(
            options, rivals, prepared, trainer_of, initialiser, stop, console, processes
        )
        recipe = choice.rival.recipe
        console.print(
            f"\nTraining on {device}: {recipe.layers} {recipe.cell} "
            f"layer{'s' if recipe.layers > 1 else ''} of {recipe.hidden} units."
        )
        warn(console, device_warning(recipe, device))
        trainer = trainer_of(choice.rival, choice.search_epochs, wins=True)
        trained = trainer.train(prepared.train, prepared.valid, initialiser, stop)
        weights = trained.weights.with_new_items(trained.additions.new_items)
        return choice, dataclasses.replace(trained, weights=weights)


def _without_competition(
    options: TrainOptions, rivals: Sequence[Rival], prepared: Prepared, console: Console
) -> Choice | None:
    """Return the incumbent where it has no rivals, or too few sessions can judge them.

    Raises:
        BadInput: The work folder has the other kind of run.
    """
    incumbent = rivals[0]
    sample = validation_split(prepared.train, prepared.valid, incumbent.recipe)[1]
    if sample is not None and sample.is_part:
        console.print(sample.describe("validation"))
    judging = judging_sessions(None if sample is None else sample.sessions)
    compete = len(rivals) > 1 and judging >= LEAST_SESSIONS
    if len(rivals) > 1 and not compete:
        console.print(
            f"Recipes compete on at least {LEAST_SESSIONS} validation sessions, and there are "
            f"{judging}: recipe {incumbent.name} is trained, the incumbent of logs of this size."
        )
    others = sorted(options.work.glob(CHECKPOINT if compete else f"*/{CHECKPOINT}"))
    if others:
        owner = "one recipe" if compete else "--recipe auto"
        raise BadInput(
            "The run cannot be resumed",
            [
                f"{others[0]} belongs to a run with {owner}. "
                "Repeat the first command, or delete the folder to begin anew."
            ],
        )
    if compete:
        return None
    return Choice(incumbent, incumbent.recipe.epochs, [])


def _compete(
    options: TrainOptions,
    rivals: Sequence[Rival],
    prepared: Prepared,
    trainer_of: Callable[[Rival, int], Trainer],
    initialiser: Initialiser,
    stop: Stop,
    console: Console,
    processes: Processes,
) -> Choice:
    """Let the recipes compete, and show how each of them ended."""
    console.print(
        f"\nRecipes {', '.join(rival.name for rival in rivals)} compete within {options.budget}; "
        "--recipe NAME trains one of them."
    )
    competition = Competition(
        rivals,
        options.budget,
        options.work,
        trainer_of,
        prepared.train,
        prepared.valid,
        initialiser,
        stop,
        processes,
    )
    choice = competition.run()
    console.print(standings_table(choice.standings, options.budget))
    return choice


def _show_additions(recipe: Recipe, additions: Additions, console: Console) -> None:
    if additions.new_items is not None:
        console.print(f"New items: {additions.new_items_summary}.")
    if recipe.recent_popularity != "none":
        console.print(f"Recent popularity: {additions.recent_summary}.")
    if recipe.repeats != "none":
        console.print(f"Repeated items: {additions.repeats_summary}.")
    if recipe.blend != "none":
        console.print(f"Blend: {blend_summary(recipe, additions.blend)}.")


def _test(
    options: TrainOptions,
    prepared: Prepared,
    predictor: Predictor,
    console: Console,
    processes: Processes,
) -> tuple[dict[str, Evaluation], Limits]:
    """Evaluate the model and, in the first process, the baselines and the base model."""
    test = sampled(prepared.test, options.recipe.max_cases)
    if test.is_part:
        console.print(test.describe("test"))
    tested = evaluate_with_baselines(
        predictor,
        predictor.catalogue,
        prepared.train,
        test.sessions,
        console,
        processes,
        prepared.test,
    )
    results = dict(tested.results)
    if options.warm_start is not None and processes.is_first:
        results |= options.warm_start.base_model.results(test.sessions, prepared.test)
    sentences = limits_of(prepared.train, predictor.blend is not None) + tested.sentences
    return results, Limits.of(test, sentences)


def _report_data(
    options: TrainOptions,
    prepared: Prepared,
    choice: Choice,
    trained: TrainingResult,
    device: torch.device,
    results: dict[str, Evaluation],
    limits: Limits,
    predictor: Predictor,
) -> ReportData:
    test = sampled(prepared.test, options.recipe.max_cases).sessions
    new_items = evaluate_new_items(predictor, test)
    return ReportData(
        command=options.command,
        device=str(device),
        counts=prepared.counts,
        train=describe(prepared.train),
        test=describe(prepared.test),
        epochs=trained.results,
        results=results,
        comparison=compare_with_intervals(results, trained.catalogue.counts, limits, new_items),
        log_warnings=prepared.warnings,
        standings=choice.standings,
        examples=example_visits(predictor, test, results[MODEL]),
    )


@contextmanager
def work_folder(work: Path) -> Iterator[None]:
    """Create and lock the folder of the checkpoint; remove it where a run fails without one."""
    work.mkdir(parents=True, exist_ok=True)
    in_use = f"it uses {work}. Wait for it, or name another --out."
    with locked_folder(work, BadInput("Another run is at work", [in_use])):
        try:
            yield
        except BaseException:
            folders = (*work.iterdir(), work) if work.exists() else ()  # gone after the bundle
            for folder in folders:  # a file or a folder with files in it stays
                with suppress(OSError):
                    folder.rmdir()
            raise


def _check_embedding(options: TrainOptions) -> None:
    """Raise `BadRecipe` where a recipe cannot have content."""
    recipes = [options.recipe, *(rival.recipe for rival in options.rivals)]
    separate = [recipe.embedding for recipe in recipes if recipe.embedding != "shared"]
    if options.content and separate:
        raise BadRecipe(
            "The recipe cannot be used",
            [
                f"embedding must be shared with --content, got {separate[0]!r}: the content of an "
                "item is part of one vector, for input and output."
            ],
        )


def _check_unfinished(options: TrainOptions, *, is_restart: bool) -> None:
    if any(options.work.iterdir()) and not (options.resume or is_restart):
        raise BadInput(
            "An unfinished run is there",
            [f"{options.work}. Go on with --resume, or delete it to begin anew."],
        )


def _read_items(options: TrainOptions, train: Sessions) -> tuple[AboutItems, str]:
    """Return what the items file has of the items of the log and those of the base model.

    With content, all of its items are in the catalogue; the second value is a sentence about them.
    """
    old = options.attributes_of
    if options.warm_start is not None:
        old = options.warm_start.base_model.catalogue
    if options.items is None:
        return AboutItems(merged_attributes(old, {})), ""
    reading = _reading_of(options)
    text = items_text(options.items_delimiter or reading.delimiter, options.items_encoding)
    items = read_items(options.items, reading.item_column, text)
    lacking = items.lacks(known_items(train))
    item_ids = dict.fromkeys([*train.item_ids, *(old.item_ids if old is not None else ())])
    content, summary = None, ""
    if options.content:
        content = read_content(items, reading.item_column, options.content)
        item_ids |= dict.fromkeys(content.ids.to_pylist())
        summary = content.describe(lacking)
    lists = () if content is None else content.lists
    columns = items.attributes(list(item_ids), left_out=lists)
    read = {name: dict(zip(item_ids, texts, strict=True)) for name, texts in columns.items()}
    return AboutItems(merged_attributes(old, read), content), summary


def _retrieval(
    recipe: Recipe,
    prepared: Prepared,
    trained: TrainingResult,
    predictor: Predictor,
    console: Console,
    processes: Processes,
) -> ChosenRetrieval:
    """Choose how the bundle finds its items, and show it."""
    with status(console, "Choosing how items are found") as update:
        chosen = choose_retrieval(
            recipe,
            trained.weights,
            predictor,
            states_from(prepared, recipe),
            lambda kind: update(f"Choosing how items are found: {kind}"),
            processes,
        )
    console.print(describe_retrieval(chosen.settings))
    return chosen


def _export(
    options: TrainOptions,
    prepared: Prepared,
    choice: Choice,
    trained: TrainingResult,
    report_data: ReportData,
    blend: Blend | None,
    recent: RecentPopularity | None,
    retrieval: ChosenRetrieval,
) -> Export:
    golden, golden_events = golden_clicks(prepared.train, options.recipe.window)
    return Export(
        weights=trained.weights,
        catalogue=trained.catalogue,
        recipe=options.recipe,
        metrics=as_json(report_data.results, report_data.comparison),
        training={
            "sessions": len(prepared.train),
            "clicks": len(prepared.train.items),
            "cut_off": prepared.cut_off,
            "best_epoch": trained.best_epoch,
            **_record(options, choice),
            **_reading_record(options),
            "recent_popularity": trained.additions.recent_summary,
            "repeats": trained.additions.repeats_summary,
            "blend": blend_summary(options.recipe, trained.additions.blend),
            **_content_record(trained),
            **(options.warm_start.record(prepared.train) if options.warm_start else {}),
        },
        golden=golden,
        golden_events=golden_events,
        repeats=trained.additions.repeats,
        blend=blend,
        recent=recent,
        retrieval=retrieval,
        report=lambda manifest: render_report(manifest, report_data),
    )


def _reading_record(options: TrainOptions) -> dict[str, object]:
    """Return how the clicks were read, for the manifest; nothing where all options are defaults."""
    reading = _reading_of(options).reading()
    return {"reading": reading} if reading else {}


def _reading_of(options: TrainOptions) -> ClickOptions:
    clicks = options.clicks
    return clicks.options if isinstance(clicks, PreparedFolder) else clicks


def _content_record(trained: TrainingResult) -> dict[str, str]:
    """Return a sentence about the content, for the manifest; nothing without content."""
    content = trained.weights.content
    if content is None:
        return {}
    new = len(trained.catalogue) - len(trained.weights.bias)
    fields = ", ".join(field.describe() for field in content.features.schema.fields)
    return {
        "content": f"{fields}; {new:,} items without a click have content alone",
        "new_items": trained.additions.new_items_summary,
    }


def _record(options: TrainOptions, choice: Choice) -> dict[str, object]:
    """Return the name of the recipe, and what competed for it, for the manifest."""
    named: dict[str, object] = {"recipe": choice.rival.name} if choice.rival.name else {}
    if not choice.standings:
        return named
    tried = standings_as_json(choice.standings)
    return {**named, "budget": str(options.budget), "tried": tried}
