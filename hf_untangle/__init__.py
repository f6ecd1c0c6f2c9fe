"""Open Hugging Face models up and take capabilities out of them.

    import hf_untangle as untangle

    result = untangle.unlearn(model, forget="code")
    result.save_pretrained("model-without-code")

Names are imported when they are first used, so that `import hf_untangle` costs nothing. `__init__.pyi` lists them.
"""

import re
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hf_untangle.compaction.loading import teach_transformers

_HOMES: dict[str, str] = {
    name: home
    for home, name in re.findall(
        r"^from (\S+) import \w+ as (\w+)$", Path(__file__).with_suffix(".pyi").read_text("utf-8"), flags=re.MULTILINE
    )
}
"""The module of each public name."""

__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]
__version__ = version("hf-untangle")

# Checkpoints with layers of different widths load with plain `from_pretrained` from here on.
teach_transformers()


def __getattr__(name: str) -> Any:
    """Import a public name from its room, or a room that is public as a whole."""
    if name not in _HOMES:
        raise AttributeError(f"hf_untangle has no `{name}`; its public names are {', '.join(__all__)}")
    home = _HOMES[name]
    return import_module(f"{home}.{name}") if home == __name__ else getattr(import_module(home), name)


def __dir__() -> list[str]:
    """What completion offers."""
    return __all__
