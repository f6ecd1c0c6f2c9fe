"""Every script that a page, a recipe or a table of figures tells a reader to run is there, and takes the options it names."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = [ROOT / name for name in ("docs", "recipes", "benchmarks", "scripts", "model_cards")]
COMMAND = re.compile(r"python (?:-m torch\S+ )?((?:benchmarks|scripts)/\w+\.py)((?:[^`#\n]|\\\n)*)")
"""A script and the words after it, over lines that end in a backslash, up to a backquote or a comment."""


def commands() -> set[tuple[str, str]]:
    """Scripts, each with an option that it is run with somewhere, or without any."""
    pages = [
        ROOT / "README.md",
        *(file for end in ("md", "yaml", "py") for folder in FOLDERS for file in folder.rglob(f"*.{end}")),
    ]
    found = [match for page in pages for match in COMMAND.findall(page.read_text(encoding="utf-8"))]
    return {(script, option) for script, words in found for option in re.findall(r"(?<=\s)--[a-z][\w-]*", words) or [""]}


def test_every_script_that_is_named_is_there_and_takes_the_options_it_is_named_with():
    named = commands()
    assert len(named) > 50
    sources = {script: (ROOT / script).read_text(encoding="utf-8") if (ROOT / script).is_file() else "" for script, _ in named}
    assert sorted(script for script, source in sources.items() if not source) == []
    assert sorted(pair for pair in named if pair[1] and f'"{pair[1]}"' not in sources[pair[0]]) == []
