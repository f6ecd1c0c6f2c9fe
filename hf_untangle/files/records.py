"""Records from outside: plain values that must have the fields, types and ranges of a schema."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from hf_untangle.files.json_text import read_json
from hf_untangle.files.regular import Expected, shown

Schema = TypeVar("Schema", bound=BaseModel)


class FileRecord(BaseModel):
    """What stands in a file beside its tensors: fields of a schema, and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def checked_record(value: Any, schema: type[Schema], expected: Expected) -> Schema:
    """Check values against a schema.

    Args:
        value: What a file says.
        schema: A pydantic model.
        expected: The file that it comes from.

    Returns:
        The record.

    Raises:
        UntangleError: A field is missing, unknown, of another type or out of its range.
    """
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        raise expected.fault(_explained(error)) from error
    except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
        raise expected.fault(f"a record that means nothing ({shown(str(error))})") from error


def read_record(schema: type[Schema], expected: Expected) -> Schema:
    """Read a JSON file that holds one record.

    Args:
        schema: A pydantic model.
        expected: Which file, and what it must hold.

    Returns:
        The record.

    Raises:
        UntangleError: The file cannot be read, is no JSON, or holds another record.
    """
    return checked_record(read_json(expected), schema, expected)


def _explained(error: ValidationError) -> str:
    """The first of what pydantic found, in words that follow `got`."""
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(map(str, first["loc"])) or "the whole"
    message = first["msg"].removeprefix("Value error, ").removesuffix(".")
    return f"a record whose {shown(place)} is wrong ({message[0].lower()}{message[1:200]})"
