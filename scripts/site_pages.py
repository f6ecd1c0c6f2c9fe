"""Pages of the site that are not files in `docs`: the API reference, one page per room, and pages that lie elsewhere.

In the repository a page links to `../benchmarks/RESULTS.md`; on the site that file is the page `benchmarks.md`.
"""

import ast
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
ELSEWHERE = {
    "README.md": "index.md",
    "benchmarks/RESULTS.md": "benchmarks.md",
    "model_cards/README.md": "model-cards.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
"""Page of the site for each file outside `docs`."""

LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?!https?://|#|mailto:)(?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages of the API reference into the navigation."""
    for entry in config.nav or []:
        if "API reference" in entry:
            entry["API reference"] = [{name: page} for name, page, _ in api_pages()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the API reference and the pages from elsewhere."""
    for _, page, text in api_pages():
        files.append(File.generated(config, page, content=text))
    for source, page in ELSEWHERE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def api_pages() -> list[tuple[str, str, str]]:
    """Make the page of every room from the stub that is its door: name, path and text."""
    doors = [ROOT / "hf_untangle" / "__init__.pyi", *sorted(ROOT.glob("hf_untangle/*/__init__.pyi"))]
    return [_api_page(door) for door in doors]


def _api_page(door: Path) -> tuple[str, str, str]:
    room = ".".join(door.parent.relative_to(ROOT).parts)
    imports = [node for node in ast.parse(door.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
    names = sorted(f"{node.module}.{each.name}" for node in imports for each in node.names)
    about = ast.get_docstring(ast.parse(door.with_suffix(".py").read_text(encoding="utf-8"))) or ""
    title = room.replace("hf_untangle", "untangle")
    blocks = "\n\n".join(f"::: {name}" for name in sorted(names, key=lambda name: name.rpartition(".")[2].lower()))
    return title, f"api/{room.rpartition('.')[2]}.md", f"# {title}\n\n{about}\n\n{blocks}\n"


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Point links at pages of the site; a link to a file of the repository that the site lacks becomes its text."""
    uri = page.file.src_uri
    source = next((file for file, its_page in ELSEWHERE.items() if its_page == uri), f"docs/{uri}")

    def on_the_site(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link["target"]))
        there = ELSEWHERE.get(target, target.removeprefix("docs/"))
        if there not in files.src_uris and (ROOT / target).exists():
            return link["text"]
        return f"[{link['text']}]({posixpath.relpath(there, posixpath.dirname(uri) or '.')}{link['anchor'] or ''})"

    return LINK.sub(on_the_site, markdown)
