"""Commands made of recipes: every key of a recipe is an option, and so is every field of its settings."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from inspect import Parameter, Signature
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import typer

from hf_untangle.cli.console import JsonOption, QuietOption, clear_errors
from hf_untangle.cli.early import check_model_exists

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

SETTINGS = "settings"
"""The key of a recipe whose fields become options of their own, in a panel of that name."""
LOADING, SETTINGS_PANEL = "Loading the model", "Settings"
"""Panels of options: how a model is loaded, and the fields of the settings, of which a preset may turn any on."""
ALSO_CALLED = {"output": ("-o",), "preset": ("--config",)}
"""Other names of options: the short one that is usual, or that of the keyword in Python."""
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Set any key of the recipe or of its settings: `--set steps=4`, `--set repair.steps=20`."),
]


@dataclass(frozen=True)
class RecipeCommand:
    """A command that does the job of one task."""

    task: str
    """The task of its recipe."""
    help: str
    """One sentence."""
    arguments: tuple[str, ...] = ()
    """Keys of the recipe that are given without their name, in this order."""
    lists: Mapping[str, Any] = field(default_factory=dict)
    """Flags that print a list and end, by name, each with its type."""


def function_of(command: RecipeCommand) -> Callable[..., None]:
    """Make the function that typer turns into a command: one parameter per option, named as in the recipe.

    Args:
        command: The command.

    Returns:
        A function that does the job of the options it is called with.
    """
    with clear_errors():
        from hf_untangle.recipes.model_option import FolderOption, ModelOption
        from hf_untangle.recipes.registry import job_of
        from hf_untangle.recipes.schema import settings_of_task

        recipe, settings = job_of(command.task).recipe, settings_of_task(command.task)
    keys = {name: field for name, field in recipe.model_fields.items() if name != "task"}
    fields = {name: field for name, field in settings.items() if name not in keys}
    loading = ModelOption.model_fields if issubclass(recipe, FolderOption) else {}
    panels = {name: LOADING if name in loading else None for name in keys}
    parameters = [
        _parameter(name, field, is_argument=name in command.arguments, panel=panels[name]) for name, field in keys.items()
    ]
    parameters += [_parameter(name, field, panel=SETTINGS_PANEL) for name, field in fields.items()]
    found = [one for one in parameters if one is not None]
    ordered = sorted(found, key=lambda one: command.arguments.index(one.name) if one.name in command.arguments else 99)
    common = {"overrides": (SetOption, None), "quiet": (QuietOption, False), "as_json": (JsonOption, False)}
    common |= {name: (kind, False) for name, kind in command.lists.items()}
    extra = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=kind) for name, (kind, default) in common.items()
    ]

    def run(overrides: list[str] | None, quiet: bool, as_json: bool, **options: Any) -> None:
        asked = {name: value for name, value in options.items() if name not in command.lists}
        given = {name: value for name, value in asked.items() if value is not None and value != []}
        content = {name: _read(value, (keys | fields)[name].annotation) for name, value in given.items()}
        _run(command.task, keys, content, overrides=overrides, quiet=quiet, as_json=as_json)

    run.__doc__ = command.help
    _announce(run, [*ordered, *extra])
    return run


def _run(
    task: str, keys: Collection[str], given: dict[str, Any], *, overrides: list[str] | None, quiet: bool, as_json: bool
) -> None:
    """Do the job that options describe; those that were not given are left to the recipe."""
    from hf_untangle.cli.run import do, settings_of

    content = {name: value for name, value in given.items() if name in keys}
    inner = {name: value for name, value in given.items() if name not in keys}
    set_by_hand = settings_of(overrides)
    dotted = {key if key.partition(".")[0] in keys else f"{SETTINGS}.{key}": value for key, value in set_by_hand.items()}
    if inner:
        content[SETTINGS] = inner
    do({"task": task} | content, overrides=dotted, as_json=as_json, progress=not quiet)


def _parameter(name: str, field: "FieldInfo", *, is_argument: bool = False, panel: str | None = None) -> Parameter | None:
    """What typer needs to know of a field; None for one that holds more than a command line can say, but `--set` can."""
    kind, several = _kind(field.annotation)
    if kind is None:
        return None
    help = _help(field)
    required = field.is_required()
    if is_argument:
        typed: Any = typer.Argument(help=help, show_default=False)
    else:
        flag = f"--{name.replace('_', '-')}"
        if kind is bool and (panel == SETTINGS_PANEL or field.default):
            flag = f"{flag}/--no-{flag[2:]}"
        typed = typer.Option(flag, *ALSO_CALLED.get(name, ()), help=help, show_default=_shown(field), rich_help_panel=panel)
    if several and not (is_argument and _takes_text(field.annotation)):
        kind = list[kind]
    annotation = Annotated[kind if required else kind | None, typed]  # type: ignore[valid-type]
    place = Parameter.POSITIONAL_OR_KEYWORD if is_argument else Parameter.KEYWORD_ONLY
    return Parameter(name, place, default=Parameter.empty if required else None, annotation=annotation)


def _kind(annotation: Any) -> tuple[Any, bool]:
    """The type of an option, and whether it may be given several times."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    choices = [choice for choice in _choices(annotation) if choice is not type(None)]
    # A number may stand for settings, whose fields `--set` reaches.
    choices = [float] if float in choices and any(map(_is_settings, choices)) else choices
    if len(choices) == 1:
        return _kind_of_one(choices[0])
    if any(get_origin(choice) is tuple for choice in choices):
        return _kind_of_one(next(choice for choice in choices if get_origin(choice) is tuple))
    simple = all(
        choice in (str, int, float, bool) or get_origin(choice) is Literal or _takes_text(choice) for choice in choices
    )
    return (str, False) if simple else (None, False)


