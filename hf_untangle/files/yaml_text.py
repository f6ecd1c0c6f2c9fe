"""YAML from outside: bounded in size and nesting, without aliases, and with every key once."""

from typing import Any

import yaml

from hf_untangle.files.regular import shown

LIMIT = 1 << 14
"""Characters of one text; recipes have about a thousand."""
DEPTH = 20
"""Collections within collections."""
DIGITS = 40
"""Characters of a number."""


class _CheckedLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which builds plain values; aliases, deep nesting, long numbers and double keys are refused."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node unless it is an alias, which can stand for a thousand more, or too deep."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (`*name`) are not supported: write the value out")
        self.depth += 1
        if self.depth > DEPTH:
            raise yaml.YAMLError(f"it is nested more than {DEPTH} deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(node, yaml.ScalarNode):
            node.value.encode("utf-8")  # An escape can write half of a surrogate pair, which is no text.
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Construct a mapping of which every key stands once."""
        keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) < len(keys):
            twice = next(value for number, (tag, value) in enumerate(keys) if (tag, value) in keys[:number])
            raise yaml.YAMLError(f"the key {shown(twice)} stands there twice")
        return super().construct_mapping(node, deep)

    def construct_number(self, node: Any) -> Any:
        """Construct a number that a few characters write."""
        if len(str(node.value)) > DIGITS:
            raise yaml.YAMLError(f"a number has {len(node.value):,} characters")
        kind = node.tag.rpartition(":")[2]
        return self.construct_yaml_int(node) if kind == "int" else self.construct_yaml_float(node)


for _kind in ("int", "float"):
    _CheckedLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", _CheckedLoader.construct_number)


def parse_yaml(text: str) -> Any:
    """Parse YAML into plain values.

    Args:
        text: One document.

    Returns:
        The value.

    Raises:
        ValueError: It is no YAML, or more than a recipe needs; the message says what is wrong.
    """
    if len(text) > LIMIT:
        raise ValueError(f"it has {len(text):,} characters, more than {LIMIT:,}")
    try:
        return yaml.load(text, Loader=_CheckedLoader)
    except yaml.MarkedYAMLError as error:
        where = error.problem_mark or error.context_mark
        place = f" (line {where.line + 1}, column {where.column + 1})" if where else ""
        raise ValueError(f"{error.problem or error.context}{place}") from error
    except (yaml.YAMLError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError) as error:
        raise ValueError(" ".join(str(error).split())) from error
