"""Write what is known of settings to the places where people look for them: the tables of docs/how-to/unlearn.md, and the types
of keywords for type checkers (`keywords.py` of every room that has settings).

`python scripts/write_settings.py` writes both; with `--check` it only says whether they are as the settings have it.
"""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from hf_untangle.configs.unlearn import PRESETS, UnlearnConfig  # noqa: E402
from hf_untangle.methods.settings import MethodConfig  # noqa: E402

PAGE = ROOT / "docs" / "how-to" / "unlearn.md"
TABLES = {"unlearn": UnlearnConfig, "method": MethodConfig}
ROOMS = {
    "configs": ("attack", "prune", "repair", "robustify", "unlearn"),
    "density": ("sweep_config",),
    "evaluation": ("score_cache",),
    "methods": ("settings",),
    "nets": ("search_config",),
}
"""The modules of each room that define settings."""


def table(name: str) -> str:
    """Make one table of the page: every setting with its default, that of other presets where it differs, and what it is."""
    head = ["| setting | default | what it is, and when to change it |", "|---|---|---|"]
    rows = []
    for field, about in TABLES[name].model_fields.items():
        presets = PRESETS if TABLES[name] is UnlearnConfig else {}
        others = [
            f"`{one}`: {shown(getattr(own, field))}" for one, own in presets.items() if getattr(own, field) != about.default
        ]
        differs = f" ({', '.join(others)})" if others else ""
        what = str(about.description).replace("|", "\\|")
        rows.append(f"| `{field}` | {shown(about.default)}{differs} | {what} |")
    return "\n".join([*head, *rows]) + "\n"


def shown(value: Any) -> str:
    """Write a default as code; None is the word none."""
    if value is None:
        return "none"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:,}" if number else f"`{value}`"


def page(text: str) -> str:
    """Put the tables into the page, each between its marks."""
    for name in TABLES:
        before, start, rest = text.partition(f"<!-- {name}: written by scripts/write_settings.py -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->")
        text = before + start + "\n" + table(name) + "\n" + end + after
    return text


def keywords(room: str) -> str:
    """Make the module of a room that types the keywords of its settings."""
    classes, imports = [], {"typing": {"TypedDict"}}
    for module in ROOMS[room]:
        path = f"hf_untangle.{room}.{module}"
        tree = ast.parse((ROOT / f"{path.replace('.', '/')}.py").read_text(encoding="utf-8"))
        homes = {alias.name: str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
        homes |= {name.id: path for node in tree.body for name in _assigned(node)}
        for found in tree.body:
            parent = _parent(found)
            if parent is None or not isinstance(found, ast.ClassDef):
                continue
            fields = [node for node in found.body if isinstance(node, ast.AnnAssign)]
            for name in _names(fields):
                if name in homes:
                    imports.setdefault(homes[name], set()).add(name)
            lines = [f"    {ast.unparse(field.target)}: {ast.unparse(_Wider().visit(field.annotation))}" for field in fields]
            about = f'    """Single fields of `{found.name}`, which says what each is."""\n'
            name = found.name.replace("Config", "Settings")
            classes.append("\n".join([f"class {name}({parent}, total=False):", about, *lines]))
    text = "\n\n\n".join(classes) + "\n"
    if "Sequence[" in text:
        imports.setdefault("collections.abc", set()).add("Sequence")
    lines = [f"from {module} import {', '.join(sorted(names))}" for module, names in imports.items()]
    about = '"""Types of the keywords that override single settings; written by scripts/write_settings.py."""\n'
    return _formatted("\n".join([about, *lines, "\n", text]))


class _Wider(ast.NodeTransformer):
    """What a caller may pass: for a tuple of any length, any sequence."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """Turn `tuple[x, ...]` into `Sequence[x]`."""
        inner = node.slice
        if isinstance(inner, ast.Tuple) and ast.unparse(node.value) == "tuple" and ast.unparse(inner.elts[-1]) == "...":
            return ast.Subscript(ast.Name("Sequence"), inner.elts[0])
        return node


def _parent(node: ast.stmt) -> str | None:
    """What the keywords of a configuration inherit from; None where a statement defines no configuration."""
    base = getattr(node.bases[0], "id", "") if isinstance(node, ast.ClassDef) and node.bases else ""
    return "TypedDict" if base == "Config" else base.replace("Config", "Settings") if base.endswith("Config") else None


def _assigned(node: ast.AST) -> list[ast.Name]:
    """The names that a statement gives values to."""
    targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
    return [target for target in targets if isinstance(target, ast.Name)]


def _names(fields: list[ast.AnnAssign]) -> list[str]:
    """Every name in the annotations of some fields."""
    return [node.id for field in fields for node in ast.walk(field.annotation) if isinstance(node, ast.Name)]


def _formatted(source: str) -> str:
    """Sort imports and break lines as everywhere."""
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["check", "--select=I", "--fix", "--quiet"], ["format", "--quiet"]):
        call = [*ruff, *command, "--stdin-filename=keywords.py", "-"]
        source = subprocess.run(call, input=source, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    return source


def main() -> int:
    """Write every place, or check all of them."""
    content = {ROOT / "hf_untangle" / room / "keywords.py": keywords(room) for room in ROOMS}
    content[PAGE] = page(PAGE.read_text(encoding="utf-8"))
    stale = [file for file, text in content.items() if not file.exists() or file.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        names = ", ".join(str(file.relative_to(ROOT)) for file in stale)
        print(f"{names}: run python scripts/write_settings.py" if stale else "Settings are written down as they are.")
        return int(bool(stale))
    for file in stale:
        file.write_text(content[file], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
