"""Settings: one frozen base for the configuration of every entry point, with presets, checks and clear errors."""

import difflib
import inspect
import textwrap
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from hf_untangle.errors import ArgumentError, ConfigError, UntangleError

Model = TypeVar("Model", bound=BaseModel)
Own = TypeVar("Own", bound="Config")

FIELDS = "\n\nAttributes:\n"
"""Where the fields begin in the docstring of settings."""
MOST_PROBLEMS = 5
"""Sentences of one message; a file may hold thousands of wrong values."""


class Plain(BaseModel):
    """Plain values with names, whose constructor says in sentences what is wrong."""

    _refusal: ClassVar[tuple[type[UntangleError], str]] = (ArgumentError, "field")
    """The error of a wrong one, and what one is called."""

    if not TYPE_CHECKING:  # The fields are what type checkers know of the constructor.

        def __init__(self, **fields: Any) -> None:
            """Refuse what is wrong, as everywhere."""
            try:
                super().__init__(**fields)
            except ValidationError as error:
                refusal, field = self._refusal
                raise refusal(explain(error, type(self), field)) from error

        # Inside of others pydantic then makes such a model itself, and says of what is wrong where it stands.
        __init__.__pydantic_base_init__ = True


class Config(Plain):
    """Settings of one entry point, checked when they are made.

    Every entry point takes them in the same way: `config=` is settings or the name of a preset, and further keywords override
    single fields.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        ser_json_inf_nan="strings",
        allow_inf_nan=False,
        # Fields have descriptions of their own in a schema, which need not stand in that of the whole too.
        json_schema_extra=lambda schema: schema.update(description=str(schema.get("description")).partition(FIELDS)[0]),
    )

    _refusal = (ConfigError, "setting")

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Let `help` of settings say of every field what it is, when to change it, and its default."""
        about = (f"{name}: {field.description} Default: {field.default!r}." for name, field in cls.model_fields.items())
        indents: Any = {"initial_indent": " " * 4, "subsequent_indent": " " * 8, "break_on_hyphens": False}
        lines = [textwrap.fill(one, 100, **indents) for one in about]
        cls.__doc__ = inspect.cleandoc(cls.__doc__ or "").partition(FIELDS)[0] + FIELDS + "\n".join(lines)

    @classmethod
    def presets(cls: type[Own]) -> Mapping[str, Own]:
        """Settings by name.

        Returns:
            At least `default`.
        """
        return {"default": cls()}

    @classmethod
    def resolve(cls: type[Own], config: "Own | str" = "default", /, **settings: Any) -> Own:
        """Merge settings, or a preset of that name, with single fields that override it.

        Args:
            config: Settings, or the name of a preset.
            **settings: Fields to override.

        Returns:
            Checked settings.

        Raises:
            ConfigError: There is no such preset, or a field is unknown or out of its range.
        """
        if isinstance(config, cls):
            return config.with_settings(**settings)
        presets = cls.presets()
        if not isinstance(config, str) or config not in presets:
            near = nearest(config, presets) if isinstance(config, str) else ""
            raise ConfigError(f"config must be a {cls.__name__} or one of {', '.join(presets)}, got {config!r}{near}.")
        return presets[config].with_settings(**settings)

    def with_settings(self: Own, **settings: Any) -> Own:
        """The same settings, some of them changed.

        Args:
            **settings: Fields by name.

        Returns:
            A checked copy.

        Raises:
            ConfigError: A name is unknown, or a value out of its range.
        """
        return checked(type(self), self.model_dump() | settings)


def _readable_batch_size(value: Any) -> Any:
    """Refuse a batch size that is neither a positive number nor `auto`."""
    if value != "auto" and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError(f"must be a whole number of at least 1, or `auto`, got {value!r}")
    return value


BatchSizeSetting = Annotated[int | Literal["auto"], BeforeValidator(_readable_batch_size)]
"""Blocks in a forward pass, or `auto`."""


def checked(model: type[Model], content: Mapping[str, Any]) -> Model:
    """Make settings of names and values.

    Args:
        model: Which settings.
        content: Fields by name.

    Returns:
        The settings.

    Raises:
        ConfigError: A name is unknown, or a value out of its range.
    """
    try:
        return model.model_validate(dict(content))
    except ValidationError as error:
        raise ConfigError(explain(error, model)) from error


def explain(error: ValidationError, model: type[BaseModel], field: str = "setting") -> str:
    """Say what is wrong with some settings, one sentence each, with the nearest valid name for an unknown one.

    Args:
        error: What pydantic found.
        model: The model whose fields are valid names.
        field: What its fields are called.

    Returns:
        The sentences.
    """
    sentences = []
    problems = error.errors()
    for problem in problems[:MOST_PROBLEMS]:
        name = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            sentences.append(f"There is no {field} `{name}`{nearest(name, _fields_at(model, problem['loc'][:-1]))}.")
        else:
            message = problem["msg"].removeprefix("Value error, ").removesuffix(".")
            got = "" if "got " in message or problem["type"] == "missing" else f", got {repr(problem['input']):.200}"
            sentences.append(f"`{name}`: {message[0].lower()}{message[1:]}{got}." if name else f"{message}{got}.")
    if more := len(problems) - len(sentences):
        sentences.append(f"{more} more {field}s are wrong.")
    return " ".join(sentences)


def _fields_at(model: Any, path: tuple[Any, ...]) -> Collection[str]:
    """The fields of the model that is reached by a path of field names."""
    for field in path:
        if field not in model.model_fields:
            return ()
        annotation = model.model_fields[field].annotation
        # Where a model may be left out, it is one of the choices of its annotation.
        model = next((choice for choice in get_args(annotation) if hasattr(choice, "model_fields")), annotation)
        if not hasattr(model, "model_fields"):
            return ()
    return model.model_fields


def known(name: str, choices: Collection[str]) -> str:
    """Refuse a choice that does not exist, and offer the nearest.

    Args:
        name: What was given.
        choices: The valid names.

    Returns:
        The name.

    Raises:
        ValueError: It is not among them; pydantic makes a validation error of it.
    """
    if name not in choices:
        raise ValueError(f"must be one of {', '.join(choices)}, got `{name}`{nearest(name, choices)}")
    return name


def nearest(name: str, choices: Collection[str]) -> str:
    """Offer the nearest valid name, as the end of a sentence; nothing when none is near.

    Args:
        name: What was given.
        choices: The valid names.

    Returns:
        The end of a sentence, or nothing.
    """
    found = difflib.get_close_matches(name.rpartition(".")[2], list(choices), n=1, cutoff=0.5)
    return f" (did you mean `{found[0]}`?)" if found else ""
