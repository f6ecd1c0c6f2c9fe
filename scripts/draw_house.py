"""Draw the rooms of the package into CONTRIBUTING.md, top to bottom, by the import contract and their docstrings.

`python scripts/draw_house.py` writes the drawing; with `--check` it only says whether the one that is there is right.
"""

import ast
import configparser
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "CONTRIBUTING.md"
MARKS = ("<!-- house: drawn by scripts/draw_house.py -->\n", "<!-- end of house -->")


def layers() -> list[list[str]]:
    """List the rooms of every layer of the import contract, top to bottom."""
    contract = configparser.ConfigParser()
    contract.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = contract["importlinter:contract:one-way"]["layers"].split("\n")
    return [re.findall(r"\w+", line) for line in lines if line.strip()]


def summary(room: str) -> str:
    """Give the first sentence of what a room says of itself."""
    package = ROOT / "hf_untangle" / room / "__init__.py"
    source = package if package.exists() else package.parent.with_suffix(".py")
    text = " ".join((ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or "").split("\n\n")[0].split())
    return text if len(text) <= 100 else text[:97].rsplit(" ", 1)[0].rstrip(",;:") + " ..."


def drawing() -> str:
    """Draw one box per layer and one line per room."""
    stacked = layers()
    width = max(len(room) for layer in stacked for room in layer)
    rule = "─" * (width + 2)
    boxes = [[f"│ {room:<{width}} │ {summary(room)}".rstrip() for room in layer] for layer in stacked]
    drawn = f"\n├{rule}┤\n".join("\n".join(box) for box in boxes)
    return f"```text\n┌{rule}┐ imports point down\n{drawn}\n└{rule}┘\n```\n"


def main() -> int:
    """Write the drawing, or check it."""
    before, start, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    old, end, after = rest.partition(MARKS[1])
    if "--check" in sys.argv:
        print("The house is drawn as it is." if old == drawing() else "CONTRIBUTING.md: run python scripts/draw_house.py")
        return int(old != drawing())
    PAGE.write_text(before + start + drawing() + end + after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