def _is_settings(annotation: Any) -> bool:
    """Whether a type is that of settings."""
    kind = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    return hasattr(kind, "model_fields") and not _takes_text(kind)


def _choices(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a type."""
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _kind_of_one(annotation: Any) -> tuple[Any, bool]:
    """The same for a type without alternatives."""
    if get_origin(annotation) is Annotated:
        return _kind(annotation)
    if get_origin(annotation) is Literal:
        return (annotation if all(isinstance(value, str) for value in get_args(annotation)) else str), False
    if get_origin(annotation) is tuple:
        inner = get_args(annotation)
        if len(inner) == 2 and inner[1] is Ellipsis:
            return str, True
        return (annotation, False) if all(one in (int, float, str) for one in inner) else (None, False)
    if annotation in (str, int, float, bool):
        return annotation, False
    # Several corpora are read together, such as those to retain.
    return (str, True) if _takes_text(annotation) else (None, False)


def _takes_text(annotation: Any) -> bool:
    """Whether a model can be written as text alone, as a corpus can."""
    return getattr(annotation, "__name__", "") == "CorpusChoice"


def _flat(annotation: Any) -> set[Any]:
    """All types that stand in an annotation."""
    inner = get_args(annotation)
    return {annotation}.union(*map(_flat, inner)) if inner and get_origin(annotation) is not Literal else {annotation}


def _read(value: Any, annotation: Any) -> Any:
    """A value as a recipe has it: where numbers may stand they are numbers, and commas part what is no free text."""
    kinds = _flat(annotation)
    numbers = int in kinds or float in kinds
    if isinstance(value, list):
        if not numbers and not any(get_origin(kind) is Literal for kind in kinds):
            return value
        value = [part for item in value for part in item.split(",")]
        return [_number(part) for part in value] if numbers else value
    return _number(value) if numbers and isinstance(value, str) else value


def _number(text: str) -> int | float | str:
    """Text that is a number as that number."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _help(field: "FieldInfo") -> str:
    """What a field is for, on one line."""
    return " ".join((field.description or "").split())


def _shown(field: "FieldInfo") -> str | bool:
    """How a default is shown; the option itself stays empty, so that presets keep their own."""
    default = field.get_default(call_default_factory=False)
    simple = isinstance(default, str | int | float) or (isinstance(default, tuple) and default)
    if field.is_required() or not simple:
        return False
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def add(app: typer.Typer, name: str, command: RecipeCommand) -> None:
    """Add a command to the command line, whose recipe is imported once it is called.

    Args:
        app: The command line.
        name: What the command is called.
        command: The command.
    """
    passed_on = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

    def call(context: Any) -> None:
        if command.arguments[:1] == ("model",) and context.args and not context.args[0].startswith("-"):
            with clear_errors():
                check_model_exists(context.args[0])
        helped = {"help_option_names": ["-h", "--help"]}
        real = typer.Typer(add_completion=False, pretty_exceptions_enable=False, context_settings=helped)
        real.command(help=command.help, no_args_is_help=bool(command.arguments))(function_of(command))
        code = typer.main.get_command(real).main(args=context.args, prog_name=context.command_path, standalone_mode=False)
        if isinstance(code, int) and code:
            raise typer.Exit(code)

    _announce(call, [Parameter("context", Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)])
    app.command(name, help=command.help, context_settings=passed_on, add_help_option=False)(call)


def _announce(function: Callable[..., None], parameters: list[Parameter]) -> None:
    """Let a function say to typer that it takes these parameters."""
    function.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {one.name: one.annotation for one in parameters}
