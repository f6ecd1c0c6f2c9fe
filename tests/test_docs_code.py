"""Every block of Python in the README and the documentation runs, page by page, from top to bottom, or says why not."""

import pytest
from docs_reader import ROOT, blocks_of, given, names_read, prepare, smaller_defaults, write_files

FILES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md")))
PAGES = {str(page.relative_to(ROOT)): page for page in FILES}
WITH_CODE = [name for name, page in PAGES.items() if any(block.reason is None for block in blocks_of(page))]
SLOW = {
    f"docs/{page}.md" for page in ("SKILL", "tutorial", "how-to/attacks", "how-to/evidence", "how-to/repair", "papers/nets")
}
"""Pages that train for a minute or more."""

pytestmark = pytest.mark.filterwarnings(
    "ignore:The PEFT config's `base_model_name_or_path` was renamed:UserWarning",
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning",
    "ignore:Use 'content=<...>':DeprecationWarning",
)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in WITH_CODE])
def test_the_code_on_a_page_runs(name, project, unlearned, hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_files(project)
    blocks = blocks_of(PAGES[name])
    with smaller_defaults():
        prepare(monkeypatch, hub, project)
        scope = {each: make() for each, make in given(project, unlearned).items() if each in names_read(blocks)}
        for block in blocks:
            if block.reason is None:
                padded = "\n" * (block.line - 1) + block.code
                exec(compile(padded, str(PAGES[name]), "exec"), scope)


def test_every_block_that_is_not_run_says_why():
    reasons = [block.reason for page in PAGES.values() for block in blocks_of(page) if block.reason is not None]
    assert all(len(reason.split()) >= 3 for reason in reasons)
    assert sum(page.read_text().count("```python\n") for page in PAGES.values()) == sum(
        len(blocks_of(page)) for page in PAGES.values()
    )
