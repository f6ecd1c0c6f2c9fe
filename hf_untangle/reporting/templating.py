"""The Jinja environment of the page and of the card."""

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from hf_untangle.reporting import formatting


def render(template: str, **values: object) -> str:
    """Fill in one of the templates of this package.

    Values are escaped in HTML. In Markdown they are not, as there is no one way to do it: use the filter `cell` in tables.

    Args:
        template: Name of a file in `templates`.
        **values: What the template names; a name that is missing is an error.

    Returns:
        The text.
    """
    environment = Environment(
        loader=PackageLoader("hf_untangle.reporting"),
        autoescape=select_autoescape(["html", "html.j2"], default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "percent": formatting.percent,
        "amount": formatting.amount,
        "duration": formatting.duration,
        "cell": _cell,
    }
    return environment.get_template(template).render(values)


def _cell(value: object) -> str:
    """Text as a cell of a Markdown table holds it: in one line, its bars escaped."""
    return " ".join(str(value).split()).replace("|", "\\|")
