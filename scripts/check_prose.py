"""Find habits of language that make this project harder to read: `python scripts/check_prose.py [FILE ...]`.

Markdown, templates and recipes are read whole; of Python only comments and strings are, which are docstrings, messages and
descriptions of fields. Without arguments every file that git does not ignore is read. Exits with 1 when anything is found.
"""

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
KINDS = {".md", ".j2", ".py", ".pyi", ".yaml", ".yml", ".toml", ".cff", ".ipynb"}
TEXT = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
CORPORA = tuple(f"hf_untangle/data/{name}" for name in ("general/", "other-code/", "facts/relations.py", "facts/world.py"))
NOT_OURS = (*CORPORA, "scripts/check_prose.py")
"""Corpora are data, and this file names what it looks for."""

UNITS = (
    "batch|block|class|corpus|document|edge|epoch|expert|gene|group|head|image|individual|layer|model|network|neuron|pass"
    "|position|process|region|row|run|sample|second|seed|step|task|token|weight"
)
COUNTED = (
    "bits|blocks|document|examples|factor|genes|ids|images|individuals|masks|matrix|nats|neurons|number|once|one"
    "|operations|positions|probability|questions|regions|rows?|score|times|tokens|updates|value|vector|widths"
)
PERSON = r"(?<!people\s)(?<!user\s)(?<!those\s)(?<!someone\s)"

HABITS = {
    rf"\b(?:{COUNTED}) an? (?:{UNITS})\b(?! (?:asked|has|of its own|predicts|saw))": 'say "per"',
    r"\bbut\b[^.;]{0,90}?\bcame\b|\bcame instead\b|\bwhat came\b": 'say "got X"',
    r"\bin (?:the )?place of\b": 'say "instead of"',
    r"\b[Nn]one of\b(?! (?:its|their) own)": 'say "no", "not" or "not any of"',
    PERSON + r"\b[Ww]ho(?:ever|m)?\b(?! (?:you are|is who)|\?)": "name the person or thing",
    r"\bof (?:ours|theirs|yours)\b": 'say "our", or name the owner',
    r"\bh(?:ang|ung)s? on\b": 'say "depends on"',
    r"\b(?:go|goes|going|went|gone) on\b(?! (?:the|a|to the) )": 'say "continues" or "resumes"',
    r"\b(?:has|have|had|does|do|knows?) (?:it|them) not\b": "put the negation before the verb",
    r"\bnothing (?:was|is|were) chosen\b": 'say "held-out"',
}
"""What to look for, where a space is any white space, and what to write instead."""


def prose(file: Path) -> str:
    """Blank out everything but prose, so that positions stay as they are."""
    source = file.read_text(encoding="utf-8")
    if file.suffix not in {".py", ".pyi"}:
        return re.sub(r"(?m)^[ \t]*(?:#|>|//)+(?= )", lambda mark: " " * len(mark[0]), source)
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    shown = [character if character.isspace() else "\0" for character in source]
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in TEXT:
            start, end = (starts[row - 1] + column for row, column in (token.start, token.end))
            shown[start:end] = re.sub(r"^[a-zA-Z]{0,2}[\"']+|[\"']+$|^#", lambda quote: " " * len(quote[0]), source[start:end])
    return "".join(shown)


def findings(file: Path) -> Iterator[str]:
    """Give one line for every habit in a file: where, what, and what to write."""
    text = prose(file)
    for pattern, advice in HABITS.items():
        for found in re.finditer(pattern.replace(" ", r"\s+"), text):
            row = text.count("\n", 0, found.start()) + 1
            yield f"{file.relative_to(ROOT)}:{row}: {' '.join(found[0].split())!r}: {advice}"


def ours() -> list[Path]:
    """List the files of this project that hold prose of its own, with those that git has yet to be told of."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [ROOT / name for name in names if Path(name).suffix in KINDS and not name.startswith(NOT_OURS)]


def main() -> int:
    """Check the files that are named, or all of them."""
    files = [file for name in sys.argv[1:] if (file := Path(name).resolve()).suffix in KINDS]
    named = [file for file in files if not str(file.relative_to(ROOT)).startswith(NOT_OURS)]
    found = sorted(line for file in (named if sys.argv[1:] else ours()) if file.exists() for line in findings(file))
    print("\n".join(found) or "The prose is plain.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
