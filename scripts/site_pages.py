"""Pages of the site that lie elsewhere in the repository, and links that work in both.

In the repository a page links to `../benchmarks/RESULTS.md`; on the site that file is the page `benchmarks.md`.
"""

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


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from elsewhere."""
    for source, page in ELSEWHERE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


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
