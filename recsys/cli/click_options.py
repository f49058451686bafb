"""Command-line options that several commands share, and the text of the command.

`takes_clicks` turns the fields of `ClickOptions` into options of a command. Where a command has a
bundle, options that are not given are those of its training.
"""

import dataclasses
import functools
import inspect
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer import Option

from data.click_options import (
    ClickOptions,
    OptionHelp,
    reading_fields,
    remembered_reading,
)
from data.sources.databases import as_file, as_source, without_passwords
from recsys.bundle.registry import resolve_bundle
from recsys.console import open_console

PANEL = "Reading clicks"
BundleOption = Annotated[
    Path, Option(help="Bundle folder, as written by recsys train, or a model registry.")
]
OutOption = Annotated[Path | None, Option(help="Folder for the bundle; must be new or empty.")]
ItemsDelimiterOption = Annotated[
    str | None,
    Option(
        help="Separator of the items file, if it is text.",
        show_default="that of the clicks, else a comma",
    ),
]
ItemsEncodingOption = Annotated[str, Option(help="Encoding of the items file, if it is text.")]
PublishOption = Annotated[
    Path | None,
    Option(
        "--publish",
        help="Instead of --out: a new bundle in this model registry, which services then load.",
    ),
]


def takes_clicks(
    command: Callable[..., None], *, reading_only: bool = False
) -> Callable[..., None]:
    """Replace the command's parameter `clicks` by one option for each field of `ClickOptions`.

    A command that declares `clicks: ClickOptions | None` receives None where --clicks is not given.

    reading_only: leave out the options that filter and split sessions.
    """
    hints = get_type_hints(command, include_extras=True)
    options = _options(required=hints["clicks"] is ClickOptions, reading_only=reading_only)
    names = {option.name for option in options}
    own = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name])
        for parameter in inspect.signature(command).parameters.values()
        if parameter.name != "clicks"
    ]

    @functools.wraps(command)
    def with_options(**arguments: Any) -> None:
        values = {name: arguments.pop(name) for name in names}
        if values["path"] is None:
            command(clicks=None, **arguments)
            return
        if "bundle" in arguments:
            values |= _remembered(arguments["context"], arguments["bundle"])
        with as_file(values["path"], _say) as path:
            command(clicks=_click_options({**values, "path": path}), **arguments)

    del with_options.__wrapped__  # typer would read its signature
    path, *others = options
    parameters = [path, *own, *others]
    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {p.name: p.annotation for p in parameters}
    return with_options


def reading_options_given(context: typer.Context) -> list[str]:
    """Return the names of the options of the panel that the user has typed."""
    given = []
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        of_panel = getattr(parameter, "rich_help_panel", None) == PANEL
        if of_panel and source is not None and source.name == "COMMANDLINE":
            given.append(parameter.opts[0])
    return given


def as_typed() -> str:
    """Return the command that the user typed, quoted for a shell, without passwords."""
    return shlex.join(["recsys", *map(without_passwords, sys.argv[1:])])


def _remembered(context: typer.Context, bundle: Path) -> dict[str, Any]:
    """Return the options of reading of the bundle's training that the user has not typed."""
    from recsys.bundle.manifest import read_manifest

    typed = {
        parameter.name
        for parameter in context.command.params
        if (source := context.get_parameter_source(parameter.name or "")) is not None
        and source.name == "COMMANDLINE"
    }
    reading = remembered_reading(read_manifest(resolve_bundle(bundle)).training)
    used = {name: value for name, value in reading.items() if name not in typed}
    if used:
        options = shlex.join(_as_options(used))
        _say(f"Clicks are read as in the training of {bundle}: {options} (options given win).")
    return used


def _as_options(reading: Mapping[str, Any]) -> list[str]:
    """Return the options as arguments of a command."""
    arguments = []
    for field, text in reading_fields().items():
        if field not in reading:
            continue
        name, value = option_name(field, text).partition("/")[0], reading[field]
        if isinstance(value, bool):
            arguments.append(name)
        else:
            text_of = ",".join(value) if isinstance(value, tuple) else str(value)
            arguments += [name, "tab" if text_of == "\t" else text_of]
    return arguments


def option_name(field: str, description: OptionHelp) -> str:
    """Return the name of the option of a field."""
    return description.name or f"--{field.replace('_', '-')}"


def _say(sentence: str) -> None:
    open_console(stderr=True).print(sentence, soft_wrap=True, markup=False, highlight=False)


def _options(*, required: bool, reading_only: bool) -> list[inspect.Parameter]:
    hints = get_type_hints(ClickOptions, include_extras=True)
    options = []
    for field in dataclasses.fields(ClickOptions):
        kind, description = get_args(hints[field.name])
        assert isinstance(description, OptionHelp), f"{field.name} has no help text"
        if reading_only and not description.reading:
            continue
        default, is_location = field.default, field.name == "path"
        if is_location:
            kind = Path  # typer knows no unions; the parser decides
        if get_origin(kind) is Sequence:  # typer knows lists only
            kind, default = list[str] | None, None
        panel: str | None = PANEL
        if default is dataclasses.MISSING and required:
            default, panel = inspect.Parameter.empty, None
        elif default is dataclasses.MISSING:
            kind, default = kind | None, None
            panel = PANEL if reading_only else None
        option = Option(
            option_name(field.name, description),
            help=description.text,
            rich_help_panel=panel,
            parser=as_source if is_location else None,
            metavar="PATH|URL" if is_location else None,
        )
        options.append(
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=default,
                annotation=Annotated[kind, option],
            )
        )
    return options


def _click_options(values: Mapping[str, Any]) -> ClickOptions:
    """Raise `BadInput` with every option that cannot be used."""
    events = [
        event.strip() for t in values["events"] or () for event in t.split(",") if event.strip()
    ]
    taken_back = {name: values.get(name) or None for name in ("event_column", "time_format")}
    return ClickOptions(**{**values, **taken_back, "events": tuple(events)})  # '' takes back
